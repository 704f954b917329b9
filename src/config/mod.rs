//! The files users write: read with positions, checked whole, turned into values.
//!
//! ```text
//!   text → tree (positions) → raw (shape: keys, types, choices) → validate (meaning) → Config
//! ```
//!
//! Every step adds to one report and goes on, so one run shows every problem of every file. Opens no broker, and never
//! shows a value that came from `${env:…}` or `${file:…}`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::broker::kafka;
use crate::model::names::RegionName;
use crate::policy::rules::RuleSet;
use crate::policy::subscription::{Deployment, StartFrom};

mod report;
mod tree;
mod interpolate;
mod read;
mod values;
mod raw;
mod load;
mod bridge;
mod rules;
mod topics;
mod names;
mod validate;
pub mod schema;

pub use report::{Problem, Report, Severity};

/// A whole configuration, checked.
pub struct Config {
    /// Regions, topics, subscriptions: what the decisions need.
    pub deployment: Deployment,
    /// How each region's cluster is reached.
    pub clusters: BTreeMap<RegionName, Cluster>,
    /// How the links behave.
    pub links: Links,
    /// The rule sets, sorted by name.
    pub rules: Vec<RuleSet>,
    /// Whether missing topics are created and small ones grown.
    pub create_topics: bool,
    /// Where a bridge keeps what must survive a restart.
    pub state_dir: PathBuf,
    /// How long SIGTERM waits for what is in flight.
    pub shutdown_timeout: Duration,
    /// The HTTP endpoint.
    pub admin: Admin,
    /// What entries of the control topic are signed with.
    pub control_secret: Option<SecretString>,
    /// What a cutover calls.
    pub hooks: Hooks,
    /// The files that were read, the bridge file first.
    pub files: Vec<PathBuf>,
    /// What is doubtful and not refused.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the bridge file and every file that it names. The report holds every problem of all of them.
    pub fn load(path: &Path) -> Result<Self, Report> {
        let mut problems = report::Problems::default();
        let files = load::files(path, &mut problems);
        let config = validate::config(&files, &mut problems);
        let failed = problems.has_errors();
        let problems = problems.finish();
        match config {
            Some(config) if !failed => Ok(Self { warnings: problems, ..config }),
            _ => Err(Report { problems }),
        }
    }
}

impl fmt::Debug for Config {
    /// What it is about, and none of its values: any of them may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("files", &self.files).finish_non_exhaustive()
    }
}

/// How one region's cluster is reached.
#[derive(Clone, Debug)]
pub enum Cluster {
    /// Kafka, through librdkafka.
    Kafka(kafka::settings::Settings),
    /// RocketMQ: checked and planned; no driver runs it yet.
    RocketMq(RocketMq),
    /// The embedded log, for demos and tests.
    Embedded {
        /// The folder that holds it.
        dir: PathBuf,
    },
}

/// How a RocketMQ cluster is reached.
#[derive(Clone)]
pub struct RocketMq {
    /// `host:port`, several separated by `;`.
    pub name_server: String,
    /// For ACLs.
    pub access_key: Option<SecretString>,
    /// For ACLs.
    pub secret_key: Option<SecretString>,
}

impl fmt::Debug for RocketMq {
    /// That it is there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RocketMq(…)")
    }
}

/// How the links of this bridge behave.
#[derive(Clone, Debug)]
pub struct Links {
    /// What a crash may do.
    pub guarantee: Guarantee,
    /// Where a stream begins that was never copied before; never [`StartFrom::Committed`].
    pub start_from: StartFrom,
    /// The longest time between two commits.
    pub commit_interval: Duration,
    /// At a retention gap or a recreated topic.
    pub on_gap: OnGap,
    /// With a record that the target refuses for good.
    pub on_rejected: OnRejected,
    /// The most that one link copies.
    pub rate_limit: RateLimit,
}

/// What a crash may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Nothing.
    ExactlyOnce,
    /// Repeat the last uncommitted batch.
    AtLeastOnce,
}

/// At a retention gap or a recreated topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// The topic's link stops until an operator has looked.
    Stop,
    /// It goes on and counts.
    Skip,
}

/// With a record that the target refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRejected {
    /// It is put aside in `<topic>__dead-letter` and the stream goes on.
    DeadLetter,
    /// The stream stops.
    Stop,
}

/// The most that one link copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// `None` is unlimited.
    pub records_per_second: Option<NonZeroU64>,
    /// Of keys and values; `None` is unlimited.
    pub bytes_per_second: Option<NonZeroU64>,
}

/// The HTTP endpoint.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bearer token; always there when `listen` is not on loopback.
    pub token: Option<SecretString>,
}

/// What a cutover calls.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Signs the body.
    pub secret: Option<SecretString>,
    /// Gateways refuse moved keys.
    pub ban: Option<Hook>,
    /// Databases refuse writes for moved keys.
    pub seal: Option<Hook>,
    /// Data stores have caught up.
    pub gate: Option<Hook>,
    /// The new rules are in force.
    pub switched: Option<Hook>,
}

/// One step that is called.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Who is called.
    pub call: HookCall,
    /// How long it may take.
    pub timeout: Duration,
    /// What the cutover waits for.
    pub block: HookBlock,
}

/// Who is called.
#[derive(Clone)]
pub enum HookCall {
    /// An HTTP POST.
    Url(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

impl fmt::Debug for HookCall {
    /// Addresses and arguments may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url(_) => "Url(…)",
            Self::Exec(_) => "Exec(…)",
        })
    }
}

/// What the cutover waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookBlock {
    /// That it succeeded.
    Success,
    /// That it ended.
    End,
    /// Nothing.
    Ignore,
}

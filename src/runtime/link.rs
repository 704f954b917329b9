//! The flow from a peer region into this one: one thread that owns a source over there and a sink over here.
//!
//! ```text
//!   Link::run ──▶ Session: opened clients; a fenced or broken one is dropped and made anew
//!                  tick:  ownership → positions → answers → orders → topics → fetch → carry → commit
//! ```
//!
//! Nothing in a tick waits for anything but records: whatever asks a cluster about more than that is done by the
//! resolver's thread (positions) or the watches (topics, lag).

use std::cell::Cell;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::broker::{Class, Error, SharedCluster, SinkSettings, SourceSettings};
use crate::clock::SharedClock;
use crate::control::ControlLog;
use crate::control::entry::LinkBeat;
use crate::machine::backoff::Backoff;
use crate::model::names::{GroupName, RegionName, TopicName};
use crate::policy::subscription::StartFrom;
use crate::runtime::resolve::Resolver;
use crate::runtime::route::Route;
use crate::runtime::session::Session;
use crate::runtime::stop::Stop;
use crate::runtime::watch::Watch;
use crate::telemetry::metrics::Metrics;

/// Fetched and not yet taken records, bytes.
const SOURCE_BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Appended and not yet acknowledged records, bytes.
const SINK_BUFFER_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Largest request to the target, bytes, when its topics allow more.
const BATCH_BYTES_MAX: usize = 1_000_000;

/// Streams whose positions are being found out at once; others wait their turn.
const QUESTIONS_MAX: usize = 4096;

/// How a link works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region that is read.
    pub from: RegionName,
    /// This bridge's region.
    pub to: RegionName,
    /// This process's unique and stable name.
    pub instance: String,
    /// Records and positions in one transaction.
    pub exactly_once: bool,
    /// For streams never copied before.
    pub start_from: StartFrom,
    /// Longest time that a copied record stays uncommitted.
    pub commit_interval: Duration,
    /// Go on and count where records were lost.
    pub skips_gaps: bool,
    /// Stop a stream at a record that the target refuses.
    pub stops_at_rejected: bool,
    /// May create dead-letter topics.
    pub creates_topics: bool,
    /// Settings of the topics that it creates.
    pub creation: Creation,
    /// Records per second at most.
    pub records_per_second: Option<u64>,
    /// Key and value bytes per second at most.
    pub bytes_per_second: Option<u64>,
    /// How long a stop may take.
    pub shutdown_timeout: Duration,
}

/// How topics are made in this region.
#[derive(Clone, Debug, Default)]
pub struct Creation {
    /// `None` takes the cluster's default.
    pub replication_factor: Option<i32>,
    /// In the broker's own names.
    pub config: std::collections::BTreeMap<String, String>,
}

/// What a link works with.
#[derive(Clone)]
pub struct World {
    /// The cluster that is read.
    pub source: SharedCluster,
    /// The cluster that is written.
    pub target: SharedCluster,
    /// What the source's topics look like.
    pub source_watch: Arc<Watch>,
    /// What the target's topics look like.
    pub target_watch: Arc<Watch>,
    /// This region's control topic.
    pub control: Arc<ControlLog>,
    /// The source region's control topic.
    pub peer_control: Arc<ControlLog>,
    /// What time it is.
    pub clock: SharedClock,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// What a link shows of itself.
pub type Board = Arc<Mutex<Vec<LinkBeat>>>;

/// The running link.
pub struct Link {
    settings: Settings,
    board: Board,
    thread: JoinHandle<()>,
}

impl Link {
    /// Starts the link's thread. It ends when `stop` is asked.
    pub fn start(settings: Settings, routes: Vec<Route>, world: World, stop: Stop) -> std::io::Result<Self> {
        let board = Board::default();
        let runner = Runner {
            settings: settings.clone(),
            routes: Arc::new(routes),
            world,
            stop,
            board: Arc::clone(&board),
            starved: Cell::new(0),
        };
        let thread = std::thread::Builder::new()
            .name(format!("link-{}-{}", settings.from, settings.to))
            .spawn(move || runner.run())?;
        Ok(Self { settings, board, thread })
    }

    /// The region that is read.
    pub const fn from(&self) -> &RegionName {
        &self.settings.from
    }

    /// What it shows of itself, per topic.
    pub fn beats(&self) -> Vec<LinkBeat> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether its thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end; false when the thread panicked.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// What the link's thread holds for its whole life.
pub struct Runner {
    /// How it works.
    pub settings: Settings,
    /// Its topics.
    pub routes: Arc<Vec<Route>>,
    /// What it works with.
    pub world: World,
    /// When it ends.
    pub stop: Stop,
    /// What it shows.
    pub board: Board,
    /// How many readers in a row have starved.
    pub starved: Cell<u32>,
}

impl Runner {
    fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
        while !self.stop.is_asked() {
            let error = match self.session(&mut backoff) {
                Ok(()) => break,
                Err(error) => error,
            };
            self.world.metrics.link_error(&self.settings.from, &self.settings.to, error.class);
            let wait = backoff.failed();
            let (from, to) = (&self.settings.from, &self.settings.to);
            match error.class {
                Class::Fatal | Class::Denied => error!(%from, %to, ?wait, "link stands still: {error}"),
                _ => warn!(%from, %to, ?wait, "link starts again: {error}"),
            }
            self.show_trouble(&error);
            self.stop.wait(wait);
        }
        info!(from = %self.settings.from, to = %self.settings.to, "link stopped");
    }

    /// Works until it is stopped (Ok) or its clients are of no use any more (Err).
    fn session(&self, backoff: &mut Backoff) -> Result<(), Error> {
        let (ask, questions) = sync_channel(QUESTIONS_MAX);
        let (answer, answers) = sync_channel(QUESTIONS_MAX);
        let source = self.world.source.source(&self.source_settings())?;
        let sink = self.world.target.sink(&self.sink_settings())?;
        let resolver = self.resolver();
        let searching = resolver.stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("resolve-{}-{}", self.settings.from, self.settings.to))
            .spawn(move || resolver.run(questions, answer))
            .map_err(|error| Error::new(Class::Retry, "start the resolver's thread", error))?;
        let mut session = Session::new(self, source, sink, ask, answers);
        let ended = session.run(backoff);
        let closed = session.close(ended.is_ok());
        searching.ask();
        if thread.join().is_err() {
            error!(from = %self.settings.from, to = %self.settings.to, "the resolver panicked");
        }
        ended.and(closed)
    }

    fn source_settings(&self) -> SourceSettings {
        SourceSettings {
            client_id: format!("longshore-link-{}-{}", self.settings.from, self.settings.to),
            buffer_bytes_max: SOURCE_BUFFER_BYTES_MAX,
        }
    }

    fn sink_settings(&self) -> SinkSettings {
        let topics: Vec<TopicName> = self.routes.iter().map(|route| route.copy.target_topic.clone()).collect();
        let seen = self.world.target_watch.latest();
        let batch_bytes_max = topics.iter().filter_map(|topic| seen.topic(topic)?.record_bytes_max).min();
        SinkSettings {
            group: self.group(),
            instance: self.settings.instance.clone(),
            topics,
            transactional: self.settings.exactly_once,
            buffer_bytes_max: SINK_BUFFER_BYTES_MAX,
            batch_bytes_max: batch_bytes_max.map_or(BATCH_BYTES_MAX, |bytes| bytes.min(BATCH_BYTES_MAX)),
        }
    }

    fn group(&self) -> GroupName {
        GroupName::new(format!("longshore-link-{}-{}", self.settings.from, self.settings.to))
    }

    fn resolver(&self) -> Resolver {
        Resolver {
            from: self.settings.from.clone(),
            to: self.settings.to.clone(),
            source: Arc::clone(&self.world.source),
            target: Arc::clone(&self.world.target),
            control: Arc::clone(&self.world.control),
            peer_control: Arc::clone(&self.world.peer_control),
            routes: Arc::clone(&self.routes),
            start_from: self.settings.start_from,
            skips_gaps: self.settings.skips_gaps,
            clock: Arc::clone(&self.world.clock),
            stop: Stop::new(),
            target_watch: Arc::clone(&self.world.target_watch),
            group: self.group(),
            instance: self.settings.instance.clone(),
        }
    }

    fn show_trouble(&self, error: &Error) {
        let beats = self.routes.iter().map(|route| LinkBeat {
            from: self.settings.from.to_string(),
            topic: route.copy.source_topic.to_string(),
            state: "retrying".to_owned(),
            reason: Some(format!("{}: {error}", error.class.label())),
            ..LinkBeat::default()
        });
        *self.board.lock().unwrap_or_else(PoisonError::into_inner) = beats.collect();
    }
}

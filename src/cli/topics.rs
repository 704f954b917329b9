//! `topics sync` and `topics diff`: the topics that the plan needs, in every region's cluster.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::app;
use crate::broker::Error;
use crate::cli::context::Context;
use crate::cli::failure::{DIFFERENT, Failure};
use crate::cli::output;
use crate::cli::status::{lines, plain_table};
use crate::config::Config;
use crate::model::names::RegionName;
use crate::policy::plan::{Copy, Creates, copies, creates};
use crate::policy::topics::{self, Change, Difference, Extent, Settings};
use crate::runtime::topics::{apply, look};

/// `topics …`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Create what is missing and grow what is too small, in every region
    #[command(after_help = "Examples:
  longshore topics sync --dry-run
  longshore topics sync

Never deletes a topic and never changes a setting of one that exists.")]
    Sync {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Report what differs between regions or from what is declared; exit code 3 when something does
    #[command(after_help = "Examples:
  longshore topics diff
  longshore topics diff -o json | jq '.differences'")]
    Diff,
}

/// `topics sync`, `topics diff`.
pub fn run(context: &Context, command: &Command) -> Result<ExitCode, Failure> {
    let config = context.load()?;
    let needed = Needed::of(&config);
    match command {
        Command::Sync { dry_run } => sync(context, &config, &needed, *dry_run),
        Command::Diff => diff(context, &config, &needed),
    }
}

/// What the plan needs, kept for [`topics::Plan`] to borrow.
struct Needed {
    creates: Vec<Creates>,
    copies: Vec<Copy>,
    settings: BTreeMap<RegionName, Settings>,
}

impl Needed {
    fn of(config: &Config) -> Self {
        let deployment = &config.deployment;
        Self { creates: creates(deployment), copies: copies(deployment), settings: app::topic_settings(config) }
    }

    fn plan<'a>(&'a self, config: &'a Config) -> topics::Plan<'a> {
        let center = &config.deployment.center;
        topics::Plan { creates: &self.creates, copies: &self.copies, settings: &self.settings, center }
    }
}

/// The clusters that could be opened, and why the others could not.
fn open(config: &Config) -> (BTreeMap<RegionName, crate::broker::SharedCluster>, BTreeMap<RegionName, Error>) {
    let (mut clusters, mut failed) = (BTreeMap::new(), BTreeMap::new());
    for (region, cluster) in &config.clusters {
        match app::open(region, cluster) {
            Ok(cluster) => drop(clusters.insert(region.clone(), cluster)),
            Err(error) => drop(failed.insert(region.clone(), error)),
        }
    }
    (clusters, failed)
}

fn sync(context: &Context, config: &Config, needed: &Needed, dry_run: bool) -> Result<ExitCode, Failure> {
    let (clusters, mut failed) = open(config);
    let plan = needed.plan(config);
    let (found, silent) = look(&clusters, &plan);
    failed.extend(silent);
    let changes = topics::changes(&plan, &found, Extent::Declared);
    let mut rows = Vec::new();
    let mut refused = 0;
    for change in &changes {
        let outcome = match clusters.get(change.region()).filter(|_| !dry_run) {
            None => "would be done".to_owned(),
            Some(cluster) => match apply(cluster.as_ref(), change) {
                Ok(true) => "done".to_owned(),
                Ok(false) => "was there already".to_owned(),
                Err(error) => {
                    refused += 1;
                    format!("failed: {error}")
                }
            },
        };
        rows.push((change, outcome));
    }
    let value = json!({
        "dry_run": dry_run,
        "changes": rows.iter().map(|(change, outcome)| change_json(change, outcome)).collect::<Vec<_>>(),
        "unreachable": unreachable_json(&failed),
    });
    context.answer(&value, || {
        if rows.is_empty() {
            let where_asked = if failed.is_empty() { "" } else { " in the regions that answered" };
            return format!("Every topic is there and large enough{where_asked}.");
        }
        let mut table = plain_table(&["REGION", "TOPIC", "CHANGE", "OUTCOME"]);
        for (change, outcome) in &rows {
            let cells = [change.region().to_string(), change.topic().to_string()];
            table.add_row(cells.into_iter().chain([described(change), outcome.clone()]));
        }
        lines(&table)
    })?;
    if refused > 0 {
        output::say(&format!("error: {refused} of {} changes failed", changes.len()));
    }
    tell_unreachable(&failed);
    Ok(if refused == 0 && failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn described(change: &Change) -> String {
    match change {
        Change::Create { partitions, replication_factor, config, .. } => {
            let replicas = replication_factor.map(|replicas| format!(", {replicas} replicas")).unwrap_or_default();
            let settings: String = config.iter().map(|(name, value)| format!(", {name}={value}")).collect();
            format!("create with {partitions} partitions{replicas}{settings}")
        }
        Change::Grow { from, to, .. } => format!("grow from {from} to {to} partitions"),
    }
}

fn change_json(change: &Change, outcome: &str) -> Value {
    let (region, topic) = (change.region().as_str(), change.topic().as_str());
    match change {
        Change::Create { partitions, replication_factor, config, .. } => json!({
            "region": region, "topic": topic, "action": "create", "partitions": partitions,
            "replication_factor": replication_factor, "config": config, "outcome": outcome,
        }),
        Change::Grow { from, to, .. } => json!({
            "region": region, "topic": topic, "action": "grow", "from": from, "partitions": to, "outcome": outcome,
        }),
    }
}

fn unreachable_json(failed: &BTreeMap<RegionName, Error>) -> BTreeMap<String, String> {
    failed.iter().map(|(region, error)| (region.to_string(), error.to_string())).collect()
}

fn tell_unreachable(failed: &BTreeMap<RegionName, Error>) {
    for (region, error) in failed {
        output::say(&format!("error: the cluster of {region} could not be asked: {error}"));
    }
}

fn diff(context: &Context, config: &Config, needed: &Needed) -> Result<ExitCode, Failure> {
    let (clusters, mut failed) = open(config);
    let plan = needed.plan(config);
    let (found, silent) = look(&clusters, &plan);
    failed.extend(silent);
    let differences = topics::differences(&plan, &found);
    let value = json!({
        "equal": differences.is_empty() && failed.is_empty(),
        "differences": differences.iter().map(difference_json).collect::<Vec<_>>(),
        "unreachable": unreachable_json(&failed),
    });
    context.answer(&value, || {
        if differences.is_empty() {
            let where_asked = if failed.is_empty() { "" } else { " in the regions that answered" };
            return format!("No differences{where_asked}.");
        }
        let mut table = plain_table(&["TOPIC", "REGION", "WHAT", "HAS", "SHOULD HAVE", "SAYS"]);
        for difference in &differences {
            let Difference { region, topic, what, has, wants, says } = difference;
            table.add_row([topic.as_str(), region.as_str(), what, has, wants, says]);
        }
        lines(&table)
    })?;
    for note in topics::compacted_notes(&config.deployment, &found) {
        output::say(&format!("note: {note}"));
    }
    tell_unreachable(&failed);
    Ok(match (failed.is_empty(), differences.is_empty()) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(DIFFERENT),
        (true, true) => ExitCode::SUCCESS,
    })
}

fn difference_json(difference: &Difference) -> Value {
    json!({
        "region": difference.region.as_str(), "topic": difference.topic.as_str(), "what": difference.what,
        "has": difference.has, "wants": difference.wants, "says": difference.says,
    })
}

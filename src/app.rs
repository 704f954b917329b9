//! The composition root: the only file that names the drivers. It turns a configuration into running bridges.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::broker::embedded::Embedded;
use crate::broker::kafka::Kafka;
use crate::broker::{Class, Error, SharedCluster};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Cluster, Config, Guarantee, OnGap, OnRejected};
use crate::control::api::{self, Endpoint, PauseRequest, Served};
use crate::control::log::Creation;
use crate::control::orders::{self, Scope};
use crate::control::{ControlLog, status};
use crate::model::names::{RegionName, TopicName};
use crate::policy::{plan, topics};
use crate::runtime::bridge::{Bridge, Controls, Handle, Settings};
use crate::runtime::link;
use crate::store::StateDir;
use crate::telemetry::metrics::Metrics;

/// Opens a region's cluster. Returns at once where the driver connects in the background; only wrong settings fail here.
pub fn open(region: &RegionName, cluster: &Cluster) -> Result<SharedCluster, Error> {
    match cluster {
        Cluster::Kafka(settings) => Ok(Arc::new(Kafka::open(region.as_str(), settings)?)),
        Cluster::Embedded { dir } => Ok(Embedded::open(dir)?),
        Cluster::RocketMq(_) => {
            let reason = "this version plans for RocketMQ but cannot run it yet";
            Err(Error::new(Class::Fatal, format!("open the cluster of {region}"), reason))
        }
    }
}

/// Opens the clusters of all regions.
pub fn connect(config: &Config) -> Result<BTreeMap<RegionName, SharedCluster>, Error> {
    config.clusters.iter().map(|(region, cluster)| Ok((region.clone(), open(region, cluster)?))).collect()
}

/// What the configuration says of topics that are created in each region.
pub fn topic_settings(config: &Config) -> BTreeMap<RegionName, topics::Settings> {
    let settings = |cluster: &Cluster| match cluster {
        Cluster::Kafka(kafka) => {
            topics::Settings { replication_factor: kafka.replication_factor, config: kafka.topic_config.clone() }
        }
        Cluster::RocketMq(_) | Cluster::Embedded { .. } => topics::Settings::default(),
    };
    config.clusters.iter().map(|(region, cluster)| (region.clone(), settings(cluster))).collect()
}

/// How a region's control topic is made; `None` when nothing may be created.
pub fn creation(config: &Config, region: &RegionName) -> Option<Creation> {
    config.create_topics.then(|| {
        let link::Creation { replication_factor, config } = topic_creation(config, region);
        Creation { replication_factor, config }
    })
}

fn topic_creation(config: &Config, region: &RegionName) -> link::Creation {
    match config.clusters.get(region) {
        Some(Cluster::Kafka(settings)) => {
            link::Creation { replication_factor: settings.replication_factor, config: settings.topic_config.clone() }
        }
        _ => link::Creation::default(),
    }
}

fn settings(config: &Config, region: &RegionName, instance: &str) -> Settings {
    let links = &config.links;
    Settings {
        region: region.clone(),
        instance: instance.to_owned(),
        deployment: Arc::new(config.deployment.clone()),
        link: link::Settings {
            from: region.clone(),
            to: region.clone(),
            instance: instance.to_owned(),
            exactly_once: links.guarantee == Guarantee::ExactlyOnce,
            start_from: links.start_from,
            commit_interval: links.commit_interval,
            skips_gaps: links.on_gap == OnGap::Skip,
            stops_at_rejected: links.on_rejected == OnRejected::Stop,
            creates_topics: config.create_topics,
            creation: topic_creation(config, region),
            records_per_second: links.rate_limit.records_per_second.map(Into::into),
            bytes_per_second: links.rate_limit.bytes_per_second.map(Into::into),
            shutdown_timeout: config.shutdown_timeout,
        },
    }
}

/// Starts the bridge of `region` over open clusters.
pub fn start_bridge(
    config: &Config,
    region: &RegionName,
    instance: &str,
    clusters: &BTreeMap<RegionName, SharedCluster>,
    metrics: &Arc<Metrics>,
    clock: &SharedClock,
) -> anyhow::Result<Bridge> {
    let secret = config.control_secret.as_ref();
    let controls = open_controls(config, region, clusters, secret)?;
    let settings = settings(config, region, instance);
    let bridge = Bridge::start(settings, clusters.clone(), controls, Arc::clone(metrics), Arc::clone(clock));
    bridge.with_context(|| format!("start the bridge of {region}"))
}

fn open_controls(
    config: &Config,
    here: &RegionName,
    clusters: &BTreeMap<RegionName, SharedCluster>,
    secret: Option<&SecretString>,
) -> Result<Controls, Error> {
    clusters
        .iter()
        .map(|(region, cluster)| {
            let cluster = Arc::clone(cluster);
            let log = if region == here {
                ControlLog::open(cluster, region, secret, creation(config, region))?
            } else {
                ControlLog::follow(cluster, region, secret)?
            };
            Ok((region.clone(), Arc::new(log)))
        })
        .collect()
}

/// Answers the HTTP endpoint for the bridges of this process.
pub struct Answers {
    bridges: Vec<Handle>,
    clock: SharedClock,
}

impl Answers {
    /// For these bridges, at least one.
    pub fn new(bridges: Vec<Handle>, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self { bridges, clock })
    }
}

impl Endpoint for Answers {
    fn not_ready(&self) -> Vec<String> {
        self.bridges.iter().flat_map(Handle::not_ready).collect()
    }

    fn metrics(&self) -> String {
        self.bridges.first().map(|bridge| bridge.metrics().text()).unwrap_or_default()
    }

    fn status(&self) -> Value {
        let Some(bridge) = self.bridges.first() else { return Value::Null };
        let logs = bridge.controls().values().map(AsRef::as_ref);
        serde_json::to_value(status::followed(logs, self.clock.now_ms())).unwrap_or(Value::Null)
    }

    fn plan(&self) -> Value {
        let plan = self.bridges.first().map(|bridge| plan::shown(bridge.deployment()));
        serde_json::to_value(plan).unwrap_or(Value::Null)
    }

    fn set_paused(&self, what: &PauseRequest, paused: bool) -> Result<(), String> {
        let to = RegionName::new(&what.to);
        let bridge = self.bridges.iter().find(|bridge| *bridge.region() == to);
        let bridge = bridge.ok_or_else(|| format!("links into {to} are paused at the bridge of {to}"))?;
        let control = bridge.controls().get(&to).ok_or("the control topic is not open")?;
        let scope = Scope {
            from: RegionName::new(&what.from),
            to,
            topic: what.topic.as_deref().map(TopicName::new),
            partition: what.partition,
        };
        let copies = plan::copies(bridge.deployment());
        let is_known = |copy: &plan::Copy| {
            copy.from == scope.from
                && copy.to == scope.to
                && scope.topic.as_ref().is_none_or(|topic| *topic == copy.source_topic)
        };
        if !copies.iter().any(is_known) {
            return Err(format!(
                "nothing is copied by {}:{} {}",
                what.from,
                what.to,
                what.topic.as_deref().unwrap_or("")
            ));
        }
        let done = if paused {
            orders::pause(control, &scope, "http", self.clock.now_ms())
        } else {
            orders::resume(control, &scope).map(|_| ())
        };
        done.map_err(|error| error.to_string())
    }
}

/// Runs the bridges of `regions` until a signal ends them. Several regions in one process are for the embedded broker,
/// whose logs only one process can open.
pub fn run(config: &Config, regions: &[RegionName], instance: Option<&str>) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the signal loop")?;
    // Registered before anything starts, so that no signal finds the default action.
    let mut signals = runtime.block_on(async { Signals::listen() }).context("listen for signals")?;
    // A folder for each region, so that bridges of several regions can run from one file on one machine.
    let folder = match regions {
        [only] => config.state_dir.join(only.as_str()),
        _ => config.state_dir.clone(),
    };
    let state = StateDir::open(&folder, instance)?;
    for warning in &config.warnings {
        warn!("{}", warning.to_string().trim_end());
    }
    let first = regions.first().context("no region to run")?;
    let clock = SystemClock::start();
    let metrics = Metrics::new(first);
    let clusters = connect(config)?;
    let bridges = regions
        .iter()
        .map(|region| start_bridge(config, region, state.instance(), &clusters, &metrics, &clock))
        .collect::<anyhow::Result<Vec<Bridge>>>()?;
    let admin = api::Admin { listen: config.admin.listen.to_string(), token: config.admin.token.clone() };
    let served = api::serve(&admin, Answers::new(bridges.iter().map(Bridge::handle).collect(), Arc::clone(&clock)))?;
    state.write("admin.addr", served.address().to_string().as_bytes())?;
    info!(regions = ?regions, instance = state.instance(), admin = %served.address(), "bridge started");
    runtime.block_on(signals.wait());
    info!("stopping: open work is committed first; a second signal stops at once");
    let ended = stop(bridges, &mut signals, &runtime, config.shutdown_timeout);
    finish(served, &state);
    Ok(ended)
}

fn finish(served: Served, state: &StateDir) {
    served.stop();
    if let Err(error) = state.remove("admin.addr") {
        warn!("{error}");
    }
}

/// Stops bridges within `timeout`; a second signal ends the wait. What is not committed by then is not lost: positions
/// never pass it.
fn stop(bridges: Vec<Bridge>, signals: &mut Signals, runtime: &tokio::runtime::Runtime, timeout: Duration) -> ExitCode {
    bridges.iter().for_each(Bridge::ask_stop);
    let finished = async {
        while !bridges.iter().all(Bridge::is_finished) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = runtime.block_on(async {
        tokio::select! {
            () = finished => true,
            () = signals.wait() => false,
            () = tokio::time::sleep(timeout) => false,
        }
    });
    if !in_time {
        error!("stopped before everything was committed; the next start goes on from the last commit");
        return ExitCode::FAILURE;
    }
    let clean: Vec<bool> = bridges.into_iter().map(Bridge::stop).collect();
    if clean.into_iter().all(|clean| clean) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for a signal; for commands that go on until they are told to end.
pub fn wait_for_signal() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        signals.wait().await;
        Ok(())
    })
}

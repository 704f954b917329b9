//! One region's bridge: its control topic, its watches, its links, and what it says of itself.
//!
//! `Bridge::start` returns at once; a thread of its own reads the control topic whole, keeps topics in shape, starts
//! the links, sends heartbeats, and stops everything in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::broker::{Class, Error, SharedCluster};
use crate::clock::SharedClock;
use crate::control::ControlLog;
use crate::control::entry::{Heartbeat, LinkBeat};
use crate::control::heartbeat;
use crate::model::names::{RegionName, TopicName};
use crate::policy::plan::{self, Copy};
use crate::policy::subscription::Deployment;
use crate::runtime::link::{self, Link, World};
use crate::runtime::resolve;
use crate::runtime::route::Route;
use crate::runtime::stop::Stop;
use crate::runtime::topics;
use crate::runtime::watch::{Snapshot, Watch};
use crate::telemetry::metrics::Metrics;

const TICK: Duration = Duration::from_millis(250);
const BEAT_EVERY: Duration = Duration::from_millis(heartbeat::BEAT_EVERY_MS as u64);
const AUDIT_EVERY: Duration = Duration::from_secs(60);
const KEEP_TOPICS_EVERY: Duration = Duration::from_secs(1);

/// How a bridge works.
#[derive(Clone)]
pub struct Settings {
    /// Its region.
    pub region: RegionName,
    /// This process's unique and stable name.
    pub instance: String,
    /// What is declared.
    pub deployment: Arc<Deployment>,
    /// How its links work; `from` is filled in for each.
    pub link: link::Settings,
}

/// The control topics of all regions.
pub type Controls = BTreeMap<RegionName, Arc<ControlLog>>;

struct Shared {
    settings: Settings,
    clusters: BTreeMap<RegionName, SharedCluster>,
    controls: Controls,
    watches: BTreeMap<RegionName, Arc<Watch>>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    started_ms: i64,
    links: Mutex<Vec<Link>>,
    stage: Mutex<Stage>,
    stop: Stop,
}

/// How far a bridge has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    ReadingControl,
    Running,
    Stopping,
}

/// A running bridge. Dropping it without [`Bridge::stop`] leaves its threads running until the process ends.
pub struct Bridge {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// Asks a running bridge.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Bridge {
    /// Starts a bridge over open clusters and control topics.
    pub fn start(
        settings: Settings,
        clusters: BTreeMap<RegionName, SharedCluster>,
        controls: Controls,
        metrics: Arc<Metrics>,
        clock: SharedClock,
    ) -> std::io::Result<Self> {
        let copies = plan::copies(&settings.deployment);
        let watches = clusters
            .iter()
            .map(|(region, cluster)| {
                let topics = watched(region, &settings.region, &copies, &settings.deployment);
                let watch = Watch::start(region.as_str(), Arc::clone(cluster), topics, Arc::clone(&clock));
                (region.clone(), Arc::new(watch))
            })
            .collect();
        let shared = Arc::new(Shared {
            started_ms: clock.now_ms(),
            settings,
            clusters,
            controls,
            watches,
            clock,
            metrics,
            links: Mutex::default(),
            stage: Mutex::new(Stage::ReadingControl),
            stop: Stop::new(),
        });
        let running = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("bridge-{}", shared.settings.region))
            .spawn(move || running.run())?;
        Ok(Self { shared, thread })
    }

    /// Asks it.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Asks it to stop: links commit what is open and leave their groups.
    pub fn ask_stop(&self) {
        self.shared.stop.ask();
    }

    /// Whether it has stopped.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops and waits for the end; false when something panicked.
    pub fn stop(self) -> bool {
        self.shared.stop.ask();
        self.thread.join().is_ok()
    }
}

/// The topics of `region` that matter to the bridge of `here`.
fn watched(region: &RegionName, here: &RegionName, copies: &[Copy], deployment: &Deployment) -> Vec<TopicName> {
    let read = copies.iter().filter(|copy| copy.from == *region && copy.to == *here).map(|copy| &copy.source_topic);
    let written = copies.iter().filter(|copy| copy.to == *region && region == here).map(|copy| &copy.target_topic);
    let declared = deployment.topics.iter().map(|topic| &topic.name).filter(|_| region == here);
    let mut topics: Vec<TopicName> = read.chain(written).chain(declared).cloned().collect();
    topics.sort();
    topics.dedup();
    topics
}

impl Shared {
    fn run(self: Arc<Self>) {
        if !self.read_control() {
            return;
        }
        self.set_stage(Stage::Running);
        if let Err(error) = self.start_links() {
            error!("start links: {error}");
        }
        let (mut beat_at, mut audit_at, mut keep_at) =
            (Duration::ZERO, self.clock.monotonic() + AUDIT_EVERY, Duration::ZERO);
        let mut said = None;
        while !self.stop.wait(TICK) {
            let now = self.clock.monotonic();
            if now >= keep_at {
                keep_at = now + KEEP_TOPICS_EVERY;
                self.keep_topics();
                self.count_incarnations();
            }
            let (reasons, beats) = (self.not_ready(), self.beats());
            let news = (reasons.clone(), states(&beats));
            if now >= beat_at || said.as_ref() != Some(&news) {
                beat_at = now + BEAT_EVERY;
                self.beat(reasons, beats);
                said = Some(news);
            }
            if now >= audit_at {
                audit_at = now + AUDIT_EVERY;
                self.metrics.log_audit();
            }
            self.measure();
        }
        self.end();
    }

    /// Reads this region's control topic whole. False: a stop came first.
    fn read_control(&self) -> bool {
        let Some(control) = self.controls.get(&self.settings.region) else { return false };
        let mut said: Option<Class> = None;
        while let Err(error) = control.caught_up(TICK * 2) {
            if said != Some(error.class) {
                info!("waiting for the control topic: {error}");
                said = Some(error.class);
            }
            if self.stop.is_asked() {
                return false;
            }
        }
        if let Err(error) = heartbeat::prune(control, self.clock.now_ms()) {
            debug!("old heartbeats stay: {error}");
        }
        true
    }

    fn start_links(&self) -> Result<(), Error> {
        let here = &self.settings.region;
        let mut by_source: BTreeMap<RegionName, Vec<Copy>> = BTreeMap::new();
        for copy in plan::copies(&self.settings.deployment).into_iter().filter(|copy| copy.to == *here) {
            by_source.entry(copy.from.clone()).or_default().push(copy);
        }
        for (from, copies) in by_source {
            let routes = copies.into_iter().filter_map(|copy| self.route(copy)).collect();
            let Some(world) = self.world(&from) else { continue };
            let settings = link::Settings { from: from.clone(), ..self.settings.link.clone() };
            let link = Link::start(settings, routes, world, self.stop.clone())
                .map_err(|error| Error::new(Class::Fatal, format!("start the link from {from}"), error))?;
            info!(%from, to = %here, "link started");
            self.links.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        }
        Ok(())
    }

    fn route(&self, copy: Copy) -> Option<Route> {
        let deployment = &self.settings.deployment;
        let topic = deployment.topics.iter().find(|topic| topic.name == copy.topic)?;
        Some(Route::new(copy, topic, deployment, !self.settings.link.exactly_once))
    }

    fn world(&self, from: &RegionName) -> Option<World> {
        let here = &self.settings.region;
        Some(World {
            source: Arc::clone(self.clusters.get(from)?),
            target: Arc::clone(self.clusters.get(here)?),
            source_watch: Arc::clone(self.watches.get(from)?),
            target_watch: Arc::clone(self.watches.get(here)?),
            control: Arc::clone(self.controls.get(here)?),
            peer_control: Arc::clone(self.controls.get(from)?),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
        })
    }

    /// Makes and grows this region's topics.
    fn keep_topics(&self) {
        if !self.settings.link.creates_topics {
            return;
        }
        let looks: BTreeMap<RegionName, Arc<Snapshot>> =
            self.watches.iter().map(|(region, watch)| (region.clone(), watch.latest())).collect();
        let Some(cluster) = self.clusters.get(&self.settings.region) else { return };
        let Settings { region, deployment, link, .. } = &self.settings;
        for change in topics::changes(region, deployment, &looks, &link.creation) {
            match topics::apply(cluster.as_ref(), &change) {
                Ok(_) => info!(topic = %change.topic(), ?change, "topic brought into shape"),
                Err(error) => warn!(topic = %change.topic(), ?change, "topic stays as it is: {error}"),
            }
        }
    }

    /// Numbers the incarnations of this region's own topics, so that all peers agree on them.
    fn count_incarnations(&self) {
        let here = &self.settings.region;
        let (Some(watch), Some(own)) = (self.watches.get(here), self.controls.get(here)) else { return };
        let look = watch.latest();
        let peers: Vec<&ControlLog> =
            self.controls.iter().filter(|(region, _)| *region != here).map(|(_, control)| control.as_ref()).collect();
        for (topic, description) in &look.topics {
            let Some(description) = description else { continue };
            let now_ms = self.clock.now_ms();
            if let Err(error) = resolve::incarnation(own, &peers, here, topic, &description.id, 1, now_ms) {
                debug!(%topic, "incarnation not recorded: {error}");
            }
        }
    }

    fn not_ready(&self) -> Vec<String> {
        let here = &self.settings.region;
        let mut reasons = Vec::new();
        match *self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::ReadingControl => reasons.push("the control topic is not read yet".to_owned()),
            Stage::Stopping => reasons.push("stopping".to_owned()),
            Stage::Running => {}
        }
        if let Some(Err(error)) = self.controls.get(here).map(|control| control.health()) {
            reasons.push(format!("the control topic cannot be read: {}: {error}", error.class.label()));
        }
        for link in self.links.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if link.is_finished() {
                reasons.push(format!("the link from {} has ended", link.from()));
                continue;
            }
            let beats = link.beats();
            if beats.is_empty() {
                reasons.push(format!("link {}:{here}: starting", link.from()));
            }
            reasons.extend(beats.iter().filter_map(|beat| complaint(beat, here)));
        }
        reasons
    }

    fn beats(&self) -> Vec<LinkBeat> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).iter().flat_map(Link::beats).collect()
    }

    fn beat(&self, reasons: Vec<String>, links: Vec<LinkBeat>) {
        let here = &self.settings.region;
        let beat = Heartbeat {
            at_ms: self.clock.now_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            ready: reasons.is_empty(),
            reasons,
            guarantee: if self.settings.link.exactly_once { "exactly-once" } else { "at-least-once" }.to_owned(),
            links,
            ..Heartbeat::default()
        };
        let Some(control) = self.controls.get(here) else { return };
        if let Err(error) = heartbeat::say(control, &self.settings.instance, &beat) {
            debug!("heartbeat not written: {error}");
        }
    }

    fn measure(&self) {
        for (region, watch) in &self.watches {
            let look = watch.latest();
            self.metrics.region_up(region, look.number > 0 && look.trouble.is_none());
        }
        for (region, control) in &self.controls {
            self.metrics.control(region, control.health().is_ok(), control.refused());
        }
    }

    fn end(&self) {
        self.set_stage(Stage::Stopping);
        let links: Vec<Link> = std::mem::take(&mut *self.links.lock().unwrap_or_else(PoisonError::into_inner));
        for link in links {
            let from = link.from().clone();
            if !link.join() {
                error!(%from, "the link panicked");
            }
        }
        let control = self.controls.get(&self.settings.region);
        if let Some(Err(error)) = control.map(|control| heartbeat::end(control, &self.settings.instance)) {
            debug!("last heartbeat not written: {error}");
        }
        self.metrics.log_audit();
    }

    fn set_stage(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

/// What operators wait for: a change of it is told at once, numbers that merely move are not.
fn states(beats: &[LinkBeat]) -> Vec<(String, Option<String>)> {
    let partitions = beats.iter().flat_map(|beat| &beat.partitions);
    partitions.map(|partition| (partition.state.clone(), partition.order.clone())).collect()
}

/// Why a topic of a link keeps the bridge from being ready.
fn complaint(beat: &LinkBeat, here: &RegionName) -> Option<String> {
    let is_fine = matches!(beat.state.as_str(), "running" | "paused");
    let reason = beat.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    (!is_fine).then(|| format!("link {}:{here} topic {}: {}{reason}", beat.from, beat.topic, beat.state))
}

impl Handle {
    /// The region.
    pub fn region(&self) -> &RegionName {
        &self.shared.settings.region
    }

    /// Why it is not ready; empty when it is.
    pub fn not_ready(&self) -> Vec<String> {
        self.shared.not_ready()
    }

    /// The links' boards.
    pub fn beats(&self) -> Vec<LinkBeat> {
        self.shared.beats()
    }

    /// The control topics that it follows.
    pub fn controls(&self) -> &Controls {
        &self.shared.controls
    }

    /// The numbers that it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// What is declared.
    pub fn deployment(&self) -> &Arc<Deployment> {
        &self.shared.settings.deployment
    }
}

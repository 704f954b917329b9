//! What a link does ten times a second besides copying: answers, orders and pauses, changed topics, and its board.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use tracing::{info, warn};

use crate::broker::{Class, Error};
use crate::control::entry::{self, LinkBeat, Order};
use crate::control::orders;
use crate::machine::flow::{Phase, Stop};
use crate::machine::hunger::Glance;
use crate::model::names::TopicPartition;
use crate::runtime::lane::{Lane, Wait};
use crate::runtime::route::Route;
use crate::runtime::session::{Session, Went};
use crate::runtime::watch::Snapshot;

const SHOW_EVERY: Duration = Duration::from_millis(500);
/// A member that has been given nothing by then has been given nothing because others hold everything.
const STARTING_MAX: Duration = Duration::from_secs(15);

impl Session<'_> {
    /// Everything that has to be looked at now and then.
    pub(super) fn look(&mut self, now: Duration) -> Result<(), Error> {
        self.seek_positions(now)?;
        self.take_answers(now)?;
        self.wake_lanes(now);
        let version = self.runner.world.control.version();
        if version != self.control_version {
            self.control_version = version;
            self.follow_orders()?;
        }
        let (source, target) = (self.runner.world.source_watch.latest(), self.runner.world.target_watch.latest());
        if (source.number, target.number) != self.looks {
            self.looks = (source.number, target.number);
            self.follow_topics(&source, &target, now)?;
        }
        if now >= self.shown_at + SHOW_EVERY {
            self.shown_at = now;
            self.show(&source, &target, now);
        }
        Ok(())
    }

    fn wake_lanes(&mut self, now: Duration) {
        for slot in 0..self.lanes.len() {
            let Some(lane) = &mut self.lanes[slot] else { continue };
            if matches!(lane.wait, Wait::Until(moment) if moment <= now) {
                if matches!(lane.stream.phase, Phase::Retrying { .. }) {
                    lane.stream.phase = Phase::Resolving;
                }
                self.recheck(slot);
            }
        }
    }

    /// Pauses, resumes and sends lanes where an operator wants them.
    fn follow_orders(&mut self) -> Result<(), Error> {
        for slot in 0..self.lanes.len() {
            let Some(lane) = &self.lanes[slot] else { continue };
            let (is_running, is_waiting) = (lane.is_running(), lane.wait == Wait::Answer);
            let route = &self.runner.routes[lane.route];
            let settings = &self.runner.settings;
            let key = entry::order_key(&settings.from, &settings.to, &route.copy.source_topic, lane.partition);
            let order = self.runner.world.control.read::<Order>(&key);
            let is_ordered = lane.stream.position().is_some_and(|(_, note)| {
                order.as_ref().is_some_and(|order| note.order.as_deref() != Some(order.id.as_str()))
            });
            if is_ordered && !is_waiting {
                info!(source = %lane.source, ?order, "order received");
                // What was read goes first: an order must not undo the copying of records that are already written.
                if self.commit()? == Went::Back {
                    return Ok(());
                }
                if is_running {
                    self.source.stop(slot)?;
                    self.set_phase(slot, Phase::Resolving);
                }
                self.recheck(slot);
                continue;
            }
            match (self.is_paused(slot), is_running) {
                (true, true) => {
                    self.source.stop(slot)?;
                    self.set_phase(slot, Phase::Paused);
                }
                (false, false) if self.lanes[slot].as_ref().is_some_and(|lane| lane.stream.phase == Phase::Paused) => {
                    self.set_phase(slot, Phase::Resolving);
                    self.recheck(slot);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether an operator has paused this lane, its topic or the whole link.
    pub(super) fn is_paused(&self, slot: usize) -> bool {
        let Some(lane) = &self.lanes[slot] else { return false };
        let settings = &self.runner.settings;
        let stream = orders::Stream {
            from: settings.from.clone(),
            to: settings.to.clone(),
            topic: lane.source.topic.clone(),
            partition: lane.partition,
        };
        orders::is_paused(&self.runner.world.control, &stream)
    }

    /// Notices recreated topics and targets with too few partitions, and measures lag.
    fn follow_topics(&mut self, source: &Snapshot, target: &Snapshot, now: Duration) -> Result<(), Error> {
        for slot in 0..self.lanes.len() {
            let Some(lane) = &self.lanes[slot] else { continue };
            let is_running = lane.is_running();
            let route = &self.runner.routes[lane.route];
            let was_recreated = is_running
                && source.trouble.is_none()
                && source.topic(&lane.source.topic).is_some_and(|topic| topic.id != lane.topic_id);
            let blocked = self.blocked(route, source, target);
            if was_recreated {
                warn!(source = %lane.source, "the topic was recreated");
                self.source.stop(slot)?;
                self.set_phase(slot, Phase::Resolving);
                self.recheck(slot);
            } else if let Some((stop, detail)) = blocked.filter(|_| is_running) {
                self.source.stop(slot)?;
                if let Some(lane) = &mut self.lanes[slot] {
                    warn!(source = %lane.source, "stream stops: {stop}: {detail}");
                    lane.stop(stop, detail, now);
                }
            }
            self.measure(slot, source, now);
        }
        self.feed(source, now)
    }

    /// Notices a reader that gives out nothing any more: librdkafka can lose a partition's leader, or its last broker,
    /// for good. New clients find them again.
    fn feed(&mut self, source: &Snapshot, now: Duration) -> Result<(), Error> {
        let is_drained = std::mem::take(&mut self.is_drained);
        let running = |(slot, lane): (usize, &Option<Lane>)| {
            let lane = lane.as_ref().filter(|lane| lane.is_running())?;
            let (next, _) = lane.stream.position()?;
            Some(Glance { stream: slot, next, left: lag(lane, source)? })
        };
        let glances: Vec<Glance> = self.lanes.iter().enumerate().filter_map(running).collect();
        if !glances.is_empty() && glances.iter().all(|glance| glance.left == 0) {
            self.runner.starved.set(0);
        }
        let Some(glance) = self.hunger.look(&glances, is_drained, now) else { return Ok(()) };
        self.runner.starved.set(self.runner.starved.get() + 1);
        let name = self.lanes[glance.stream].as_ref().map_or_else(String::new, |lane| lane.source.to_string());
        let reason = format!("nothing comes although {} records are there; reading anew with new clients", glance.left);
        Err(Error::new(Class::Retry, format!("read {name}"), reason))
    }

    /// Why a whole topic stands still.
    pub(super) fn blocked(&self, route: &Route, source: &Snapshot, target: &Snapshot) -> Option<(Stop, String)> {
        let (read, written) = (&route.copy.source_topic, &route.copy.target_topic);
        let denied = source.denied.get(read).or_else(|| target.denied.get(written));
        if let Some(error) = denied {
            return Some((Stop::Denied, error.to_string()));
        }
        let is_known = |side: &Snapshot| side.number > 0 && side.trouble.is_none();
        if is_known(source) && source.topic(read).is_some_and(|topic| !topic.may_read) {
            return Some((
                Stop::Denied,
                format!("{read} may not be read in {}; see `longshore acls`", route.copy.from),
            ));
        }
        if !is_known(target) {
            return None;
        }
        let Some(here) = target.topic(written) else {
            return Some((Stop::MissingTopic, format!("{written} does not exist in {}", route.copy.to)));
        };
        if !here.may_write {
            let detail = format!("{written} may not be written in {}; see `longshore acls`", route.copy.to);
            return Some((Stop::Denied, detail));
        }
        let there = source.topic(read).filter(|_| is_known(source))?.partitions;
        (there > here.partitions && !self.runner.settings.creates_topics).then(|| {
            let detail = format!(
                "{read} has {there} partitions in {}, {written} has {} in {}; grow it, or set create_topics",
                route.copy.from, here.partitions, route.copy.to
            );
            (Stop::TooFewPartitions, detail)
        })
    }

    /// Takes the numbers that depend on the source's log.
    fn measure(&mut self, slot: usize, source: &Snapshot, now: Duration) {
        let now_ms = self.now_ms();
        let Some(lane) = &mut self.lanes[slot] else { return };
        let lag = lag(lane, source);
        let seconds = lag.and_then(|lag| lane.lag_seconds(lag, now_ms));
        let loss = source.bounds.get(&lane.source).and_then(|bounds| lane.seconds_to_retention_loss(bounds.start, now));
        let label = lane.stream.phase.label();
        lane.meter.update(|counters| {
            counters.lag_records = lag;
            counters.lag_seconds = seconds;
            counters.seconds_to_retention_loss = loss;
            counters.state = Some(label);
        });
    }

    /// Writes the board.
    fn show(&mut self, source: &Snapshot, target: &Snapshot, now: Duration) {
        let now_ms = self.now_ms();
        let trouble = source.trouble.as_ref().or(target.trouble.as_ref());
        let mut lanes: BTreeMap<usize, Vec<&Lane>> = BTreeMap::new();
        for lane in self.lanes.iter().flatten() {
            lanes.entry(lane.route).or_default().push(lane);
        }
        let mut beats = Vec::new();
        for (index, route) in self.runner.routes.iter().enumerate() {
            let owned = lanes.remove(&index).unwrap_or_default();
            let mut beat = LinkBeat {
                from: self.runner.settings.from.to_string(),
                topic: route.copy.source_topic.to_string(),
                partitions: owned.iter().map(|lane| lane.beat(lag(lane, source))).collect(),
                ..LinkBeat::default()
            };
            let lags: Option<Vec<u64>> = beat.partitions.iter().map(|partition| partition.lag_records).collect();
            beat.lag_records = lags.filter(|_| trouble.is_none()).map(|lags| lags.iter().sum());
            let seconds = owned.iter().filter_map(|lane| lane.lag_seconds(lag(lane, source)?, now_ms));
            beat.lag_seconds = beat.lag_records.and_then(|_| seconds.reduce(f64::max).or(Some(0.0)));
            let (state, reason) = self.state_of(route, &owned, source, target, now);
            (beat.state, beat.reason) = match (trouble, state) {
                (Some(error), "running" | "resolving" | "starting" | "retrying") => {
                    ("retrying".to_owned(), Some(format!("{}: {error}", error.class.label())))
                }
                (_, state) => (state.to_owned(), reason),
            };
            beats.push(beat);
        }
        *self.runner.board.lock().unwrap_or_else(PoisonError::into_inner) = beats;
    }

    /// The state of a topic: the worst of its partitions, or why it has none.
    fn state_of(
        &self,
        route: &Route,
        owned: &[&Lane],
        source: &Snapshot,
        target: &Snapshot,
        now: Duration,
    ) -> (&'static str, Option<String>) {
        let worst = ["stopped", "retrying", "resolving", "paused"];
        for state in worst {
            if let Some(lane) = owned.iter().find(|lane| lane.stream.phase.label() == state) {
                return (state, lane.stream.phase.reason());
            }
        }
        if let Some((stop, detail)) = self.blocked(route, source, target) {
            return ("stopped", Some(format!("{stop}: {detail}")));
        }
        let read = &route.copy.source_topic;
        if source.number > 0 && source.trouble.is_none() && source.topic(read).is_none() {
            return ("stopped", Some(format!("{}: {read} does not exist in {}", Stop::MissingTopic, route.copy.from)));
        }
        let is_starting = owned.is_empty() && !self.ever_owned && now < self.started_at + STARTING_MAX;
        (if is_starting { "starting" } else { "running" }, None)
    }
}

/// Records not copied yet; `None` when it cannot be known.
fn lag(lane: &Lane, source: &Snapshot) -> Option<u64> {
    if lane.stream.phase == Phase::NoSource {
        return Some(0);
    }
    let (next, _) = lane.stream.position()?;
    if source.trouble.is_some() {
        return None;
    }
    let partition: &TopicPartition = &lane.source;
    let end = source.bounds.get(partition)?.end;
    Some(u64::try_from(end - next).unwrap_or(0))
}

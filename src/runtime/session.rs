//! One life of a link's clients: which partitions are owned, where they stand, when to commit.
//!
//! A commit covers every lane's records and positions at once; an abort sends every lane back to what its group holds.
//! There is no third way for a position to move.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::broker::{Class, Error, Fetched, Ownership, Position, Sink, Source};
use crate::machine::backoff::Backoff;
use crate::machine::budget::Budget;
use crate::machine::flow::{self, Phase};
use crate::machine::hunger::Hunger;
use crate::machine::note::Note;
use crate::model::names::TopicPartition;
use crate::model::provenance::Stamp;
use crate::runtime::lane::{Lane, Wait};
use crate::runtime::link::Runner;
use crate::runtime::resolve::{Answer, News, Outcome, Question};

/// Records taken from the source at once.
const FETCH_RECORDS_MAX: usize = 10_000;
/// How long a fetch waits when nothing is open: the longest delay of a stop or of news about ownership.
const IDLE_FETCH: Duration = Duration::from_millis(50);
/// How long a fetch waits at most while much is open.
const LOADED_FETCH_MAX: Duration = Duration::from_millis(5);
/// How often positions are committed when nothing was written.
const POSITIONS_COMMIT_EVERY: Duration = Duration::from_secs(1);
const ABORT_PAUSE_FLOOR: Duration = Duration::from_millis(50);
const ABORT_PAUSE_CEILING: Duration = Duration::from_secs(5);
/// An open transaction of fewer records is committed as soon as nothing more is waiting.
const SMALL_TRANSACTION_RECORDS: u64 = 2_000;
/// How long nothing is taken after the commit of a small transaction. The coordinator is still writing its markers; a
/// record that comes too early waits not for these but for librdkafka, which pauses 20 ms before it asks again.
const MARKERS_PAUSE: Duration = Duration::from_millis(10);
const POLL_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const POSITIONS_TIMEOUT: Duration = Duration::from_millis(300);
const POSITIONS_EVERY: Duration = Duration::from_millis(500);
/// Positions that stay unknown for so long are asked for with new clients: a transaction is decided long before, and
/// clients have been seen to wait for a broker that had long been back.
const POSITIONS_GIVE_UP: Duration = Duration::from_secs(25);
/// A transaction whose records are not acknowledged within this time is aborted.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(9);
const ABORT_TIMEOUT: Duration = Duration::from_secs(15);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the caller's records are still worth anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// As it should.
    On,
    /// Lanes were sent back: what was fetched before must be dropped.
    Back,
}

/// One life of a link's clients.
pub struct Session<'a> {
    pub(super) runner: &'a Runner,
    pub(super) source: Box<dyn Source>,
    pub(super) sink: Box<dyn Sink>,
    pub(super) lanes: Vec<Option<Lane>>,
    pub(super) budgets: Vec<(Budget, Unit)>,
    /// What is not committed yet.
    pub(super) open: Open,
    pub(super) control_version: u64,
    pub(super) looks: (u64, u64),
    /// Whether everything that the source gave out was taken since the last look at its topics.
    pub(super) is_drained: bool,
    pub(super) hunger: Hunger,
    pub(super) started_at: Duration,
    pub(super) shown_at: Duration,
    pub(super) ever_owned: bool,
    owned: HashMap<TopicPartition, usize>,
    ask: SyncSender<Question>,
    news: Receiver<News>,
    polled_at: Duration,
    looked_at: Duration,
    positions_at: Duration,
    undecided_since: Option<Duration>,
    lanes_made: u64,
    aborts: Backoff,
    /// Nothing is taken before that moment.
    rests_until: Duration,
}

/// What is not committed yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    /// Whether the sink has a transaction.
    pub begun: bool,
    /// When the first record was appended.
    pub since: Option<Duration>,
    /// When the first position moved.
    pub moved_since: Option<Duration>,
    /// Records appended.
    pub records: u64,
    /// Whether the last fetch found nothing.
    pub is_quiet: bool,
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Records,
    Bytes,
}

impl<'a> Session<'a> {
    /// A session over freshly opened clients.
    pub fn new(
        runner: &'a Runner,
        source: Box<dyn Source>,
        sink: Box<dyn Sink>,
        ask: SyncSender<Question>,
        news: Receiver<News>,
    ) -> Self {
        let now = runner.world.clock.monotonic();
        let records = runner.settings.records_per_second.map(|rate| (Budget::new(rate, now), Unit::Records));
        let bytes = runner.settings.bytes_per_second.map(|rate| (Budget::of_unknown_cost(rate, now), Unit::Bytes));
        Self {
            runner,
            source,
            sink,
            lanes: Vec::new(),
            budgets: records.into_iter().chain(bytes).collect(),
            open: Open::default(),
            control_version: u64::MAX,
            looks: (0, 0),
            is_drained: false,
            hunger: Hunger::new(runner.starved.get()),
            started_at: now,
            shown_at: Duration::ZERO,
            ever_owned: false,
            owned: HashMap::new(),
            ask,
            news,
            polled_at: Duration::ZERO,
            looked_at: Duration::ZERO,
            positions_at: Duration::ZERO,
            undecided_since: None,
            lanes_made: 0,
            aborts: Backoff::new(ABORT_PAUSE_FLOOR, ABORT_PAUSE_CEILING),
            rests_until: Duration::ZERO,
        }
    }

    /// Works until a stop is asked (Ok) or the clients are of no use any more (Err).
    pub fn run(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        let mut events = Vec::new();
        while !self.runner.stop.is_asked() {
            let now = self.now();
            if now >= self.polled_at + POLL_EVERY {
                self.polled_at = now;
                self.follow_ownership()?;
            }
            if now >= self.looked_at + LOOK_EVERY {
                self.looked_at = now;
                self.look(now)?;
            }
            self.fetch(now, &mut events)?;
            self.open.is_quiet = events.is_empty();
            if self.carry(&mut events)? == Went::On && self.is_due() {
                self.commit()?;
            }
            events.clear();
            if self.lanes.iter().flatten().any(Lane::is_running) {
                backoff.succeeded();
            }
        }
        Ok(())
    }

    /// Ends: commits what is open when all is well, and leaves the group.
    pub fn close(mut self, in_good_order: bool) -> Result<(), Error> {
        let committed = if in_good_order { self.commit().map(|_| ()) } else { Ok(()) };
        // Whatever is still open dies with the client: its successor's fencing, or the time-out, ends it.
        self.lanes.iter_mut().flatten().for_each(Lane::discard);
        self.lanes.iter().flatten().for_each(|lane| lane.meter.released());
        let timeout = if in_good_order { self.runner.settings.shutdown_timeout } else { CLOSE_TIMEOUT };
        let closed = self.sink.close(timeout);
        committed.and(closed)
    }

    pub(super) fn now(&self) -> Duration {
        self.runner.world.clock.monotonic()
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.runner.world.clock.now_ms()
    }

    fn fetch(&mut self, now: Duration, events: &mut Vec<Fetched>) -> Result<(), Error> {
        let mut records_max = FETCH_RECORDS_MAX;
        let mut timeout = self.patience(now);
        let rest = self.rests_until.saturating_sub(now);
        if !rest.is_zero() {
            (records_max, timeout) = (0, rest);
        }
        for (budget, _) in &mut self.budgets {
            let affordable = budget.records(now);
            if affordable == 0 {
                timeout = budget.wait();
            }
            records_max = records_max.min(usize::try_from(affordable).unwrap_or(usize::MAX));
        }
        if records_max > 0 {
            self.source.fetch(records_max, timeout, events)?;
            let taken = |event: &Fetched| if let Fetched::Records { batch, .. } = event { batch.len() } else { 1 };
            self.is_drained |= events.iter().map(taken).sum::<usize>() < records_max;
            return Ok(());
        }
        self.runner.stop.wait(timeout.min(IDLE_FETCH));
        Ok(())
    }

    /// How long a fetch may wait for records.
    fn patience(&self, now: Duration) -> Duration {
        match self.open.since {
            None => IDLE_FETCH,
            Some(_) if self.open.records < SMALL_TRANSACTION_RECORDS => Duration::ZERO,
            Some(since) => (since + self.runner.settings.commit_interval).saturating_sub(now).min(LOADED_FETCH_MAX),
        }
    }

    /// Whether it is time to commit: at once when little is open and nothing more is waiting, else by the interval.
    fn is_due(&self) -> bool {
        let now = self.now();
        if let Some(since) = self.open.since {
            let is_small = self.open.records < SMALL_TRANSACTION_RECORDS;
            return is_small && self.open.is_quiet || now >= since + self.runner.settings.commit_interval;
        }
        self.open.moved_since.is_some_and(|since| now >= since + POSITIONS_COMMIT_EVERY)
    }

    /// Commits the records and positions of all lanes as one.
    pub(super) fn commit(&mut self) -> Result<Went, Error> {
        let positions: Vec<(TopicPartition, Position)> = self
            .lanes
            .iter()
            .flatten()
            .filter(|lane| lane.stream.is_dirty())
            .map(|lane| {
                let note = lane.stream.note().encode(&self.runner.routes[lane.route].others);
                (lane.target.clone(), Position { offset: lane.stream.next(), note })
            })
            .collect();
        if positions.is_empty() && !self.open.begun {
            self.open = Open::default();
            return Ok(Went::On);
        }
        if let Err(error) = self.begin() {
            return self.abort(error);
        }
        let deadline = self.now() + COMMIT_TIMEOUT;
        loop {
            let left = deadline.saturating_sub(self.now());
            match self.sink.commit(&positions, left) {
                Ok(()) => break,
                Err(error) if error.class == Class::Retry && self.now() < deadline => debug!("commit again: {error}"),
                Err(error) => return self.abort(error),
            }
        }
        if self.runner.settings.exactly_once && (1..SMALL_TRANSACTION_RECORDS).contains(&self.open.records) {
            self.rests_until = self.now() + MARKERS_PAUSE;
        }
        let now_ms = self.now_ms();
        self.lanes.iter_mut().flatten().for_each(|lane| lane.committed(now_ms));
        self.open = Open::default();
        self.aborts.succeeded();
        Ok(Went::On)
    }

    /// Begins a transaction if none is open.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        if !self.open.begun {
            self.sink.begin()?;
            self.open.begun = true;
        }
        Ok(())
    }

    /// Drops what is open and sends every lane back to what its group holds.
    pub(super) fn abort(&mut self, error: Error) -> Result<Went, Error> {
        let settings = &self.runner.settings;
        self.runner.world.metrics.link_error(&settings.from, &settings.to, error.class);
        if matches!(error.class, Class::Fenced | Class::Fatal | Class::Denied) && self.sink.in_flight() == 0 {
            return Err(error);
        }
        let writers = self.lanes.iter().flatten().filter(|lane| lane.stream.open.copied > 0).count();
        let mut failures = self.sink.failures();
        self.sink.abort(ABORT_TIMEOUT)?;
        failures.extend(self.sink.failures());
        warn!(from = %settings.from, to = %settings.to, failures = failures.len(), "transaction aborted: {error}");
        self.open = Open::default();
        for slot in 0..self.lanes.len() {
            if let Some(lane) = &mut self.lanes[slot] {
                if lane.is_running() {
                    self.source.stop(slot)?;
                }
                if lane.stream.position().is_some() {
                    lane.restart();
                }
            }
        }
        if !failures.iter().any(|failure| failure.error.class == Class::Rejected) {
            self.runner.stop.wait(self.aborts.failed());
        }
        self.blame(&failures, (error.class == Class::Retry).then_some(writers));
        Ok(Went::Back)
    }

    fn follow_ownership(&mut self) -> Result<(), Error> {
        for change in self.sink.poll(Duration::ZERO)? {
            match change {
                Ownership::Gained(partitions) => self.gain(&partitions)?,
                Ownership::Revoked(partitions) => {
                    self.commit()?;
                    self.give_up(&partitions)?;
                }
                Ownership::Lost(partitions) => {
                    if self.open.begun {
                        let reason = "another instance has the partitions";
                        self.abort(Error::new(Class::Abort, "keep partitions", reason))?;
                    }
                    self.give_up(&partitions)?;
                }
            }
        }
        Ok(())
    }

    fn gain(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.ever_owned = true;
        let settings = &self.runner.settings;
        info!(from = %settings.from, to = %settings.to, ?partitions, "partitions gained");
        for partition in partitions {
            let routes = &self.runner.routes;
            let Some(index) = routes.iter().position(|route| route.copy.target_topic == partition.topic) else {
                continue;
            };
            let route = &routes[index];
            let topic = &route.copy.source_topic;
            let meter = self.runner.world.metrics.link(&settings.from, &settings.to, topic, partition.partition);
            let mut lane = Lane::new(index, route, partition.partition, meter);
            self.lanes_made += 1;
            lane.token = self.lanes_made << 32;
            let slot = self.lanes.iter().position(Option::is_none).unwrap_or(self.lanes.len());
            if slot == self.lanes.len() {
                self.lanes.push(None);
            }
            self.lanes[slot] = Some(lane);
            self.owned.insert(partition.clone(), slot);
        }
        self.positions_at = Duration::ZERO;
        self.control_version = u64::MAX;
        Ok(())
    }

    fn give_up(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        info!(from = %self.runner.settings.from, to = %self.runner.settings.to, ?partitions, "partitions given up");
        for partition in partitions {
            let Some(slot) = self.owned.remove(partition) else { continue };
            if let Some(mut lane) = self.lanes[slot].take() {
                self.source.stop(slot)?;
                lane.discard();
                lane.meter.released();
            }
        }
        self.sink.release(partitions)
    }

    /// Asks for the positions of lanes that need one, and passes them to the resolver.
    pub(super) fn seek_positions(&mut self, now: Duration) -> Result<(), Error> {
        if now < self.positions_at {
            return Ok(());
        }
        let waiting = |lane: &Lane| lane.wait == Wait::Position;
        let slots: Vec<usize> =
            (0..self.lanes.len()).filter(|slot| self.lanes[*slot].as_ref().is_some_and(waiting)).collect();
        if slots.is_empty() {
            self.undecided_since = None;
            return Ok(());
        }
        let partitions: Vec<TopicPartition> =
            slots.iter().filter_map(|slot| Some(self.lanes[*slot].as_ref()?.target.clone())).collect();
        match self.sink.positions(&partitions, POSITIONS_TIMEOUT) {
            Ok(positions) => {
                self.undecided_since = None;
                for (slot, position) in slots.into_iter().zip(positions) {
                    self.question(slot, position);
                }
            }
            Err(error) if error.class == Class::Retry => {
                debug!("positions are undecided: {error}");
                self.positions_at = now + POSITIONS_EVERY;
                if now >= *self.undecided_since.get_or_insert(now) + POSITIONS_GIVE_UP {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn question(&mut self, slot: usize, committed: Option<Position>) {
        if let Some(lane) = &mut self.lanes[slot] {
            let others = &self.runner.routes[lane.route].others;
            lane.committed_position = committed.map(|held| (held.offset, Note::decode(&held.note, others)));
            let position = lane.committed_position.clone();
            Self::ask(&self.ask, slot, lane, position);
        }
    }

    /// Has a lane's position checked anew from where it stands.
    pub(super) fn recheck(&mut self, slot: usize) {
        if let Some(lane) = &mut self.lanes[slot] {
            match lane.stream.position() {
                None => lane.wait = Wait::Position,
                position => Self::ask(&self.ask, slot, lane, position),
            }
        }
    }

    fn ask(ask: &SyncSender<Question>, slot: usize, lane: &mut Lane, position: Option<(i64, Note)>) {
        lane.wait = Wait::Answer;
        lane.token += 1;
        let question =
            Question { lane: slot, token: lane.token, route: lane.route, partition: lane.partition, position };
        // The resolver is busy: ask again at the next look.
        if ask.try_send(question).is_err() {
            lane.wait = Wait::Until(Duration::ZERO);
        }
    }

    /// Begins lanes whose positions have been found out.
    pub(super) fn take_answers(&mut self, now: Duration) -> Result<(), Error> {
        loop {
            let Answer { lane: slot, token, outcome } = match self.news.try_recv() {
                Ok(News::Answer(answer)) => answer,
                Ok(News::Rejoin(reason)) => {
                    let reason = format!("{reason}; joining the group anew");
                    return Err(Error::new(Class::Retry, "share partitions", reason));
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    return Err(Error::new(Class::Fatal, "find positions", "the resolver has ended"));
                }
            };
            if self.lanes.get(slot).and_then(Option::as_ref).is_none_or(|lane| lane.token != token) {
                continue;
            }
            let is_open = self.lanes[slot].as_ref().is_some_and(|lane| lane.stream.open != flow::Tally::default());
            if is_open && self.commit()? == Went::Back {
                // The abort passed over it, for it had no position yet; the answer may be outdated by now.
                if let Some(lane) = self.lanes[slot].as_mut().filter(|lane| lane.token == token) {
                    lane.restart();
                }
                continue;
            }
            let Some(lane) = &mut self.lanes[slot] else { continue };
            lane.wait = Wait::None;
            match outcome {
                Outcome::Begin { next, note, topic_id, gap } => {
                    if lane.out.is_none() {
                        match self.sink.open(&lane.target) {
                            Ok(out) => lane.out = Some(out),
                            // Others write on meanwhile.
                            Err(error) if matches!(error.class, Class::Missing | Class::Denied | Class::Retry) => {
                                lane.retry(format!("{}: {error}", error.class.label()), now);
                                continue;
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    lane.meter.update(|counters| counters.gap += gap);
                    lane.topic_id = topic_id;
                    lane.stamp = Stamp::new(&lane.place.region, &lane.place.topic, lane.partition, note.incarnation);
                    let committed = lane.stream.committed().or_else(|| lane.committed_position.take());
                    lane.stream.begin(next, note, committed);
                    lane.at_end = false;
                    debug!(source = %lane.source, next, gap, "stream begins");
                    let (from, route) = (lane.source.clone(), &self.runner.routes[lane.route]);
                    let world = &self.runner.world;
                    let blocked = self.blocked(route, &world.source_watch.latest(), &world.target_watch.latest());
                    if let Some((stop, detail)) = blocked {
                        if let Some(lane) = &mut self.lanes[slot] {
                            lane.stop(stop, detail, now);
                        }
                    } else if self.is_paused(slot) {
                        self.set_phase(slot, Phase::Paused);
                    } else {
                        self.source.start(slot, &from, next)?;
                    }
                    self.open.moved_since = Some(Duration::ZERO);
                }
                Outcome::Stopped { stop, detail } => {
                    if lane.stream.phase != (Phase::Stopped { stop, detail: detail.clone() }) {
                        warn!(source = %lane.source, "stream stops: {stop}: {detail}");
                    }
                    lane.stop(stop, detail, now);
                }
                Outcome::NoSource => {
                    lane.stream.phase = Phase::NoSource;
                    lane.wait = Wait::Until(now + POSITIONS_EVERY);
                }
                Outcome::Retry(error) => {
                    debug!(source = %lane.source, "position not found out: {error}");
                    lane.retry(format!("{}: {error}", error.class.label()), now);
                }
            }
        }
    }

    pub(super) fn set_phase(&mut self, slot: usize, phase: Phase) {
        if let Some(lane) = &mut self.lanes[slot] {
            lane.stream.phase = phase;
        }
    }
}

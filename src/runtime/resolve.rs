//! Finds out where a stream has to be read from, in a thread of its own: it asks both clusters and may have to search.
//!
//! In this order (semantics §3): an operator's order; the committed position, checked against the source's log and its
//! incarnation; the newest copy in the target; for a stream never copied before, `start_from`. A stream that was copied
//! before never falls back to `start_from`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use crate::broker::{Bounds, Error, SharedCluster};
use crate::clock::SharedClock;
use crate::control::ControlLog;
use crate::control::entry::{self, Incarnation, Order, OrderAction, StreamCopied, TopicMet};
use crate::machine::flow;
use crate::machine::note::Note;
use crate::model::names::{GroupName, RegionName, TopicName, TopicPartition};
use crate::model::provenance::{self, Origin, StreamOffset};
use crate::policy::decide::{self, Provenance, Seen};
use crate::policy::subscription::StartFrom;
use crate::runtime::orphans::Orphans;
use crate::runtime::route::Route;
use crate::runtime::scan;
use crate::runtime::stop::Stop;
use crate::runtime::watch::Watch;

/// How far back the newest copy is searched for a stream of which nothing at all is known.
const UNKNOWN_STREAM_SEARCH_OFFSETS_MAX: i64 = 1_000_000;
/// How far before a position that was not reached by reading the source is looked at for the newest copies in it. An
/// application that passes on copies older than that, headers, time and all, is taken for a link.
const SEEN_BEFORE_OFFSETS_MAX: i64 = 10_000;

/// How long no question may come before something else is looked at.
const IDLE: Duration = Duration::from_secs(1);

/// What is asked of a stream.
pub struct Question {
    /// The lane that asks.
    pub lane: usize,
    /// Its token: an answer to an older one is dropped.
    pub token: u64,
    /// Which of the link's routes.
    pub route: usize,
    /// Which partition.
    pub partition: i32,
    /// The position that the group holds, or where the stream stood when it broke.
    pub position: Option<(i64, Note)>,
}

/// What the resolver has to tell.
pub enum News {
    /// What was asked.
    Answer(Answer),
    /// Why this instance should join the group anew.
    Rejoin(String),
}

/// What came out.
pub struct Answer {
    /// As in the question.
    pub lane: usize,
    /// As in the question.
    pub token: u64,
    /// Where to begin, or why not.
    pub outcome: Outcome,
}

/// Where to begin, or why not.
pub enum Outcome {
    /// Read from here.
    Begin {
        /// The next source offset.
        next: i64,
        /// What is known with it.
        note: Note,
        /// The source topic's id, to notice that it was recreated.
        topic_id: String,
        /// Source offsets given up on the way.
        gap: u64,
    },
    /// It stands until somebody acts.
    Stopped {
        /// Why.
        stop: flow::Stop,
        /// What the operator should know.
        detail: String,
    },
    /// The source has no such partition yet.
    NoSource,
    /// It could not be found out now.
    Retry(Error),
}

/// Finds positions for one link.
pub struct Resolver {
    /// The region that is read.
    pub from: RegionName,
    /// The region that is written.
    pub to: RegionName,
    /// Its cluster.
    pub source: SharedCluster,
    /// The cluster that is written.
    pub target: SharedCluster,
    /// This region's control topic.
    pub control: Arc<ControlLog>,
    /// The source region's.
    pub peer_control: Arc<ControlLog>,
    /// The link's topics.
    pub routes: Arc<Vec<Route>>,
    /// For streams never copied before.
    pub start_from: StartFrom,
    /// `on_gap: skip`.
    pub skips_gaps: bool,
    /// What time it is.
    pub clock: SharedClock,
    /// Ends searches.
    pub stop: Stop,
    /// What the target's topics look like.
    pub target_watch: Arc<Watch>,
    /// The link's group on the target.
    pub group: GroupName,
    /// This process's name in it.
    pub instance: String,
}

impl Resolver {
    /// Answers until the asking side is gone, and tells it when the group wants another round.
    pub fn run(self, questions: Receiver<Question>, news: SyncSender<News>) {
        let mut orphans = Orphans::default();
        loop {
            let told = match questions.recv_timeout(IDLE) {
                Ok(question) => {
                    let outcome = self.resolve(&question).unwrap_or_else(Outcome::Retry);
                    news.send(News::Answer(Answer { lane: question.lane, token: question.token, outcome }))
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.clock.monotonic();
                    match orphans.look(&*self.target, &self.group, &self.instance, || self.targets(), now) {
                        Ok(None) => Ok(()),
                        Ok(Some(reason)) => news.send(News::Rejoin(reason)),
                        Err(error) => {
                            tracing::debug!("the group's members are not known: {error}");
                            Ok(())
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if told.is_err() {
                return;
            }
        }
    }

    /// Every partition that the link writes to.
    fn targets(&self) -> BTreeSet<TopicPartition> {
        let seen = self.target_watch.latest();
        if seen.number == 0 || seen.trouble.is_some() {
            return BTreeSet::new();
        }
        let partitions = self.routes.iter().filter_map(|route| {
            let topic = &route.copy.target_topic;
            Some((0..seen.topic(topic)?.partitions).map(|partition| TopicPartition::new(topic, partition)))
        });
        partitions.flatten().collect()
    }

    fn resolve(&self, question: &Question) -> Result<Outcome, Error> {
        let route = &self.routes[question.route];
        let source = route.source(question.partition);
        let Some(topic) = self.source.describe(std::slice::from_ref(&source.topic))?.swap_remove(0) else {
            self.meet(&source.topic, 0)?;
            return Ok(Outcome::Stopped {
                stop: flow::Stop::MissingTopic,
                detail: format!("{} does not exist in {}", source.topic, self.from),
            });
        };
        let met = self.meet(&source.topic, topic.partitions)?;
        if question.partition >= topic.partitions {
            return Ok(Outcome::NoSource);
        }
        let floor = question.position.as_ref().map_or(1, |(_, note)| note.incarnation);
        let incarnation = incarnation(
            &self.control,
            &[&self.peer_control],
            &self.from,
            &source.topic,
            &topic.id,
            floor,
            self.clock.now_ms(),
        )?;
        let bounds = self.source.bounds(std::slice::from_ref(&source))?.swap_remove(0)?;
        let log = Log { source, incarnation, bounds, topic_id: topic.id };
        let order = self.order(question, route);
        if let Some(Order { id, action: OrderAction::Seek { offset }, .. }) = &order {
            self.remember_order(question, &log, id)?;
            let next = (*offset).clamp(log.bounds.start, log.bounds.end);
            let seen = self.seen_before(route, &log, next)?;
            return Ok(log.begin(next, Note { incarnation: log.incarnation, order: Some(id.clone()), seen }, 0));
        }
        let position = match question.position.clone() {
            Some(position) => position,
            None => match self.recover(question, route, &log, met.partitions_at_start)? {
                Recovered::At(next, note) => {
                    let seen = self.seen_before(route, &log, next.min(log.bounds.end))?;
                    (next, Note { seen, ..note })
                }
                Recovered::Lost(detail) => {
                    return Ok(Outcome::Stopped { stop: flow::Stop::PositionLost, detail });
                }
            },
        };
        let (next, note) = position;
        if let Some(order) = &order {
            self.remember_order(question, &log, &order.id)?;
        }
        self.check(route, &log, next, note, order)
    }

    /// Holds a position against the log as it is now.
    fn check(
        &self,
        route: &Route,
        log: &Log,
        next: i64,
        mut note: Note,
        order: Option<Order>,
    ) -> Result<Outcome, Error> {
        let Bounds { start, end } = log.bounds;
        let goes_on = self.skips_gaps || order.is_some();
        let (stop, detail, resume, gap) = if note.incarnation != log.incarnation {
            let detail = format!(
                "the topic was deleted and created anew (incarnation {} of it, position {next} belongs to {}); what was \
                 not copied of the old one is gone",
                log.incarnation, note.incarnation
            );
            (flow::Stop::Recreated, detail, start, 0)
        } else if next < start {
            let detail = format!("records {next}..{start} were deleted at the source before they were copied");
            (flow::Stop::Gap, detail, start, (start - next) as u64)
        } else if next > end {
            let detail = format!("the source's log ends at {end}, before the position {next}");
            (flow::Stop::Truncated, detail, end, 0)
        } else {
            note.order = order.map(|order| order.id).or(note.order);
            return Ok(log.begin(next, note, 0));
        };
        if !goes_on {
            return Ok(Outcome::Stopped { stop, detail });
        }
        // Of another log, or of records that are gone from its end: the same copies may be written into it again.
        if stop != flow::Stop::Gap {
            note.seen = self.seen_before(route, log, resume)?;
        }
        tracing::warn!(from = %self.from, to = %self.to, partition = %log.source, "gap accepted: {detail}");
        note.order = order.map(|order| order.id).or(note.order);
        note.incarnation = log.incarnation;
        Ok(log.begin(resume, note, gap))
    }

    /// The newest copies in the source before a position, so that those behind it are told from republished ones.
    fn seen_before(&self, route: &Route, log: &Log, next: i64) -> Result<Seen, Error> {
        let mut seen = Seen::none(route.others.len());
        let place = route.place(log.source.partition);
        let from = log.bounds.start.max(next - SEEN_BEFORE_OFFSETS_MAX);
        if place.provenance == Provenance::Header && from < next {
            scan::between(&self.source, &log.source, from, next, &self.stop, |record| {
                seen.note(decide::birth(&place, &seen, record));
            })?;
        }
        Ok(seen)
    }

    /// Remembers outside of the group which order is carried out: the group may lose its positions.
    fn remember_order(&self, question: &Question, log: &Log, id: &str) -> Result<(), Error> {
        let key = entry::stream_key(&self.from, &self.to, &log.source.topic, question.partition);
        match self.control.read::<StreamCopied>(&key) {
            Some(copied) if copied.order.as_deref() != Some(id) => {
                self.control.write(&key, &StreamCopied { order: Some(id.to_owned()), ..copied })
            }
            _ => Ok(()),
        }
    }

    /// An order that this stream has not carried out.
    fn order(&self, question: &Question, route: &Route) -> Option<Order> {
        let key = entry::order_key(&self.from, &self.to, &route.copy.source_topic, question.partition);
        let order = self.control.read::<Order>(&key)?;
        let is_done = match &question.position {
            Some((_, note)) => note.order.as_deref() == Some(order.id.as_str()),
            None => {
                let key = entry::stream_key(&self.from, &self.to, &route.copy.source_topic, question.partition);
                self.control.read::<StreamCopied>(&key).is_some_and(|it| it.order.as_deref() == Some(order.id.as_str()))
            }
        };
        (!is_done).then_some(order)
    }

    /// What the link saw of the topic when it first met it; says so the first time.
    fn meet(&self, topic: &TopicName, partitions: i32) -> Result<TopicMet, Error> {
        let key = entry::topic_key(&self.from, &self.to, topic);
        if let Some(met) = self.control.read::<TopicMet>(&key) {
            return Ok(met);
        }
        let met = TopicMet { partitions_at_start: partitions, at_ms: self.clock.now_ms() };
        self.control.write(&key, &met)?;
        Ok(met)
    }

    /// A position for a stream of which the group has none.
    fn recover(&self, question: &Question, route: &Route, log: &Log, partitions_met: i32) -> Result<Recovered, Error> {
        let key = entry::stream_key(&self.from, &self.to, &log.source.topic, question.partition);
        let copied = self.control.read::<StreamCopied>(&key);
        let target = route.target(question.partition);
        let here = self.target.bounds(std::slice::from_ref(&target))?.swap_remove(0)?;
        let unknown = here.end - UNKNOWN_STREAM_SEARCH_OFFSETS_MAX;
        let floor = copied.as_ref().map_or(unknown, |copied| copied.target_end);
        let newest = scan::newest(&self.target, &target, floor, &self.stop, |newest: &mut Newest, record| {
            let origin = Origin::parse(record.headers.last(provenance::ORIGIN)??)?;
            let is_ours = route.carries(&origin.region)
                && origin.topic == route.copy.topic.as_str()
                && origin.partition == question.partition
                && origin.fits_time(record);
            (is_ours && newest.rises(&origin)).then(|| (origin.region.into_owned(), origin.at))
        })?;
        let note = Note { incarnation: log.incarnation, ..Note::first(route.others.len()) };
        match (newest, copied) {
            (Some((region, at)), _) => self.behind(route, log, &region, at, note),
            (None, None) => {
                let next = self.first(log, question.partition >= partitions_met)?;
                let started = StreamCopied {
                    start_offset: next,
                    target_end: here.end,
                    incarnation: log.incarnation,
                    at_ms: self.clock.now_ms(),
                    order: None,
                };
                self.control.write(&key, &started)?;
                Ok(Recovered::At(next, note))
            }
            // Every copy would still stand in the target, or nothing was ever there to copy: the recorded start is right.
            (None, Some(copied)) if here.start <= copied.target_end || copied.start_offset == log.bounds.end => {
                Ok(Recovered::At(copied.start_offset, Note { incarnation: copied.incarnation, ..note }))
            }
            (None, Some(_)) => Ok(Recovered::Lost(format!(
                "the group has no position for {target}, and no copy is left in it that would tell; see `longshore links seek`"
            ))),
        }
    }

    /// Behind the newest copy in the target. A copy of a birth elsewhere (star) is looked up in the source's log.
    fn behind(&self, route: &Route, log: &Log, region: &str, at: StreamOffset, note: Note) -> Result<Recovered, Error> {
        if region == self.from.as_str() {
            let next = (at.offset + 1).min(if at.incarnation == log.incarnation { log.bounds.end } else { i64::MAX });
            return Ok(Recovered::At(next, Note { incarnation: at.incarnation, ..note }));
        }
        let found = scan::newest(&self.source, &log.source, 0, &self.stop, |(): &mut (), record| {
            let origin = Origin::parse(record.headers.last(provenance::ORIGIN)??)?;
            (origin.region == region && origin.topic == route.copy.topic.as_str() && origin.at == at)
                .then_some(record.offset)
        })?;
        Ok(match found {
            Some(offset) => Recovered::At(offset + 1, note),
            None => Recovered::Lost(format!(
                "the newest copy in {} is not in {} any more; see `longshore links seek`",
                self.to, self.from
            )),
        })
    }

    fn first(&self, log: &Log, is_growth: bool) -> Result<i64, Error> {
        match self.start_from {
            _ if is_growth => Ok(log.bounds.start),
            StartFrom::Latest => Ok(log.bounds.end),
            StartFrom::Time(at_ms) => self.source.offsets_at(std::slice::from_ref(&log.source), at_ms)?.swap_remove(0),
            StartFrom::Earliest | StartFrom::Committed => Ok(log.bounds.start),
        }
    }
}

/// The newest copies in what was searched so far. One that does not rise above them was published anew by an
/// application, headers and all (semantics §3): a position taken from it would repeat what came behind.
#[derive(Default)]
struct Newest(BTreeMap<String, StreamOffset>);

impl Newest {
    fn rises(&mut self, origin: &Origin<'_>) -> bool {
        match self.0.get_mut(origin.region.as_ref()) {
            Some(newest) if origin.at <= *newest => false,
            Some(newest) => {
                *newest = origin.at;
                true
            }
            None => {
                self.0.insert(origin.region.to_string(), origin.at);
                true
            }
        }
    }
}

enum Recovered {
    At(i64, Note),
    Lost(String),
}

/// A source partition as it is now.
struct Log {
    source: TopicPartition,
    incarnation: u32,
    bounds: Bounds,
    topic_id: String,
}

impl Log {
    fn begin(&self, next: i64, note: Note, gap: u64) -> Outcome {
        Outcome::Begin { next, note, topic_id: self.topic_id.clone(), gap }
    }
}

/// Which creation of `region`'s `topic` has this id: as any region has recorded it, else the next number, recorded now.
/// `floor`: the number is at least this (a committed position knows it even when the control topic was lost).
pub fn incarnation(
    own: &ControlLog,
    peers: &[&ControlLog],
    region: &RegionName,
    topic: &TopicName,
    id: &str,
    floor: u32,
    now_ms: i64,
) -> Result<u32, Error> {
    let key = entry::incarnation_key(region, topic, id);
    if let Some(known) = own.read::<Incarnation>(&key) {
        return Ok(known.number);
    }
    let below = [region.as_str(), topic.as_str()];
    let newest = peers
        .iter()
        .chain([&own])
        .flat_map(|log| log.read_all::<Incarnation>(&below))
        .map(|(_, known)| known.number)
        .max();
    let told = peers.iter().find_map(|peer| peer.read::<Incarnation>(&key));
    let number = match (told, newest) {
        (Some(known), _) => known.number,
        (None, Some(newest)) => newest.max(floor) + 1,
        (None, None) => floor,
    };
    own.write(&key, &Incarnation { number, at_ms: now_ms })?;
    Ok(number)
}

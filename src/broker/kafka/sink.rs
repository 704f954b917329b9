//! Writes records and positions as one, for the partitions that this member of the target-side group owns.
//!
//! Two clients. The *member* joins the group on the target cluster, is told which partitions are ours and fetches
//! nothing: every rebalance is answered with an empty assignment. The *producer* writes, and hands the positions to the
//! group inside its transaction together with the member's generation, so that the broker refuses an owner of
//! yesterday. Each step is there because without it records were lost, doubled or stalled; never commits a position by
//! itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::admin::timestamp;
use super::health::Health;
use super::raw::{Client, Failed, Kind, Offsets, Rebalance, Topic, Transaction};
use super::settings::Settings;
use super::{connection, default_to, errors, fix, start};
use crate::broker::{Class, Error, Failure, Ownership, Position, Sink, SinkSettings, Slot};
use crate::model::names::{TopicName, TopicPartition};
use crate::model::record::NewRecord;

/// How long `begin` waits for the broker to end what an earlier process of the same name left open.
const READY_WAIT: Duration = Duration::from_secs(5);
/// How long a destination's metadata is waited for.
const METADATA_WAIT: Duration = Duration::from_secs(5);
/// How long one poll may be spent on that.
const READY_STEP: Duration = Duration::from_millis(100);
/// How long a producer that is to be replaced may try to end its transaction.
const ENDING_WAIT: Duration = Duration::from_millis(300);
/// Longest sleep while acknowledgements are awaited: call-backs are served at once when they come.
const ACKNOWLEDGEMENT_STEP: Duration = Duration::from_millis(1);

/// What is open at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing.
    Idle,
    /// Records may be appended.
    Open,
    /// The positions are part of the transaction: only the end of it is missing.
    OffsetsSent,
}

/// The writer.
pub struct KafkaSink {
    cluster: Settings,
    settings: SinkSettings,
    slots: Vec<(Arc<Topic>, TopicPartition)>,
    by_name: HashMap<TopicPartition, Slot>,
    /// With the number of partitions that was last seen.
    topics: HashMap<TopicName, (Arc<Topic>, i32)>,
    producer: Arc<Client>,
    /// Started with the first commit.
    offsets: Option<Offsets>,
    member: Client,
    health: Arc<Health>,
    /// Whether the producer has its id. Always, without transactions.
    ready: bool,
    stage: Stage,
    /// Partitions that the group wants back and that are not released yet.
    leaving: Option<HashSet<TopicPartition>>,
    failures: Vec<Failure>,
    /// Records were not written since the last abort.
    unwritten: bool,
}

impl KafkaSink {
    pub(super) fn open(cluster: &Settings, settings: &SinkSettings, health: &Arc<Health>) -> Result<Self, Error> {
        let member = start(Kind::Consumer, &member_config(cluster, settings), health)?;
        let producer = Arc::new(start(Kind::Producer, &producer_config(cluster, settings), health)?);
        let mut topics = TopicPartitionList::new();
        for topic in &settings.topics {
            topics.add_topic_unassigned(topic.as_str());
        }
        member.subscribe(&topics).map_err(|failed| errors::error(format!("join group {}", settings.group), &failed))?;
        Ok(Self {
            cluster: cluster.clone(),
            settings: settings.clone(),
            slots: Vec::new(),
            by_name: HashMap::new(),
            topics: HashMap::new(),
            producer,
            offsets: None,
            member,
            health: Arc::clone(health),
            ready: !settings.transactional,
            stage: Stage::Idle,
            leaving: None,
            failures: Vec::new(),
            unwritten: false,
        })
    }

    fn transaction(&self) -> Transaction<'_> {
        Transaction(&self.producer)
    }

    /// The error of a call; a client that has ended says so in every call and why in one place only.
    fn failed(&self, context: &str, failed: &Failed) -> Error {
        let ended = if failed.code == Code::Fatal {
            self.member.fatal_error().or_else(|| self.producer.fatal_error())
        } else {
            None
        };
        self.health.error(context, ended.as_ref().unwrap_or(failed))
    }

    /// The topic of a destination that exists. Asked through the member: a producer's question could create it.
    fn topic_with(&mut self, destination: &TopicPartition) -> Result<Arc<Topic>, Error> {
        let name = &destination.topic;
        if let Some((topic, partitions)) = self.topics.get(name)
            && destination.partition < *partitions
        {
            return Ok(Arc::clone(topic));
        }
        let context = format!("find destination {destination}");
        let found = self.member.partitions_of(name.as_str(), METADATA_WAIT);
        // The producer has to learn of it too: it refuses partitions that it does not know.
        let found = found.and_then(|_| self.producer.partitions_of(name.as_str(), METADATA_WAIT));
        let partitions = found.map_err(|failed| self.failed(&context, &failed))?;
        if destination.partition >= partitions {
            return Err(Error::new(Class::Missing, context, format!("the topic has {partitions} partitions")));
        }
        let topic = match self.topics.get(name) {
            Some((topic, _)) => Arc::clone(topic),
            None => {
                let opened = Topic::open(&self.producer, name.as_str());
                Arc::new(opened.map_err(|failed| self.failed(&context, &failed))?)
            }
        };
        self.topics.insert(name.clone(), (Arc::clone(&topic), partitions));
        Ok(topic)
    }

    /// Ends what an earlier process of this name left open and fences it. Until then its positions are undecided.
    fn get_ready(&mut self, timeout: Duration) -> Result<(), Error> {
        if !self.ready {
            let context = "start writing with transactions";
            self.transaction().init(timeout).map_err(|failed| self.failed(context, &failed))?;
            self.ready = true;
        }
        Ok(())
    }

    /// Serves acknowledgements, waiting up to `timeout`.
    fn serve(&mut self, timeout: Duration) {
        self.producer.poll(timeout);
        for report in self.producer.inbox().reports() {
            let Err(failed) = report.outcome else { continue };
            // Records that we gave up ourselves were not refused by anyone; the flow learns which had to wait in vain.
            let is_given_up = matches!(failed.code, Code::PurgeQueue | Code::PurgeInflight);
            self.unwritten = true;
            let error = if is_given_up {
                Error::new(Class::Abort, "append", "not acknowledged before the abort")
            } else {
                errors::error("append", &failed)
            };
            self.failures.push(Failure { tag: report.tag, error });
        }
    }

    /// One step of the group's affairs; an answer to give is given here, ownership goes to the caller.
    fn serve_group(&mut self, timeout: Duration) -> Result<Option<Ownership>, Error> {
        let context = "take part in the group";
        if let Err(failed) = self.member.poll_member(timeout) {
            match errors::class_of(failed.code) {
                // Another process has our name, or we may not join: waiting does not help.
                Class::Fenced | Class::Denied | Class::Fatal => return Err(self.failed(context, &failed)),
                _ => tracing::debug!(code = ?failed.code, reason = %failed.text, "the group has something to say"),
            }
        }
        if let Some(failed) = self.member.fatal_error().or_else(|| self.producer.fatal_error()) {
            return Err(errors::error(context, &failed));
        }
        match self.member.inbox().rebalance() {
            Some(rebalance) => self.answer(rebalance),
            None => Ok(None),
        }
    }

    fn answer(&mut self, rebalance: Rebalance) -> Result<Option<Ownership>, Error> {
        self.health.well();
        let named = |(topic, partition): (String, i32)| TopicPartition { topic: TopicName::new(topic), partition };
        let partitions: Vec<TopicPartition> = rebalance.partitions.into_iter().map(named).collect();
        if rebalance.assigned {
            // Empty: the group records that they are ours, the target is asked for not one record.
            let answer = self.member.assign(&TopicPartitionList::new());
            answer.map_err(|failed| self.failed("accept partitions", &failed))?;
            return Ok((!partitions.is_empty()).then_some(Ownership::Gained(partitions)));
        }
        if partitions.is_empty() {
            self.let_go()?;
            return Ok(None);
        }
        self.leaving = Some(partitions.iter().cloned().collect());
        Ok(Some(if rebalance.lost { Ownership::Lost(partitions) } else { Ownership::Revoked(partitions) }))
    }

    fn let_go(&mut self) -> Result<(), Error> {
        self.leaving = None;
        let answer = self.member.unassign(&TopicPartitionList::new());
        answer.map_err(|failed| self.failed("give up partitions", &failed))
    }

    /// Waits until every appended record has an outcome.
    fn settle(&mut self, context: &str, deadline: Instant) -> Result<(), Error> {
        self.serve(Duration::ZERO);
        while self.producer.outstanding() > 0 && !self.unwritten {
            if Instant::now() >= deadline {
                let error = Error::new(Class::Retry, context, "records are not acknowledged yet");
                return Err(self.health.explain(error));
            }
            self.serve(ACKNOWLEDGEMENT_STEP);
        }
        match self.failures.first() {
            _ if !self.unwritten => Ok(()),
            Some(failure) => {
                Err(Error::new(Class::Abort, context, format!("a record was refused: {}", failure.error.reason)))
            }
            None => Err(Error::new(Class::Abort, context, "a record was refused")),
        }
    }

    /// Whether the producer will never answer again.
    fn is_stuck(&self) -> bool {
        self.offsets.as_ref().is_some_and(Offsets::is_stuck)
    }

    fn send_offsets(&mut self, positions: TopicPartitionList, deadline: Instant) -> Result<(), Failed> {
        let mut offsets = match self.offsets.take() {
            Some(offsets) => offsets,
            None => Offsets::start(&self.producer)?,
        };
        // The member's generation is taken now, not when it joined: a later one would be refused for ever.
        let sent = offsets.send(positions, &self.member, left(deadline));
        self.offsets = Some(offsets);
        sent
    }

    /// Gives up every record that has no outcome, and says so of each.
    fn give_up(&mut self, deadline: Instant) -> Result<(), Error> {
        // Ending a transaction with records under way waits for them.
        self.producer.purge();
        self.serve(Duration::ZERO);
        while self.producer.outstanding() > 0 {
            if Instant::now() >= deadline {
                return Err(Error::new(Class::Retry, "abort", "records under way are not given up yet"));
            }
            self.serve(ACKNOWLEDGEMENT_STEP);
        }
        Ok(())
    }

    /// Takes another producer of the same name, whose first act ends the transaction of the old one and fences it.
    ///
    /// Sequence numbers are counted per producer id and epoch. Records that were given up, or refused, leave client and
    /// broker of different minds about the next one: the broker takes a new record for a repeat of one that it has
    /// seen and acknowledges it without writing it, or refuses the whole next transaction. A new epoch counts from
    /// nothing, and whatever of the old one still comes in late is refused.
    fn renew(&mut self) -> Result<(), Error> {
        let producer = start(Kind::Producer, &producer_config(&self.cluster, &self.settings), &self.health)?;
        self.producer = Arc::new(producer);
        self.offsets = None;
        self.ready = false;
        self.topics.clear();
        for (topic, destination) in &mut self.slots {
            let name = &destination.topic;
            let opened = match self.topics.get(name) {
                Some((known, _)) => Arc::clone(known),
                None => {
                    let failed = |failed: Failed| errors::error(format!("find topic {name}"), &failed);
                    Arc::new(Topic::open(&self.producer, name.as_str()).map_err(failed)?)
                }
            };
            let partitions = self.topics.get(name).map_or(0, |(_, partitions)| *partitions);
            self.topics.insert(name.clone(), (Arc::clone(&opened), partitions.max(destination.partition + 1)));
            *topic = opened;
        }
        Ok(())
    }

    /// Ends the transaction before the client goes, so that readers do not wait for its time-out.
    fn end_transaction(&mut self, deadline: Instant) -> Result<(), Error> {
        if self.stage == Stage::Idle || self.is_stuck() {
            return Ok(());
        }
        self.give_up(deadline)?;
        if self.settings.transactional {
            let aborted = self.transaction().abort(left(deadline));
            aborted.map_err(|failed| self.failed("abort transaction", &failed))?;
        }
        Ok(())
    }

    fn commit_transaction(&mut self, positions: TopicPartitionList, deadline: Instant) -> Result<(), Error> {
        if self.stage != Stage::OffsetsSent {
            if positions.count() > 0 {
                let sent = self.send_offsets(positions, deadline);
                sent.map_err(|failed| self.failed("commit positions", &failed))?;
            }
            self.stage = Stage::OffsetsSent;
        }
        let committed = self.transaction().commit(left(deadline));
        committed.map_err(|failed| self.failed("commit transaction", &failed))
    }

    fn commit_positions(&mut self, positions: &TopicPartitionList, deadline: Instant) -> Result<(), Error> {
        if positions.count() == 0 {
            return Ok(());
        }
        if !self.member.is_member() {
            return Err(Error::new(Class::Abort, "commit positions", "the group has no place for this member"));
        }
        let committed = self.member.commit(positions, left(deadline));
        committed.map_err(|failed| self.failed("commit positions", &failed))
    }
}

impl Sink for KafkaSink {
    fn poll(&mut self, timeout: Duration) -> Result<Vec<Ownership>, Error> {
        let deadline = Instant::now() + timeout;
        if !self.ready
            && let Err(error) = self.get_ready(timeout.min(READY_STEP))
            && error.class != Class::Retry
        {
            return Err(error);
        }
        loop {
            self.serve(Duration::ZERO);
            let left = deadline.saturating_duration_since(Instant::now());
            // Acknowledgements and the group come from two clients; both are looked at while there is something of each.
            let wait = if self.producer.outstanding() > 0 {
                self.serve(left.min(ACKNOWLEDGEMENT_STEP));
                Duration::ZERO
            } else {
                left
            };
            if let Some(ownership) = self.serve_group(wait)? {
                return Ok(vec![ownership]);
            }
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
        }
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let Some(leaving) = &mut self.leaving else { return Ok(()) };
        for partition in partitions {
            leaving.remove(partition);
        }
        if leaving.is_empty() { self.let_go() } else { Ok(()) }
    }

    fn positions(&mut self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<Option<Position>>, Error> {
        let context = "read committed positions";
        let deadline = Instant::now() + timeout;
        self.get_ready(timeout)?;
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(partition.topic.as_str(), partition.partition);
        }
        let committed = self.member.committed(&list, left(deadline)).map_err(|failed| self.failed(context, &failed))?;
        self.health.well();
        committed
            .into_iter()
            .map(|position| {
                let position = position.map_err(|failed| self.failed(context, &failed))?;
                Ok(position.map(|(offset, note)| Position { offset, note }))
            })
            .collect()
    }

    fn open(&mut self, destination: &TopicPartition) -> Result<Slot, Error> {
        if let Some(slot) = self.by_name.get(destination) {
            return Ok(*slot);
        }
        let topic = self.topic_with(destination)?;
        let slot = self.slots.len();
        self.slots.push((topic, destination.clone()));
        self.by_name.insert(destination.clone(), slot);
        Ok(slot)
    }

    fn begin(&mut self) -> Result<(), Error> {
        self.get_ready(READY_WAIT)?;
        if self.settings.transactional && self.stage == Stage::Idle {
            self.transaction().begin().map_err(|failed| self.failed("begin a transaction", &failed))?;
        }
        self.stage = Stage::Open;
        Ok(())
    }

    #[inline]
    fn append(&mut self, to: Slot, record: &NewRecord<'_>, tag: u64) -> Result<bool, Error> {
        let Some((topic, destination)) = self.slots.get(to) else {
            return Err(Error::new(Class::Fatal, "append", "there is no such destination"));
        };
        let body = (record.key, record.value);
        let partition = destination.partition;
        match topic.produce(partition, timestamp(record.timestamp_ms), body, record.written_headers(), tag) {
            Ok(()) => Ok(true),
            Err(Code::QueueFull) => Ok(false),
            Err(code) => Err(self.failed(&format!("append to {destination}"), &Failed::of(code))),
        }
    }

    fn commit(&mut self, positions: &[(TopicPartition, Position)], timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let context = "commit";
        if self.stage != Stage::OffsetsSent {
            // Not left to librdkafka's own flush: call-backs would be served in steps of 100 ms.
            self.settle(context, deadline)?;
        }
        let positions = list(positions).map_err(|reason| Error::new(Class::Fatal, context, reason))?;
        if self.settings.transactional {
            self.commit_transaction(positions, deadline)?;
        } else {
            self.commit_positions(&positions, deadline)?;
        }
        self.stage = Stage::Idle;
        self.health.well();
        Ok(())
    }

    fn abort(&mut self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let is_in_doubt = self.unwritten || self.is_stuck() || self.producer.outstanding() > 0;
        if self.settings.transactional && is_in_doubt {
            self.give_up(deadline)?;
            if !self.is_stuck() && self.stage != Stage::Idle {
                // Only to spare the new producer the wait for it: what it cannot end, the new one will.
                drop(self.transaction().abort(left(deadline).min(ENDING_WAIT)));
            }
            self.renew()?;
        } else {
            self.end_transaction(deadline)?;
        }
        self.stage = Stage::Idle;
        self.unwritten = false;
        Ok(())
    }

    fn failures(&mut self) -> Vec<Failure> {
        self.serve(Duration::ZERO);
        std::mem::take(&mut self.failures)
    }

    fn in_flight(&self) -> usize {
        self.producer.outstanding()
    }

    fn close(mut self: Box<Self>, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let aborted = self.end_transaction(deadline);
        let context = "leave the group";
        // The end of a client leaves a static member in its group; giving up the subscription does not.
        self.member.unsubscribe().map_err(|failed| self.failed(context, &failed))?;
        let mut ending = false;
        while !self.member.is_closed() {
            if Instant::now() >= deadline {
                return Err(Error::new(Class::Retry, context, "the broker has not answered in time"));
            }
            // What the group has to say no longer matters; that it is answered does.
            drop(self.member.poll_member(Duration::from_millis(10)));
            while let Some(rebalance) = self.member.inbox().rebalance() {
                let answer = TopicPartitionList::new();
                let answered =
                    if rebalance.assigned { self.member.assign(&answer) } else { self.member.unassign(&answer) };
                answered.map_err(|failed| self.failed(context, &failed))?;
            }
            if self.leaving.is_some() {
                self.let_go()?;
            }
            if !ending && !self.member.is_member() {
                ending = true;
                self.member.close().map_err(|failed| self.failed(context, &failed))?;
            }
        }
        aborted
    }
}

/// The member: owns partitions, reads nothing.
fn member_config(cluster: &Settings, settings: &SinkSettings) -> ClientConfig {
    let mut config = connection(cluster.for_consumer());
    default_to(
        &mut config,
        &[
            ("client.id", &settings.instance),
            ("topic.metadata.refresh.interval.ms", "3000"),
            // Users cannot set it; tests shorten it.
            ("max.poll.interval.ms", "120000"),
        ],
    );
    fix(
        &mut config,
        &[
            ("group.id", settings.group.as_str()),
            // An instance that starts again takes its place at once instead of after the time-out of the old one.
            ("group.instance.id", &settings.instance),
            ("group.protocol", "classic"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "2000"),
            // Positions of an undecided transaction are waited for. Without it every take-over repeated records.
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("allow.auto.create.topics", "false"),
        ],
    );
    config
}

/// The writer's client. The broker, not the client, says how large a record may be.
pub(super) fn producer_config(cluster: &Settings, settings: &SinkSettings) -> ClientConfig {
    let mut config = connection(cluster.for_producer());
    let batch = settings.batch_bytes_max.clamp(1, 1_000_000).to_string();
    default_to(
        &mut config,
        &[
            ("client.id", &settings.instance),
            ("linger.ms", "1"),
            ("batch.size", &batch),
            ("message.max.bytes", "1000000000"),
            ("queue.buffering.max.kbytes", &(settings.buffer_bytes_max / 1024).max(1).to_string()),
            ("queue.buffering.max.messages", "0"),
            ("topic.metadata.propagation.max.ms", "5000"),
        ],
    );
    fix(
        &mut config,
        &[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            // A delivered record costs nothing more than its removal from the queue.
            ("delivery.report.only.error", "true"),
        ],
    );
    if settings.transactional {
        let name = format!("{}-{}", settings.group, settings.instance);
        // An open transaction of a dead process holds readers back for this long.
        let timeout = ("transaction.timeout.ms", "10000");
        fix(&mut config, &[("transactional.id", &name), timeout, ("message.timeout.ms", "10000")]);
    } else {
        fix(&mut config, &[("message.timeout.ms", "60000")]);
    }
    config
}

fn list(positions: &[(TopicPartition, Position)]) -> Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (partition, position) in positions {
        let mut element = list.add_partition(partition.topic.as_str(), partition.partition);
        element.set_offset(Offset::Offset(position.offset)).map_err(|error| error.to_string())?;
        element.set_metadata(&position.note);
    }
    Ok(list)
}

/// What is left of the time, at least a millisecond: librdkafka wants one to try at all.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

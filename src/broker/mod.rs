//! The broker contract: what the loops need from one region's cluster, and what each driver promises.
//!
//! ```text
//!   Cluster ── describe / create / grow / bounds / offsets_at / append      (administration, shared between threads)
//!      ├── Source   start(partition, from) · fetch · stop                    (reads by position; joins no group)
//!      └── Sink     ownership · positions · begin · append · commit · abort  (writes records and positions as one)
//! ```
//!
//! Calls block up to the time they are given; a flow is one thread that owns its `Source` and its `Sink`. Nothing here
//! knows regions, rules or verdicts. Every driver runs `tests/it/contract.rs`; what is promised below is what it checks.
//!
//! A driver without transactions ([`Capabilities::atomic_commit`] is false) keeps everything but one promise: after a
//! crash or an abort, records may be visible that no committed position accounts for. Loops then recover the position
//! from the newest copies.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::names::{GroupName, TopicName, TopicPartition};
use crate::model::record::{NewRecord, RecordBatch};

pub mod embedded;
pub mod kafka;

/// What can be done about an error. The class travels with the error; the text is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The same call may work later: unreachable, timed out, leader moving.
    Retry,
    /// Credentials or rights are missing. The same call may work after a human acted.
    Denied,
    /// The topic or partition does not exist.
    Missing,
    /// The broker refuses this record for good: too large, invalid timestamp.
    Rejected,
    /// The transaction cannot be committed: `abort`, read the positions again, go on.
    Abort,
    /// This client is finished (another instance has its name, or its state is beyond repair): drop it, open a new one.
    Fenced,
    /// Wrong use or wrong configuration: trying again cannot help.
    Fatal,
}

impl Class {
    /// The label value of `longshore_link_errors_total{class}`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Rejected => "rejected",
            Self::Abort => "abort",
            Self::Fenced => "fenced",
            Self::Fatal => "fatal",
        }
    }
}

/// An error of a driver. Never holds payload or secrets.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{context}: {reason}")]
pub struct Error {
    /// What can be done about it.
    pub class: Class,
    /// What was being done, present tense: `commit transaction`.
    pub context: String,
    /// The driver's own words.
    pub reason: String,
}

impl Error {
    /// An error of `class` while doing `context`.
    pub fn new(class: Class, context: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { class, context: context.into(), reason: reason.to_string() }
    }
}

/// What a driver's cluster can do.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Records and positions are committed as one, and readers see neither before.
    pub atomic_commit: bool,
}

/// A topic as the cluster has it.
#[derive(Clone, Debug)]
pub struct TopicDescription {
    /// Changes when the topic is deleted and created anew under the same name.
    pub id: String,
    /// Partition count.
    pub partitions: i32,
    /// Copies of each record that the cluster keeps; 0 when unknown.
    pub replication_factor: i32,
    /// Whether we may fetch from it; true when the broker does not tell.
    pub may_read: bool,
    /// Whether we may produce to it; true when the broker does not tell.
    pub may_write: bool,
    /// Whether the broker sets the timestamps.
    pub append_time: bool,
    /// Whether the newest record per key is all that is kept (`cleanup.policy` holds `compact`).
    pub compacted: bool,
    /// Largest record batch in bytes that the topic takes; `None` when unknown.
    pub record_bytes_max: Option<usize>,
    /// Settings that were set for this topic (not the cluster's defaults), in the broker's own names.
    pub config: BTreeMap<String, String>,
}

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// At least 1.
    pub partitions: i32,
    /// `None` takes the cluster's default.
    pub replication_factor: Option<i32>,
    /// Settings in the broker's own names.
    pub config: BTreeMap<String, String>,
}

/// The part of a partition that can be read: offsets `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Offset of the oldest record still kept (`end` when none is).
    pub start: i64,
    /// The offset behind the last record that a read_committed reader can reach now (last stable offset).
    pub end: i64,
}

/// One region's cluster: administration, and the makers of sources and sinks. Shared between threads.
pub trait Cluster: Send + Sync {
    /// What this cluster can do.
    fn capabilities(&self) -> Capabilities;

    /// Describes topics, in the order asked; `None` for one that does not exist.
    fn describe(&self, topics: &[TopicName]) -> Result<Vec<Option<TopicDescription>>, Error>;

    /// Creates a topic. `Ok(true)`: created now. `Ok(false)`: it existed, whatever its shape.
    fn create(&self, topic: &NewTopic) -> Result<bool, Error>;

    /// Grows a topic to `partitions`. Ok when it has as many or more already.
    fn grow(&self, topic: &TopicName, partitions: i32) -> Result<(), Error>;

    /// Start and end of partitions, in the order asked, each with its own result.
    fn bounds(&self, partitions: &[TopicPartition]) -> Result<Vec<Result<Bounds, Error>>, Error>;

    /// For each partition the offset of the first record whose timestamp is at or after `at_ms`
    /// (the end when there is none), in the order asked.
    fn offsets_at(&self, partitions: &[TopicPartition], at_ms: i64) -> Result<Vec<Result<i64, Error>>, Error>;

    /// The members of a group and what each owns; `None` while the group is sharing its partitions out.
    fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, Error>;

    /// Appends records to one partition, in order, outside any transaction. Ok: all are durable; their offsets.
    /// An error leaves unknown which of them were appended. For control entries and small tools, not for flows.
    fn append(&self, to: &TopicPartition, records: &[NewRecord<'_>]) -> Result<Vec<i64>, Error>;

    /// Opens a reader.
    fn source(&self, settings: &SourceSettings) -> Result<Box<dyn Source>, Error>;

    /// Opens a writer that shares partitions with others of the same group.
    fn sink(&self, settings: &SinkSettings) -> Result<Box<dyn Sink>, Error>;

    /// What is wrong with reaching the cluster right now, as the driver's background connections see it.
    /// `None`: nothing known. Cheap: never asks the network.
    fn trouble(&self) -> Option<Error>;
}

/// How to read.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Names the client in the broker's logs and quotas.
    pub client_id: String,
    /// Fetched and not yet taken records held in memory, bytes, over all partitions.
    pub buffer_bytes_max: usize,
}

/// A caller's own number for a partition of a [`Source`] or a destination of a [`Sink`]; small and dense.
pub type Slot = usize;

/// Reads partitions from positions, read_committed. Owned by one thread.
pub trait Source: Send {
    /// Begins to read `partition` at `from`; its batches carry `slot`. A slot that is being read is moved.
    /// No record below `from` is ever fetched after this returned, nor any that an earlier `start` of the slot had
    /// asked for.
    fn start(&mut self, slot: Slot, partition: &TopicPartition, from: i64) -> Result<(), Error>;

    /// Ends reading; no event for `slot` is given out after this returned. Nothing to do for a slot that is not read.
    fn stop(&mut self, slot: Slot) -> Result<(), Error>;

    /// Takes what has arrived, waiting up to `timeout` when there is nothing, and pushes it to `events`:
    /// at most `records_max` records. Per slot, offsets rise. Nothing pushed means the time is up.
    fn fetch(&mut self, records_max: usize, timeout: Duration, events: &mut Vec<Fetched>) -> Result<(), Error>;
}

/// What a source has to say.
pub enum Fetched {
    /// Records of one partition.
    Records {
        /// As given to `start`.
        slot: Slot,
        /// In offset order.
        batch: Box<dyn RecordBatch>,
    },
    /// The reader has reached the end: `next` is the offset that the next record will have at least. Said once each
    /// time the end is reached.
    End {
        /// As given to `start`.
        slot: Slot,
        /// Everything below it has been fetched or is no record (transaction markers, aborted records).
        next: i64,
    },
    /// Reading this partition does not go on by itself: the position is outside the log ([`Class::Missing`] when the
    /// topic or partition is gone, [`Class::Rejected`] when the position is out of range, [`Class::Denied`] without the
    /// right to read). The slot is stopped; `start` reads again.
    Broken {
        /// As given to `start`.
        slot: Slot,
        /// Why.
        error: Error,
    },
}

/// How to write.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// The group that shares `topics` and keeps the positions.
    pub group: GroupName,
    /// Unique within the group and stable over restarts: with the group it names the member and the transactional id.
    /// Opening it again takes over at once from the sink that had it, and fences that one.
    pub instance: String,
    /// The topics whose partitions are shared out. A missing one is picked up when it appears.
    pub topics: Vec<TopicName>,
    /// Commit records and positions as one, fencing an old owner. False: positions follow the records.
    pub transactional: bool,
    /// Appended and not yet acknowledged records held in memory, bytes.
    pub buffer_bytes_max: usize,
    /// Records are batched up to this many bytes: the smallest `record_bytes_max` of the topics. A larger record goes
    /// alone.
    pub batch_bytes_max: usize,
}

/// How far a partition has been worked off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next offset *of the source* to be read.
    pub offset: i64,
    /// What the flow must remember with it, at most [`POSITION_NOTE_BYTES_MAX`] bytes of text.
    pub note: String,
}

/// Kafka's own limit for the metadata of a committed offset.
pub const POSITION_NOTE_BYTES_MAX: usize = 4096;

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// As in [`SinkSettings::instance`]; empty for one that has no lasting name.
    pub instance: String,
    /// What it owns.
    pub owns: Vec<TopicPartition>,
}

/// A change of which partitions this sink owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Owned from now on: read the positions, then begin.
    Gained(Vec<TopicPartition>),
    /// To be given up: commit or abort what is open, then call [`Sink::release`]. They are owned until then.
    Revoked(Vec<TopicPartition>),
    /// Owned no more: abort what is open, then call [`Sink::release`].
    Lost(Vec<TopicPartition>),
}

/// A record that the broker did not take.
#[derive(Clone, Debug)]
pub struct Failure {
    /// As given to `append`.
    pub tag: u64,
    /// [`Class::Rejected`] when the record (or one batched with it) is refused for good, [`Class::Abort`] when it was
    /// not acknowledged before an `abort` gave it up.
    pub error: Error,
}

/// Writes records and positions as one, for the partitions that it owns in its group. Owned by one thread, which must
/// call [`Sink::poll`] at least every 100 s or the group takes its partitions away. One that is dropped without `close`
/// is like a dead process: what was open is gone, and its partitions move when its session has run out.
///
/// The order is `begin` → `append` … → `commit` or `abort`; anything else is [`Class::Fatal`].
pub trait Sink: Send {
    /// Serves membership and acknowledgements, waiting up to `timeout` for news of ownership.
    fn poll(&mut self, timeout: Duration) -> Result<Vec<Ownership>, Error>;

    /// Lets go of partitions after `Revoked` or `Lost`; nothing of them may be open.
    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Committed positions in the order asked; `None` for never committed. [`Class::Retry`] while another owner's
    /// transaction is undecided: ask again, a position read around it would repeat records.
    fn positions(&mut self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<Option<Position>>, Error>;

    /// Gives a destination a number for `append`.
    fn open(&mut self, destination: &TopicPartition) -> Result<Slot, Error>;

    /// Begins a transaction (nothing to do for a sink that is not transactional).
    fn begin(&mut self) -> Result<(), Error>;

    /// Queues one record for a destination; bytes are copied before it returns. Order per destination is kept.
    /// `Ok(false)`: the buffer is full, `poll` and offer it again. [`Class::Rejected`]: this record can never be sent.
    /// A driver may count the whole open transaction against the buffer: full with nothing in flight means that what is
    /// open has to be committed first. An empty buffer takes any record that can be sent.
    fn append(&mut self, to: Slot, record: &NewRecord<'_>, tag: u64) -> Result<bool, Error>;

    /// Waits until everything appended is acknowledged, then makes records and positions visible as one. On an error
    /// nothing is visible to read_committed readers; look at [`Sink::failures`], `abort`, read the positions again.
    /// [`Class::Retry`] says that the outcome may come from calling `commit` again with the same positions.
    /// Not transactional: positions are stored after all records were acknowledged.
    fn commit(&mut self, positions: &[(TopicPartition, Position)], timeout: Duration) -> Result<(), Error>;

    /// Drops what is open. Afterwards nothing is in flight, and positions are what was last committed.
    fn abort(&mut self, timeout: Duration) -> Result<(), Error>;

    /// Takes the records that were refused since the last call. Failing ones make `commit` fail.
    fn failures(&mut self) -> Vec<Failure>;

    /// Records appended and not acknowledged yet.
    fn in_flight(&self) -> usize;

    /// Leaves the group at once, so that others take over without waiting for a time-out. What is open is dropped.
    fn close(self: Box<Self>, timeout: Duration) -> Result<(), Error>;
}

/// A cluster shared between threads.
pub type SharedCluster = Arc<dyn Cluster>;

//! The log on disk: topics, the extents of their partitions, records and committed positions, in two sled trees.
//!
//! ```text
//!   meta     "format"                         magic and version                         (refused when unknown)
//!            "t" topic                        JSON: storage number, id, partitions, config
//!            "e" number u64 · partition u32   start i64 · end i64
//!            "p" group 0 topic 0 partition    offset i64 · note
//!   records  number u64 · partition u32 · base offset u64   one chunk (chunk.rs)            all numbers big-endian
//! ```
//!
//! One write is one sled transaction over both trees, flushed before any reader sees it: after a crash either all of a
//! commit is there or none. Nothing here knows groups' members; deciding who may write is `group.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sled::transaction::{ConflictableTransactionError, Transactional};
use sled::{IVec, Tree};

use super::chunk::{Cursor, Draft, Entry};
use super::keys::{extent_key, extent_value, position_key, position_value, record_key, topic_key};
use crate::broker::{Bounds, Class, Error, NewTopic, Position};
use crate::model::names::{GroupName, TopicName, TopicPartition};

const FORMAT: &[u8] = b"LSEL\0\x01";
const FORMAT_KEY: &[u8] = b"format";
/// Pages that sled keeps in memory, over all topics.
const CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How long an opening waits for the closing of the same folder in this process to be over.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// What a topic takes when its `max.message.bytes` is not set: Kafka's default.
const RECORD_BYTES_MAX_DEFAULT: usize = 1_048_588;
/// What `max.message.bytes` can be raised to.
pub const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A topic as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Topic {
    number: u64,
    /// Another one each time a topic is created.
    pub id: String,
    partitions: u32,
    /// As given at creation.
    pub config: BTreeMap<String, String>,
    #[serde(skip)]
    extents: Vec<Extent>,
}

impl Topic {
    /// Partition count.
    pub const fn partitions(&self) -> i32 {
        self.partitions as i32
    }

    /// Whether the log sets the timestamps.
    pub fn append_time(&self) -> bool {
        self.config.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime")
    }

    /// Largest record in bytes ([`super::chunk::weight`]).
    pub fn record_bytes_max(&self) -> usize {
        let set = self.config.get("max.message.bytes").and_then(|text| text.parse().ok());
        set.unwrap_or(RECORD_BYTES_MAX_DEFAULT).min(RECORD_BYTES_MAX)
    }
}

/// The offsets of one partition.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    start: i64,
    /// Written, but perhaps not flushed: nobody reads from here.
    written: i64,
    /// Flushed: readers end here.
    visible: i64,
}

/// What a reader must know of a partition before it reads.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Distinguishes topics that had the same name one after the other.
    pub number: u64,
    /// First and last readable offset.
    pub bounds: Bounds,
}

/// Records for one partition.
pub struct Outgoing<'a> {
    /// Where to.
    pub to: TopicPartition,
    /// The chunks, in order.
    pub drafts: &'a [Draft],
}

/// A write that readers do not see yet: to be given to [`Log::publish`].
#[must_use]
pub struct Written {
    ends: Vec<(TopicPartition, u64, i64)>,
    /// The first offset given to each [`Outgoing`], in their order.
    pub bases: Vec<i64>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<TopicName, Topic>,
    /// Counts whatever a reader may wait for.
    news: u64,
    /// Counts changes of topics and partition counts.
    shape: u64,
}

/// One open folder.
pub struct Log {
    // Trees first: sled gives up its lock when the last of them is gone.
    records: Tree,
    meta: Tree,
    db: sled::Db,
    /// Held while something is written, so that offsets are given out in the order in which they are stored.
    writer: Mutex<()>,
    state: Mutex<State>,
    news: Condvar,
    markers: bool,
}

impl Log {
    /// Opens the folder, creating it when it is missing. `markers`: each transaction takes an offset of its own in every
    /// partition it wrote to, as on Kafka.
    pub fn open(dir: &Path, markers: bool) -> Result<Self, Error> {
        let db = open_sled(dir)?;
        let records = db.open_tree("records").map_err(|error| broken("open the log", &error))?;
        let meta = db.open_tree("meta").map_err(|error| broken("open the log", &error))?;
        match meta.get(FORMAT_KEY).map_err(|error| broken("open the log", &error))? {
            Some(found) if found != FORMAT => {
                let reason = format!("{} was written in another format by another version", dir.display());
                return Err(Error::new(Class::Fatal, "open the log", reason));
            }
            Some(_) => {}
            None => {
                meta.insert(FORMAT_KEY, FORMAT).map_err(|error| broken("open the log", &error))?;
            }
        }
        let state = Mutex::new(State { topics: load_topics(&meta)?, ..State::default() });
        Ok(Self { records, meta, db, writer: Mutex::new(()), state, news: Condvar::new(), markers })
    }

    /// A copy of a topic's description.
    pub fn topic(&self, name: &TopicName) -> Option<Topic> {
        lock(&self.state).topics.get(name).cloned()
    }

    /// Changes whenever a topic appears, grows or goes.
    pub fn shape(&self) -> u64 {
        lock(&self.state).shape
    }

    /// Partition count of a topic; 0 when there is none.
    pub fn partitions(&self, name: &TopicName) -> i32 {
        lock(&self.state).topics.get(name).map_or(0, Topic::partitions)
    }

    /// Creates a topic; `false` when it exists.
    pub fn create(&self, new: &NewTopic) -> Result<bool, Error> {
        if new.partitions < 1 {
            return Err(Error::new(Class::Fatal, format!("create topic {}", new.name), "it needs a partition"));
        }
        let _writer = lock(&self.writer);
        if lock(&self.state).topics.contains_key(&new.name) {
            return Ok(false);
        }
        let number = self.db.generate_id().map_err(|error| broken("create a topic", &error))?;
        let id = format!("{number:x}-{:016x}", random());
        let partitions = new.partitions.unsigned_abs();
        let topic = Topic { number, id, partitions, config: new.config.clone(), extents: Vec::new() };
        self.put_topic(&new.name, topic)?;
        Ok(true)
    }

    /// Grows a topic; smaller counts change nothing.
    pub fn grow(&self, name: &TopicName, partitions: i32) -> Result<(), Error> {
        let _writer = lock(&self.writer);
        let mut topic = self.topic(name).ok_or_else(|| missing("grow a topic", name))?;
        if topic.partitions() < partitions {
            topic.partitions = partitions.unsigned_abs();
            self.put_topic(name, topic)?;
        }
        Ok(())
    }

    fn put_topic(&self, name: &TopicName, mut topic: Topic) -> Result<(), Error> {
        topic.extents.resize(topic.partitions as usize, Extent::default());
        let json = serde_json::to_vec(&topic).map_err(|error| broken("store a topic", &error))?;
        self.meta.insert(topic_key(name), json).map_err(|error| broken("store a topic", &error))?;
        self.flush()?;
        let mut state = lock(&self.state);
        state.topics.insert(name.clone(), topic);
        state.shape += 1;
        self.tell(state);
        Ok(())
    }

    /// Deletes a topic with its records and every group's positions in it; `false` when there is none.
    pub fn delete(&self, name: &TopicName) -> Result<bool, Error> {
        let context = "delete a topic";
        let _writer = lock(&self.writer);
        let Some(topic) = lock(&self.state).topics.remove(name) else { return Ok(false) };
        let mut gone = sled::Batch::default();
        gone.remove(topic_key(name));
        for partition in 0..topic.partitions {
            gone.remove(extent_key(topic.number, partition));
        }
        for entry in self.meta.scan_prefix(b"p") {
            let (key, _) = entry.map_err(|error| broken(context, &error))?;
            if key.split(|byte| *byte == 0).nth(1) == Some(name.as_str().as_bytes()) {
                gone.remove(key);
            }
        }
        self.meta.apply_batch(gone).map_err(|error| broken(context, &error))?;
        for entry in self.records.scan_prefix(topic.number.to_be_bytes()).keys() {
            let removed = entry.and_then(|key| self.records.remove(key));
            removed.map_err(|error| broken(context, &error))?;
        }
        self.flush()?;
        let mut state = lock(&self.state);
        state.shape += 1;
        self.tell(state);
        Ok(true)
    }

    /// Drops all positions of a group, as Kafka does for one that has been idle for a week.
    pub fn forget_positions(&self, group: &GroupName) -> Result<(), Error> {
        let context = "forget positions";
        let _writer = lock(&self.writer);
        let mut gone = sled::Batch::default();
        for entry in self.meta.scan_prefix([b"p", group.as_str().as_bytes(), &[0]].concat()) {
            gone.remove(entry.map_err(|error| broken(context, &error))?.0);
        }
        self.meta.apply_batch(gone).map_err(|error| broken(context, &error))?;
        self.flush()
    }

    /// Drops the records of a partition below `before`.
    pub fn trim(&self, partition: &TopicPartition, before: i64) -> Result<(), Error> {
        let context = "delete records";
        let _writer = lock(&self.writer);
        let view = self.view(partition).ok_or_else(|| missing(context, partition))?;
        if before > view.bounds.end || before < 0 {
            return Err(Error::new(Class::Rejected, context, format!("{before} is outside {:?}", view.bounds)));
        }
        let start = view.bounds.start.max(before);
        let index = partition.partition.unsigned_abs();
        let end = self.extent(partition).map_or(view.bounds.end, |extent| extent.written);
        let stored = self.meta.insert(extent_key(view.number, index), extent_value(start, end));
        stored.map_err(|error| broken(context, &error))?;
        // Only chunks that lie wholly below: the next one's base shows where a chunk ends. Chunks from the visible end on
        // belong to a write that is not published yet.
        let whole = start == view.bounds.end;
        let range = record_key(view.number, index, 0)..record_key(view.number, index, start + i64::from(!whole));
        let keys = self.records.range(range).keys().collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|error| broken(context, &error))?;
        for key in &keys[..keys.len().saturating_sub(usize::from(!whole))] {
            self.records.remove(key).map_err(|error| broken(context, &error))?;
        }
        self.flush()?;
        let mut state = lock(&self.state);
        if let Some(extent) = extent_mut(&mut state, partition, view.number) {
            extent.start = start;
        }
        self.tell(state);
        Ok(())
    }

    /// What can be read of a partition; `None` when it does not exist.
    pub fn view(&self, partition: &TopicPartition) -> Option<View> {
        let state = lock(&self.state);
        let topic = state.topics.get(&partition.topic)?;
        let extent = topic.extents.get(usize::try_from(partition.partition).ok()?)?;
        Some(View { number: topic.number, bounds: Bounds { start: extent.start, end: extent.visible } })
    }

    fn extent(&self, partition: &TopicPartition) -> Option<Extent> {
        let state = lock(&self.state);
        state.topics.get(&partition.topic)?.extents.get(usize::try_from(partition.partition).ok()?).copied()
    }

    /// Stores records and positions as one. Nothing of it can be read before [`Log::publish`].
    /// [`Class::Missing`] when a destination does not exist; then nothing was stored.
    pub fn write(
        &self,
        outgoing: &[Outgoing<'_>],
        positions: Option<(&GroupName, &[(TopicPartition, Position)])>,
        transaction: bool,
    ) -> Result<Written, Error> {
        let _writer = lock(&self.writer);
        let mut batch = Batch::default();
        let mut written = Written { ends: Vec::new(), bases: Vec::new() };
        let appended_ms = now_ms();
        for part in outgoing {
            let topic = self.topic(&part.to.topic).ok_or_else(|| missing("append", &part.to))?;
            let index = usize::try_from(part.to.partition).unwrap_or(usize::MAX);
            let extent = topic.extents.get(index).ok_or_else(|| missing("append", &part.to))?;
            let index = part.to.partition.unsigned_abs();
            let mut next = extent.written;
            written.bases.push(next);
            for draft in part.drafts {
                let stored = draft.stored(topic.append_time().then_some(appended_ms));
                batch.records.push((record_key(topic.number, index, next), stored));
                next += i64::from(draft.count());
            }
            next += i64::from(transaction && self.markers);
            batch.meta.push((extent_key(topic.number, index), extent_value(extent.start, next).into()));
            written.ends.push((part.to.clone(), topic.number, next));
        }
        if let Some((group, positions)) = positions {
            for (partition, position) in positions {
                batch.meta.push((position_key(group, partition), position_value(position)));
            }
        }
        batch.apply(&self.records, &self.meta)?;
        let mut state = lock(&self.state);
        for (partition, number, end) in &written.ends {
            if let Some(extent) = extent_mut(&mut state, partition, *number) {
                extent.written = *end;
            }
        }
        Ok(written)
    }

    /// Makes a write durable, then visible.
    pub fn publish(&self, written: Written) -> Result<(), Error> {
        self.flush()?;
        if written.ends.is_empty() {
            return Ok(());
        }
        let mut state = lock(&self.state);
        for (partition, number, end) in written.ends {
            // A later write may have been published before: a flush covers all that was written earlier.
            if let Some(extent) = extent_mut(&mut state, &partition, number) {
                extent.visible = extent.visible.max(end);
            }
        }
        self.tell(state);
        Ok(())
    }

    /// The position of `group` in `partition`.
    pub fn position(&self, group: &GroupName, partition: &TopicPartition) -> Result<Option<Position>, Error> {
        let stored = self.meta.get(position_key(group, partition));
        let Some(stored) = stored.map_err(|error| broken("read positions", &error))? else { return Ok(None) };
        let torn = || Error::new(Class::Fatal, "read positions", format!("the position of {partition} is damaged"));
        let (offset, note) = stored.split_at_checked(8).ok_or_else(torn)?;
        let offset = i64::from_be_bytes(offset.try_into().map_err(|_| torn())?);
        let note = String::from_utf8(note.to_vec()).map_err(|_| torn())?;
        Ok(Some(Position { offset, note }))
    }

    /// The chunk that holds `from`, or the first one behind it; `None` when there is none before `end`.
    pub fn seek(&self, number: u64, partition: i32, from: i64, end: i64) -> Result<Option<Cursor>, Error> {
        let index = partition.unsigned_abs();
        let first = record_key(number, index, 0);
        let around = self.records.range(first..=record_key(number, index, from)).next_back();
        let behind = self.records.range(record_key(number, index, from + 1)..record_key(number, index, end));
        for found in around.into_iter().chain(behind) {
            let (key, value) = found.map_err(|error| broken("read records", &error))?;
            let base = key.get(12..20).and_then(|bytes| bytes.try_into().ok()).map_or(-1, i64::from_be_bytes);
            let cursor = Cursor::open(base, value).ok_or_else(|| damaged(number, partition, base))?;
            if cursor.end() > from {
                return Ok((base < end).then_some(cursor));
            }
        }
        Ok(None)
    }

    /// The first record at or after `from` and before `end`.
    pub fn next_entry(&self, cursor: &mut Cursor, partition: &TopicPartition) -> Result<Option<Entry>, Error> {
        cursor
            .advance()
            .map_err(|_| Error::new(Class::Fatal, "read records", format!("a chunk of {partition} is damaged")))
    }

    /// The offset of the first record whose timestamp is at or after `at_ms`; the end when there is none.
    /// Reads every chunk from the start on: meant for small logs.
    pub fn offset_at(&self, partition: &TopicPartition, at_ms: i64) -> Result<i64, Error> {
        let view = self.view(partition).ok_or_else(|| missing("look up a time", partition))?;
        let Bounds { start, end } = view.bounds;
        let mut from = start;
        while let Some(mut cursor) = self.seek(view.number, partition.partition, from, end)? {
            from = cursor.end();
            if cursor.newest_ms() < at_ms {
                continue;
            }
            while let Some(entry) = self.next_entry(&mut cursor, partition)? {
                if entry.offset() >= start && entry.timestamp_ms() >= at_ms {
                    return Ok(entry.offset());
                }
            }
        }
        Ok(end)
    }

    /// A number that changes with every piece of news.
    pub fn news(&self) -> u64 {
        lock(&self.state).news
    }

    /// Waits until there is news after `seen`; `false` when the time was up first.
    pub fn wait(&self, seen: u64, until: Instant) -> bool {
        let mut state = lock(&self.state);
        while state.news == seen {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        state.news += 1;
        drop(state);
        self.news.notify_all();
    }

    fn flush(&self) -> Result<(), Error> {
        self.db.flush().map(|_| ()).map_err(|error| broken("flush", &error))
    }
}

#[derive(Default)]
struct Batch {
    records: Vec<([u8; 20], IVec)>,
    meta: Vec<(Vec<u8>, IVec)>,
}

impl Batch {
    fn apply(&self, records: &Tree, meta: &Tree) -> Result<(), Error> {
        let applied = (records, meta).transaction(|(records, meta)| {
            for (key, value) in &self.records {
                records.insert(key, value)?;
            }
            for (key, value) in &self.meta {
                meta.insert(key.as_slice(), value)?;
            }
            Ok::<(), ConflictableTransactionError<()>>(())
        });
        applied.map_err(|error| broken("store", &format!("{error:?}")))
    }
}

fn open_sled(dir: &Path) -> Result<sled::Db, Error> {
    let context = format!("open {}", dir.display());
    let give_up = Instant::now() + LOCK_WAIT;
    loop {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES_MAX).flush_every_ms(None);
        match config.open() {
            Ok(db) => return Ok(db),
            // sled names a taken lock only in the text.
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                if Instant::now() >= give_up {
                    return Err(Error::new(Class::Fatal, context, "opened by another process"));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(Error::new(Class::Fatal, context, error)),
        }
    }
}

fn load_topics(meta: &Tree) -> Result<BTreeMap<TopicName, Topic>, Error> {
    let context = "read the topics";
    let mut topics = BTreeMap::new();
    for entry in meta.scan_prefix(b"t") {
        let (key, value) = entry.map_err(|error| broken(context, &error))?;
        let name = TopicName::new(String::from_utf8_lossy(&key[1..]));
        let mut topic: Topic = serde_json::from_slice(&value).map_err(|error| broken(context, &error))?;
        for partition in 0..topic.partitions {
            let stored = meta.get(extent_key(topic.number, partition)).map_err(|error| broken(context, &error))?;
            let read = |at: usize| {
                let bytes = stored.as_ref()?.get(at..at + 8)?;
                bytes.try_into().ok().map(i64::from_be_bytes)
            };
            let (start, end) = (read(0).unwrap_or(0), read(8).unwrap_or(0));
            topic.extents.push(Extent { start, written: end, visible: end });
        }
        topics.insert(name, topic);
    }
    Ok(topics)
}

fn extent_mut<'a>(state: &'a mut State, partition: &TopicPartition, number: u64) -> Option<&'a mut Extent> {
    let topic = state.topics.get_mut(&partition.topic).filter(|topic| topic.number == number)?;
    topic.extents.get_mut(usize::try_from(partition.partition).ok()?)
}

fn broken(context: &str, error: &impl std::fmt::Display) -> Error {
    Error::new(Class::Fatal, context, error)
}

fn damaged(number: u64, partition: i32, base: i64) -> Error {
    Error::new(Class::Fatal, "read records", format!("the chunk {number:x}/{partition} at {base} is damaged"))
}

/// The error for something that does not exist.
pub fn missing(context: &str, what: &impl std::fmt::Display) -> Error {
    Error::new(Class::Missing, context, format!("{what} does not exist"))
}

/// A panic of another thread leaves nothing half changed under these locks: each change is a single assignment.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

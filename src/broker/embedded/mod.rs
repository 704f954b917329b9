//! A small durable log on sled with the semantics of the contract, for the demo, the examples and the tests. It is no
//! production broker: one process at a time has a folder open, retention and compaction are not run, times are looked
//! up by reading. It takes 1.4 times the bytes of its records on disk, 2 times with four records a commit; one flush a
//! commit is nearly all that a commit costs.
//!
//! Layers: `chunk` (bytes of records) · `log` and `keys` (topics, records, positions on disk) · `group` (who owns what) ·
//! `source` and `sink` (the contract's two ends) · this file (one folder, shared by all bridges of the process).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

mod chunk;
mod group;
mod keys;
mod log;
mod sink;
mod source;

use self::chunk::{Draft, weight};
use self::group::{Group, Patience};
use self::log::{Log, Outgoing, lock, missing, now_ms};
use self::sink::EmbeddedSink;
use self::source::EmbeddedSource;
use super::{
    Bounds, Capabilities, Class, Cluster, Error, Member, NewTopic, Sink, SinkSettings, Source, SourceSettings,
    TopicDescription,
};
use crate::model::names::{GroupName, TopicName, TopicPartition};
use crate::model::record::NewRecord;

/// How an embedded cluster behaves. The first opening of a folder in a process decides.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// After how long a sink that was dropped without being closed loses its partitions.
    pub session: Duration,
    /// After how long a sink that does not poll loses its partitions.
    pub poll_gap_max: Duration,
    /// Each transaction takes up one offset in every partition it wrote to, as Kafka's transaction markers do.
    pub markers: bool,
}

impl Settings {
    /// Time-outs of a Kafka consumer as Longshore sets them, offsets without holes.
    pub const ORDINARY: Self =
        Self { session: Duration::from_secs(6), poll_gap_max: Duration::from_secs(100), markers: false };
}

/// The folders that are open in this process.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<Shared>>> = Mutex::new(BTreeMap::new());

/// What all handles on one folder share.
struct Shared {
    log: Arc<Log>,
    groups: Mutex<HashMap<GroupName, Arc<Group>>>,
    settings: Settings,
}

impl Shared {
    fn group(&self, name: &GroupName) -> Arc<Group> {
        let patience = Patience { session: self.settings.session, poll_gap_max: self.settings.poll_gap_max };
        let make = || Arc::new(Group::new(self.log.clone(), patience));
        lock(&self.groups).entry(name.clone()).or_insert_with(make).clone()
    }

    fn wake_groups(&self) {
        for group in lock(&self.groups).values() {
            group.wake();
        }
    }
}

/// One embedded cluster: a handle on a folder.
pub struct Embedded {
    shared: Arc<Shared>,
}

impl Embedded {
    /// Opens the cluster in `dir`, creating it when it is missing. Handles of the same process on the same folder are one
    /// cluster. [`Class::Fatal`]: another process has it open, or it is damaged.
    pub fn open(dir: &Path) -> Result<Arc<Self>, Error> {
        Self::open_with(dir, Settings::ORDINARY)
    }

    /// [`Embedded::open`] with other settings; they are ignored when this process has the folder open already.
    pub fn open_with(dir: &Path, settings: Settings) -> Result<Arc<Self>, Error> {
        let unreadable = |error| Error::new(Class::Fatal, format!("open {}", dir.display()), error);
        std::fs::create_dir_all(dir).map_err::<Error, _>(|error: std::io::Error| unreadable(error))?;
        let dir = dir.canonicalize().map_err(unreadable)?;
        let mut open = lock(&OPEN);
        if let Some(shared) = open.get(&dir).and_then(Weak::upgrade) {
            return Ok(Arc::new(Self { shared }));
        }
        let log = Arc::new(Log::open(&dir, settings.markers)?);
        let shared = Arc::new(Shared { log, groups: Mutex::default(), settings });
        open.retain(|_, other| other.strong_count() > 0);
        open.insert(dir, Arc::downgrade(&shared));
        Ok(Arc::new(Self { shared }))
    }

    /// Deletes a topic, its records and all positions in it; `false` when there is none.
    pub fn delete(&self, topic: &TopicName) -> Result<bool, Error> {
        let existed = self.shared.log.delete(topic)?;
        self.shared.wake_groups();
        Ok(existed)
    }

    /// Drops all positions of a group, as Kafka does for one that has been idle for a week.
    pub fn forget_positions(&self, group: &GroupName) -> Result<(), Error> {
        self.shared.log.forget_positions(group)
    }

    /// Drops the records of a partition below `before`, as retention would. [`Class::Rejected`] past the end.
    pub fn trim(&self, partition: &TopicPartition, before: i64) -> Result<(), Error> {
        self.shared.log.trim(partition, before)
    }
}

impl Cluster for Embedded {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_commit: true }
    }

    fn describe(&self, topics: &[TopicName]) -> Result<Vec<Option<TopicDescription>>, Error> {
        let describe = |topic: log::Topic| TopicDescription {
            may_read: true,
            may_write: true,
            partitions: topic.partitions(),
            replication_factor: 1,
            append_time: topic.append_time(),
            compacted: topic.config.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            record_bytes_max: Some(topic.record_bytes_max()),
            id: topic.id,
            config: topic.config,
        };
        Ok(topics.iter().map(|topic| self.shared.log.topic(topic).map(describe)).collect())
    }

    fn create(&self, topic: &NewTopic) -> Result<bool, Error> {
        let created = self.shared.log.create(topic)?;
        self.shared.wake_groups();
        Ok(created)
    }

    fn grow(&self, topic: &TopicName, partitions: i32) -> Result<(), Error> {
        self.shared.log.grow(topic, partitions)?;
        self.shared.wake_groups();
        Ok(())
    }

    fn bounds(&self, partitions: &[TopicPartition]) -> Result<Vec<Result<Bounds, Error>>, Error> {
        let bounds = |partition| match self.shared.log.view(partition) {
            Some(view) => Ok(view.bounds),
            None => Err(missing("read the bounds", partition)),
        };
        Ok(partitions.iter().map(bounds).collect())
    }

    fn offsets_at(&self, partitions: &[TopicPartition], at_ms: i64) -> Result<Vec<Result<i64, Error>>, Error> {
        Ok(partitions.iter().map(|partition| self.shared.log.offset_at(partition, at_ms)).collect())
    }

    fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, Error> {
        Ok(self.shared.group(group).members())
    }

    fn append(&self, to: &TopicPartition, records: &[NewRecord<'_>]) -> Result<Vec<i64>, Error> {
        let topic = self.shared.log.topic(&to.topic).ok_or_else(|| missing("append", to))?;
        let limit = topic.record_bytes_max();
        let mut drafts = Vec::new();
        for record in records {
            let weight = weight(record);
            if weight > limit {
                let reason = format!("{to} takes {limit} bytes, the record has {weight}");
                return Err(Error::new(Class::Rejected, "append", reason));
            }
            if drafts.last().is_none_or(|draft: &Draft| draft.is_full_for(weight)) {
                drafts.push(Draft::new());
            }
            drafts.last_mut().expect("one was pushed if there was none").push(record, now_ms());
        }
        let written = self.shared.log.write(&[Outgoing { to: to.clone(), drafts: &drafts }], None, false)?;
        let base = written.bases.first().copied().unwrap_or_default();
        self.shared.log.publish(written)?;
        Ok((base..).take(records.len()).collect())
    }

    fn source(&self, _: &SourceSettings) -> Result<Box<dyn Source>, Error> {
        Ok(Box::new(EmbeddedSource::new(self.shared.clone())))
    }

    fn sink(&self, settings: &SinkSettings) -> Result<Box<dyn Sink>, Error> {
        Ok(Box::new(EmbeddedSink::new(self.shared.clone(), settings)))
    }

    fn trouble(&self) -> Option<Error> {
        None
    }
}

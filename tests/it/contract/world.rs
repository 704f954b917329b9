//! What the cases of the contract are written with: fresh names, owned copies of records, and waiting with a deadline.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longshore::broker::{
    Bounds, Class, Error, Fetched, NewTopic, Ownership, Position, SharedCluster, Sink, SinkSettings, Slot, Source,
    SourceSettings,
};
use longshore::model::names::{GroupName, TopicName, TopicPartition};
use longshore::model::record::{NewRecord, RecordRef, TimestampKind};

use super::Fixture;

/// Far beyond what anything takes: reaching it is a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const STEP: Duration = Duration::from_millis(50);

/// A cluster with one case running on it.
pub struct World {
    pub fixture: Box<dyn Fixture>,
    pub cluster: SharedCluster,
}

impl World {
    pub fn new(fixture: Box<dyn Fixture>) -> Self {
        let cluster = fixture.handle();
        Self { fixture, cluster }
    }

    pub fn topic(&self, partitions: i32) -> TopicName {
        self.topic_with(partitions, &[])
    }

    /// A new topic that every handle can use already.
    pub fn topic_with(&self, partitions: i32, config: &[(&str, &str)]) -> TopicName {
        let topic = TopicName::new(fresh("topic"));
        self.create(&topic, partitions, config);
        topic
    }

    pub fn create(&self, topic: &TopicName, partitions: i32, config: &[(&str, &str)]) {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let new = NewTopic { name: topic.clone(), partitions, replication_factor: None, config };
        assert!(insist(|| self.cluster.create(&new)), "{topic} was there already");
        self.await_partitions(topic, partitions);
    }

    /// Waits until the cluster answers for all partitions: creation spreads by and by.
    pub fn await_partitions(&self, topic: &TopicName, partitions: i32) {
        let all: Vec<_> = (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
        eventually(&format!("{topic} with {partitions} partitions"), || {
            let described = self.cluster.describe(std::slice::from_ref(topic)).ok()?.pop()??;
            let bounds = self.cluster.bounds(&all).ok()?;
            (described.partitions == partitions && bounds.iter().all(Result::is_ok)).then_some(())
        });
    }

    pub fn bounds(&self, partition: &TopicPartition) -> Bounds {
        insist(|| self.cluster.bounds(std::slice::from_ref(partition))?.remove(0))
    }

    pub fn append(&self, to: &TopicPartition, values: &[&str]) -> Vec<i64> {
        let records: Vec<_> = values.iter().map(|value| NewRecord::plain(None, Some(value.as_bytes()))).collect();
        self.cluster.append(to, &records).expect("append")
    }

    pub fn source(&self) -> Box<dyn Source> {
        let settings = SourceSettings { client_id: fresh("source"), buffer_bytes_max: 64 << 20 };
        self.cluster.source(&settings).expect("open a source")
    }

    /// Everything that a reader gets of a partition now.
    pub fn read(&self, partition: &TopicPartition) -> Vec<Got> {
        let bounds = self.bounds(partition);
        let mut source = self.source();
        source.start(0, partition, bounds.start).expect("start");
        let (got, end) = drain(&mut *source, 1000, 0, bounds.end);
        assert!(end >= bounds.end, "the end {end} is before {bounds:?}");
        got
    }

    pub fn values(&self, partition: &TopicPartition) -> Vec<String> {
        self.read(partition).iter().map(Got::text).collect()
    }

    pub fn settings(&self, group: &GroupName, instance: &str, topics: &[TopicName]) -> SinkSettings {
        SinkSettings {
            group: group.clone(),
            instance: instance.to_owned(),
            topics: topics.to_vec(),
            transactional: true,
            buffer_bytes_max: 32 << 20,
            batch_bytes_max: 1_000_000,
        }
    }

    /// Opens a sink through a handle of its own, as another process would.
    pub fn open(&self, settings: &SinkSettings) -> Member {
        let sink = self.fixture.handle().sink(settings).expect("open a sink");
        Member { sink, owned: BTreeSet::new(), revoked: Vec::new(), lost: Vec::new() }
    }

    pub fn member(&self, group: &GroupName, instance: &str, topics: &[TopicName]) -> Member {
        self.open(&self.settings(group, instance, topics))
    }

    /// A sink that is alone in its group and owns the one partition of a new topic.
    pub fn lone(&self) -> (Member, TopicPartition) {
        let topic = self.topic(1);
        let mut member = self.member(&group(), &fresh("instance"), std::slice::from_ref(&topic));
        member.gain(1);
        (member, TopicPartition::new(&topic, 0))
    }
}

/// A name that nobody has used on this cluster.
pub fn fresh(stem: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros();
    format!("{stem}-{now:x}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn group() -> GroupName {
    GroupName::new(fresh("group"))
}

pub fn at(offset: i64, note: &str) -> Position {
    Position { offset, note: note.to_owned() }
}

/// Asks until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < until, "waited {DEADLINE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Calls again while the answer is [`Class::Retry`]; any other error is a failure.
pub fn insist<T>(mut call: impl FnMut() -> Result<T, Error>) -> T {
    settle(&mut call).expect("a call that ought to succeed")
}

/// Calls again while the answer is [`Class::Retry`].
pub fn settle<T>(mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let until = Instant::now() + DEADLINE;
    loop {
        match call() {
            Err(error) if error.class == Class::Retry && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            answer => return answer,
        }
    }
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub timestamp_kind: TimestampKind,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Got {
    fn of(record: &RecordRef<'_>) -> Self {
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            timestamp_kind: record.timestamp_kind,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.value.clone().expect("a value")).expect("text")
    }
}

/// Events with their records copied out, so that they can be compared.
#[derive(Debug)]
pub enum Said {
    Records(Slot, Vec<Got>),
    End(Slot, i64),
    Broken(Slot, Error),
}

impl Said {
    pub const fn slot(&self) -> Slot {
        match self {
            Self::Records(slot, _) | Self::End(slot, _) | Self::Broken(slot, _) => *slot,
        }
    }
}

/// One fetch; batches are never empty, and no more records than asked for.
pub fn fetch(source: &mut dyn Source, records_max: usize, timeout: Duration) -> Vec<Said> {
    let mut events = Vec::new();
    source.fetch(records_max, timeout, &mut events).expect("fetch");
    let mut records = 0;
    let said = events.into_iter().map(|event| match event {
        Fetched::Records { slot, batch } => {
            assert!(!batch.is_empty(), "an empty batch");
            records += batch.len();
            Said::Records(slot, (0..batch.len()).map(|index| Got::of(&batch.record(index))).collect())
        }
        Fetched::End { slot, next } => Said::End(slot, next),
        Fetched::Broken { slot, error } => Said::Broken(slot, error),
    });
    let said = said.collect();
    assert!(records <= records_max, "{records} records, at most {records_max} were asked for");
    said
}

/// Fetches one slot until its end is said at or behind `end`; records rise.
pub fn drain(source: &mut dyn Source, records_max: usize, slot: Slot, end: i64) -> (Vec<Got>, i64) {
    let mut got: Vec<Got> = Vec::new();
    let next = eventually("the end of the partition", || {
        let mut reached = None;
        for said in fetch(source, records_max, STEP) {
            match said {
                Said::Records(of, records) => {
                    assert_eq!(of, slot);
                    got.extend(records);
                }
                Said::End(of, next) => {
                    assert_eq!(of, slot);
                    assert!(got.last().is_none_or(|last| last.offset < next), "the end {next} is before a record");
                    reached = (next >= end).then_some(next);
                }
                Said::Broken(_, error) => panic!("broken: {error}"),
            }
        }
        reached
    });
    assert!(got.is_sorted_by(|a, b| a.offset < b.offset), "offsets do not rise");
    (got, next)
}

/// Waits for the reader to say that it cannot go on.
pub fn until_broken(source: &mut dyn Source) -> (Slot, Error) {
    eventually("the partition to break", || {
        fetch(source, 1000, STEP).into_iter().find_map(|said| match said {
            Said::Broken(slot, error) => Some((slot, error)),
            Said::Records(..) | Said::End(..) => None,
        })
    })
}

/// A sink that keeps account of what it owns.
pub struct Member {
    pub sink: Box<dyn Sink>,
    pub owned: BTreeSet<TopicPartition>,
    /// To be released.
    pub revoked: Vec<TopicPartition>,
    /// To be released as well.
    pub lost: Vec<TopicPartition>,
}

impl Member {
    /// Polls once and writes down the news.
    pub fn step(&mut self, timeout: Duration) {
        for news in insist(|| self.sink.poll(timeout)) {
            match news {
                Ownership::Gained(partitions) => {
                    for partition in partitions {
                        assert!(self.owned.insert(partition.clone()), "{partition} was gained twice");
                    }
                }
                Ownership::Revoked(partitions) => {
                    assert!(partitions.iter().all(|partition| self.owned.contains(partition)), "{partitions:?}");
                    self.revoked.extend(partitions);
                }
                Ownership::Lost(partitions) => {
                    for partition in &partitions {
                        self.owned.remove(partition);
                        self.revoked.retain(|revoked| revoked != partition);
                    }
                    self.lost.extend(partitions);
                }
            }
        }
    }

    /// Releases what it was told to give up.
    pub fn release(&mut self) {
        for partitions in [std::mem::take(&mut self.revoked), std::mem::take(&mut self.lost)] {
            if !partitions.is_empty() {
                self.sink.release(&partitions).expect("release");
                for partition in &partitions {
                    self.owned.remove(partition);
                }
            }
        }
    }

    /// Polls and releases until it owns `count` partitions.
    pub fn gain(&mut self, count: usize) {
        eventually(&format!("{count} partitions"), || {
            self.step(STEP);
            self.release();
            (self.owned.len() == count).then_some(())
        });
    }

    pub fn open(&mut self, destination: &TopicPartition) -> Slot {
        insist(|| self.sink.open(destination))
    }

    pub fn begin(&mut self) {
        insist(|| self.sink.begin());
    }

    /// Appends, serving the sink while its buffer is full.
    pub fn append(&mut self, to: Slot, record: &NewRecord<'_>, tag: u64) {
        eventually("room in the buffer", || {
            let taken = insist(|| self.sink.append(to, record, tag));
            if !taken {
                self.step(STEP);
            }
            taken.then_some(())
        });
    }

    pub fn append_texts(&mut self, to: Slot, values: &[&str]) {
        for (tag, value) in values.iter().enumerate() {
            self.append(to, &NewRecord::plain(None, Some(value.as_bytes())), tag as u64);
        }
    }

    pub fn try_commit(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), Error> {
        settle(|| self.sink.commit(positions, DEADLINE))
    }

    pub fn commit(&mut self, partition: &TopicPartition, position: Position) {
        self.try_commit(&[(partition.clone(), position)]).expect("commit");
    }

    /// One transaction of texts for a partition that it owns; done again when a hand-over of others got in its way.
    pub fn carry(&mut self, partition: &TopicPartition, values: &[&str], position: Position) {
        let to = self.open(partition);
        eventually("a transaction to go through", || {
            self.begin();
            self.append_texts(to, values);
            match self.try_commit(&[(partition.clone(), position.clone())]) {
                Ok(()) => return Some(()),
                Err(error) => assert_eq!(error.class, Class::Abort, "{error}"),
            }
            self.abort();
            self.step(STEP);
            assert!(self.owned.contains(partition), "{partition} was taken away");
            None
        });
    }

    pub fn abort(&mut self) {
        insist(|| self.sink.abort(DEADLINE));
    }

    pub fn position(&mut self, partition: &TopicPartition) -> Option<Position> {
        insist(|| self.sink.positions(std::slice::from_ref(partition), DEADLINE)).remove(0)
    }

    pub fn close(self) {
        self.sink.close(DEADLINE).expect("close");
    }
}

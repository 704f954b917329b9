//! The embedded log: the contract, and what only it promises: one process per folder, and nothing torn by `kill -9`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use longshore::broker::embedded::{Embedded, Settings};
use longshore::broker::{Bounds, Class, Cluster, NewTopic, Ownership, Position, SharedCluster, Sink, SinkSettings};
use longshore::model::names::{GroupName, TopicName, TopicPartition};
use longshore::model::record::NewRecord;
use tempfile::TempDir;

use crate::contract::world::{STEP, World, eventually};
use crate::contract::{Fixture, contract};

struct Folder {
    dir: TempDir,
    settings: Settings,
}

impl Folder {
    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self { dir: tempfile::tempdir().map_err(|error| error.to_string())?, settings })
    }

    fn cluster(&self) -> std::sync::Arc<Embedded> {
        Embedded::open_with(self.dir.path(), self.settings).expect("open the folder")
    }
}

const BRISK: Settings = Settings { session: Duration::from_secs(3), ..Settings::ORDINARY };

macro_rules! fixture {
    ($name:ident, $settings:expr) => {
        struct $name(Folder);

        impl Fixture for $name {
            fn make() -> Result<Self, String> {
                Folder::new($settings).map(Self)
            }

            fn handle(&self) -> SharedCluster {
                self.0.cluster()
            }

            fn delete(&self, topic: &TopicName) {
                assert!(self.0.cluster().delete(topic).expect("delete"), "{topic} was not there");
            }

            fn trim(&self, partition: &TopicPartition, before: i64) {
                self.0.cluster().trim(partition, before).expect("trim");
            }

            fn quiet(&self) -> Duration {
                Duration::from_millis(150)
            }

            fn session(&self) -> Duration {
                BRISK.session
            }

            fn impatient(&self) -> Option<Box<dyn Fixture>> {
                let poll_gap_max = Duration::from_secs(1);
                let folder = Folder::new(Settings { poll_gap_max, ..$settings }).expect("a folder");
                Some(Box::new(Self(folder)))
            }
        }
    };
}

fixture!(Plain, BRISK);
fixture!(Marked, Settings { markers: true, ..BRISK });

mod plain {
    super::contract! { crate::embedded::Plain }
}

/// The same with offsets that have holes, as Kafka's have.
mod with_markers {
    super::contract! { crate::embedded::Marked }
}

fn at(partition: &TopicPartition, offset: i64) -> [(TopicPartition, Position); 1] {
    [(partition.clone(), Position { offset, note: String::new() })]
}

/// Stricter than Kafka, where whoever is of the group's present generation may commit any partition.
#[test]
fn a_transaction_begun_before_the_loss_cannot_be_committed_after_the_return() {
    let on = World::new(Plain::make().expect("a folder").impatient().expect("an impatient one"));
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    let group = GroupName::new("link");
    let mut first = on.member(&group, "first", std::slice::from_ref(&topic));
    first.gain(1);
    let to = first.open(&partition);
    first.begin();
    first.append_texts(to, &["stale"]);
    let mut second = on.member(&group, "second", std::slice::from_ref(&topic));
    second.gain(1);
    first.step(Duration::ZERO);
    first.release();
    second.close();
    first.gain(1);
    assert_eq!(first.try_commit(&at(&partition, 1)).expect_err("of an earlier generation").class, Class::Abort);
    assert_eq!(on.values(&partition), Vec::<String>::new());
}

/// Likewise.
#[test]
fn a_partition_that_was_released_cannot_be_committed() {
    let on = World::new(Box::new(Plain::make().expect("a folder")));
    let topic = on.topic(2);
    let group = GroupName::new("link");
    let mut first = on.member(&group, "first", std::slice::from_ref(&topic));
    first.gain(2);
    let mut second = on.member(&group, "second", std::slice::from_ref(&topic));
    eventually("a partition to be revoked", || {
        first.step(STEP);
        first.revoked.first().cloned()
    });
    let partition = first.revoked[0].clone();
    let to = first.open(&partition);
    first.begin();
    first.append_texts(to, &["too late"]);
    first.release();
    second.gain(1);
    assert_eq!(first.try_commit(&at(&partition, 1)).expect_err("released").class, Class::Abort);
    assert_eq!(second.position(&partition), None);
    assert_eq!(on.values(&partition), Vec::<String>::new());
}

#[test]
fn everything_is_there_after_the_folder_was_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (topic, group) = (TopicName::new("orders"), GroupName::new("link"));
    let partition = TopicPartition::new(&topic, 1);
    let new = NewTopic {
        name: topic.clone(),
        partitions: 2,
        replication_factor: None,
        config: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
    };
    let before = {
        let cluster = Embedded::open(folder.path()).expect("open");
        cluster.create(&new).expect("create");
        cluster.append(&partition, &[NewRecord::plain(None, Some(b"a")); 3]).expect("append");
        cluster.trim(&partition, 1).expect("trim");
        let mut sink = cluster.sink(&settings(&topic, &group)).expect("a sink");
        own(&mut *sink, 2);
        write(&mut *sink, &[(&partition, b"b")], &[(&partition, 9)]);
        cluster.describe(std::slice::from_ref(&topic)).expect("describe").remove(0).expect("the topic")
    };
    let cluster = Embedded::open(folder.path()).expect("open again");
    let after = cluster.describe(std::slice::from_ref(&topic)).expect("describe").remove(0).expect("the topic");
    assert_eq!((before.id, before.config), (after.id, after.config));
    let found = cluster.bounds(std::slice::from_ref(&partition)).expect("bounds").remove(0).expect("its bounds");
    assert_eq!(found, Bounds { start: 1, end: 4 });
    let mut sink = cluster.sink(&settings(&topic, &group)).expect("a sink");
    let positions = sink.positions(std::slice::from_ref(&partition), Duration::ZERO).expect("positions");
    assert_eq!(positions, [Some(Position { offset: 9, note: "note".to_owned() })]);
    assert_eq!(cluster.append(&partition, &[NewRecord::plain(None, None)]).expect("append"), [4]);
}

#[test]
fn a_folder_of_another_format_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let db = sled::open(folder.path()).expect("sled");
        db.open_tree("meta").expect("tree").insert("format", b"LSEL\0\x63").expect("insert");
        db.flush().expect("flush");
    }
    let error = Embedded::open(folder.path()).map(|_| ()).expect_err("another format");
    assert!(error.class == Class::Fatal && error.reason.contains("another format"), "{error}");
}

fn settings(topic: &TopicName, group: &GroupName) -> SinkSettings {
    SinkSettings {
        group: group.clone(),
        instance: "one".to_owned(),
        topics: vec![topic.clone()],
        transactional: true,
        buffer_bytes_max: 16 << 20,
        batch_bytes_max: 1_000_000,
    }
}

fn own(sink: &mut dyn Sink, mut count: usize) {
    while count > 0 {
        for news in sink.poll(Duration::from_secs(5)).expect("poll") {
            match news {
                Ownership::Gained(partitions) => count -= partitions.len(),
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
}

fn write(sink: &mut dyn Sink, records: &[(&TopicPartition, &[u8])], positions: &[(&TopicPartition, i64)]) {
    let to: Vec<_> = records.iter().map(|(partition, _)| sink.open(partition).expect("open")).collect();
    sink.begin().expect("begin");
    for (slot, (_, value)) in to.into_iter().zip(records) {
        assert!(sink.append(slot, &NewRecord::plain(None, Some(value)), 0).expect("append"));
    }
    let position = |offset| Position { offset, note: "note".to_owned() };
    let positions: Vec<_> = positions.iter().map(|(part, offset)| ((*part).clone(), position(*offset))).collect();
    sink.commit(&positions, Duration::from_secs(10)).expect("commit");
}

const FOLDER: &str = "LONGSHORE_TEST_FOLDER";

/// Nothing by itself: as a process of its own, the one that the tests below kill. Each transaction adds one more record
/// to both partitions than the one before and says so; between them it appends outside transactions to a third.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let cluster = Embedded::open(&folder).expect("open");
    let (topic, group) = (TopicName::new("orders"), GroupName::new("link"));
    let new = NewTopic { name: topic.clone(), partitions: 3, replication_factor: None, config: [].into() };
    cluster.create(&new).expect("create");
    let parts: Vec<_> = (0..3).map(|partition| TopicPartition::new(&topic, partition)).collect();
    let mut sink = cluster.sink(&settings(&topic, &group)).expect("a sink");
    own(&mut *sink, 3);
    let start = sink.positions(&parts[..1], Duration::ZERO).expect("positions").remove(0).map_or(0, |at| at.offset);
    let value = vec![7_u8; 3000];
    println!("ready");
    for number in start + 1.. {
        let records: Vec<_> =
            (0..number % 50 + 1).flat_map(|_| [(&parts[0], &value[..]), (&parts[1], &value)]).collect();
        write(&mut *sink, &records, &[(&parts[0], number), (&parts[1], number)]);
        let offsets = cluster.append(&parts[2], &[NewRecord::plain(None, Some(&value))]).expect("append");
        println!("committed {number} {}", offsets[0] + 1);
    }
}

fn writer(folder: &Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "embedded::writes_until_it_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the writer");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
    (child, lines)
}

#[test]
fn a_folder_that_another_process_has_open_is_refused_and_free_after_its_death() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut child, mut lines) = writer(folder.path());
    assert!(lines.any(|line| line.contains("ready")), "the writer did not start");
    let error = Embedded::open(folder.path()).map(|_| ()).expect_err("it is open elsewhere");
    assert_eq!((error.class, error.reason.as_str()), (Class::Fatal, "opened by another process"));
    child.kill().expect("kill");
    child.wait().expect("wait");
    Embedded::open(folder.path()).expect("free again");
}

#[test]
fn kill_9_tears_nothing_and_loses_nothing_that_was_confirmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let topic = TopicName::new("orders");
    let parts: Vec<_> = (0..3).map(|partition| TopicPartition::new(&topic, partition)).collect();
    for round in 0..6_u32 {
        let (mut child, lines) = writer(folder.path());
        let confirmed = lines.filter(|line| line.starts_with("committed")).take(5 + 13 * round as usize).last();
        child.kill().expect("kill");
        child.wait().expect("wait");
        let confirmed = confirmed.expect("the writer confirmed something");
        let mut numbers = confirmed.split(' ').skip(1).map(|number| number.parse::<i64>().expect("a number"));
        let (number, appended) = (numbers.next().expect("a number"), numbers.next().expect("an end"));

        struct Opened(std::sync::Arc<Embedded>);
        impl Fixture for Opened {
            fn make() -> Result<Self, String> {
                Err("made by hand".to_owned())
            }
            fn handle(&self) -> SharedCluster {
                self.0.clone()
            }
            fn delete(&self, _: &TopicName) {}
            fn trim(&self, _: &TopicPartition, _: i64) {}
            fn quiet(&self) -> Duration {
                Duration::ZERO
            }
            fn impatient(&self) -> Option<Box<dyn Fixture>> {
                None
            }
        }
        let cluster = Embedded::open(folder.path()).expect("open after the kill");
        let mut sink = cluster.sink(&settings(&topic, &GroupName::new("link"))).expect("a sink");
        let found = sink.positions(&parts[..2], Duration::ZERO).expect("positions");
        let at = found[0].as_ref().expect("a position").offset;
        assert!(at >= number, "round {round}: {number} was confirmed, {at} is there");
        assert_eq!(found[0], found[1], "round {round}: half a commit");
        let world = World::new(Box::new(Opened(cluster.clone())));
        let expected: i64 = (1..=at).map(|number| number % 50 + 1).sum();
        for partition in &parts[..2] {
            let got = world.read(partition);
            assert_eq!(got.len() as i64, expected, "round {round}: records and positions differ");
            assert!(got.iter().enumerate().all(|(index, got)| got.offset == index as i64));
            assert!(got.iter().all(|got| got.value.as_deref() == Some(&[7; 3000][..])));
        }
        assert!(world.read(&parts[2]).len() as i64 >= appended);
        sink.close(Duration::ZERO).expect("close");
    }
}

/// Printed, not judged: machines differ.
#[test]
fn speed_and_size_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let topic = TopicName::new("orders");
    let cluster = Embedded::open(folder.path()).expect("open");
    let new = NewTopic { name: topic.clone(), partitions: 2, replication_factor: None, config: [].into() };
    cluster.create(&new).expect("create");
    let mut sink = cluster.sink(&settings(&topic, &GroupName::new("link"))).expect("a sink");
    own(&mut *sink, 2);
    let parts: Vec<_> = (0..2).map(|partition| TopicPartition::new(&topic, partition)).collect();
    let value = [b'v'; 200];
    let slots: Vec<_> = parts.iter().map(|partition| sink.open(partition).expect("open")).collect();
    for (commits, records) in [(20_i64, 5000_u64), (500, 20)] {
        let begun = Instant::now();
        for number in 0..commits {
            sink.begin().expect("begin");
            for tag in 0..records {
                assert!(
                    sink.append(slots[tag as usize % 2], &NewRecord::plain(None, Some(&value)), tag).expect("append")
                );
            }
            let position = Position { offset: number, note: String::new() };
            sink.commit(&[(parts[0].clone(), position)], Duration::from_secs(9)).expect("commit");
        }
        let took = begun.elapsed();
        let size: u64 = walk(folder.path());
        println!("{commits} commits of {records} records of 200 B: {took:?}, {size} bytes on disk so far");
    }
}

/// Files may go while they are counted: sled writes snapshots under other names.
fn walk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => walk(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

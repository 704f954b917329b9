//! The control log over a cluster in memory that can be made to fail.

use std::sync::atomic::AtomicI32;
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::broker::{Capabilities, Cluster, Member, Sink, SinkSettings, Slot, TopicDescription};
use crate::model::names::GroupName;
use crate::model::record::{Header, Headers, RecordBatch, TimestampKind};

const WAIT: Duration = Duration::from_secs(10);

/// One topic of one partition, and switches for what can go wrong with it.
#[derive(Default)]
struct Memory {
    world: Mutex<World>,
    sources: AtomicI32,
}

#[derive(Default)]
struct World {
    /// Creations so far; the topic exists while `log` is there.
    created: u32,
    log: Option<Vec<Kept>>,
    config: BTreeMap<String, String>,
    unreachable: bool,
    broken: bool,
}

#[derive(Clone)]
struct Kept {
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

struct Batch(Vec<Kept>);

impl RecordBatch for Batch {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn record(&self, index: usize) -> RecordRef<'_> {
        let kept = &self.0[index];
        RecordRef {
            offset: kept.offset,
            timestamp_ms: 0,
            timestamp_kind: TimestampKind::CreateTime,
            key: kept.key.as_deref(),
            value: kept.value.as_deref(),
            headers: Headers::Listed(&kept.headers),
        }
    }
}

impl Memory {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("not poisoned")
    }

    fn reached(&self) -> Result<MutexGuard<'_, World>, Error> {
        let world = self.world();
        if world.unreachable { Err(Error::new(Class::Retry, "ask", "unreachable")) } else { Ok(world) }
    }

    fn recreate(&self) {
        let mut world = self.world();
        world.created += 1;
        world.log = Some(Vec::new());
    }

    /// Writes as a stranger would.
    fn write_raw(&self, key: &str, value: Option<&[u8]>, headers: Vec<Header>) {
        let mut world = self.world();
        let log = world.log.as_mut().expect("the topic exists");
        let offset = log.len() as i64;
        log.push(Kept { offset, key: Some(key.into()), value: value.map(<[u8]>::to_vec), headers });
    }

    fn written(&self) -> Vec<Kept> {
        self.world().log.clone().unwrap_or_default()
    }
}

/// Gives the trait to a shared one.
struct Shore(Arc<Memory>);

impl Cluster for Shore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_commit: true }
    }

    fn describe(&self, topics: &[TopicName]) -> Result<Vec<Option<TopicDescription>>, Error> {
        let world = self.0.reached()?;
        let one = world.log.as_ref().map(|_| TopicDescription {
            may_read: true,
            may_write: true,
            id: world.created.to_string(),
            partitions: 1,
            replication_factor: 1,
            append_time: false,
            compacted: world.config.get("cleanup.policy").is_some_and(|policy| policy == "compact"),
            record_bytes_max: None,
            config: world.config.clone(),
        });
        Ok(topics.iter().map(|_| one.clone()).collect())
    }

    fn create(&self, topic: &NewTopic) -> Result<bool, Error> {
        let mut world = self.0.reached()?;
        if world.log.is_some() {
            return Ok(false);
        }
        world.created += 1;
        world.log = Some(Vec::new());
        world.config.clone_from(&topic.config);
        Ok(true)
    }

    fn grow(&self, _topic: &TopicName, _partitions: i32) -> Result<(), Error> {
        Ok(())
    }

    fn bounds(&self, partitions: &[TopicPartition]) -> Result<Vec<Result<Bounds, Error>>, Error> {
        let world = self.0.reached()?;
        let end = world.log.as_ref().map_or(0, Vec::len) as i64;
        Ok(partitions.iter().map(|_| Ok(Bounds { start: 0, end })).collect())
    }

    fn offsets_at(&self, _: &[TopicPartition], _: i64) -> Result<Vec<Result<i64, Error>>, Error> {
        unimplemented!("the control log does not ask for times")
    }

    fn members(&self, _: &GroupName) -> Result<Option<Vec<Member>>, Error> {
        unimplemented!("the control log has no group")
    }

    fn append(&self, _to: &TopicPartition, records: &[NewRecord<'_>]) -> Result<Vec<i64>, Error> {
        drop(self.0.reached()?);
        let mut offsets = Vec::new();
        for record in records {
            let headers = record
                .written_headers()
                .map(|(name, value)| Header { name: name.to_vec(), value: value.map(<[u8]>::to_vec) })
                .collect();
            offsets.push(self.0.written().len() as i64);
            self.0.write_raw(std::str::from_utf8(record.key.expect("has a key")).expect("text"), record.value, headers);
        }
        Ok(offsets)
    }

    fn source(&self, _settings: &SourceSettings) -> Result<Box<dyn Source>, Error> {
        drop(self.0.reached()?);
        self.0.sources.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Reader { memory: Arc::clone(&self.0), next: 0, told_end: false }))
    }

    fn sink(&self, _settings: &SinkSettings) -> Result<Box<dyn Sink>, Error> {
        unimplemented!("the control log is written without a sink")
    }

    fn trouble(&self) -> Option<Error> {
        self.0.reached().err()
    }
}

struct Reader {
    memory: Arc<Memory>,
    next: i64,
    told_end: bool,
}

impl Source for Reader {
    fn start(&mut self, _slot: Slot, _partition: &TopicPartition, from: i64) -> Result<(), Error> {
        (self.next, self.told_end) = (from, false);
        Ok(())
    }

    fn stop(&mut self, _slot: Slot) -> Result<(), Error> {
        Ok(())
    }

    fn fetch(&mut self, _records_max: usize, timeout: Duration, events: &mut Vec<Fetched>) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        loop {
            {
                let world = self.memory.world();
                let log = world.log.as_deref().unwrap_or_default();
                if world.broken || log.len() < self.next as usize {
                    let error = Error::new(Class::Rejected, "fetch", "the position is outside the log");
                    events.push(Fetched::Broken { slot: 0, error });
                    return Ok(());
                }
                let fresh = if world.unreachable { &[] } else { &log[self.next as usize..] };
                if !fresh.is_empty() {
                    self.next += fresh.len() as i64;
                    self.told_end = false;
                    events.push(Fetched::Records { slot: 0, batch: Box::new(Batch(fresh.to_vec())) });
                    return Ok(());
                }
                if !self.told_end && !world.unreachable {
                    self.told_end = true;
                    events.push(Fetched::End { slot: 0, next: self.next });
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                return Ok(());
            }
            std::thread::yield_now();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn secret() -> Option<SecretString> {
    Some(SecretString::from("s3cret"))
}

fn cluster(memory: &Arc<Memory>) -> SharedCluster {
    Arc::new(Shore(Arc::clone(memory)))
}

fn open(memory: &Arc<Memory>, secret: Option<SecretString>) -> ControlLog {
    let creation = Some(Creation::default());
    let log = ControlLog::open(cluster(memory), &"hz".into(), secret.as_ref(), creation).expect("opens");
    log.caught_up(WAIT).expect("reads");
    log
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {WAIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_written_is_read_at_once_here_soon_by_others_and_after_a_restart() {
    let memory = Arc::new(Memory::default());
    let (one, two) = (open(&memory, secret()), open(&memory, secret()));
    one.put("a/1", &json!({"n": 1})).expect("written");
    assert_eq!(one.get("a/1").as_deref(), Some(&json!({"n": 1})));
    eventually("the other reads it", || two.get("a/1").is_some());
    two.put("a/1", &json!({"n": 2})).expect("written");
    one.put("a/2", &json!({"n": 3})).expect("written");
    eventually("both agree", || one.get("a/1").as_deref() == Some(&json!({"n": 2})) && two.get("a/2").is_some());
    one.remove("a/1").expect("removed");
    assert_eq!(one.get("a/1"), None);
    eventually("the other removes it too", || two.get("a/1").is_none());
    one.stop();
    two.stop();
    let again = open(&memory, secret());
    let all: Vec<String> = again.prefix("a/").into_iter().map(|(key, _)| key).collect();
    assert_eq!(all, ["a/2"]);
    assert_eq!(again.refused(), 0);
}

#[test]
fn the_topic_is_made_compacted_with_the_regions_settings() {
    let memory = Arc::new(Memory::default());
    let config = BTreeMap::from([
        ("min.insync.replicas".to_owned(), "2".to_owned()),
        ("cleanup.policy".to_owned(), "delete".to_owned()),
    ]);
    let creation = Creation { replication_factor: Some(3), config };
    let log = ControlLog::open(cluster(&memory), &"hz".into(), None, Some(creation)).expect("opens");
    log.caught_up(WAIT).expect("reads");
    let world = memory.world();
    assert_eq!(world.config["cleanup.policy"], "compact");
    assert_eq!(world.config["min.insync.replicas"], "2");
}

#[test]
fn strangers_entries_are_refused_whatever_they_try() {
    let memory = Arc::new(Memory::default());
    let log = open(&memory, secret());
    log.put("pause/hz/sh", &json!({"v": 1})).expect("written");
    let ours = memory.written()[0].clone();
    let signature = ours.headers.clone();
    let value = ours.value.as_deref();
    memory.write_raw("pause/hz/sz", Some(b"{}"), Vec::new());
    memory.write_raw("pause/hz/sz", value, signature.clone());
    memory.write_raw("pause/hz/sh", Some(b"{\"v\":9}"), signature.clone());
    memory.write_raw("pause/hz/sh", None, signature);
    memory.write_raw("pause/hz/sh", None, Vec::new());
    memory.write_raw("pause/hz/sh", value, vec![Header::text(SIGNATURE_HEADER, "00")]);
    let other = Signer::new(&SecretString::from("other"), &"hz".into());
    memory.write_raw("x", Some(b"{}"), vec![Header::text(SIGNATURE_HEADER, &other.sign(b"x", Some(b"{}")))]);
    let elsewhere = Signer::new(&SecretString::from("s3cret"), &"sh".into());
    memory.write_raw("x", Some(b"{}"), vec![Header::text(SIGNATURE_HEADER, &elsewhere.sign(b"x", Some(b"{}")))]);
    eventually("all are counted", || log.refused() == 8);
    assert_eq!(log.prefix("").len(), 1);
    assert_eq!(log.get("pause/hz/sh").as_deref(), Some(&json!({"v": 1})));
}

#[test]
fn without_a_secret_unsigned_entries_are_believed_but_garbage_is_not() {
    let memory = Arc::new(Memory::default());
    let log = open(&memory, None);
    memory.write_raw("a", Some(b"{}"), Vec::new());
    memory.write_raw("b", Some(b"no json"), Vec::new());
    memory.write_raw("c", Some(&vec![b' '; ENTRY_BYTES_MAX + 1]), Vec::new());
    eventually("garbage is counted", || log.refused() == 2);
    assert_eq!(log.prefix("").len(), 1);
}

#[test]
fn a_follower_makes_no_topic_and_reads_it_when_it_appears() {
    let memory = Arc::new(Memory::default());
    let follower = ControlLog::follow(cluster(&memory), &"hz".into(), secret().as_ref()).expect("opens");
    eventually("it says that the topic is missing", || {
        follower.health().is_err_and(|error| error.class == Class::Missing)
    });
    assert_eq!(follower.caught_up(Duration::ZERO).map_err(|error| error.class), Err(Class::Missing));
    assert_eq!(follower.put("a", &json!(1)).map_err(|error| error.class), Err(Class::Retry));
    assert!(memory.world().log.is_none());
    let owner = open(&memory, secret());
    owner.put("a", &json!(1)).expect("written");
    eventually("it appears", || follower.get("a").is_some());
    assert!(follower.health().is_ok());
}

#[test]
fn an_unreachable_cluster_is_told_and_what_was_read_stays() {
    let memory = Arc::new(Memory::default());
    let log = open(&memory, secret());
    log.put("a", &json!(1)).expect("written");
    memory.world().unreachable = true;
    eventually("it is told", || log.health().is_err());
    assert_eq!(log.put("b", &json!(1)).map_err(|error| error.class), Err(Class::Retry));
    assert!(log.get("a").is_some());
    memory.world().unreachable = false;
    eventually("it heals", || log.health().is_ok());
    log.put("b", &json!(1)).expect("written");
}

#[test]
fn a_broken_reader_is_replaced_and_goes_on_where_it_was() {
    let memory = Arc::new(Memory::default());
    let log = open(&memory, secret());
    log.put("a", &json!(1)).expect("written");
    memory.world().broken = true;
    eventually("it is told", || log.health().is_err());
    memory.world().broken = false;
    let other = open(&memory, secret());
    other.put("b", &json!(2)).expect("written");
    eventually("it goes on", || log.get("b").is_some() && log.health().is_ok());
    assert!(memory.sources.load(Ordering::Relaxed) >= 3);
}

#[test]
fn a_topic_made_anew_is_followed_and_nothing_known_is_forgotten() {
    let memory = Arc::new(Memory::default());
    let log = open(&memory, secret());
    log.put("a", &json!(1)).expect("written");
    log.put("b", &json!(1)).expect("written");
    eventually("both are read back", || log.shared.state().position == 2);
    memory.recreate();
    eventually("it notices", || log.shared.state().topic_id.as_deref() == Some("2"));
    log.put("a", &json!(2)).expect("written");
    eventually("the new one is read", || log.get("a").as_deref() == Some(&json!(2)));
    assert_eq!(log.get("b").as_deref(), Some(&json!(1)));
}

#[test]
fn the_version_moves_with_changes_only() {
    let memory = Arc::new(Memory::default());
    let log = open(&memory, secret());
    let before = log.version();
    log.put("a", &json!(1)).expect("written");
    let after = log.version();
    assert!(after > before);
    eventually("our own entry is read back", || log.shared.state().position == 1);
    memory.write_raw("a", Some(b"{}"), Vec::new());
    eventually("the stranger is counted", || log.refused() == 1);
    assert_eq!(log.version(), after);
    assert_eq!(log.changed_since(after, Duration::ZERO), after);
    let other = open(&memory, secret());
    other.put("a", &json!(2)).expect("written");
    assert!(log.changed_since(after, WAIT) > after);
}

#[test]
fn a_value_that_is_too_large_is_not_written() {
    let memory = Arc::new(Memory::default());
    let log = open(&memory, None);
    let refused = log.put("a", &json!("x".repeat(ENTRY_BYTES_MAX))).expect_err("refused");
    assert_eq!(refused.class, Class::Rejected);
    assert!(memory.written().is_empty());
}

#[test]
fn heartbeats_come_end_and_are_cleared_away_when_old() {
    use crate::control::entry::Heartbeat;
    use crate::control::heartbeat;

    let memory = Arc::new(Memory::default());
    let log = open(&memory, secret());
    let day_ms = 86_400_000;
    let beat = |at_ms| Heartbeat { at_ms, ..Heartbeat::default() };
    heartbeat::say(&log, "new", &beat(10 * day_ms)).expect("said");
    heartbeat::say(&log, "old/er", &beat(2 * day_ms)).expect("said");
    assert_eq!(heartbeat::prune(&log, 10 * day_ms).expect("pruned"), 1);
    let left: Vec<Vec<String>> = log.read_all::<Heartbeat>(&["hz"]).into_iter().map(|(parts, _)| parts).collect();
    assert_eq!(left, [["hz", "new"]]);
    heartbeat::end(&log, "new").expect("ended");
    assert!(log.read_all::<Heartbeat>(&[]).is_empty());
}

#[test]
fn pauses_hold_what_is_inside_them_and_end_with_all_inside() {
    use crate::control::orders::{Resumed, Scope, Stream, is_paused, pause, resume};

    let memory = Arc::new(Memory::default());
    let log = open(&memory, secret());
    let scope = |topic: Option<&str>, partition| Scope {
        from: "sh".into(),
        to: "hz".into(),
        topic: topic.map(TopicName::new),
        partition,
    };
    let stream = |topic: &str, partition| Stream { from: "sh".into(), to: "hz".into(), topic: topic.into(), partition };
    pause(&log, &scope(Some("orders"), Some(1)), "a@b", 1).expect("paused");
    assert!(is_paused(&log, &stream("orders", 1)));
    assert!(!is_paused(&log, &stream("orders", 0)) && !is_paused(&log, &stream("clicks", 1)));
    pause(&log, &scope(None, None), "a@b", 1).expect("paused");
    assert!(is_paused(&log, &stream("clicks", 7)));
    let resumed = resume(&log, &scope(Some("orders"), None)).expect("resumed");
    let expected = Resumed { ended: vec!["sh/hz/orders/1".into()], still: vec!["sh/hz".into()] };
    assert_eq!(resumed, expected);
    assert!(is_paused(&log, &stream("orders", 1)), "by the wider one");
    assert_eq!(resume(&log, &scope(None, None)).expect("resumed").ended, ["sh/hz"]);
    assert!(!is_paused(&log, &stream("orders", 1)));
}

#[test]
fn an_order_is_applied_when_a_heartbeat_names_it() {
    use crate::control::entry::{Heartbeat, LinkBeat, OrderAction, PartitionBeat};
    use crate::control::heartbeat;
    use crate::control::orders::{Outcome, Stream, await_order, order};

    let memory = Arc::new(Memory::default());
    let (bridge, operator) = (open(&memory, secret()), open(&memory, secret()));
    let stream = Stream { from: "sh".into(), to: "hz".into(), topic: "orders".into(), partition: 1 };
    let id = order(&operator, &stream, OrderAction::Seek { offset: 5 }, "a@b", 1).expect("ordered");
    let wait = |timeout| await_order(&operator, &stream, &id, timeout, || 1_000);
    assert_eq!(wait(WAIT), Outcome::NoBridge);
    let beat = |order: Option<String>| {
        let partition = PartitionBeat { partition: 1, state: "running".into(), order, ..PartitionBeat::default() };
        let link = LinkBeat {
            from: "sh".into(),
            topic: "orders".into(),
            state: "running".into(),
            partitions: vec![partition],
            ..LinkBeat::default()
        };
        Heartbeat { at_ms: 900, links: vec![link], ..Heartbeat::default() }
    };
    heartbeat::say(&bridge, "hz-1", &beat(None)).expect("said");
    eventually("the operator hears the bridge", || wait(Duration::ZERO) == Outcome::NotYet);
    let outcome = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(WAIT));
        heartbeat::say(&bridge, "hz-1", &beat(Some(id.clone()))).expect("said");
        waiting.join().expect("no panic")
    });
    let Outcome::Applied(partitions) = outcome else { panic!("{outcome:?}") };
    assert_eq!(partitions[0].beat.order.as_deref(), Some(id.as_str()));
}

#[test]
fn a_survey_shows_what_answers_and_names_what_does_not() {
    use crate::control::entry::Heartbeat;
    use crate::control::{heartbeat, survey};

    let (well, fresh, lost) = (Arc::new(Memory::default()), Arc::new(Memory::default()), Arc::new(Memory::default()));
    let bridge = open(&well, secret());
    heartbeat::say(&bridge, "hz-1", &Heartbeat { at_ms: 900, ready: true, ..Heartbeat::default() }).expect("said");
    lost.world().unreachable = true;
    let regions = vec![
        ("hz".into(), Ok(cluster(&well))),
        ("sh".into(), Ok(cluster(&fresh))),
        ("sz".into(), Ok(cluster(&lost))),
        ("bj".into(), Err(Error::new(Class::Fatal, "open cluster", "no such file"))),
    ];
    let status = survey::status(regions, secret().as_ref(), Duration::from_millis(300), || 1_000);
    let flags = |region: &str| (status.regions[region].reachable, status.regions[region].ready);
    assert_eq!(flags("hz"), (true, true));
    assert_eq!(flags("sh"), (true, false));
    assert_eq!(flags("sz"), (false, false));
    assert_eq!(flags("bj"), (false, false));
    assert!(status.regions["sh"].reasons[0].contains("no bridge has run"), "{:?}", status.regions["sh"].reasons);
    assert!(status.regions["sz"].reasons[0].contains("unreachable"), "{:?}", status.regions["sz"].reasons);
    assert!(fresh.world().log.is_none(), "looking makes no topic");

    let peer = ControlLog::follow(cluster(&fresh), &"sh".into(), secret().as_ref()).expect("opens");
    eventually("the peer's topic is known to be missing", || {
        peer.health().is_err_and(|error| error.class == Class::Missing)
    });
    let followed = crate::control::status::followed([&bridge, &peer], 1_000);
    assert_eq!(followed.regions["hz"], status.regions["hz"]);
    assert_eq!(followed.regions["sh"], status.regions["sh"]);
}

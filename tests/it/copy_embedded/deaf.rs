//! Clients that have lost their cluster for good without knowing it, as librdkafka's do now and then: a reader that gives
//! out nothing any more, a group that has forgotten a member.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use longshore::broker::{
    Bounds, Capabilities, Cluster, Error, Fetched, Member, NewTopic, SharedCluster, Sink, SinkSettings, Slot, Source,
    SourceSettings, TopicDescription,
};
use longshore::model::names::{GroupName, TopicName, TopicPartition};
use longshore::model::record::NewRecord;

use super::world::{World, eventually, numbered, ready, within};

/// What befalls the clients of a cluster.
#[derive(Default)]
struct Fate {
    /// The first reader of each kind falls silent after its first records.
    deafens: bool,
    /// The group says that it has no members until a second one was made.
    forgets: bool,
    links: AtomicUsize,
    controls: AtomicUsize,
    sinks: AtomicUsize,
}

struct Lossy(SharedCluster, Arc<Fate>);

struct Deaf {
    source: Box<dyn Source>,
    is_deaf: AtomicBool,
}

impl Source for Deaf {
    fn start(&mut self, slot: Slot, partition: &TopicPartition, from: i64) -> Result<(), Error> {
        self.source.start(slot, partition, from)
    }

    fn stop(&mut self, slot: Slot) -> Result<(), Error> {
        self.source.stop(slot)
    }

    fn fetch(&mut self, records_max: usize, timeout: Duration, events: &mut Vec<Fetched>) -> Result<(), Error> {
        if self.is_deaf.load(Ordering::Relaxed) {
            // As long as a reader waits to whom nothing comes.
            std::thread::sleep(timeout);
            return Ok(());
        }
        self.source.fetch(records_max, timeout, events)?;
        if events.iter().any(|event| matches!(event, Fetched::Records { .. })) {
            self.is_deaf.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Cluster for Lossy {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn describe(&self, topics: &[TopicName]) -> Result<Vec<Option<TopicDescription>>, Error> {
        self.0.describe(topics)
    }

    fn create(&self, topic: &NewTopic) -> Result<bool, Error> {
        self.0.create(topic)
    }

    fn grow(&self, topic: &TopicName, partitions: i32) -> Result<(), Error> {
        self.0.grow(topic, partitions)
    }

    fn bounds(&self, partitions: &[TopicPartition]) -> Result<Vec<Result<Bounds, Error>>, Error> {
        self.0.bounds(partitions)
    }

    fn offsets_at(&self, partitions: &[TopicPartition], at_ms: i64) -> Result<Vec<Result<i64, Error>>, Error> {
        self.0.offsets_at(partitions, at_ms)
    }

    fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, Error> {
        let forgets = self.1.forgets && self.1.sinks.load(Ordering::Relaxed) < 2;
        if forgets { Ok(Some(Vec::new())) } else { self.0.members(group) }
    }

    fn append(&self, to: &TopicPartition, records: &[NewRecord<'_>]) -> Result<Vec<i64>, Error> {
        self.0.append(to, records)
    }

    fn source(&self, settings: &SourceSettings) -> Result<Box<dyn Source>, Error> {
        let source = self.0.source(settings)?;
        let opened = match settings.client_id.as_str() {
            id if id.starts_with("longshore-link") => &self.1.links,
            id if id.starts_with("longshore-control") => &self.1.controls,
            _ => return Ok(source),
        };
        let is_first = opened.fetch_add(1, Ordering::Relaxed) == 0;
        let is_lost = is_first && self.1.deafens;
        Ok(if is_lost { Box::new(Deaf { source, is_deaf: AtomicBool::new(false) }) } else { source })
    }

    fn sink(&self, settings: &SinkSettings) -> Result<Box<dyn Sink>, Error> {
        self.1.sinks.fetch_add(1, Ordering::Relaxed);
        self.0.sink(settings)
    }

    fn trouble(&self) -> Option<Error> {
        self.0.trouble()
    }
}

/// Longer than it takes to notice.
#[track_caller]
fn within_a_minute(what: &str, is: impl FnMut() -> bool) {
    within(Duration::from_secs(60), what, is);
}

/// Puts `fate` upon the clients of one region's cluster.
fn lossy<'a>(region: &'a str, fate: &'a Arc<Fate>) -> impl Fn(&str, SharedCluster) -> SharedCluster + 'a {
    move |name, cluster| if name == region { Arc::new(Lossy(cluster, Arc::clone(fate))) } else { cluster }
}

#[test]
fn readers_that_give_out_nothing_any_more_are_replaced() {
    let world = World::new(&["hz", "sh"]);
    ["hz", "sh"].iter().for_each(|region| world.make_topic(region, "orders", 2, &[]));
    let fate = Arc::new(Fate { deafens: true, ..Fate::default() });
    let here = world.bridge("hz", "one");
    eventually("hz is ready", || ready(&here));
    let bridge = world.bridge_with("sh", "one", lossy("hz", &fate));
    world.produce("hz", 0, numbered("a", 0..10));
    eventually("the first come", || world.count("sh") > 0);
    world.produce("hz", 0, numbered("a", 10..20));
    world.produce("hz", 1, numbered("b", 0..10));
    within_a_minute("the others come", || world.count("sh") == 30);
    assert_eq!(world.values("sh"), [numbered("a", 0..20), numbered("b", 0..10)]);
    within_a_minute("the peer's control topic is read anew", || fate.controls.load(Ordering::Relaxed) > 1);
    assert!(fate.links.load(Ordering::Relaxed) > 1);
    assert!(bridge.stop() && here.stop());
}

#[test]
fn a_member_that_its_group_has_forgotten_joins_anew() {
    let world = World::new(&["hz", "sh"]);
    ["hz", "sh"].iter().for_each(|region| world.make_topic(region, "orders", 1, &[]));
    let fate = Arc::new(Fate { forgets: true, ..Fate::default() });
    let bridge = world.bridge_with("sh", "one", lossy("sh", &fate));
    eventually("it is ready", || ready(&bridge));
    within_a_minute("it joins anew", || fate.sinks.load(Ordering::Relaxed) > 1);
    world.produce("hz", 0, numbered("a", 0..10));
    eventually("it copies", || world.count("sh") == 10);
    assert!(bridge.stop());
}

#[test]
fn an_instance_that_owns_nothing_and_a_reader_that_is_at_the_end_are_left_alone() {
    let world = World::new(&["hz", "sh"]);
    ["hz", "sh"].iter().for_each(|region| world.make_topic(region, "orders", 1, &[]));
    let fates = [Arc::new(Fate::default()), Arc::new(Fate::default())];
    let wrap = |_: &str, cluster| Arc::new(Lossy(cluster, Arc::clone(&fates[0]))) as SharedCluster;
    let one = world.bridge_with("sh", "one", wrap);
    let wrap = |_: &str, cluster| Arc::new(Lossy(cluster, Arc::clone(&fates[1]))) as SharedCluster;
    let two = world.bridge_with("sh", "two", wrap);
    world.produce("hz", 0, numbered("a", 0..10));
    eventually("it copies", || world.count("sh") == 10 && ready(&one) && ready(&two));
    // Longer than it takes to act on what would be wrong.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(45) {
        let opened =
            |fate: &Arc<Fate>| [&fate.sinks, &fate.links, &fate.controls].map(|opened| opened.load(Ordering::Relaxed));
        // One member, one link, and the control topic of sh.
        assert_eq!(fates.each_ref().map(opened), [[1, 1, 1], [1, 1, 1]], "after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(one.stop() && two.stop());
}

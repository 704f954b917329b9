//! Links between real Kafka clusters, seen by a plain client that knows nothing of Longshore: every record once, in
//! order, byte by byte, whatever dies.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::bridge::{Bridge, Setup};
use crate::harness::clusters::{self, Clusters, KafkaCluster};
use crate::harness::plain::{self, Out, Read};
use crate::harness::{eventually, unique};

pub const PARTITIONS: i32 = 4;
pub const READY: Duration = Duration::from_secs(60);
pub const COPIED: Duration = Duration::from_secs(240);

/// Regions of a test's own, so that its groups and control entries meet no other test's, on clusters that are shared.
pub struct Regions<'a> {
    pub names: Vec<String>,
    pub clusters: Vec<&'a KafkaCluster>,
}

impl<'a> Regions<'a> {
    pub fn new(clusters: &'a Clusters, of: &[&str]) -> Self {
        let tag = unique("r").replace('_', "-").to_lowercase();
        let tag = tag.rsplit('-').next().unwrap_or("0").to_owned();
        Self {
            names: of.iter().map(|name| format!("{name}-{tag}")).collect(),
            clusters: of.iter().map(|name| clusters.get(name)).collect(),
        }
    }

    pub fn setup(&self, topic: &str, tail: &str) -> Setup {
        let head = format!("center: {}", self.names[0]);
        let regions: Vec<(&str, &str)> = self.iter().collect();
        let setup = Setup::new(&head, &regions, tail);
        setup.topic_for_all(topic, PARTITIONS);
        setup
    }

    /// The records bear old times, and retention goes by them.
    pub fn create_topic(&self, topic: &str) {
        self.iter()
            .for_each(|(_, bootstrap)| plain::create_topic(bootstrap, topic, PARTITIONS, &[("retention.ms", "-1")]));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names.iter().map(String::as_str).zip(self.clusters.iter().map(|cluster| cluster.bootstrap.as_str()))
    }
}

/// The records of one region's log by the region where they were born.
fn by_birth(here: &str, records: Vec<Read>) -> BTreeMap<String, Vec<Read>> {
    let mut births: BTreeMap<String, Vec<Read>> = BTreeMap::new();
    for record in records {
        let origin = record.header("ls_origin").map(|origin| origin.split('/').next().unwrap_or("").to_owned());
        births.entry(origin.unwrap_or_else(|| here.to_owned())).or_default().push(record);
    }
    births
}

/// Asserts that a region holds exactly what each region produced, each record once and in order, and that each copy's
/// origin names the place where its record was acknowledged.
#[track_caller]
pub fn assert_exactly_once(here: &str, topic: &str, records: Vec<Read>, produced: &BTreeMap<String, Vec<(Out, i64)>>) {
    let births = by_birth(here, records);
    assert_eq!(births.keys().collect::<Vec<_>>(), produced.keys().collect::<Vec<_>>(), "births found in {here}");
    for (region, produced) in produced {
        let found = &births[region];
        let bodies: Vec<Out> = produced.iter().map(|(out, _)| out.clone()).collect();
        plain::assert_same_bodies(&format!("{topic} of {region} in {here}"), &bodies, found);
        if region != here {
            let origins: std::collections::HashSet<String> =
                found.iter().map(|read| read.header("ls_origin").unwrap_or("").to_owned()).collect();
            for (out, offset) in produced {
                let origin = format!("{region}/{topic}/{}/{offset}/{}", out.partition, out.timestamp_ms.unwrap_or(-1));
                assert!(origins.contains(&origin), "{origin} is not in {here}");
            }
        }
    }
}

/// Numbered records whose bodies name their writer.
pub fn numbered(writer: &str) -> impl Fn(usize) -> Out + Send + 'static {
    let writer = writer.to_owned();
    move |index| Out {
        partition: i32::try_from(index).expect("few") % PARTITIONS,
        key: Some(format!("{writer}-{}", index % 1000).into_bytes()),
        value: Some(format!("{writer} {index:08} {}", "x".repeat(index % 200)).into_bytes()),
        headers: vec![("n".into(), Some(index.to_string().into_bytes()))],
        timestamp_ms: Some(1_760_000_000_000 + i64::try_from(index).expect("few")),
    }
}

pub fn wait_counts(regions: &Regions<'_>, topic: &str, count: usize) -> BTreeMap<String, Vec<Read>> {
    regions
        .iter()
        .map(|(name, bootstrap)| (name.to_owned(), plain::read_at_least(bootstrap, topic, count, COPIED)))
        .collect()
}

#[test]
fn three_clusters_end_with_a_hundred_thousand_records_of_each_exactly_once() {
    let Some(shared) = clusters::shared() else { return };
    let regions = Regions::new(shared, &["hz", "sh", "bj"]);
    let topic = unique("orders");
    regions.create_topic(&topic);
    let each = 100_000;
    let records = plain::shapes(each, PARTITIONS);
    let compressions = ["none", "lz4", "zstd"];
    let settings = |index: usize| [("compression.type", compressions[index])];
    let (before, during) = records.split_at(each / 2);
    let mut produced: BTreeMap<String, Vec<(Out, i64)>> = BTreeMap::new();
    let keep = |all: &mut BTreeMap<String, Vec<(Out, i64)>>, name: &str, part: &[Out], offsets: Vec<i64>| {
        all.entry(name.to_owned()).or_default().extend(part.iter().cloned().zip(offsets));
    };
    for (index, (name, bootstrap)) in regions.iter().enumerate() {
        keep(&mut produced, name, before, plain::produce_with(bootstrap, &topic, before, &settings(index)));
    }
    let setup = regions.setup(&topic, "");
    let mut bridges: Vec<Bridge> = regions.iter().map(|(name, _)| setup.bridge(name, name)).collect();
    bridges.iter_mut().for_each(|bridge| bridge.wait_ready(READY));
    for (index, (name, bootstrap)) in regions.iter().enumerate() {
        keep(&mut produced, name, during, plain::produce_with(bootstrap, &topic, during, &settings(index)));
    }
    let mut found = wait_counts(&regions, &topic, 3 * each);
    for bridge in &mut bridges {
        bridge.wait_metric("longshore_link_lag_records", &[], COPIED, |lag| lag == 0.0);
        assert_eq!(bridge.sigterm(Duration::from_secs(30)), Some(0), "{}", bridge.log());
    }
    for (name, _) in regions.iter() {
        assert_exactly_once(name, &topic, found.remove(name).expect("read"), &produced);
    }
}

#[test]
fn a_topic_that_is_gone_in_the_target_holds_no_other_up() {
    let Some(shared) = clusters::shared() else { return };
    let regions = Regions::new(shared, &["hz", "sh"]);
    let (whole, broken) = (unique("whole"), unique("broken"));
    regions.create_topic(&whole);
    regions.create_topic(&broken);
    for (_, bootstrap) in regions.iter() {
        if plain::partitions_of(bootstrap, "__longshore_control") == 0 {
            plain::create_topic(bootstrap, "__longshore_control", 1, &[("cleanup.policy", "compact")]);
        }
    }
    let setup = regions.setup(&whole, "create_topics: false");
    setup.topic_for_all(&broken, PARTITIONS);
    let (name, here) = (regions.names[1].clone(), regions.clusters[1].bootstrap.clone());
    let there = regions.clusters[0].bootstrap.clone();
    let mut bridge = setup.bridge(&name, &name);
    bridge.wait_ready(READY);
    let records = plain::shapes(2_000, PARTITIONS);
    let (first, rest) = records.split_at(1_000);
    plain::produce(&there, &whole, first);
    plain::produce(&there, &broken, first);
    plain::read_at_least(&here, &broken, first.len(), COPIED);
    plain::delete_topic(&here, &broken);
    plain::produce(&there, &broken, rest);
    plain::produce(&there, &whole, rest);
    plain::assert_same_bodies(&whole, &records, &plain::read_at_least(&here, &whole, records.len(), COPIED));
    let reasons = eventually(READY, "the state names the topic", || {
        let reasons = bridge.status()?["regions"][&name]["reasons"].to_string();
        reasons.contains(&format!("topic {broken}: stopped: missing_topic")).then_some(reasons)
    });
    assert!(!reasons.contains(&whole), "{reasons}");
    plain::create_topic(&here, &broken, PARTITIONS, &[("retention.ms", "-1")]);
    bridge.wait_ready(COPIED);
    plain::assert_same_bodies(&broken, &records, &plain::read_at_least(&here, &broken, records.len(), COPIED));
}

/// A bridge of one region that copies a topic from another.
pub struct OneWay {
    pub setup: Setup,
    pub bridge: Bridge,
    /// The region's name.
    pub name: String,
    /// The link: `hz-3:sh-3`.
    pub link: String,
    /// The group that keeps the positions.
    pub group: String,
    /// Bootstrap address of the source.
    pub there: String,
    /// Bootstrap address of the target.
    pub here: String,
}

impl OneWay {
    pub fn start(shared: &'static Clusters, topic: &str, target: &[(&str, &str)], tail: &str) -> Self {
        let regions = Regions::new(shared, &["hz", "sh"]);
        let (there, here) = (regions.clusters[0].bootstrap.clone(), regions.clusters[1].bootstrap.clone());
        plain::create_topic(&there, topic, PARTITIONS, &[("retention.ms", "-1")]);
        plain::create_topic(&here, topic, PARTITIONS, &[&[("retention.ms", "-1")], target].concat());
        let setup = regions.setup(topic, tail);
        let (from, name) = (&regions.names[0], regions.names[1].clone());
        let mut bridge = setup.bridge(&name, &name);
        bridge.wait_ready(READY);
        let (link, group) = (format!("{from}:{name}"), format!("longshore-link-{from}-{name}"));
        Self { setup, bridge, link, group, name, there, here }
    }

    pub fn reasons(&self) -> Option<String> {
        Some(self.bridge.status()?["regions"][&self.name]["reasons"].to_string())
    }

    pub fn stop(&mut self) {
        assert_eq!(self.bridge.sigterm(Duration::from_secs(30)), Some(0), "{}", self.bridge.log());
    }

    pub fn wait_copied(&self) {
        self.bridge.wait_metric("longshore_link_lag_records", &[], COPIED, |lag| lag == 0.0);
    }
}

#[test]
fn records_that_the_target_refuses_are_put_aside_and_the_others_arrive_once() {
    let Some(shared) = clusters::shared() else { return };
    let topic = unique("refused");
    // One refusal for size, which concerns one record, and one for time, which a whole batch is refused for.
    let strict = [("max.message.bytes", "3000"), ("message.timestamp.before.max.ms", "315360000000")];
    let mut way = OneWay::start(shared, &topic, &strict, "");
    let mut records: Vec<Out> = (0..3_000).map(numbered("hz")).collect();
    for index in [700, 701, 2_222] {
        records[index].timestamp_ms = Some(1);
    }
    for index in [5, 1_500, 2_999] {
        records[index].value = Some(vec![b'x'; 20_000]);
    }
    plain::produce(&way.there, &topic, &records);
    let is_good = |out: &Out| out.timestamp_ms != Some(1) && out.value.as_ref().is_none_or(|value| value.len() < 3_000);
    let good: Vec<Out> = records.iter().filter(|out| is_good(out)).cloned().collect();
    plain::assert_same_bodies(&topic, &good, &plain::read_at_least(&way.here, &topic, good.len(), COPIED));
    let dead = plain::read_at_least(&way.here, &format!("{topic}__dead-letter"), 6, COPIED);
    assert_eq!(dead.len(), 6);
    assert!(dead.iter().all(|read| read.header("ls_origin").is_some() && read.header("ls_reason").is_some()));
    assert_eq!(dead.iter().filter(|read| read.value.as_ref().is_some_and(|value| value.len() == 20_000)).count(), 3);
    way.stop();
}

#[test]
fn on_rejected_stop_goes_on_once_the_target_takes_the_record() {
    let Some(shared) = clusters::shared() else { return };
    let topic = unique("waits");
    let strict = [("max.message.bytes", "3000")];
    let way = OneWay::start(shared, &topic, &strict, "links: {on_rejected: stop}");
    let mut records: Vec<Out> = (0..400).map(numbered("hz")).collect();
    records[100].value = Some(vec![b'x'; 20_000]);
    plain::produce(&way.there, &topic, &records);
    eventually(COPIED, "the state says so", || way.reasons()?.contains("rejected: the target refuses").then_some(()));
    eventually(COPIED, "the other partitions are whole", || {
        (plain::read_all(&way.here, &topic).len() == 325).then_some(())
    });
    plain::alter_topic(&way.here, &topic, &[("max.message.bytes", "1000000")]);
    plain::assert_same_bodies(&topic, &records, &plain::read_at_least(&way.here, &topic, records.len(), COPIED));
}

#[test]
fn aborted_records_are_never_copied_and_positions_that_a_group_lost_are_recovered() {
    let Some(shared) = clusters::shared() else { return };
    let topic = unique("lost");
    let mut way = OneWay::start(shared, &topic, &[], "");
    let records: Vec<Out> = (0..900).map(numbered("hz")).collect();
    let name = |part: usize| &records[part * 300..(part + 1) * 300];
    plain::produce_in_transaction(&way.there, &topic, name(0), true);
    plain::produce_in_transaction(&way.there, &topic, &(0..50).map(numbered("aborted")).collect::<Vec<_>>(), false);
    plain::produce(&way.there, &topic, name(1));
    plain::read_at_least(&way.here, &topic, 600, COPIED);
    way.wait_copied();
    way.stop();
    plain::produce(&way.here, &topic, &(0..200).map(numbered("local")).collect::<Vec<_>>());
    plain::delete_group(&way.here, &way.group);
    plain::produce(&way.there, &topic, name(2));
    way.bridge.restart();
    let found = plain::read_at_least(&way.here, &topic, 1_100, COPIED);
    way.wait_copied();
    let copies: Vec<Read> = found.into_iter().filter(|read| read.header("ls_origin").is_some()).collect();
    plain::assert_same_bodies(&topic, &records, &copies);
}

//! Three real clusters in a star, and with copies in topics of their own.

use std::collections::BTreeMap;

use crate::copy_kafka::{COPIED, READY, Regions, assert_exactly_once};
use crate::edges_kafka::way::{SOON, make, stop};
use crate::harness::bridge::{Bridge, Setup};
use crate::harness::clusters::{self, Clusters};
use crate::harness::plain::{self, Out};
use crate::harness::{eventually, unique};

const PARTITIONS: i32 = 2;
const EACH: usize = 200;

/// Three regions with a bridge each, and a topic in which each has written [`EACH`] records.
struct Three {
    names: Vec<String>,
    addresses: Vec<String>,
    topic: String,
    produced: BTreeMap<String, Vec<(Out, i64)>>,
    bridges: Vec<Bridge>,
    /// The last to go: it holds the bridges' logs.
    _setup: Setup,
}

impl Three {
    fn start(shared: &'static Clusters, topology: &str, copies: &str) -> Self {
        let regions = Regions::new(shared, &["hz", "sh", "bj"]);
        let list: Vec<(&str, &str)> = regions.iter().collect();
        let setup = Setup::new(&format!("center: {}\ntopology: {topology}", regions.names[0]), &list, "");
        let topic = unique(topology);
        let yaml = format!(
            "topic: {topic}\npartitions: {PARTITIONS}\ncopies: {copies}\nsubscriptions:\n  - group: everyone\n    mode: \
             all-unit\n"
        );
        setup.topic(&topic, &yaml);
        let mut produced = BTreeMap::new();
        for (name, bootstrap) in regions.iter() {
            make(bootstrap, &topic, PARTITIONS, &[]);
            let records: Vec<Out> = plain::shapes(EACH, PARTITIONS);
            let offsets = plain::produce(bootstrap, &topic, &records);
            produced.insert(name.to_owned(), records.into_iter().zip(offsets).collect());
        }
        let addresses = list.iter().map(|(_, bootstrap)| (*bootstrap).to_owned()).collect();
        let bridges = regions.iter().map(|(name, _)| setup.bridge(name, "only")).collect();
        Self { names: regions.names.clone(), addresses, topic, produced, bridges, _setup: setup }
    }

    fn wait_all_copied(&mut self) {
        for bridge in &mut self.bridges {
            bridge.wait_ready(READY);
            bridge.wait_metric("longshore_link_lag_records", &[], COPIED, |lag| lag == 0.0);
        }
    }

    fn stop(&mut self) {
        self.bridges.iter_mut().for_each(stop);
    }

    /// Two regions and their addresses, in every order.
    fn pairs(&self) -> Vec<(&str, &str, &str)> {
        let numbers = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
        numbers
            .iter()
            .map(|&(here, there)| {
                (self.addresses[here].as_str(), self.names[here].as_str(), self.names[there].as_str())
            })
            .collect()
    }
}

#[test]
fn a_star_of_three_clusters_brings_each_record_everywhere_once_through_its_center() {
    let Some(shared) = clusters::shared() else { return };
    let mut three = Three::start(shared, "star", "same-topic");
    for address in &three.addresses {
        plain::read_at_least(address, &three.topic, 3 * EACH, COPIED);
    }
    three.wait_all_copied();
    three.stop();
    let (center, units) = three.names.split_first().expect("three");
    for (name, address) in three.names.iter().zip(&three.addresses) {
        let found = plain::read_all(address, &three.topic);
        for read in found.iter().filter(|read| read.header("ls_origin").is_some()) {
            let born = read.header("ls_origin").and_then(|origin| origin.split('/').next()).unwrap_or("");
            let came_over_center = units.contains(name) && born != center;
            let path = if came_over_center { format!("{born},{center}") } else { born.to_owned() };
            assert_eq!(read.header("ls_path"), Some(path.as_str()), "in {name}: {:?}", read.header("ls_origin"));
        }
        assert_exactly_once(name, &three.topic, found, &three.produced);
    }
}

/// Copies are in topics of their own, and the header of what is in the topic itself is not trusted.
fn own_topics(shared: &'static Clusters, topology: &str) {
    let mut three = Three::start(shared, topology, "own-topic");
    // Looks like a copy from the center, but it lies where only a unit's own records do.
    let forged = Out {
        value: Some(b"forged".to_vec()),
        headers: vec![("ls_origin".into(), Some(format!("{}/{}/0/0/77", three.names[0], three.topic).into_bytes()))],
        timestamp_ms: Some(77),
        ..Out::default()
    };
    let offset = plain::produce(&three.addresses[1], &three.topic, std::slice::from_ref(&forged))[0];
    let expected_of = |region: &str| -> Vec<(Out, i64)> {
        let mut all = three.produced[region].clone();
        if region == three.names[1] {
            all.push((Out { headers: Vec::new(), ..forged.clone() }, offset));
        }
        all
    };
    for (address, _, origin) in three.pairs() {
        let topic = format!("{}__from__{origin}", three.topic);
        eventually(SOON, "the topic is made", || (plain::partitions_of(address, &topic) == PARTITIONS).then_some(()));
        plain::read_at_least(address, &topic, expected_of(origin).len(), COPIED);
    }
    let expected: BTreeMap<&str, Vec<(Out, i64)>> =
        three.names.iter().map(|name| (name.as_str(), expected_of(name))).collect();
    for (address, here, origin) in three.pairs() {
        let found = plain::read_all(address, &format!("{}__from__{origin}", three.topic));
        let bodies: Vec<Out> = expected[origin].iter().map(|(out, _)| out.clone()).collect();
        plain::assert_same_bodies(&format!("{} of {origin} in {here}", three.topic), &bodies, &found);
        for (out, offset) in &expected[origin] {
            let time = out.timestamp_ms.expect("given");
            let name = format!("{origin}/{}/{}/{offset}/{time}", three.topic, out.partition);
            let copies = found.iter().filter(|read| read.header("ls_origin") == Some(name.as_str()));
            assert_eq!(copies.count(), 1, "{name} in {here}");
        }
    }
    let topic = three.topic.clone();
    three.wait_all_copied();
    three.stop();
    for (index, address) in three.addresses.iter().enumerate() {
        let found = plain::read_all(address, &topic);
        assert_eq!(found.len(), EACH + usize::from(index == 1), "{topic} itself holds no copies");
    }
}

#[test]
fn copies_in_topics_of_their_own_come_from_everywhere_in_a_mesh() {
    let Some(shared) = clusters::shared() else { return };
    own_topics(shared, "mesh");
}

#[test]
fn copies_in_topics_of_their_own_come_from_everywhere_in_a_star() {
    let Some(shared) = clusters::shared() else { return };
    own_topics(shared, "star");
}

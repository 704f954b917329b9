//! What operators order of links, on a running bridge over embedded clusters: pause, resume, seek, accept-gap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore::broker::embedded::Embedded;
use longshore::broker::{Cluster, NewTopic, SharedCluster, SourceSettings};
use longshore::clock::{SharedClock, SystemClock};
use longshore::control::entry::OrderAction;
use longshore::control::log::Creation;
use longshore::control::orders::{self, Outcome, Scope, Stream, Target};
use longshore::control::{ControlLog, status};
use longshore::model::names::{RegionName, TopicName, TopicPartition};
use longshore::model::record::NewRecord;
use longshore::policy::subscription::{
    Copies, Delivery, Deployment, Idempotency, Mode, OnMissingKey, OnMissingVersion, StartFrom, Subscription, Topic,
    Topology,
};
use longshore::runtime::bridge::{Bridge, Controls, Settings};
use longshore::runtime::link;
use longshore::telemetry::metrics::Metrics;

const WAIT: Duration = Duration::from_secs(30);

/// One topic that every region copies from every other.
fn deployment(partitions: i32) -> Deployment {
    let regions: Vec<RegionName> = vec!["hz".into(), "sh".into()];
    let subscription = Subscription {
        group: "cache".into(),
        mode: Mode::AllUnit,
        rules: None,
        regions: regions.clone(),
        delivery: Delivery::Direct,
        delivery_topic: "orders".into(),
        idempotency: Idempotency::None,
        idempotency_key: None,
        idempotency_ttl_ms: 0,
        id_window: None,
        start_from: StartFrom::Earliest,
        on_missing_key: OnMissingKey::Origin,
        on_missing_version: OnMissingVersion::Deliver,
    };
    let topic = Topic {
        name: "orders".into(),
        partitions,
        routing_key: None,
        version: None,
        copies: Copies::SameTopic,
        subscriptions: vec![subscription],
    };
    Deployment { regions, center: "hz".into(), standby: Vec::new(), topology: Topology::Mesh, topics: vec![topic] }
}

/// hz is a cluster, sh a cluster with a bridge.
struct World {
    _folders: [tempfile::TempDir; 2],
    hz: Arc<Embedded>,
    sh: Arc<Embedded>,
    control: Arc<ControlLog>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    bridge: Bridge,
}

impl World {
    fn start(partitions: i32) -> Self {
        let folders = [tempfile::tempdir().expect("temp folder"), tempfile::tempdir().expect("temp folder")];
        let [hz, sh] = folders.each_ref().map(|folder| Embedded::open(folder.path()).expect("opens"));
        for cluster in [&hz, &sh] {
            let (name, config) = (TopicName::new("orders"), BTreeMap::new());
            cluster.create(&NewTopic { name, partitions, replication_factor: None, config }).expect("created");
        }
        let clusters: BTreeMap<RegionName, SharedCluster> =
            BTreeMap::from([("hz".into(), hz.clone() as SharedCluster), ("sh".into(), sh.clone() as SharedCluster)]);
        let open = |region: &RegionName| {
            let creation = Some(Creation::default());
            let log = ControlLog::open(clusters[region].clone(), region, None, creation).expect("opens");
            (region.clone(), Arc::new(log))
        };
        let controls: Controls = clusters.keys().map(open).collect();
        let (region, clock) = (RegionName::new("sh"), SystemClock::start());
        let metrics = Metrics::new(&region);
        let link = link::Settings {
            from: "hz".into(),
            to: region.clone(),
            instance: "sh-1".into(),
            exactly_once: true,
            start_from: StartFrom::Earliest,
            commit_interval: Duration::from_millis(20),
            skips_gaps: false,
            stops_at_rejected: false,
            creates_topics: true,
            creation: link::Creation::default(),
            records_per_second: None,
            bytes_per_second: None,
            shutdown_timeout: Duration::from_secs(5),
        };
        let settings = Settings {
            region: region.clone(),
            instance: "sh-1".into(),
            deployment: Arc::new(deployment(partitions)),
            link,
        };
        let control = controls[&region].clone();
        let bridge = Bridge::start(settings, clusters, controls, metrics.clone(), clock.clone()).expect("starts");
        let world = Self { _folders: folders, hz, sh, control, clock, metrics, bridge };
        let deadline = Instant::now() + WAIT;
        while orders::status_of(&world.control, world.clock.now_ms()).instances.is_empty() {
            assert!(Instant::now() < deadline, "no heartbeat within {WAIT:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        world
    }

    fn produce(&self, partition: i32, values: std::ops::Range<u32>) {
        let to = TopicPartition::new(&"orders".into(), partition);
        for value in values {
            let value = value.to_string();
            self.hz.append(&to, &[NewRecord::plain(None, Some(value.as_bytes()))]).expect("appended");
        }
    }

    /// What a reader in sh sees of a partition.
    fn read(&self, partition: i32) -> Vec<u32> {
        let place = TopicPartition::new(&"orders".into(), partition);
        let bounds = self.sh.bounds(std::slice::from_ref(&place)).expect("bounds").remove(0).expect("bounds");
        let settings = SourceSettings { client_id: "test".into(), buffer_bytes_max: 1 << 20 };
        let mut source = self.sh.source(&settings).expect("opens");
        source.start(0, &place, bounds.start).expect("starts");
        let (mut found, mut events, mut next) = (Vec::new(), Vec::new(), bounds.start);
        while next < bounds.end {
            source.fetch(1000, Duration::from_secs(1), &mut events).expect("fetches");
            for event in events.drain(..) {
                match event {
                    longshore::broker::Fetched::Records { batch, .. } => {
                        for index in 0..batch.len() {
                            let record = batch.record(index);
                            next = record.offset + 1;
                            let value = std::str::from_utf8(record.value.expect("has a value")).expect("text");
                            found.push(value.parse().expect("a number"));
                        }
                    }
                    longshore::broker::Fetched::End { next: end, .. } => next = end,
                    longshore::broker::Fetched::Broken { error, .. } => panic!("{error}"),
                }
            }
        }
        found
    }

    fn await_read(&self, partition: i32, expected: &[u32]) {
        let deadline = Instant::now() + WAIT;
        loop {
            let found = self.read(partition);
            if found == expected {
                return;
            }
            let status = orders::status_of(&self.control, self.clock.now_ms());
            assert!(Instant::now() < deadline, "expected {expected:?}, found {found:?}; {status:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stream(partition: i32) -> Stream {
        Stream { from: "hz".into(), to: "sh".into(), topic: "orders".into(), partition }
    }

    fn scope(partition: Option<i32>) -> Scope {
        Scope { from: "hz".into(), to: "sh".into(), topic: Some("orders".into()), partition }
    }

    fn order(&self, partition: i32, action: OrderAction) -> Outcome {
        let stream = Self::stream(partition);
        let id = orders::order(&self.control, &stream, action, "ann@desk", self.clock.now_ms()).expect("ordered");
        orders::await_order(&self.control, &stream, &id, WAIT, || self.clock.now_ms())
    }

    fn await_paused(&self, partition: Option<i32>, paused: bool) -> Outcome {
        orders::await_paused(&self.control, &Self::scope(partition), paused, WAIT, || self.clock.now_ms())
    }

    fn await_stopped(&self, partition: i32) {
        let deadline = Instant::now() + WAIT;
        loop {
            let region = orders::status_of(&self.control, self.clock.now_ms());
            if orders::stream_status(&region, &Self::stream(partition)).is_some_and(orders::has_acceptable_stop) {
                return;
            }
            assert!(Instant::now() < deadline, "no acceptable stop in {region:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(self) {
        let text = self.metrics.text();
        self.metrics.log_audit();
        assert!(self.metrics.text().contains("longshore_audit_mismatch_total{region=\"sh\"} 0\n"), "{text}");
        assert!(self.bridge.stop(), "no thread panicked");
    }
}

#[test]
fn a_paused_partition_stands_while_others_go_on_and_resumes_where_it_was() {
    let world = World::start(2);
    world.produce(0, 0..3);
    world.produce(1, 0..3);
    world.await_read(0, &[0, 1, 2]);
    world.await_read(1, &[0, 1, 2]);
    orders::pause(&world.control, &World::scope(Some(0)), "ann@desk", world.clock.now_ms()).expect("paused");
    let Outcome::Applied(partitions) = world.await_paused(Some(0), true) else { panic!("not applied") };
    assert_eq!(partitions.len(), 1);
    world.produce(0, 3..6);
    world.produce(1, 3..6);
    world.await_read(1, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(world.read(0), [0, 1, 2]);
    assert_eq!(orders::resume(&world.control, &World::scope(None)).expect("resumed").ended.len(), 1);
    assert!(matches!(world.await_paused(Some(0), false), Outcome::Applied(_)));
    world.await_read(0, &[0, 1, 2, 3, 4, 5]);
    world.end();
}

#[test]
fn a_seek_is_carried_out_once_and_tells_its_position() {
    let world = World::start(1);
    world.produce(0, 0..5);
    world.await_read(0, &[0, 1, 2, 3, 4]);
    let place = TopicPartition::new(&"orders".into(), 0);
    let offset = orders::offset_of(&*world.hz, &place, Target::Offset(3)).expect("in the log");
    assert!(matches!(world.order(0, OrderAction::Seek { offset }), Outcome::Applied(_)));
    world.await_read(0, &[0, 1, 2, 3, 4, 3, 4]);
    world.produce(0, 5..6);
    world.await_read(0, &[0, 1, 2, 3, 4, 3, 4, 5]);
    assert!(orders::offset_of(&*world.hz, &place, Target::Offset(99)).is_err());
    assert_eq!(orders::offset_of(&*world.hz, &place, Target::Latest).expect("known"), 6);
    world.end();
}

#[test]
fn a_gap_stops_the_stream_until_it_is_accepted() {
    let world = World::start(2);
    world.produce(0, 0..3);
    world.await_read(0, &[0, 1, 2]);
    orders::pause(&world.control, &World::scope(None), "ann@desk", world.clock.now_ms()).expect("paused");
    assert!(matches!(world.await_paused(None, true), Outcome::Applied(_)));
    world.produce(0, 3..9);
    world.produce(1, 0..2);
    world.hz.trim(&TopicPartition::new(&"orders".into(), 0), 6).expect("trimmed");
    orders::resume(&world.control, &World::scope(None)).expect("resumed");
    world.await_stopped(0);
    world.await_read(1, &[0, 1]);
    assert_eq!(world.read(0), [0, 1, 2], "nothing is skipped silently");
    let status = status::followed([&*world.control], world.clock.now_ms());
    assert!(!status.regions["sh"].ready);
    assert_eq!(status.regions["sh"].links[0].state, "stopped");
    assert!(matches!(world.order(0, OrderAction::AcceptGap), Outcome::Applied(_)));
    world.await_read(0, &[0, 1, 2, 6, 7, 8]);
    assert!(world.metrics.text().contains(
        "longshore_link_gap_records_total{source=\"hz\",target=\"sh\",topic=\"orders\",partition=\"0\"} 3\n"
    ));
    world.end();
}

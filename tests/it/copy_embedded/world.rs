//! Regions on embedded clusters in one process, their bridges, and how their logs are read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore::broker::embedded::Embedded;
use longshore::broker::{Cluster, Fetched, NewTopic, SharedCluster, SourceSettings};
use longshore::clock::{SharedClock, SystemClock};
use longshore::control::ControlLog;
use longshore::control::entry::LinkBeat;
use longshore::control::log::Creation;
use longshore::control::orders::Stream;
use longshore::model::names::{RegionName, TopicName, TopicPartition};
use longshore::model::record::NewRecord;
use longshore::policy::subscription::{
    Copies, Delivery, Deployment, Idempotency, Mode, OnMissingKey, OnMissingVersion, StartFrom, Subscription, Topic,
    Topology,
};
use longshore::runtime::bridge::{Bridge, Controls, Settings};
use longshore::runtime::link;
use longshore::telemetry::metrics::Metrics;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Regions on embedded clusters in a temporary folder.
pub struct World {
    pub dir: tempfile::TempDir,
    pub deployment: Deployment,
    pub link: link::Settings,
    pub clock: SharedClock,
}

/// A record as it was read, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Read {
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().rev().find(|(known, _)| known == name)?;
        Some(String::from_utf8(found.1.clone()?).unwrap())
    }
}

impl World {
    pub fn new(regions: &[&str]) -> Self {
        let names: Vec<RegionName> = regions.iter().map(RegionName::new).collect();
        let topic = Topic {
            name: "orders".into(),
            partitions: 2,
            routing_key: None,
            version: None,
            copies: Copies::SameTopic,
            subscriptions: vec![Subscription {
                group: "g".into(),
                mode: Mode::AllUnit,
                rules: None,
                regions: names.clone(),
                delivery: Delivery::Topic,
                delivery_topic: "orders__g".into(),
                idempotency: Idempotency::None,
                idempotency_key: None,
                idempotency_ttl_ms: 0,
                id_window: None,
                start_from: StartFrom::Earliest,
                on_missing_key: OnMissingKey::Origin,
                on_missing_version: OnMissingVersion::Deliver,
            }],
        };
        let center = names[0].clone();
        let mut sorted = names;
        sorted.sort();
        Self {
            dir: tempfile::tempdir().unwrap(),
            deployment: Deployment {
                center: center.clone(),
                standby: Vec::new(),
                topology: Topology::Mesh,
                topics: vec![topic],
                regions: sorted,
            },
            link: link::Settings {
                from: center.clone(),
                to: center,
                instance: "i".into(),
                exactly_once: true,
                start_from: StartFrom::Earliest,
                commit_interval: Duration::from_millis(100),
                skips_gaps: false,
                stops_at_rejected: false,
                creates_topics: true,
                creation: link::Creation::default(),
                records_per_second: None,
                bytes_per_second: None,
                shutdown_timeout: Duration::from_secs(5),
            },
            clock: SystemClock::start(),
        }
    }

    pub fn embedded(&self, region: &str) -> Arc<Embedded> {
        Embedded::open(&self.dir.path().join(region)).unwrap()
    }

    pub fn make_topic(&self, region: &str, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let new = NewTopic { name: topic.into(), partitions, replication_factor: None, config };
        assert!(self.embedded(region).create(&new).unwrap());
    }

    pub fn produce(&self, region: &str, partition: i32, values: impl IntoIterator<Item = String>) {
        let at = TopicPartition::new(&"orders".into(), partition);
        for value in values {
            let record = NewRecord { timestamp_ms: 1_000, ..NewRecord::plain(Some(b"k"), Some(value.as_bytes())) };
            self.embedded(region).append(&at, &[record]).unwrap();
        }
    }

    /// Starts the bridge of a region as instance `instance`.
    pub fn bridge(&self, region: &str, instance: &str) -> Bridge {
        self.bridge_with(region, instance, |_, cluster| cluster)
    }

    /// Like `bridge`, over what `wrap` makes of each region's cluster.
    pub fn bridge_with(
        &self,
        region: &str,
        instance: &str,
        wrap: impl Fn(&str, SharedCluster) -> SharedCluster,
    ) -> Bridge {
        let clusters: BTreeMap<RegionName, SharedCluster> = self
            .deployment
            .regions
            .iter()
            .map(|name| (name.clone(), wrap(name.as_str(), self.embedded(name.as_str()))))
            .collect();
        let controls: Controls = clusters
            .iter()
            .map(|(name, cluster)| {
                let creation = (name.as_str() == region).then(Creation::default);
                let log = ControlLog::open(Arc::clone(cluster), name, None, creation).unwrap();
                (name.clone(), Arc::new(log))
            })
            .collect();
        let here = RegionName::new(region);
        let settings = Settings {
            region: here.clone(),
            instance: instance.to_owned(),
            deployment: Arc::new(self.deployment.clone()),
            link: link::Settings { to: here.clone(), instance: instance.to_owned(), ..self.link.clone() },
        };
        Bridge::start(settings, clusters, controls, Metrics::new(&here), Arc::clone(&self.clock)).unwrap()
    }

    pub fn read(&self, region: &str, topic: &str) -> Vec<Vec<Read>> {
        read_all(self.embedded(region).as_ref(), topic)
    }

    pub fn values(&self, region: &str) -> Vec<Vec<String>> {
        let text = |read: &Read| String::from_utf8(read.value.clone().unwrap()).unwrap();
        self.read(region, "orders").iter().map(|partition| partition.iter().map(text).collect()).collect()
    }

    pub fn count(&self, region: &str) -> usize {
        self.read(region, "orders").iter().map(Vec::len).sum()
    }

    pub fn stream(&self, from: &str, to: &str, partition: i32) -> Stream {
        Stream { from: from.into(), to: to.into(), topic: "orders".into(), partition }
    }
}

pub fn read_all(cluster: &dyn Cluster, topic: &str) -> Vec<Vec<Read>> {
    let topic = TopicName::new(topic);
    let Some(description) = cluster.describe(std::slice::from_ref(&topic)).unwrap().swap_remove(0) else {
        return Vec::new();
    };
    let settings = SourceSettings { client_id: "test".into(), buffer_bytes_max: 1 << 20 };
    let mut source = cluster.source(&settings).unwrap();
    (0..description.partitions)
        .map(|partition| {
            let at = TopicPartition::new(&topic, partition);
            let bounds = cluster.bounds(std::slice::from_ref(&at)).unwrap().swap_remove(0).unwrap();
            source.start(0, &at, bounds.start).unwrap();
            let (mut records, mut events, mut next) = (Vec::new(), Vec::new(), bounds.start);
            while next < bounds.end {
                source.fetch(1000, Duration::from_millis(200), &mut events).unwrap();
                for event in events.drain(..) {
                    match event {
                        Fetched::Records { batch, .. } => {
                            for record in (0..batch.len()).map(|index| batch.record(index)) {
                                next = record.offset + 1;
                                records.push(Read {
                                    offset: record.offset,
                                    timestamp_ms: record.timestamp_ms,
                                    key: record.key.map(<[u8]>::to_vec),
                                    value: record.value.map(<[u8]>::to_vec),
                                    headers: record
                                        .headers
                                        .iter()
                                        .map(|(name, value)| {
                                            (String::from_utf8(name.to_vec()).unwrap(), value.map(<[u8]>::to_vec))
                                        })
                                        .collect(),
                                });
                            }
                        }
                        Fetched::End { next: end, .. } => next = next.max(end),
                        Fetched::Broken { error, .. } => panic!("{error}"),
                    }
                }
            }
            records
        })
        .collect()
}

#[track_caller]
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(PATIENCE, what, holds);
}

#[track_caller]
pub fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn numbered(prefix: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{prefix}-{number}")).collect()
}

pub fn ready(bridge: &Bridge) -> bool {
    bridge.handle().not_ready().is_empty()
}

pub fn reason(bridge: &Bridge) -> String {
    bridge.handle().not_ready().join("; ")
}

/// Whether the bridge says something of its links, and all of it holds.
pub fn all_beats(bridge: &Bridge, holds: impl Fn(&LinkBeat) -> bool) -> bool {
    let beats = bridge.handle().beats();
    !beats.is_empty() && beats.iter().all(holds)
}

/// Whether some series of a metric has that value.
pub fn metric(bridge: &Bridge, name: &str, value: u64) -> bool {
    let (start, end) = (format!("longshore_{name}{{"), format!(" {value}"));
    bridge.handle().metrics().text().lines().any(|line| line.starts_with(&start) && line.ends_with(&end))
}

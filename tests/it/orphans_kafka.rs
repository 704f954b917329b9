//! A partition that Kafka's group protocol leaves without an owner gets one again.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore::broker::kafka::{Kafka, settings::Settings};
use longshore::broker::{Cluster, Ownership, Sink, SinkSettings};
use longshore::model::names::{GroupName, TopicName, TopicPartition};

use crate::copy_kafka::{COPIED, READY, Regions, numbered};
use crate::harness::{clusters, eventually, plain, unique};

const STEP: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(60);

fn gained(sink: &mut dyn Sink) -> Vec<TopicPartition> {
    let news = sink.poll(STEP).unwrap_or_default();
    news.into_iter().flat_map(|it| if let Ownership::Gained(found) = it { found } else { Vec::new() }).collect()
}

#[test]
fn partitions_that_a_half_done_rebalance_left_without_an_owner_are_copied() {
    let Some(shared) = clusters::shared() else { return };
    let regions = Regions::new(shared, &["hz", "sh"]);
    let (from, to) = (&regions.names[0], &regions.names[1]);
    let topic = unique("orphans");
    regions.create_topic(&topic);
    let bootstrap = regions.clusters[1].bootstrap.clone();
    let properties = Settings {
        common: [("bootstrap.servers".to_owned(), bootstrap.as_str().into())].into(),
        ..Settings::default()
    };
    let cluster = Kafka::open(to, &properties).expect("valid settings");
    let group = GroupName::new(format!("longshore-link-{from}-{to}"));
    let member = |instance: &str| {
        let settings = SinkSettings {
            group: group.clone(),
            instance: instance.to_owned(),
            topics: vec![TopicName::new(topic.clone())],
            transactional: true,
            buffer_bytes_max: 1 << 20,
            batch_bytes_max: 1_000_000,
        };
        cluster.sink(&settings).expect("a sink")
    };
    // The first half of a rebalance: `a` is told to give two of its four partitions up, and dies before it has.
    let mut first = member("a");
    let mut owned = Vec::new();
    eventually(LIMIT, "a owns all", || {
        owned.extend(gained(first.as_mut()));
        (owned.len() == 4).then_some(())
    });
    let mut second = member("b");
    eventually(LIMIT, "a has to give two up", || {
        assert_eq!(gained(second.as_mut()), [], "before they were given up");
        let news = first.poll(STEP).unwrap_or_default();
        news.iter().any(|it| matches!(it, Ownership::Revoked(lost) if lost.len() == 2)).then_some(())
    });
    drop(first);
    let setup = regions.setup(&topic, "");
    let mut bridge = setup.bridge(to, "a");
    let holds = |expected: &[(&str, usize)]| {
        let members = cluster.members(&group).ok().flatten().unwrap_or_default();
        let counts: BTreeMap<&str, usize> = members.iter().map(|it| (it.instance.as_str(), it.owns.len())).collect();
        counts == expected.iter().copied().collect()
    };
    eventually(LIMIT, "two partitions without an owner", || holds(&[("a", 2), ("b", 0)]).then_some(()));
    let mut healed = Vec::new();
    eventually(LIMIT, "b owns two", || {
        healed.extend(gained(second.as_mut()));
        (healed.len() == 2).then_some(())
    });
    second.close(LIMIT).expect("leaves");
    bridge.wait_ready(READY);
    let records: Vec<_> = (0..400).map(numbered("hz")).collect();
    plain::produce(&regions.clusters[0].bootstrap, &topic, &records);
    assert_eq!(plain::read_at_least(&bootstrap, &topic, records.len(), COPIED).len(), records.len());
}

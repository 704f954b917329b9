//! Small deployments for tests.

use crate::model::names::{RegionName, TopicName};
use crate::policy::subscription::{
    Copies, Delivery, Deployment, Idempotency, Mode, OnMissingKey, OnMissingVersion, StartFrom, Subscription, Topic,
    Topology,
};

fn subscription(group: &str, mode: Mode, regions: &[RegionName]) -> Subscription {
    Subscription {
        group: group.into(),
        mode,
        rules: None,
        regions: regions.to_vec(),
        delivery: Delivery::Topic,
        delivery_topic: TopicName::new(format!("t__{group}")),
        idempotency: Idempotency::None,
        idempotency_key: None,
        idempotency_ttl_ms: 0,
        id_window: None,
        start_from: StartFrom::Earliest,
        on_missing_key: OnMissingKey::Origin,
        on_missing_version: OnMissingVersion::Deliver,
    }
}

/// Regions r0, r1, …; r0 is the center; groups g0, g1, … on the topic t.
pub fn deployment(
    regions: usize,
    standby: &[usize],
    topology: Topology,
    copies: Copies,
    groups: &[(Mode, Vec<usize>)],
) -> Deployment {
    let names: Vec<RegionName> = (0..regions).map(|n| RegionName::new(format!("r{n}"))).collect();
    let pick = |indexes: &[usize]| indexes.iter().map(|n| names[*n].clone()).collect::<Vec<_>>();
    let subscriptions =
        groups.iter().enumerate().map(|(n, (mode, deployed))| subscription(&format!("g{n}"), *mode, &pick(deployed)));
    Deployment {
        center: names[0].clone(),
        standby: pick(standby),
        topology,
        topics: vec![Topic {
            name: "t".into(),
            partitions: 4,
            routing_key: None,
            version: None,
            copies,
            subscriptions: subscriptions.collect(),
        }],
        regions: names,
    }
}

/// A mesh of three regions, r1 a standby, with these groups.
pub fn with_groups(groups: &[(Mode, Vec<usize>)]) -> Deployment {
    deployment(3, &[1], Topology::Mesh, Copies::SameTopic, groups)
}

//! Looks at topics in the clusters and makes or grows what the plan needs. What to do is decided in `policy::topics`.
//! Never deletes, never shrinks, never changes a setting of what exists.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::{Cluster, Error, NewTopic, SharedCluster, TopicDescription};
use crate::model::names::{RegionName, TopicName};
use crate::policy::plan::{self, CONTROL_TOPIC};
use crate::policy::subscription::Deployment;
use crate::policy::topics::{self, Change, Extent, Found, Plan, Settings, Shape};
use crate::runtime::link::Creation;
use crate::runtime::watch::Snapshot;

/// What the clusters have of the planned topics, and which clusters could not be asked. All are asked at once, so that
/// one that does not answer costs no more than its own time-out.
pub fn look(clusters: &BTreeMap<RegionName, SharedCluster>, plan: &Plan<'_>) -> (Found, BTreeMap<RegionName, Error>) {
    let mut names: BTreeMap<&RegionName, Vec<TopicName>> = BTreeMap::new();
    for create in plan.creates {
        names.entry(&create.region).or_default().push(create.topic.clone());
    }
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = names
            .iter()
            .filter_map(|(region, names)| {
                let cluster = clusters.get(*region)?;
                Some((*region, names, scope.spawn(move || cluster.describe(names))))
            })
            .collect();
        asked.into_iter().map(|(region, names, answer)| (region, names, answer.join())).collect()
    });
    let (mut found, mut failed) = (Found::new(), BTreeMap::new());
    for (region, names, answer) in answers {
        match answer {
            Ok(Ok(described)) => {
                let places = names.iter().map(|name| (region.clone(), name.clone()));
                found.extend(places.zip(described.iter().map(|topic| topic.as_ref().map(shape))));
            }
            Ok(Err(error)) => drop(failed.insert(region.clone(), error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    (found, failed)
}

fn shape(topic: &TopicDescription) -> Shape {
    Shape { partitions: topic.partitions, replication_factor: topic.replication_factor, config: topic.config.clone() }
}

/// Does one thing. `Ok(false)`: it was done already.
pub fn apply(cluster: &dyn Cluster, change: &Change) -> Result<bool, Error> {
    match change {
        Change::Create { topic, partitions, replication_factor, config, .. } => cluster.create(&NewTopic {
            name: topic.clone(),
            partitions: *partitions,
            replication_factor: *replication_factor,
            config: config.clone(),
        }),
        Change::Grow { topic, to, .. } => cluster.grow(topic, *to).map(|()| true),
    }
}

/// What a bridge has to do in its own region, as far as the looked-at clusters tell. The control topic is left out:
/// whoever opens it makes it.
pub fn changes(
    region: &RegionName,
    deployment: &Deployment,
    looks: &BTreeMap<RegionName, Arc<Snapshot>>,
    creation: &Creation,
) -> Vec<Change> {
    if !looks.get(region).is_some_and(|look| look.number > 0 && look.trouble.is_none()) {
        return Vec::new();
    }
    let mut found = Found::new();
    for (at, look) in looks {
        for (topic, description) in &look.topics {
            // What a peer lacks its own bridge will make: until then nothing is derived from it.
            if at == region || description.is_some() {
                found.insert((at.clone(), topic.clone()), description.as_ref().map(shape));
            }
        }
    }
    let settings = Settings { replication_factor: creation.replication_factor, config: creation.config.clone() };
    let plan = Plan {
        creates: &plan::creates(deployment),
        copies: &plan::copies(deployment),
        settings: &BTreeMap::from([(region.clone(), settings)]),
        center: &deployment.center,
    };
    let mut changes = topics::changes(&plan, &found, Extent::Copies);
    changes.retain(|change| change.region() == region && change.topic().as_str() != CONTROL_TOPIC);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan::sample::with_groups;
    use crate::policy::subscription::Mode;

    fn look(topics: &[(&str, Option<i32>)]) -> Arc<Snapshot> {
        let described = |partitions: i32| TopicDescription {
            may_read: true,
            may_write: true,
            id: "id".to_owned(),
            partitions,
            replication_factor: 1,
            append_time: false,
            compacted: false,
            record_bytes_max: None,
            config: BTreeMap::new(),
        };
        let topics = topics.iter().map(|(name, partitions)| (TopicName::new(name), partitions.map(described)));
        Arc::new(Snapshot { number: 1, topics: topics.collect(), ..Snapshot::default() })
    }

    #[test]
    fn a_bridge_changes_its_own_region_only_and_waits_until_it_has_looked() {
        let deployment = with_groups(&[(Mode::AllUnit, vec![0, 1, 2])]);
        let creation = Creation { replication_factor: Some(2), config: BTreeMap::new() };
        let region = RegionName::new("r0");
        let mut looks = BTreeMap::from([("r1".into(), look(&[("t", Some(7))])), ("r2".into(), look(&[("t", None)]))]);
        assert_eq!(changes(&region, &deployment, &looks, &creation), []);
        looks.insert(region.clone(), look(&[("t", None)]));
        let create = Change::Create {
            region: region.clone(),
            topic: "t".into(),
            partitions: 7,
            replication_factor: Some(2),
            config: BTreeMap::new(),
        };
        assert_eq!(changes(&region, &deployment, &looks, &creation), [create]);
        // Declared are 4; r2, which lacks the topic, does not count.
        looks.insert(region.clone(), look(&[("t", Some(3))]));
        looks.insert("r1".into(), look(&[("t", Some(3))]));
        assert_eq!(changes(&region, &deployment, &looks, &creation), []);
    }
}

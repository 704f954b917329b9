//! Keeps a region's topics in shape: makes what the plan needs and is missing, grows what has fewer partitions than a
//! source that is copied into it. Never deletes, never shrinks, never changes settings of what exists.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::broker::{Cluster, Error, NewTopic, TopicDescription};
use crate::model::names::{RegionName, TopicName};
use crate::policy::plan::{self, Copy, Creates};
use crate::policy::subscription::Deployment;
use crate::runtime::link::Creation;
use crate::runtime::watch::Snapshot;

/// Settings that a copy's topic takes from its source when they were set there. The timestamp type is not among them:
/// copies keep the timestamps of their birth.
const INHERITED: [&str; 8] = [
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "max.message.bytes",
    "compression.type",
    "delete.retention.ms",
    "min.compaction.lag.ms",
    "max.compaction.lag.ms",
];

/// What a topic lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It does not exist.
    Missing {
        /// Partitions to make it with.
        partitions: i32,
        /// Settings that its source has.
        inherited: BTreeMap<String, String>,
    },
    /// It has too few partitions.
    TooSmall {
        /// Partitions it has.
        has: i32,
        /// Partitions it needs.
        needs: i32,
    },
}

/// What `region`'s topics lack, as far as the looked-at clusters tell. The control topic is left out: whoever opens it
/// makes it.
pub fn lacking(
    region: &RegionName,
    deployment: &Deployment,
    looks: &BTreeMap<RegionName, Arc<Snapshot>>,
) -> Vec<(TopicName, Lack)> {
    let copies = plan::copies(deployment);
    let Some(own) = looks.get(region).filter(|look| look.number > 0 && look.trouble.is_none()) else {
        return Vec::new();
    };
    let mut lacking = Vec::new();
    for create in plan::creates(deployment) {
        if create.region != *region || create.topic.as_str() == plan::CONTROL_TOPIC {
            continue;
        }
        let sources = sources(&create, &copies, looks);
        let needs = sources.values().map(|topic| topic.partitions).max().unwrap_or(0);
        match own.topic(&create.topic) {
            Some(topic) if topic.partitions < needs => {
                lacking.push((create.topic, Lack::TooSmall { has: topic.partitions, needs }));
            }
            Some(_) => {}
            None => {
                let inherited = sources.values().next().map(|topic| inherited(topic)).unwrap_or_default();
                lacking.push((create.topic, Lack::Missing { partitions: needs.max(create.partitions), inherited }));
            }
        }
    }
    lacking
}

/// The topics that are copied into one, by region.
fn sources<'a>(
    create: &Creates,
    copies: &[Copy],
    looks: &'a BTreeMap<RegionName, Arc<Snapshot>>,
) -> HashMap<RegionName, &'a TopicDescription> {
    copies
        .iter()
        .filter(|copy| copy.to == create.region && copy.target_topic == create.topic)
        .filter_map(|copy| Some((copy.from.clone(), looks.get(&copy.from)?.topic(&copy.source_topic)?)))
        .collect()
}

fn inherited(source: &TopicDescription) -> BTreeMap<String, String> {
    let set = source.config.iter().filter(|(name, _)| INHERITED.contains(&name.as_str()));
    set.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Gives a topic what it lacks.
pub fn supply(cluster: &dyn Cluster, topic: &TopicName, lack: &Lack, creation: &Creation) -> Result<(), Error> {
    match lack {
        Lack::TooSmall { needs, .. } => cluster.grow(topic, *needs),
        Lack::Missing { partitions, inherited } => {
            let mut config = inherited.clone();
            config.extend(creation.config.clone());
            let new = NewTopic {
                name: topic.clone(),
                partitions: *partitions,
                replication_factor: creation.replication_factor,
                config,
            };
            cluster.create(&new).map(|_| ())
        }
    }
}

//! What is copied from where to where: derived from the subscriptions, never declared (semantics §2).
//!
//! A region *needs* a topic's births when a subscription deployed there consumes records of other regions. In a mesh
//! each region pulls what it needs from each other. In a star the units pull from the center only, so the center pulls
//! whatever it or any other unit needs, and its links forward.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::names::{GroupName, RegionName, TopicName};
use crate::policy::proof;
use crate::policy::subscription::{Copies, Delivery, Deployment, Mode, Subscription, Topic, Topology};

/// The control topic of every region (architecture: one partition, compacted).
pub const CONTROL_TOPIC: &str = "__longshore_control";

/// One topic carried by one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The declared topic.
    pub topic: TopicName,
    /// Where it is read.
    pub from: RegionName,
    /// Where it is written.
    pub to: RegionName,
    /// The topic read in `from`: the declared one, or `<topic>__from__<origin>` where a star's center forwards copies
    /// that have a topic of their own.
    pub source_topic: TopicName,
    /// The topic written in `to`: of the same name, or `<topic>__from__<origin>`.
    pub target_topic: TopicName,
    /// Regions whose births travel here: `from` itself in a mesh; in a star the center forwards others'. Sorted.
    pub origins: Vec<RegionName>,
    /// The groups because of which it is copied, sorted; for a star's first leg those behind the center too.
    pub because: Vec<GroupName>,
}

/// What one group reads in one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// Where.
    pub region: RegionName,
    /// The declared topic.
    pub topic: TopicName,
    /// The group.
    pub group: GroupName,
    /// Its mode.
    pub mode: Mode,
    /// The topic that its application subscribes to.
    pub reads: TopicName,
}

/// A topic that has to exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Creates {
    /// Where.
    pub region: RegionName,
    /// Its name.
    pub topic: TopicName,
    /// Partitions at least; copies grow with their source.
    pub partitions: i32,
    /// Where its records come from, when it is written by a link under a name of its own.
    pub copy_of: Option<(RegionName, TopicName)>,
}

/// Whether a subscription that is deployed in `region` consumes records born elsewhere (semantics §2).
pub fn needs_copies(deployment: &Deployment, subscription: &Subscription, region: &RegionName) -> bool {
    let may_be_center = *region == deployment.center || deployment.standby.contains(region);
    subscription.regions.contains(region)
        && match subscription.mode {
            Mode::Center => may_be_center,
            Mode::Nearby => false,
            Mode::Unit | Mode::AllUnit => true,
        }
}

/// The groups because of which `region` needs a topic's births of other regions.
fn needing(deployment: &Deployment, topic: &Topic, region: &RegionName) -> BTreeSet<GroupName> {
    let needs = |subscription: &&Subscription| needs_copies(deployment, subscription, region);
    topic.subscriptions.iter().filter(needs).map(|subscription| subscription.group.clone()).collect()
}

/// Everything that the links of a deployment copy, sorted by (from, to, topic, source topic).
pub fn copies(deployment: &Deployment) -> Vec<Copy> {
    let mut all: Vec<Copy> = deployment
        .topics
        .iter()
        .flat_map(|topic| match deployment.topology {
            Topology::Mesh => mesh(deployment, topic),
            Topology::Star => star(deployment, topic),
        })
        .collect();
    all.sort_by(|a, b| (&a.from, &a.to, &a.topic, &a.source_topic).cmp(&(&b.from, &b.to, &b.topic, &b.source_topic)));
    all
}

fn mesh(deployment: &Deployment, topic: &Topic) -> Vec<Copy> {
    let mut copies = Vec::new();
    for to in &deployment.regions {
        let because = needing(deployment, topic, to);
        for from in deployment.regions.iter().filter(|from| *from != to && !because.is_empty()) {
            copies.push(copy(topic, from, to, std::slice::from_ref(from), &because));
        }
    }
    copies
}

fn star(deployment: &Deployment, topic: &Topic) -> Vec<Copy> {
    let center = &deployment.center;
    let units: Vec<&RegionName> = deployment.regions.iter().filter(|region| *region != center).collect();
    let mut copies = Vec::new();
    for from in &units {
        // What the center pulls from one unit: for itself, and for every other unit.
        let needed_by = deployment.regions.iter().filter(|region| region != from);
        let because: BTreeSet<GroupName> = needed_by.flat_map(|region| needing(deployment, topic, region)).collect();
        if !because.is_empty() {
            copies.push(copy(topic, from, center, &[(*from).clone()], &because));
        }
    }
    for to in &units {
        let because = needing(deployment, topic, to);
        if because.is_empty() {
            continue;
        }
        let others = units.iter().filter(|unit| unit != &to).map(|unit| (*unit).clone());
        let mut origins: Vec<RegionName> = others.chain([center.clone()]).collect();
        origins.sort();
        match topic.copies {
            Copies::SameTopic => copies.push(copy(topic, center, to, &origins, &because)),
            Copies::OwnTopic => {
                copies.extend(
                    origins.iter().map(|origin| copy(topic, center, to, std::slice::from_ref(origin), &because)),
                );
            }
        }
    }
    copies
}

fn copy(
    topic: &Topic,
    from: &RegionName,
    to: &RegionName,
    origins: &[RegionName],
    because: &BTreeSet<GroupName>,
) -> Copy {
    let (source_topic, target_topic) = match (topic.copies, origins) {
        (Copies::OwnTopic, [origin]) => {
            let own = own_topic(&topic.name, origin);
            (if origin == from { topic.name.clone() } else { own.clone() }, own)
        }
        _ => (topic.name.clone(), topic.name.clone()),
    };
    Copy {
        topic: topic.name.clone(),
        from: from.clone(),
        to: to.clone(),
        source_topic,
        target_topic,
        origins: origins.to_vec(),
        because: because.iter().cloned().collect(),
    }
}

/// The topic of one origin's copies under `copies: own-topic`.
pub fn own_topic(topic: &TopicName, origin: &RegionName) -> TopicName {
    TopicName::new(format!("{topic}__from__{origin}"))
}

/// What each group reads in each region, sorted by (region, topic, group).
pub fn deliveries(deployment: &Deployment) -> Vec<Reads> {
    let mut all = Vec::new();
    for topic in &deployment.topics {
        for subscription in &topic.subscriptions {
            let reads = match subscription.delivery {
                Delivery::Topic => &subscription.delivery_topic,
                Delivery::Direct => &topic.name,
            };
            all.extend(subscription.regions.iter().map(|region| Reads {
                region: region.clone(),
                topic: topic.name.clone(),
                group: subscription.group.clone(),
                mode: subscription.mode,
                reads: reads.clone(),
            }));
        }
    }
    all.sort_by(|a, b| (&a.region, &a.topic, &a.group).cmp(&(&b.region, &b.topic, &b.group)));
    all
}

/// The topics that have to exist for the copies to run, sorted.
pub fn creates(deployment: &Deployment) -> Vec<Creates> {
    let mut all = BTreeSet::new();
    for region in &deployment.regions {
        let control = TopicName::new(CONTROL_TOPIC);
        all.insert(Creates { region: region.clone(), topic: control, partitions: 1, copy_of: None });
        for topic in &deployment.topics {
            let name = topic.name.clone();
            all.insert(Creates { region: region.clone(), topic: name, partitions: topic.partitions, copy_of: None });
        }
    }
    let partitions: BTreeMap<&TopicName, i32> =
        deployment.topics.iter().map(|topic| (&topic.name, topic.partitions)).collect();
    for copy in copies(deployment).into_iter().filter(|copy| copy.target_topic != copy.topic) {
        all.insert(Creates {
            partitions: partitions.get(&copy.topic).copied().unwrap_or(1),
            copy_of: Some((copy.from, copy.source_topic)),
            region: copy.to,
            topic: copy.target_topic,
        });
    }
    all.into_iter().collect()
}

/// How often one record of a topic is stored when it is born in a region: once there, once per copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The topic.
    pub topic: TopicName,
    /// Where the record is born.
    pub born_in: RegionName,
    /// The regions that get a copy, sorted.
    pub copied_to: Vec<RegionName>,
}

/// What each topic costs, sorted by (topic, region).
pub fn costs(deployment: &Deployment) -> Vec<Cost> {
    let copies = copies(deployment);
    let mut all = Vec::new();
    for topic in &deployment.topics {
        for born_in in &deployment.regions {
            let carried = copies.iter().filter(|copy| copy.topic == topic.name && copy.origins.contains(born_in));
            let copied_to: BTreeSet<RegionName> = carried.map(|copy| copy.to.clone()).collect();
            all.push(Cost {
                topic: topic.name.clone(),
                born_in: born_in.clone(),
                copied_to: copied_to.into_iter().collect(),
            });
        }
    }
    all
}

/// A plan as commands and the HTTP endpoint show it (interface §5).
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    copies: Vec<ShownCopy>,
    deliveries: Vec<ShownDelivery>,
    creates: Vec<ShownCreate>,
    costs: Vec<ShownCost>,
    proofs: Vec<ShownProof>,
    notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ShownCopy {
    topic: String,
    from: String,
    to: String,
    because: Vec<String>,
    source_topic: String,
    target_topic: String,
    origins: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ShownDelivery {
    region: String,
    topic: String,
    group: String,
    mode: &'static str,
    reads: String,
}

#[derive(Clone, Debug, Serialize)]
struct ShownCreate {
    region: String,
    topic: String,
    partitions: i32,
}

#[derive(Clone, Debug, Serialize)]
struct ShownCost {
    topic: String,
    born_in: String,
    copied_to: Vec<String>,
    stored: usize,
}

#[derive(Clone, Debug, Serialize)]
struct ShownProof {
    claim: &'static str,
    cases: usize,
    holds: bool,
    against: Vec<String>,
}

/// The whole plan, ready to be printed as JSON.
pub fn shown(deployment: &Deployment) -> Shown {
    let texts = |names: &[RegionName]| names.iter().map(ToString::to_string).collect();
    Shown {
        copies: copies(deployment)
            .iter()
            .map(|copy| ShownCopy {
                topic: copy.topic.to_string(),
                from: copy.from.to_string(),
                to: copy.to.to_string(),
                because: copy.because.iter().map(ToString::to_string).collect(),
                source_topic: copy.source_topic.to_string(),
                target_topic: copy.target_topic.to_string(),
                origins: texts(&copy.origins),
            })
            .collect(),
        deliveries: deliveries(deployment)
            .iter()
            .map(|delivery| ShownDelivery {
                region: delivery.region.to_string(),
                topic: delivery.topic.to_string(),
                group: delivery.group.to_string(),
                mode: delivery.mode.as_str(),
                reads: delivery.reads.to_string(),
            })
            .collect(),
        creates: creates(deployment)
            .iter()
            .map(|create| ShownCreate {
                region: create.region.to_string(),
                topic: create.topic.to_string(),
                partitions: create.partitions,
            })
            .collect(),
        costs: costs(deployment)
            .iter()
            .map(|cost| ShownCost {
                topic: cost.topic.to_string(),
                born_in: cost.born_in.to_string(),
                copied_to: texts(&cost.copied_to),
                stored: 1 + cost.copied_to.len(),
            })
            .collect(),
        proofs: proof::proofs(deployment)
            .into_iter()
            .map(|proof| ShownProof {
                claim: proof.claim,
                cases: proof.cases,
                holds: proof.holds(),
                against: proof.against,
            })
            .collect(),
        notes: proof::notes(deployment, &BTreeSet::new()),
    }
}

#[cfg(test)]
pub mod sample;
#[cfg(test)]
mod tests;

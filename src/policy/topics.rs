//! Which topics are missing, too small or different between regions: a comparison of what the plan needs with what the
//! clusters have. Pure; `runtime::topics` looks and acts.
//!
//! Copies keep their partition number, so a target needs at least as many partitions as its source, through every leg
//! of a star. `message.timestamp.type` is never copied: whether a region's broker sets the time is that region's choice.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::names::{RegionName, TopicName};
use crate::policy::plan::{CONTROL_TOPIC, Copy, Creates};
use crate::policy::proof;
use crate::policy::subscription::Deployment;

/// A topic of one region's cluster.
pub type Place = (RegionName, TopicName);

/// What the clusters have: `None` for a topic that does not exist, no entry for one that could not be looked at.
pub type Found = BTreeMap<Place, Option<Shape>>;

/// A topic as a cluster has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Partition count.
    pub partitions: i32,
    /// Copies of each record in the cluster; 0 when unknown.
    pub replication_factor: i32,
    /// Settings that were set for this topic.
    pub config: BTreeMap<String, String>,
}

/// What a region's configuration says of topics that are created there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `None` takes the cluster's default.
    pub replication_factor: Option<i32>,
    /// `topic_config`, in the broker's own names.
    pub config: BTreeMap<String, String>,
}

/// What is planned, and what new topics are to be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The topics that have to exist.
    pub creates: &'a [Creates],
    /// The links.
    pub copies: &'a [Copy],
    /// What topics of each region are created with.
    pub settings: &'a BTreeMap<RegionName, Settings>,
    /// Whose topics serve as the model where regions differ.
    pub center: &'a RegionName,
}

/// How far existing topics are grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// To what copies into them need: `partitions` in a topic file counts when a topic is created, as a bridge does it.
    Copies,
    /// To what is declared as well: an operator asked for it.
    Declared,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Create a topic.
    Create {
        /// Where.
        region: RegionName,
        /// Its name.
        topic: TopicName,
        /// At least 1.
        partitions: i32,
        /// `None` takes the cluster's default.
        replication_factor: Option<i32>,
        /// In the broker's own names.
        config: BTreeMap<String, String>,
    },
    /// Give a topic more partitions.
    Grow {
        /// Where.
        region: RegionName,
        /// Its name.
        topic: TopicName,
        /// Partitions it has.
        from: i32,
        /// Partitions it is to have.
        to: i32,
    },
}

impl Change {
    /// Where it is done.
    pub const fn region(&self) -> &RegionName {
        match self {
            Self::Create { region, .. } | Self::Grow { region, .. } => region,
        }
    }

    /// The topic that is changed.
    pub const fn topic(&self) -> &TopicName {
        match self {
            Self::Create { topic, .. } | Self::Grow { topic, .. } => topic,
        }
    }
}

/// Settings that a new topic takes from the topic it is a copy of, where they were set there. What depends on the
/// cluster (replicas, throttles, who sets the time) is left out.
pub const COPIED_CONFIG: &[&str] = &[
    "cleanup.policy",
    "compression.type",
    "delete.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
];

/// What the control topic cannot do without.
pub const CONTROL_CONFIG: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    // Small, because the open segment is never compacted and every start reads the topic whole.
    ("segment.bytes", "8388608"),
    ("segment.ms", "3600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
];

/// Settings that are compared between regions: those that are copied, and who sets the time.
const COMPARED_CONFIG: &[&str] = &["message.timestamp.type"];

/// What has to be done, sorted by region and topic. Topics that could not be looked at are left alone.
pub fn changes(plan: &Plan<'_>, found: &Found, extent: Extent) -> Vec<Change> {
    let wanted = wanted_partitions(plan, found, extent);
    let mut changes = Vec::new();
    for create in plan.creates {
        let place = (create.region.clone(), create.topic.clone());
        let partitions = wanted.get(&place).copied().unwrap_or(create.partitions);
        let (region, topic) = place.clone();
        match found.get(&place) {
            None => {}
            Some(None) => changes.push(Change::Create {
                replication_factor: plan.settings.get(&region).and_then(|settings| settings.replication_factor),
                config: new_config(plan, found, &place),
                region,
                topic,
                partitions,
            }),
            Some(Some(shape)) if shape.partitions < partitions => {
                changes.push(Change::Grow { region, topic, from: shape.partitions, to: partitions });
            }
            Some(Some(_)) => {}
        }
    }
    changes
}

/// How many partitions each planned topic has to have.
fn wanted_partitions(plan: &Plan<'_>, found: &Found, extent: Extent) -> BTreeMap<Place, i32> {
    let most = |topic: &TopicName| {
        let shapes = found.iter().filter(|((_, name), _)| name == topic).filter_map(|(_, shape)| shape.as_ref());
        shapes.map(|shape| shape.partitions).max().unwrap_or(0)
    };
    let mut wanted = BTreeMap::new();
    for create in plan.creates {
        let place = (create.region.clone(), create.topic.clone());
        let partitions = match found.get(&place) {
            // The control topic is one log.
            _ if create.topic.as_str() == CONTROL_TOPIC => 1,
            // Not looked at: nothing is claimed of it.
            None => 0,
            Some(None) => create.partitions.max(most(&create.topic)),
            Some(Some(shape)) if extent == Extent::Declared => shape.partitions.max(create.partitions),
            Some(Some(shape)) => shape.partitions,
        };
        wanted.insert(place, partitions);
    }
    // Copies may lead on to further copies and, in a mesh, back: raise until nothing moves. Every value is one of those
    // above, so this ends.
    let mut moved = true;
    while std::mem::take(&mut moved) {
        for copy in plan.copies {
            let source = (copy.from.clone(), copy.source_topic.clone());
            let needed = wanted.get(&source).copied().unwrap_or(0);
            if let Some(target) = wanted.get_mut(&(copy.to.clone(), copy.target_topic.clone()))
                && *target < needed
            {
                *target = needed;
                moved = true;
            }
        }
    }
    wanted
}

/// What a new topic is created with: what its model was given, overlaid by what its region says.
fn new_config(plan: &Plan<'_>, found: &Found, place: &Place) -> BTreeMap<String, String> {
    let mut config = BTreeMap::new();
    if let Some((_, model)) = model(plan, found, place) {
        let copied = model.config.iter().filter(|(name, _)| COPIED_CONFIG.contains(&name.as_str()));
        config.extend(copied.map(|(name, value)| (name.clone(), value.clone())));
    }
    if let Some(settings) = plan.settings.get(&place.0) {
        config.extend(settings.config.clone());
    }
    if place.1.as_str() == CONTROL_TOPIC {
        config.extend(CONTROL_CONFIG.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    }
    config
}

/// The topic that this one is to be like: the one it is a copy of, else the same topic elsewhere; the center's first.
fn model<'f>(plan: &Plan<'_>, found: &'f Found, place: &Place) -> Option<(&'f Place, &'f Shape)> {
    let (region, topic) = place;
    if topic.as_str() == CONTROL_TOPIC {
        return None;
    }
    let into = || plan.copies.iter().filter(|copy| copy.to == *region && copy.target_topic == *topic);
    let sources = into().map(|copy| (copy.from.clone(), copy.source_topic.clone()));
    let origins = into().flat_map(|copy| copy.origins.iter().map(|origin| (origin.clone(), copy.topic.clone())));
    let elsewhere = found.keys().filter(|(other, name)| other != region && name == topic).cloned();
    let mut candidates: Vec<(u8, bool, Place)> = sources.map(|place| (0, place.0 != *plan.center, place)).collect();
    candidates.extend(origins.map(|place| (1, place.0 != *plan.center, place)));
    candidates.extend(elsewhere.map(|place| (2, place.0 != *plan.center, place)));
    candidates.sort();
    candidates.iter().find_map(|(_, _, place)| {
        let (place, shape) = found.get_key_value(place)?;
        Some((place, shape.as_ref()?))
    })
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub region: RegionName,
    /// The topic.
    pub topic: TopicName,
    /// `topic` when it is missing, `partitions`, `replication_factor`, or the name of a setting.
    pub what: String,
    /// What it has.
    pub has: String,
    /// What it should have.
    pub wants: String,
    /// Who says so: `declared`, `topic_config`, or the region that it is compared with.
    pub says: String,
}

/// Everything that differs between regions, or from what is declared, sorted by topic and region.
pub fn differences(plan: &Plan<'_>, found: &Found) -> Vec<Difference> {
    let wanted = wanted_partitions(plan, found, Extent::Declared);
    let mut all = Vec::new();
    for create in plan.creates {
        let place = (create.region.clone(), create.topic.clone());
        let differs = |what: &str, has: &str, wants: &str, says: &str| Difference {
            region: create.region.clone(),
            topic: create.topic.clone(),
            what: what.to_owned(),
            has: has.to_owned(),
            wants: wants.to_owned(),
            says: says.to_owned(),
        };
        let partitions = wanted.get(&place).copied().unwrap_or(create.partitions);
        let shape = match found.get(&place) {
            None => continue,
            Some(None) => {
                all.push(differs("topic", "missing", &format!("{partitions} partitions"), "declared"));
                continue;
            }
            Some(Some(shape)) => shape,
        };
        if shape.partitions != partitions || shape.partitions != create.partitions {
            let (wants, says) = if shape.partitions < partitions && partitions > create.partitions {
                (partitions, "its source")
            } else {
                (create.partitions, "declared")
            };
            all.push(differs("partitions", &shape.partitions.to_string(), &wants.to_string(), says));
        }
        let settings = plan.settings.get(&create.region).cloned().unwrap_or_default();
        if let Some(replicas) = settings.replication_factor
            && shape.replication_factor != 0
            && shape.replication_factor != replicas
        {
            let has = shape.replication_factor.to_string();
            all.push(differs("replication_factor", &has, &replicas.to_string(), "replication_factor"));
        }
        all.extend(
            config_differences(plan, found, &place, shape, &settings)
                .into_iter()
                .map(|(name, has, wants, says)| differs(&name, &has, &wants, &says)),
        );
    }
    all.sort_by(|a, b| (&a.topic, &a.region, &a.what).cmp(&(&b.topic, &b.region, &b.what)));
    all
}

/// What the plan notes of topics that are compacted in some region, which only the clusters know.
pub fn compacted_notes(deployment: &Deployment, found: &Found) -> Vec<String> {
    let is_compacted =
        |shape: &Shape| shape.config.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
    let compacted = found.iter().filter(|(_, shape)| shape.as_ref().is_some_and(is_compacted));
    let compacted: BTreeSet<TopicName> = compacted.map(|((_, topic), _)| topic.clone()).collect();
    let known = proof::notes(deployment, &BTreeSet::new());
    proof::notes(deployment, &compacted).into_iter().filter(|note| !known.contains(note)).collect()
}

const NOT_SET: &str = "not set";

/// (setting, has, wants, who says so)
fn config_differences(
    plan: &Plan<'_>,
    found: &Found,
    place: &Place,
    shape: &Shape,
    settings: &Settings,
) -> Vec<(String, String, String, String)> {
    let has = |name: &str| shape.config.get(name).map_or(NOT_SET, String::as_str);
    if place.1.as_str() == CONTROL_TOPIC {
        let is_compacted = has("cleanup.policy").contains("compact");
        let wants = ("cleanup.policy".to_owned(), has("cleanup.policy").to_owned(), "compact".to_owned());
        return if is_compacted { Vec::new() } else { vec![(wants.0, wants.1, wants.2, "declared".to_owned())] };
    }
    let declared = settings.config.iter().filter(|(name, value)| has(name) != value.as_str());
    let mut all: Vec<_> = declared
        .map(|(name, value)| (name.clone(), has(name).to_owned(), value.clone(), "topic_config".to_owned()))
        .collect();
    // The center's topic is the measure, and is itself compared with nothing.
    let is_measure =
        place.0 == *plan.center && plan.copies.iter().all(|copy| copy.target_topic != place.1 || copy.topic == place.1);
    if is_measure {
        return all;
    }
    if let Some(((region, _), model)) = model(plan, found, place) {
        let own = plan.settings.get(region).map(|settings| &settings.config);
        for name in COPIED_CONFIG.iter().chain(COMPARED_CONFIG) {
            let is_chosen = settings.config.contains_key(*name) || own.is_some_and(|own| own.contains_key(*name));
            let wants = model.config.get(*name).map_or(NOT_SET, String::as_str);
            if !is_chosen && has(name) != wants {
                all.push(((*name).to_owned(), has(name).to_owned(), wants.to_owned(), region.to_string()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;

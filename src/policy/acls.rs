//! The least rights that each Kafka cluster must grant to the bridges: derived from the plan, nothing by wildcard where a
//! name is known.
//!
//! A bridge writes in its own cluster only and reads from peers. Which right a request needs is said in Kafka's own
//! documentation ("Operations and Resources on Protocols"); where it surprises, the reason stands beside the line.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::names::RegionName;
use crate::policy::plan::{CONTROL_TOPIC, Copy, copies, creates};
use crate::policy::subscription::Deployment;

/// What may be done, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Fetch; join a group; commit offsets.
    Read,
    /// Produce; use a transactional id.
    Write,
    /// Create the topic.
    Create,
    /// Give the topic more partitions.
    Alter,
    /// See that it is there.
    Describe,
    /// See its settings.
    DescribeConfigs,
}

impl Operation {
    /// As `kafka-acls --operation` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::Alter => "Alter",
            Self::Describe => "Describe",
            Self::DescribeConfigs => "DescribeConfigs",
        }
    }
}

/// What a right is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// The topic of this name.
    Topic(String),
    /// The group of this name.
    Group(String),
    /// The groups whose names begin like this.
    Groups(String),
    /// The transactional ids that begin like this.
    TransactionalIds(String),
}

/// Rights that one cluster grants to one region's bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Whose cluster.
    pub cluster: RegionName,
    /// Whose bridge.
    pub bridge: RegionName,
    /// For what.
    pub resource: Resource,
    /// What it may do.
    pub operations: BTreeSet<Operation>,
}

/// What of the configuration decides about rights.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// `create_topics`.
    pub creates_topics: bool,
    /// `links.guarantee: exactly-once`.
    pub transactional: bool,
    /// `links.on_rejected: dead-letter`.
    pub dead_letters: bool,
}

/// Names that begin like this belong to links: groups, transactional ids.
pub const LINK_PREFIX: &str = "longshore-link-";

/// The group that readers name and never join: librdkafka asks for its coordinator all the same, and a refusal would be
/// reported as an error of the reader.
pub const READER_GROUP: &str = "longshore-reader";

/// All grants, sorted by cluster, bridge, resource.
pub fn grants(deployment: &Deployment, needs: Needs) -> Vec<Grant> {
    let mut all = Grants::default();
    let copies = copies(deployment);
    for region in &deployment.regions {
        own_topics(&mut all, deployment, region, needs);
        let into: Vec<&Copy> = copies.iter().filter(|copy| copy.to == *region).collect();
        for copy in &into {
            copied(&mut all, copy, needs);
        }
        if !into.is_empty() {
            let groups = Resource::Groups(LINK_PREFIX.to_owned());
            all.add(region, region, groups, &[Operation::Read, Operation::Describe]);
            if needs.transactional {
                let ids = Resource::TransactionalIds(LINK_PREFIX.to_owned());
                all.add(region, region, ids, &[Operation::Write, Operation::Describe]);
            }
        }
        for cluster in &deployment.regions {
            all.add(cluster, region, Resource::Group(READER_GROUP.to_owned()), &[Operation::Describe]);
        }
        // Each bridge shows the status of all regions and follows what they decide.
        for peer in deployment.regions.iter().filter(|peer| *peer != region) {
            all.topic(peer, region, CONTROL_TOPIC, &[Operation::Read, Operation::Describe, Operation::DescribeConfigs]);
        }
    }
    all.0
        .into_iter()
        .map(|((cluster, bridge, resource), operations)| Grant { cluster, bridge, resource, operations })
        .collect()
}

/// What a bridge does with the topics of its own cluster, links aside.
fn own_topics(all: &mut Grants, deployment: &Deployment, region: &RegionName, needs: Needs) {
    let look = [Operation::Describe, Operation::DescribeConfigs];
    all.topic(region, region, CONTROL_TOPIC, &[Operation::Read, Operation::Write]);
    for create in creates(deployment).iter().filter(|create| create.region == *region) {
        all.topic(region, region, create.topic.as_str(), &look);
        if needs.creates_topics {
            all.topic(region, region, create.topic.as_str(), &[Operation::Create]);
            if create.topic.as_str() != CONTROL_TOPIC {
                all.topic(region, region, create.topic.as_str(), &[Operation::Alter]);
            }
        }
    }
}

/// What one topic of a link needs on both sides.
fn copied(all: &mut Grants, copy: &Copy, needs: Needs) {
    let (source, target) = (copy.source_topic.as_str(), copy.target_topic.as_str());
    let look = [Operation::Describe, Operation::DescribeConfigs];
    all.topic(&copy.from, &copy.to, source, &[Operation::Read]);
    all.topic(&copy.from, &copy.to, source, &look);
    // Read in the target: to commit positions for it, and to recover lost ones from its newest records.
    all.topic(&copy.to, &copy.to, target, &[Operation::Read, Operation::Write]);
    all.topic(&copy.to, &copy.to, target, &look);
    if needs.dead_letters {
        let name = format!("{}__dead-letter", copy.topic);
        // Read: for `dead-letter list`.
        all.topic(&copy.to, &copy.to, &name, &[Operation::Read, Operation::Write]);
        all.topic(&copy.to, &copy.to, &name, &look);
        if needs.creates_topics {
            all.topic(&copy.to, &copy.to, &name, &[Operation::Create, Operation::Alter]);
        }
    }
}

#[derive(Default)]
struct Grants(BTreeMap<(RegionName, RegionName, Resource), BTreeSet<Operation>>);

impl Grants {
    fn add(&mut self, cluster: &RegionName, bridge: &RegionName, resource: Resource, operations: &[Operation]) {
        self.0.entry((cluster.clone(), bridge.clone(), resource)).or_default().extend(operations);
    }

    fn topic(&mut self, cluster: &RegionName, bridge: &RegionName, name: &str, operations: &[Operation]) {
        self.add(cluster, bridge, Resource::Topic(name.to_owned()), operations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan::sample::{deployment, with_groups};
    use crate::policy::subscription::{Copies, Mode, Topology};

    const ALL: Needs = Needs { creates_topics: true, transactional: true, dead_letters: true };

    fn lines(grants: &[Grant], cluster: &str, bridge: &str) -> Vec<String> {
        let wanted = |grant: &&Grant| grant.cluster.as_str() == cluster && grant.bridge.as_str() == bridge;
        let line = |grant: &Grant| {
            let operations: Vec<&str> = grant.operations.iter().map(|operation| operation.as_str()).collect();
            let resource = match &grant.resource {
                Resource::Topic(name) => name.clone(),
                Resource::Group(name) => format!("group {name}"),
                Resource::Groups(prefix) => format!("groups {prefix}*"),
                Resource::TransactionalIds(prefix) => format!("ids {prefix}*"),
            };
            format!("{resource}: {}", operations.join(" "))
        };
        grants.iter().filter(wanted).map(line).collect()
    }

    #[test]
    fn a_bridge_writes_at_home_and_reads_at_its_peers() {
        let deployment = with_groups(&[(Mode::Unit, vec![0, 1])]);
        let grants = grants(&deployment, ALL);
        assert_eq!(
            lines(&grants, "r0", "r0"),
            [
                "__longshore_control: Read Write Create Describe DescribeConfigs",
                "t: Read Write Create Alter Describe DescribeConfigs",
                "t__dead-letter: Read Write Create Alter Describe DescribeConfigs",
                "group longshore-reader: Describe",
                "groups longshore-link-*: Read Describe",
                "ids longshore-link-*: Write Describe",
            ]
        );
        assert_eq!(
            lines(&grants, "r2", "r0"),
            [
                "__longshore_control: Read Describe DescribeConfigs",
                "t: Read Describe DescribeConfigs",
                "group longshore-reader: Describe",
            ]
        );
        // r2 gets no copies: its bridge needs no group there, and nothing of its peers' topics.
        assert_eq!(
            lines(&grants, "r2", "r2"),
            [
                "__longshore_control: Read Write Create Describe DescribeConfigs",
                "t: Create Alter Describe DescribeConfigs",
                "group longshore-reader: Describe",
            ]
        );
        assert_eq!(
            lines(&grants, "r0", "r2"),
            ["__longshore_control: Read Describe DescribeConfigs", "group longshore-reader: Describe"]
        );
    }

    #[test]
    fn nobody_may_write_in_a_foreign_cluster() {
        for topology in [Topology::Mesh, Topology::Star] {
            let deployment = deployment(4, &[1], topology, Copies::OwnTopic, &[(Mode::AllUnit, vec![0, 1, 2, 3])]);
            for grant in grants(&deployment, ALL).iter().filter(|grant| grant.cluster != grant.bridge) {
                let may_change = [Operation::Write, Operation::Create, Operation::Alter]
                    .iter()
                    .any(|o| grant.operations.contains(o));
                assert!(!may_change, "{grant:?}");
            }
        }
    }

    #[test]
    fn what_is_switched_off_needs_no_rights() {
        let deployment = with_groups(&[(Mode::Unit, vec![0, 1])]);
        let none = Needs { creates_topics: false, transactional: false, dead_letters: false };
        let grants = grants(&deployment, none);
        assert_eq!(
            lines(&grants, "r0", "r0"),
            [
                "__longshore_control: Read Write Describe DescribeConfigs",
                "t: Read Write Describe DescribeConfigs",
                "group longshore-reader: Describe",
                "groups longshore-link-*: Read Describe",
            ]
        );
    }
}

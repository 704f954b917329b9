//! One topic of a link, ready for the loop: what the plan says of it, compiled.

use crate::model::names::{RegionName, TopicName, TopicPartition};
use crate::policy::decide::{Place, Provenance};
use crate::policy::extract::Extractor;
use crate::policy::plan::Copy;
use crate::policy::subscription::{Copies, Deployment, Topic};

/// One topic of a link.
pub struct Route {
    /// What the plan says.
    pub copy: Copy,
    /// All other regions than the source, sorted: the numbering of what was seen of each.
    pub others: Vec<RegionName>,
    /// Those of them whose copies are forwarded.
    pub forwarded: Vec<usize>,
    /// Where the routing key is, when the link has to stamp it or count its absence.
    pub routing_key: Option<Extractor>,
    /// Where the version is.
    pub version: Option<Extractor>,
    /// Where refused records go, in the target.
    pub dead_letter: TopicName,
    /// Whether `ls_path` is kept (star).
    pub stamps_path: bool,
    provenance: Provenance,
    may_repeat: bool,
}

impl Route {
    /// Compiles what the plan says of a topic. `may_repeat`: links are at-least-once.
    pub fn new(copy: Copy, topic: &Topic, deployment: &Deployment, may_repeat: bool) -> Self {
        let others: Vec<RegionName> =
            deployment.regions.iter().filter(|region| **region != copy.from).cloned().collect();
        let number = |region: &RegionName| others.iter().position(|other| other == region);
        let forwarded: Vec<usize> = copy.origins.iter().filter_map(number).collect();
        let is_own_topic_of_copies = copy.source_topic != copy.topic;
        let provenance = match (topic.copies, is_own_topic_of_copies, forwarded.first()) {
            (Copies::SameTopic, _, _) => Provenance::Header,
            (Copies::OwnTopic, true, Some(origin)) => Provenance::AllFrom(*origin),
            (Copies::OwnTopic, _, _) => Provenance::AllBornHere,
        };
        Self {
            routing_key: topic.routing_key.as_ref().map(Extractor::new),
            version: topic.version.as_ref().map(Extractor::new),
            dead_letter: TopicName::new(format!("{}__dead-letter", copy.topic)),
            stamps_path: deployment.topology == crate::policy::subscription::Topology::Star,
            copy,
            others,
            forwarded,
            provenance,
            may_repeat,
        }
    }

    /// Where records of a partition may come from.
    pub fn place(&self, partition: i32) -> Place {
        Place {
            region: self.copy.from.clone(),
            others: self.others.clone(),
            topic: self.copy.topic.clone(),
            partition,
            provenance: self.provenance.clone(),
            may_repeat: self.may_repeat,
        }
    }

    /// The partition that is read.
    pub fn source(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(&self.copy.source_topic, partition)
    }

    /// The partition that is written.
    pub fn target(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(&self.copy.target_topic, partition)
    }

    /// Whether a record with this `ls_origin` region was written by this link.
    pub fn carries(&self, region: &str) -> bool {
        self.copy.origins.iter().any(|origin| origin.as_str() == region)
    }
}

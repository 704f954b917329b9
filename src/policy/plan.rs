//! What is copied from where to where: derived from the subscriptions, never declared (semantics §2).

use crate::model::names::{GroupName, RegionName, TopicName};
use crate::policy::subscription::Deployment;

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

/// Everything that the links of a deployment copy, sorted by (from, to, topic, source topic).
pub fn copies(deployment: &Deployment) -> Vec<Copy> {
    let _ = deployment;
    todo!()
}

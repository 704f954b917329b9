//! Partitions of a link's group that nobody owns.
//!
//! Kafka shares partitions out in two rounds: the first takes some from their owner, the second gives them on. An owner
//! that dies in between and comes back under its lasting name is given what it had left, without a second round: what it
//! gave up stays without an owner for as long as nobody joins or leaves. Seen on real brokers in about one of ten minutes
//! of kills. The member whose name comes first joins the group anew, which makes the round happen.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::{Cluster, Error};
use crate::model::names::{GroupName, TopicPartition};

/// How often a group is looked at. What is without an owner twice in a row is not on its way.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What nobody owned at the last look.
#[derive(Debug, Default)]
pub struct Orphans {
    looked_at: Option<Duration>,
    before: BTreeSet<TopicPartition>,
}

impl Orphans {
    /// Partitions of `all` that have had no owner for two looks, if it is for `instance` to act; empty otherwise. Asks
    /// the cluster when it is time to.
    pub fn look(
        &mut self,
        cluster: &dyn Cluster,
        group: &GroupName,
        instance: &str,
        all: impl FnOnce() -> BTreeSet<TopicPartition>,
        now: Duration,
    ) -> Result<Vec<TopicPartition>, Error> {
        let looked_at = *self.looked_at.get_or_insert(now);
        if now < looked_at + LOOK_EVERY {
            return Ok(Vec::new());
        }
        self.looked_at = Some(now);
        let before = std::mem::take(&mut self.before);
        let Some(members) = cluster.members(group)? else { return Ok(Vec::new()) };
        self.before = all();
        for owned in members.iter().flat_map(|member| &member.owns) {
            self.before.remove(owned);
        }
        let acts = members.iter().map(|member| member.instance.as_str()).min() == Some(instance);
        Ok(if acts { self.before.intersection(&before).cloned().collect() } else { Vec::new() })
    }
}

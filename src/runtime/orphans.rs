//! Partitions of a link's group that nobody owns.
//!
//! Kafka shares partitions out in two rounds: the first takes some from their owner, the second gives them on. An owner
//! that dies in between and comes back under its lasting name is given what it had left, without a second round: what it
//! gave up stays without an owner for as long as nobody joins or leaves. Kills of real bridges lead there now and then.
//! The member whose name comes first joins the group anew, which makes the round happen.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::{Cluster, Error};
use crate::model::names::{GroupName, TopicPartition};

/// When a group is looked at again, at first and later: trouble comes with starts, and asking costs every broker. What is
/// without an owner twice in a row is not on its way.
const LOOK_FLOOR: Duration = Duration::from_secs(4);
const LOOK_CEILING: Duration = Duration::from_secs(60);

/// What nobody owned at the last look.
#[derive(Debug, Default)]
pub struct Orphans {
    next_look: Option<Duration>,
    pause: Duration,
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
        if now < *self.next_look.get_or_insert(now + LOOK_FLOOR) {
            return Ok(Vec::new());
        }
        self.pause = (self.pause * 2).clamp(LOOK_FLOOR, LOOK_CEILING);
        self.next_look = Some(now + self.pause);
        let (before, all) = (std::mem::take(&mut self.before), all());
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let Some(members) = cluster.members(group)? else { return Ok(Vec::new()) };
        self.before = all;
        for owned in members.iter().flat_map(|member| &member.owns) {
            self.before.remove(owned);
        }
        let named = members.iter().map(|member| member.instance.as_str()).filter(|name| !name.is_empty());
        let acts = named.min() == Some(instance);
        if !self.before.is_empty() {
            self.pause = Duration::ZERO;
            self.next_look = Some(now + LOOK_FLOOR);
        }
        Ok(if acts { self.before.intersection(&before).cloned().collect() } else { Vec::new() })
    }
}

//! Partitions of a link's group that nobody owns.
//!
//! Kafka shares partitions out in two rounds: the first takes some from their owner, the second gives them on. An owner
//! that dies in between and comes back under its lasting name is given what it had left, without a second round: what it
//! gave up stays without an owner for as long as nobody joins or leaves. Kills of real bridges lead there now and then.
//! The member whose name comes first joins the group anew, which makes the round happen.
//!
//! And the member itself: a client that has lost its cluster for good (see the Kafka driver) is a member no more and does
//! not know it. An instance that its group has not named for long joins anew with new clients.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::{Cluster, Error};
use crate::model::names::{GroupName, TopicPartition};

/// When a group is looked at again, at first and later: trouble comes with starts, and asking costs every broker. What is
/// without an owner twice in a row is not on its way.
const LOOK_FLOOR: Duration = Duration::from_secs(4);
const LOOK_CEILING: Duration = Duration::from_secs(60);

/// An instance that the group does not name for so long has been forgotten.
const ABSENT_MAX: Duration = Duration::from_secs(30);

/// What was seen of the group so far.
#[derive(Debug, Default)]
pub struct Orphans {
    next_look: Option<Duration>,
    pause: Duration,
    before: BTreeSet<TopicPartition>,
    /// Whether the group has named this instance since the session began: brokers that name members in ways of their
    /// own never do.
    was_named: bool,
    absent_since: Option<Duration>,
}

impl Orphans {
    /// Why `instance` should join the group anew: partitions of `all` have had no owner for two looks and it is for this
    /// instance to act, or the group does not know it. Asks the cluster when it is time to.
    pub fn look(
        &mut self,
        cluster: &dyn Cluster,
        group: &GroupName,
        instance: &str,
        all: impl FnOnce() -> BTreeSet<TopicPartition>,
        now: Duration,
    ) -> Result<Option<String>, Error> {
        if now < *self.next_look.get_or_insert(now + LOOK_FLOOR) {
            return Ok(None);
        }
        self.pause = (self.pause * 2).clamp(LOOK_FLOOR, LOOK_CEILING);
        self.next_look = Some(now + self.pause);
        let (before, all) = (std::mem::take(&mut self.before), all());
        let absent_since = self.absent_since.take();
        if all.is_empty() {
            return Ok(None);
        }
        let Some(members) = cluster.members(group)? else { return Ok(None) };
        self.before = all;
        for owned in members.iter().flat_map(|member| &member.owns) {
            self.before.remove(owned);
        }
        if members.iter().any(|member| member.instance == instance) {
            self.was_named = true;
        } else if self.was_named || members.is_empty() {
            self.absent_since = absent_since.or(Some(now));
        }
        if !self.before.is_empty() || self.absent_since.is_some() {
            self.pause = Duration::ZERO;
            self.next_look = Some(now + LOOK_FLOOR);
        }
        if self.absent_since.is_some_and(|since| now >= since + ABSENT_MAX) {
            return Ok(Some(format!("the group has not named {instance} for {} s", ABSENT_MAX.as_secs())));
        }
        let named = members.iter().map(|member| member.instance.as_str()).filter(|name| !name.is_empty());
        let unowned: Vec<String> = self.before.intersection(&before).map(ToString::to_string).collect();
        let acts = !unowned.is_empty() && named.min() == Some(instance);
        Ok(acts.then(|| format!("nobody owns {}", unowned.join(", "))))
    }
}

//! Checks a plan by following every record through it: what `longshore plan` says it has proved, and what it notes.
//!
//! Deliberately not the formula that made the plan. A record is put into each region and carried along the copies; where
//! it comes to rest is compared with what each subscription says it consumes (semantics §2).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::names::{GroupName, RegionName, TopicName};
use crate::policy::plan::{Copy, copies};
use crate::policy::subscription::{Copies, Delivery, Deployment, Mode, Subscription, Topic};

/// A statement about the plan, and what speaks against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What is claimed.
    pub claim: &'static str,
    /// How many cases were looked at.
    pub cases: usize,
    /// The cases in which it does not hold. Empty: proved.
    pub against: Vec<String>,
}

impl Proof {
    /// Whether it holds in every case.
    pub const fn holds(&self) -> bool {
        self.against.is_empty()
    }
}

/// Everything that a plan is checked for.
pub fn proofs(deployment: &Deployment) -> Vec<Proof> {
    let copies = copies(deployment);
    let [loops, missing, idle] = carried(deployment, &copies);
    vec![loops, missing, idle, owners(deployment)]
}

/// Where a record of `origin` goes: every arrival, also of a second copy, and the copies that were used.
fn arrivals<'c>(copies: &[&'c Copy], topic: &TopicName, origin: &RegionName) -> Vec<&'c Copy> {
    let mut waiting = vec![(origin.clone(), topic.clone())];
    let mut used: Vec<&Copy> = Vec::new();
    while let Some((region, name)) = waiting.pop() {
        for copy in copies.iter().filter(|copy| copy.from == region && copy.source_topic == name) {
            // A copy that was used already is the loop that is looked for: it is noted once and not followed again.
            if copy.origins.contains(origin) {
                let is_known = used.contains(copy);
                used.push(copy);
                if !is_known {
                    waiting.push((copy.to.clone(), copy.target_topic.clone()));
                }
            }
        }
    }
    used
}

fn carried(deployment: &Deployment, copies: &[Copy]) -> [Proof; 3] {
    let mut loops = Proof {
        claim: "no copy comes back to where its record was born or has been, and none arrives twice",
        cases: 0,
        against: Vec::new(),
    };
    let mut missing = Proof {
        claim: "every record reaches every region in which a group may have to consume it",
        cases: 0,
        against: Vec::new(),
    };
    let mut idle =
        Proof { claim: "every copy is there because a group needs it", cases: copies.len(), against: Vec::new() };
    let mut useful: BTreeSet<(&RegionName, &RegionName, &TopicName, &TopicName)> = BTreeSet::new();
    for topic in &deployment.topics {
        let carrying: Vec<&Copy> = copies.iter().filter(|copy| copy.topic == topic.name).collect();
        for origin in &deployment.regions {
            loops.cases += 1;
            let arrived = arrivals(&carrying, &topic.name, origin);
            let mut been = BTreeSet::from([origin]);
            for copy in &arrived {
                if !been.insert(&copy.to) {
                    loops.against.push(format!("{}: a record of {origin} comes to {} again", topic.name, copy.to));
                }
            }
            for subscription in &topic.subscriptions {
                for region in consuming(deployment, subscription, origin).filter(|region| *region != origin) {
                    missing.cases += 1;
                    if !been.contains(region) {
                        let group = &subscription.group;
                        missing.against.push(format!("{}: {group} in {region} misses {origin}", topic.name));
                    }
                    mark_way(&arrived, origin, region, &mut useful);
                }
            }
        }
    }
    for copy in copies {
        if !useful.contains(&(&copy.from, &copy.to, &copy.source_topic, &copy.target_topic)) {
            idle.against.push(format!("{}: {} to {} serves nobody", copy.topic, copy.from, copy.to));
        }
    }
    [loops, missing, idle]
}

/// Marks the copies by which a record of `origin` came to `region`.
fn mark_way<'c>(
    arrived: &[&'c Copy],
    origin: &RegionName,
    region: &RegionName,
    useful: &mut BTreeSet<(&'c RegionName, &'c RegionName, &'c TopicName, &'c TopicName)>,
) {
    let mut at = region;
    for _ in arrived {
        if at == origin {
            return;
        }
        let Some(copy) = arrived.iter().find(|copy| copy.to == *at) else { return };
        useful.insert((&copy.from, &copy.to, &copy.source_topic, &copy.target_topic));
        at = &copy.from;
    }
}

/// The regions in which a group may have to consume a record of `origin`, under whatever rules and center.
fn consuming<'d>(
    deployment: &'d Deployment,
    subscription: &'d Subscription,
    origin: &'d RegionName,
) -> impl Iterator<Item = &'d RegionName> {
    subscription.regions.iter().filter(move |region| match subscription.mode {
        Mode::Center => **region == deployment.center || deployment.standby.contains(region),
        Mode::Nearby => *region == origin,
        Mode::Unit | Mode::AllUnit => true,
    })
}

/// Under one epoch each record has one target per group, `all-unit` aside (semantics §2). By mode: the one center, the
/// one origin, or the one region that a rule set gives its key to; that a rule set is a function of the key is checked
/// where it is read. What is left to go wrong is a group that stands twice on one topic, or two groups in one topic.
fn owners(deployment: &Deployment) -> Proof {
    let mut proof = Proof {
        claim: "no record has two owners: for each group one region hands it over, for all-unit each region once",
        cases: 0,
        against: Vec::new(),
    };
    let mut written: BTreeMap<&TopicName, (&TopicName, &GroupName)> = BTreeMap::new();
    for topic in &deployment.topics {
        let mut groups = BTreeSet::new();
        for subscription in &topic.subscriptions {
            proof.cases += deployment.regions.len();
            let group = &subscription.group;
            if !groups.insert(group) {
                proof.against.push(format!("{}: group {group} stands there twice", topic.name));
            }
            let mut regions = BTreeSet::new();
            if !subscription.regions.iter().all(|region| regions.insert(region)) {
                proof.against.push(format!("{}: group {group} names a region twice", topic.name));
            }
            if subscription.mode == Mode::Unit && subscription.rules.is_none() {
                proof.against.push(format!("{}: group {group} has no rule set", topic.name));
            }
            if subscription.delivery == Delivery::Topic
                && let Some((other_topic, other)) = written.insert(&subscription.delivery_topic, (&topic.name, group))
            {
                let name = &subscription.delivery_topic;
                proof.against.push(format!("{name} is read by {group} of {} and {other} of {other_topic}", topic.name));
            }
        }
    }
    proof
}

/// What is worth knowing about a plan though nothing is wrong with it. `compacted` are the declared topics that clusters
/// keep only the newest record per key of; whoever has not asked the clusters hands in none.
pub fn notes(deployment: &Deployment, compacted: &BTreeSet<TopicName>) -> Vec<String> {
    let copies = copies(deployment);
    let mut notes = Vec::new();
    for topic in &deployment.topics {
        let name = &topic.name;
        if topic.subscriptions.is_empty() {
            notes.push(format!("{name}: has no subscriptions, so nothing of it is copied"));
        }
        if compacted.contains(name) && topic.copies == Copies::SameTopic {
            let both = |copy: &&Copy| {
                copies.iter().any(|back| back.topic == copy.topic && back.from == copy.to && back.to == copy.from)
            };
            if copies.iter().filter(|copy| copy.topic == *name).any(|copy| both(&copy)) {
                notes.push(format!(
                    "{name}: is compacted and copied both ways; where two regions write one key, their last values differ"
                ));
            }
        }
        for subscription in &topic.subscriptions {
            notes.extend(subscription_notes(deployment, topic, subscription));
        }
    }
    notes
}

fn subscription_notes(deployment: &Deployment, topic: &Topic, subscription: &Subscription) -> Vec<String> {
    let (name, group) = (&topic.name, &subscription.group);
    let is_there = |region: &&RegionName| subscription.regions.contains(region);
    let listed =
        |regions: Vec<&RegionName>| regions.iter().map(|region| region.as_str()).collect::<Vec<_>>().join(", ");
    let mut notes = Vec::new();
    match subscription.mode {
        Mode::Center => {
            let may_be_center =
                |region: &&RegionName| **region == deployment.center || deployment.standby.contains(region);
            if !is_there(&&deployment.center) {
                let center = &deployment.center;
                notes
                    .push(format!("{name}: {group} is not deployed in the center {center}, so nobody consumes for it"));
            }
            let idle: Vec<&RegionName> = subscription.regions.iter().filter(|region| !may_be_center(region)).collect();
            if !idle.is_empty() {
                notes.push(format!("{name}: {group} gets nothing in {}: neither center nor standby", listed(idle)));
            }
            let unready: Vec<&RegionName> = deployment.standby.iter().filter(|region| !is_there(region)).collect();
            if !unready.is_empty() {
                notes.push(format!("{name}: {group} is not deployed in standby {}", listed(unready)));
            }
        }
        Mode::Nearby => {
            let without: Vec<&RegionName> = deployment.regions.iter().filter(|region| !is_there(region)).collect();
            if !without.is_empty() {
                notes.push(format!("{name}: {group} consumes nothing that is produced in {}", listed(without)));
            }
        }
        Mode::Unit | Mode::AllUnit => {}
    }
    if subscription.delivery == Delivery::Direct
        && topic.copies == Copies::OwnTopic
        && subscription.mode == Mode::AllUnit
    {
        notes.push(format!("{name}: {group} reads its topic directly and must read {name}__from__<region> as well"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan::sample::{deployment, with_groups};
    use crate::policy::subscription::Topology;

    #[test]
    fn every_sample_is_proved() {
        for topology in [Topology::Mesh, Topology::Star] {
            for own in [Copies::SameTopic, Copies::OwnTopic] {
                let groups = [(Mode::Center, vec![0, 1]), (Mode::Unit, vec![0, 2]), (Mode::Nearby, vec![1])];
                let mut deployment = deployment(4, &[1], topology, own, &groups);
                deployment.topics[0].subscriptions[1].rules = Some("buyers".to_owned());
                for proof in proofs(&deployment) {
                    assert!(proof.holds() && proof.cases > 0, "{topology:?} {own:?} {proof:?}");
                }
            }
        }
    }

    fn copy(from: &str, to: &str, origins: &[&str]) -> Copy {
        Copy {
            topic: "t".into(),
            from: from.into(),
            to: to.into(),
            source_topic: "t".into(),
            target_topic: "t".into(),
            origins: origins.iter().map(RegionName::new).collect(),
            because: vec!["g0".into()],
        }
    }

    /// The claims that do not hold for these copies of a topic that g0 consumes everywhere.
    fn broken(copies: &[Copy]) -> Vec<bool> {
        let deployment = with_groups(&[(Mode::AllUnit, vec![0, 1, 2])]);
        carried(&deployment, copies).iter().map(|proof| !proof.holds()).collect()
    }

    #[test]
    fn a_plan_with_a_hole_a_ring_or_an_idle_copy_is_seen_through() {
        let all = ["r0", "r1", "r2"];
        let good: Vec<Copy> = all
            .iter()
            .flat_map(|from| all.iter().filter(move |to| *to != from).map(|to| copy(from, to, &[from])))
            .collect();
        assert_eq!(broken(&good), [false, false, false]);
        assert_eq!(broken(&good[1..]), [false, true, false]);
        let ring: Vec<Copy> =
            [("r0", "r1"), ("r1", "r2"), ("r2", "r0")].iter().map(|(from, to)| copy(from, to, &all)).collect();
        assert!(broken(&ring)[0]);
        let mut twice = good.clone();
        twice.push(copy("r1", "r2", &["r0"]));
        assert!(broken(&twice)[0]);
        let deployment = with_groups(&[(Mode::AllUnit, vec![0, 1])]);
        assert!(!carried(&deployment, &good)[2].holds(), "copies to r2 serve nobody");
    }

    #[test]
    fn a_group_that_stands_twice_or_a_shared_delivery_topic_is_an_owner_too_many() {
        let mut deployment = with_groups(&[(Mode::Nearby, vec![0, 1, 2]), (Mode::Center, vec![0, 1, 2])]);
        assert!(owners(&deployment).holds());
        deployment.topics[0].subscriptions[1].delivery_topic = "t__g0".into();
        assert_eq!(owners(&deployment).against, ["t__g0 is read by g1 of t and g0 of t"]);
        deployment.topics[0].subscriptions[1].group = "g0".into();
        assert_eq!(owners(&deployment).against.len(), 2);
    }

    #[test]
    fn what_is_worth_knowing_is_noted() {
        let groups = [(Mode::Center, vec![2]), (Mode::Nearby, vec![0]), (Mode::AllUnit, vec![0, 1, 2])];
        let deployment = with_groups(&groups);
        let notes = notes(&deployment, &BTreeSet::from(["t".into()]));
        assert_eq!(
            notes,
            [
                "t: is compacted and copied both ways; where two regions write one key, their last values differ",
                "t: g0 is not deployed in the center r0, so nobody consumes for it",
                "t: g0 gets nothing in r2: neither center nor standby",
                "t: g0 is not deployed in standby r1",
                "t: g1 consumes nothing that is produced in r1, r2",
            ]
        );
    }
}

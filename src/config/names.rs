//! The topics that follow from the declared ones must not meet: delivery topics, dead letters, copies with a topic of
//! their own, internal topics (semantics §10).

use std::collections::BTreeMap;

use super::report::{At, Place, Problems};
use super::topics::Declared;
use crate::model::names::{RegionName, TopicName, is_portable_topic_name};
use crate::policy::subscription::{Copies, Delivery, Deployment};

/// Longest topic name of Kafka.
const TOPIC_CHARS_MAX: usize = 249;

/// The longest prefix that internal topics put before `<topic>__<group>`.
const INTERNAL_PREFIX: &str = "__longshore_position_";

/// Whether a name keeps to `[A-Za-z0-9._-]`, as groups and rule sets do.
pub(super) fn is_plain(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Reports every name that two things would have.
pub(super) fn check(declared: &[Declared], regions: &[At<RegionName>], problems: &mut Problems) {
    let mut topics = Claims::default();
    for topic in declared {
        topics.claim(topic.topic.name.to_string(), topic.place, "a declared topic".into(), problems);
    }
    for Declared { topic, place, groups } in declared {
        let dead_letter = format!("{}__dead-letter", topic.name);
        topics.claim(dead_letter, *place, format!("the dead letters of `{}`", topic.name), problems);
        if topic.copies == Copies::OwnTopic {
            for region in regions {
                let name = format!("{}__from__{}", topic.name, region.value);
                topics.claim(name, *place, format!("copies of `{}` from `{}`", topic.name, region.value), problems);
            }
        }
        for (subscription, (group, given)) in topic.subscriptions.iter().zip(groups) {
            if subscription.delivery == Delivery::Topic {
                let what = format!("what group `{}` reads of `{}`", subscription.group, topic.name);
                topics.claim(subscription.delivery_topic.to_string(), given.unwrap_or(*group), what, problems);
            }
        }
    }
    check_internal(declared, problems);
}

/// `__longshore_…_<topic>__<group>`: unique and short enough, whatever the delivery topic is called.
fn check_internal(declared: &[Declared], problems: &mut Problems) {
    let mut pairs: BTreeMap<String, (Place, String)> = BTreeMap::new();
    for Declared { topic, groups, .. } in declared {
        for (subscription, (place, given)) in topic.subscriptions.iter().zip(groups) {
            let pair = format!("{}__{}", topic.name, subscription.group);
            if INTERNAL_PREFIX.len() + pair.len() > TOPIC_CHARS_MAX {
                problems.error_with(
                    *place,
                    format!("topic and group are too long together: `{INTERNAL_PREFIX}{pair}` must be a topic's name"),
                    Some(format!("shorten one of them by {}", INTERNAL_PREFIX.len() + pair.len() - TOPIC_CHARS_MAX)),
                );
            }
            let owner = format!("group `{}` of `{}`", subscription.group, topic.name);
            // Without a delivery topic of its own the clash has been reported already.
            if let Some((first, other)) = pairs.get(&pair).filter(|_| given.is_some()) {
                let hint = Some(format!("rename one of them; the other one is at {}", problems.describe(*first)));
                problems.error_with(*place, format!("internal topics of {owner} and {other} would be the same"), hint);
            }
            pairs.entry(pair).or_insert((*place, owner));
        }
    }
}

#[derive(Default)]
struct Claims(BTreeMap<String, (Place, String)>);

impl Claims {
    fn claim(&mut self, name: String, place: Place, what: String, problems: &mut Problems) {
        match self.0.get(&name) {
            Some((_, other)) if *other == what => {}
            Some((first, other)) => {
                // A declared topic is shown where it was declared; the name that was made from others gives way.
                let hint = format!(
                    "rename one of them, or set `delivery_topic`; the other one is at {}",
                    problems.describe(*first)
                );
                problems.error_with(place, format!("`{name}` would be both {other} and {what}"), Some(hint));
            }
            None => {
                self.0.insert(name, (place, what));
            }
        }
    }
}

/// RocketMQ takes fewer names than Kafka: topics that are copied to or from it, and what is made from them there.
pub(super) fn check_portable(
    declared: &[Declared],
    deployment: &Deployment,
    rocketmq: &[RegionName],
    problems: &mut Problems,
) {
    if rocketmq.is_empty() {
        return;
    }
    let copies = crate::policy::plan::copies(deployment);
    for Declared { topic, place, groups } in declared {
        let copied = copies
            .iter()
            .any(|copy| copy.topic == topic.name && (rocketmq.contains(&copy.to) || rocketmq.contains(&copy.from)));
        let mut refuse = |name: &TopicName, place: Place, what: &str| {
            if !is_portable_topic_name(name.as_str()) {
                problems.error_with(
                    place,
                    format!("RocketMQ does not take `{name}` as the name of a topic, and {what}"),
                    Some("1 to 127 letters, digits, `_` and `-`; no dot".into()),
                );
            }
        };
        if copied {
            refuse(&topic.name, *place, "it is copied there");
        }
        for (subscription, (group, given)) in topic.subscriptions.iter().zip(groups) {
            if subscription.delivery == Delivery::Topic && subscription.regions.iter().any(|r| rocketmq.contains(r)) {
                refuse(&subscription.delivery_topic, given.unwrap_or(*group), "the group reads it there");
            }
        }
    }
}

//! What operators order of links: pauses, positions, given-up gaps. Written into the control topic of the link's target
//! region, where its bridge reads them; what became of them is read back from heartbeats.
//!
//! An order that was written is kept whether a bridge runs or not: waiting for it only tells the operator more.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use crate::broker::{Bounds, Class, Cluster, Error};
use crate::control::ControlLog;
use crate::control::deadline::Deadline;
use crate::control::entry::{self, Order, OrderAction, Pause};
use crate::control::status::{self, Known, LinkStatus, PartitionStatus, RegionStatus};
use crate::machine::flow::Stop;
use crate::model::names::{RegionName, TopicName, TopicPartition};

/// One source partition of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Source region.
    pub from: RegionName,
    /// Target region.
    pub to: RegionName,
    /// The topic as it is named at the source.
    pub topic: TopicName,
    /// Its partition.
    pub partition: i32,
}

/// A link, a topic of it, or one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Source region.
    pub from: RegionName,
    /// Target region.
    pub to: RegionName,
    /// The topic as it is named at the source; `None` is all of the link's.
    pub topic: Option<TopicName>,
    /// `None` is all of the topic's; without a topic it means nothing.
    pub partition: Option<i32>,
}

impl Scope {
    fn key(&self) -> String {
        entry::pause_key(&self.from, &self.to, self.topic.as_ref(), self.partition)
    }

    /// The keys of the pauses that hold this scope up from above.
    fn wider_keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        if self.topic.is_some() {
            keys.push(entry::pause_key(&self.from, &self.to, None, None));
            if self.partition.is_some() {
                keys.push(entry::pause_key(&self.from, &self.to, self.topic.as_ref(), None));
            }
        }
        keys
    }

    fn covers(&self, link: &LinkStatus, partition: &PartitionStatus) -> bool {
        link.from == self.from.as_str()
            && self.topic.as_ref().is_none_or(|topic| topic.as_str() == link.topic)
            && self.partition.is_none_or(|number| number == partition.beat.partition)
    }
}

/// Whether an operator has paused this stream.
pub fn is_paused(log: &ControlLog, stream: &Stream) -> bool {
    let Stream { from, to, topic, partition } = stream;
    let whole = Scope { from: from.clone(), to: to.clone(), topic: Some(topic.clone()), partition: Some(*partition) };
    log.get(&whole.key()).is_some() || whole.wider_keys().iter().any(|key| log.get(key).is_some())
}

/// Pauses.
pub fn pause(log: &ControlLog, scope: &Scope, by: &str, now_ms: i64) -> Result<(), Error> {
    log.write(&scope.key(), &Pause { by: by.to_owned(), at_ms: now_ms })
}

/// What [`resume`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Pauses that ended, as `from/to[/topic[/partition]]`: that of the scope and those inside it.
    pub ended: Vec<String>,
    /// Wider pauses that still hold the scope up.
    pub still: Vec<String>,
}

/// Ends the pause of a scope and all inside it. Wider ones stay and are named.
pub fn resume(log: &ControlLog, scope: &Scope) -> Result<Resumed, Error> {
    let key = scope.key();
    let within = log.prefix(&format!("{key}/")).into_iter().map(|(key, _)| key);
    let present: Vec<String> = log.get(&key).map(|_| key.clone()).into_iter().chain(within).collect();
    let mut resumed = Resumed::default();
    for key in present {
        log.remove(&key)?;
        resumed.ended.push(shown(&key));
    }
    resumed.still = scope.wider_keys().iter().filter(|key| log.get(key).is_some()).map(|key| shown(key)).collect();
    Ok(resumed)
}

/// A pause's key for people.
fn shown(key: &str) -> String {
    entry::split(key).split_off(1).join("/")
}

/// Orders a stream to go on elsewhere; the order's id. The newest order of a stream is the one that counts.
pub fn order(log: &ControlLog, stream: &Stream, action: OrderAction, by: &str, now_ms: i64) -> Result<String, Error> {
    // The standard library seeds each hasher from the system's randomness.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let id = format!("{now_ms}-{:08x}", random as u32);
    let key = entry::order_key(&stream.from, &stream.to, &stream.topic, stream.partition);
    log.write(&key, &Order { id: id.clone(), action, by: by.to_owned(), at_ms: now_ms })?;
    Ok(id)
}

/// Where to seek to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This offset, which must lie in the log or at its end.
    Offset(i64),
    /// The oldest record kept.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// The first record at or after this time, milliseconds since the epoch.
    Time(i64),
}

/// The offset that is meant, asked of the source cluster. [`Class::Rejected`] when the log does not have it.
pub fn offset_of(source: &dyn Cluster, partition: &TopicPartition, target: Target) -> Result<i64, Error> {
    let none = || Error::new(Class::Retry, format!("look up offsets of {partition}"), "no answer");
    let bounds = || -> Result<Bounds, Error> {
        source.bounds(std::slice::from_ref(partition))?.into_iter().next().ok_or_else(none)?
    };
    match target {
        Target::Earliest => Ok(bounds()?.start),
        Target::Latest => Ok(bounds()?.end),
        Target::Time(at_ms) => {
            source.offsets_at(std::slice::from_ref(partition), at_ms)?.into_iter().next().ok_or_else(none)?
        }
        Target::Offset(offset) => {
            let Bounds { start, end } = bounds()?;
            if (start..=end).contains(&offset) {
                return Ok(offset);
            }
            let reason = format!("offset {offset} is not in the log, which has {start} to {end}");
            Err(Error::new(Class::Rejected, format!("seek in {partition}"), reason))
        }
    }
}

/// The link's region as its control topic tells it at `now_ms`.
pub fn status_of(log: &ControlLog, now_ms: i64) -> RegionStatus {
    status::region(log.region().as_str(), &Known::of(log, None), now_ms)
}

/// The row of a stream, if a bridge tells of it.
pub fn stream_status<'a>(region: &'a RegionStatus, stream: &Stream) -> Option<&'a PartitionStatus> {
    let mut links = region.links.iter();
    let link = links.find(|link| link.from == stream.from.as_str() && link.topic == stream.topic.as_str())?;
    link.partitions.iter().find(|partition| partition.beat.partition == stream.partition)
}

/// Whether a stream stands still for something that `accept-gap` gets past.
pub fn has_acceptable_stop(partition: &PartitionStatus) -> bool {
    let label = partition.beat.reason.as_deref().and_then(|reason| reason.split(':').next()).unwrap_or("");
    let stops = [Stop::Gap, Stop::Recreated, Stop::Truncated];
    partition.beat.state == "stopped" && stops.iter().any(|stop| stop.is_acceptable() && stop.label() == label)
}

/// What a bridge has made of what was ordered.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A heartbeat shows it.
    Applied(Vec<PartitionStatus>),
    /// No bridge runs: it will be applied when one starts.
    NoBridge,
    /// The time is up.
    NotYet,
}

/// Waits until a heartbeat shows that the order was carried out.
pub fn await_order(
    log: &ControlLog,
    stream: &Stream,
    id: &str,
    timeout: Duration,
    now_ms: impl Fn() -> i64,
) -> Outcome {
    wait(log, timeout, now_ms, |region| {
        let partition = stream_status(region, stream)?;
        (partition.beat.order.as_deref() == Some(id)).then(|| vec![partition.clone()])
    })
}

/// Waits until heartbeats show every partition of the scope paused, or none.
pub fn await_paused(
    log: &ControlLog,
    scope: &Scope,
    paused: bool,
    timeout: Duration,
    now_ms: impl Fn() -> i64,
) -> Outcome {
    wait(log, timeout, now_ms, |region| {
        let covered =
            region.links.iter().flat_map(|link| link.partitions.iter().map(move |partition| (link, partition)));
        let covered: Vec<PartitionStatus> =
            covered.filter(|(link, partition)| scope.covers(link, partition)).map(|(_, p)| p.clone()).collect();
        // What is stopped stands still already, and stays so.
        let stands = |partition: &PartitionStatus| matches!(partition.beat.state.as_str(), "paused" | "stopped");
        let is_paused = |partition: &PartitionStatus| partition.beat.state == "paused";
        let done = if paused { covered.iter().all(stands) } else { !covered.iter().any(is_paused) };
        (done && !covered.is_empty()).then_some(covered)
    })
}

fn wait(
    log: &ControlLog,
    timeout: Duration,
    now_ms: impl Fn() -> i64,
    look: impl Fn(&RegionStatus) -> Option<Vec<PartitionStatus>>,
) -> Outcome {
    let deadline = Deadline::after(timeout);
    loop {
        let seen = log.version();
        let region = status_of(log, now_ms());
        if region.instances.iter().all(|instance| instance.stale) {
            return Outcome::NoBridge;
        }
        if let Some(partitions) = look(&region) {
            return Outcome::Applied(partitions);
        }
        let Some(left) = deadline.left() else { return Outcome::NotYet };
        // A bridge may die while it is waited for: nothing is written then.
        log.changed_since(seen, left.min(Duration::from_secs(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::entry::PartitionBeat;

    fn partition(state: &str, reason: Option<&str>) -> PartitionStatus {
        let beat = PartitionBeat { state: state.into(), reason: reason.map(str::to_owned), ..PartitionBeat::default() };
        PartitionStatus { beat, instance: "a".into() }
    }

    #[test]
    fn only_lost_records_can_be_given_up() {
        assert!(has_acceptable_stop(&partition("stopped", Some("gap: 5 to 9"))));
        assert!(has_acceptable_stop(&partition("stopped", Some("recreated"))));
        assert!(has_acceptable_stop(&partition("stopped", Some("truncated: ends at 7"))));
        for (state, reason) in [
            ("running", None),
            ("stopped", Some("rejected: too large")),
            ("stopped", None),
            ("retrying", Some("gap: x")),
        ] {
            assert!(!has_acceptable_stop(&partition(state, reason)), "{state} {reason:?}");
        }
    }

    #[test]
    fn a_scope_covers_what_is_inside_it() {
        let scope = |topic: Option<&str>, partition| Scope {
            from: "hz".into(),
            to: "sh".into(),
            topic: topic.map(TopicName::new),
            partition,
        };
        let link = LinkStatus { from: "hz".into(), topic: "orders".into(), ..LinkStatus::default() };
        let zero = partition("running", None);
        assert!(scope(None, None).covers(&link, &zero));
        assert!(scope(Some("orders"), None).covers(&link, &zero));
        assert!(scope(Some("orders"), Some(0)).covers(&link, &zero));
        assert!(!scope(Some("orders"), Some(1)).covers(&link, &zero));
        assert!(!scope(Some("clicks"), None).covers(&link, &zero));
        assert_eq!(scope(Some("orders"), Some(0)).wider_keys(), ["pause/hz/sh", "pause/hz/sh/orders"]);
    }
}

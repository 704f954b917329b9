//! What `status` shows (interface §5), merged from heartbeats. Pure: the time and what was read are handed in.
//!
//! Several instances of one region's bridge share the partitions of its links, each telling of its own; here their
//! words become one row per link and topic. What cannot be known is null, never 0: an unread lag must not look healthy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::broker::Class;
use crate::control::ControlLog;
use crate::control::entry::{Heartbeat, LinkBeat, PartitionBeat, Pause};

/// A heartbeat that is older no longer speaks for a running bridge.
pub const STALE_AFTER_MS: i64 = 15_000;

/// An instance that has been silent for longer is not shown any more, unless nothing else is known.
const FORGOTTEN_AFTER_MS: i64 = 3_600_000;

/// All regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// By region.
    pub regions: BTreeMap<String, RegionStatus>,
    /// The cutover in progress.
    pub cutover: Option<Value>,
}

/// One region: its cluster, its bridge, the links into it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RegionStatus {
    /// Whether its control topic could be read.
    pub reachable: bool,
    /// Whether a bridge runs there and all its instances are ready.
    pub ready: bool,
    /// Why it is not ready.
    pub reasons: Vec<String>,
    /// Active epoch of each rule set.
    pub epochs: BTreeMap<String, u64>,
    /// `exactly-once` or `at-least-once`, as the newest heartbeat says.
    pub guarantee: Option<String>,
    /// By source and topic.
    pub links: Vec<LinkStatus>,
    /// By topic and group.
    pub deliveries: Vec<Value>,
    /// The bridge's processes.
    pub instances: Vec<InstanceStatus>,
    /// What operators paused, as written to `pause`: `from/to[/topic[/partition]]`.
    pub paused: Vec<String>,
}

/// One topic of one link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Source region.
    pub from: String,
    /// The declared topic.
    pub topic: String,
    /// The worst of its partitions.
    pub state: String,
    /// Why it does not run.
    pub reason: Option<String>,
    /// Records not copied yet; null when unknown.
    pub lag_records: Option<u64>,
    /// Age of the oldest record not copied yet, seconds; null when unknown.
    pub lag_seconds: Option<f64>,
    /// By number.
    pub partitions: Vec<PartitionStatus>,
}

/// One partition of a link's topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// What its owner says.
    #[serde(flatten)]
    pub beat: PartitionBeat,
    /// Its owner.
    pub instance: String,
}

/// One process of a region's bridge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub instance: String,
    /// The program's version.
    pub version: String,
    /// When the process started, milliseconds since the epoch.
    pub started_ms: i64,
    /// When it was last heard of.
    pub at_ms: i64,
    /// Whether it is running and ready.
    pub ready: bool,
    /// Whether it has been silent for too long to be running.
    pub stale: bool,
}

/// What is known of a region before it is merged.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Why its control topic could not be read.
    pub unreachable: Option<String>,
    /// Heartbeats by instance.
    pub beats: Vec<(String, Heartbeat)>,
    /// Keys of pauses without their first part.
    pub paused: Vec<String>,
}

impl Known {
    /// What a control topic holds now; `unreachable` is for the caller to judge.
    pub fn of(log: &ControlLog, unreachable: Option<String>) -> Self {
        let beats = log.read_all::<Heartbeat>(&[log.region().as_str()]).into_iter();
        let pauses = log.read_all::<Pause>(&[]).into_iter();
        let pauses = pauses.filter(|(parts, _)| parts.get(1).is_some_and(|to| to == log.region().as_str()));
        Self {
            unreachable,
            beats: beats.filter_map(|(mut parts, beat)| Some((parts.pop()?, beat))).collect(),
            paused: pauses.map(|(parts, _)| parts.join("/")).collect(),
        }
    }
}

/// All regions as the control topics that this process follows tell them. Asks no network.
pub fn followed<'a>(logs: impl IntoIterator<Item = &'a ControlLog>, now_ms: i64) -> Status {
    let of = |log: &ControlLog| {
        // A region in which no bridge has run yet has no control topic: it answers, though.
        let unreachable = log.health().err().filter(|error| error.class != Class::Missing);
        let known = Known::of(log, unreachable.map(|error| error.to_string()));
        (log.region().to_string(), region(log.region().as_str(), &known, now_ms))
    };
    Status { regions: logs.into_iter().map(of).collect(), cutover: None }
}

/// Merges what is known of one region at `now_ms`.
pub fn region(name: &str, known: &Known, now_ms: i64) -> RegionStatus {
    let stale = |beat: &Heartbeat| now_ms - beat.at_ms > STALE_AFTER_MS;
    let newest_ms = known.beats.iter().map(|(_, beat)| beat.at_ms).max();
    let shown: Vec<&(String, Heartbeat)> = known
        .beats
        .iter()
        .filter(|(_, beat)| now_ms - beat.at_ms <= FORGOTTEN_AFTER_MS || Some(beat.at_ms) == newest_ms)
        .collect();
    let live: Vec<(&str, &Heartbeat)> =
        shown.iter().filter(|(_, beat)| !stale(beat)).map(|(name, beat)| (name.as_str(), beat)).collect();
    let mut status = RegionStatus {
        reachable: known.unreachable.is_none(),
        instances: shown.iter().map(|(name, beat)| instance(name, beat, stale(beat))).collect(),
        paused: known.paused.clone(),
        ..RegionStatus::default()
    };
    if let Some(why) = &known.unreachable {
        status.reasons.push(format!("the cluster of {name} cannot be read from here: {why}"));
    }
    if let Some(newest) = shown.iter().max_by_key(|(_, beat)| beat.at_ms).map(|(_, beat)| beat) {
        status.epochs = newest.epochs.clone();
        status.guarantee = Some(newest.guarantee.clone()).filter(|guarantee| !guarantee.is_empty());
        status.deliveries = newest.deliveries.clone();
    }
    if live.is_empty() {
        if status.reachable {
            status.reasons.push(newest_ms.map_or_else(
                || format!("no bridge has run in {name} yet"),
                |at_ms| format!("no bridge runs in {name}: last heard of {} s ago", (now_ms - at_ms) / 1000),
            ));
        }
        let last: Vec<(&str, &Heartbeat)> = shown.iter().map(|(name, beat)| (name.as_str(), beat)).collect();
        status.links = links(&last).into_iter().map(without_a_bridge).collect();
        return status;
    }
    for (instance, beat) in &live {
        let prefix = if live.len() > 1 { format!("{instance}: ") } else { String::new() };
        status.reasons.extend(beat.reasons.iter().map(|reason| format!("{prefix}{reason}")));
    }
    status.ready = status.reachable && live.iter().all(|(_, beat)| beat.ready);
    status.links = links(&live);
    status
}

fn instance(name: &str, beat: &Heartbeat, stale: bool) -> InstanceStatus {
    InstanceStatus {
        instance: name.to_owned(),
        version: beat.version.clone(),
        started_ms: beat.started_ms,
        at_ms: beat.at_ms,
        ready: beat.ready && !stale,
        stale,
    }
}

/// What the last heartbeats said of positions stays interesting; lag and state are known by nobody.
fn without_a_bridge(mut link: LinkStatus) -> LinkStatus {
    let (state, reason) = ("stopped".to_owned(), Some("no_bridge".to_owned()));
    for partition in &mut link.partitions {
        partition.beat.state.clone_from(&state);
        partition.beat.reason.clone_from(&reason);
        partition.beat.lag_records = None;
    }
    LinkStatus { state, reason, lag_records: None, lag_seconds: None, ..link }
}

/// What one instance says of one link topic.
#[derive(Clone, Copy)]
struct Share<'a> {
    instance: &'a str,
    at_ms: i64,
    link: &'a LinkBeat,
}

fn links(beats: &[(&str, &Heartbeat)]) -> Vec<LinkStatus> {
    let mut by_topic: BTreeMap<(&str, &str), Vec<Share<'_>>> = BTreeMap::new();
    for (instance, beat) in beats {
        for link in &beat.links {
            let share = Share { instance, at_ms: beat.at_ms, link };
            by_topic.entry((&link.from, &link.topic)).or_default().push(share);
        }
    }
    by_topic.into_iter().map(|((from, topic), shares)| one_link(from, topic, &shares)).collect()
}

fn one_link(from: &str, topic: &str, shares: &[Share<'_>]) -> LinkStatus {
    // An instance that owns nothing speaks only while nobody owns anything.
    let owns = shares.iter().any(|share| !share.link.partitions.is_empty());
    let heard: Vec<Share<'_>> =
        shares.iter().copied().filter(|share| !owns || !share.link.partitions.is_empty()).collect();

    let mut partitions: BTreeMap<i32, (i64, PartitionStatus)> = BTreeMap::new();
    for share in &heard {
        for beat in &share.link.partitions {
            // Just after a change of owner two name the same partition: the later one is right.
            let known = partitions.get(&beat.partition).map(|(known_ms, _)| *known_ms);
            if known.is_none_or(|known_ms| known_ms < share.at_ms) {
                let status = PartitionStatus { beat: beat.clone(), instance: share.instance.to_owned() };
                partitions.insert(beat.partition, (share.at_ms, status));
            }
        }
    }
    let partitions: Vec<PartitionStatus> = partitions.into_values().map(|(_, status)| status).collect();
    let worst = heard.iter().map(|share| share.link).max_by_key(|link| severity(&link.state));
    let lag: Option<u64> = partitions.iter().map(|partition| partition.beat.lag_records).sum();
    let lag_known = owns && heard.iter().all(|share| share.link.lag_records.is_some());
    LinkStatus {
        from: from.to_owned(),
        topic: topic.to_owned(),
        state: worst.map_or_else(|| "starting".to_owned(), |link| link.state.clone()),
        reason: worst.and_then(|link| link.reason.clone()),
        lag_records: lag.filter(|_| lag_known),
        lag_seconds: greatest(heard.iter().map(|share| share.link.lag_seconds)).filter(|_| owns),
        partitions,
    }
}

/// The greatest of them, `None` when one is unknown.
fn greatest(mut values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    values.try_fold(0.0, |greatest, value| Some(f64::max(greatest, value?)))
}

/// Of two states the one that an operator must see.
pub fn severity(state: &str) -> u8 {
    match state {
        "running" | "idle" => 0,
        "paused" => 1,
        "starting" => 2,
        "resolving" => 3,
        "retrying" => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn partition(partition: i32, state: &str, lag: Option<u64>) -> PartitionBeat {
        PartitionBeat { partition, state: state.into(), lag_records: lag, ..PartitionBeat::default() }
    }

    fn link(state: &str, lag: Option<u64>, seconds: Option<f64>, partitions: Vec<PartitionBeat>) -> LinkBeat {
        LinkBeat {
            from: "hz".into(),
            topic: "orders".into(),
            state: state.into(),
            reason: None,
            lag_records: lag,
            lag_seconds: seconds,
            partitions,
        }
    }

    fn beat(age_ms: i64, links: Vec<LinkBeat>) -> Heartbeat {
        Heartbeat { at_ms: NOW - age_ms, ready: true, guarantee: "exactly-once".into(), links, ..Heartbeat::default() }
    }

    fn merged(beats: Vec<(&str, Heartbeat)>) -> RegionStatus {
        let beats = beats.into_iter().map(|(name, beat)| (name.to_owned(), beat)).collect();
        region("sh", &Known { unreachable: None, beats, paused: Vec::new() }, NOW)
    }

    #[test]
    fn instances_that_share_a_topic_become_one_row() {
        let one = link("running", Some(3), Some(0.5), vec![partition(0, "running", Some(3))]);
        let mut two = link("retrying", Some(4), Some(9.0), vec![partition(1, "retrying", Some(4))]);
        two.reason = Some("unreachable".into());
        let status = merged(vec![("a", beat(100, vec![one])), ("b", beat(50, vec![two]))]);
        assert!(status.ready && status.reachable);
        let row = &status.links[0];
        assert_eq!((row.state.as_str(), row.reason.as_deref()), ("retrying", Some("unreachable")));
        assert_eq!((row.lag_records, row.lag_seconds), (Some(7), Some(9.0)));
        assert_eq!(row.partitions.iter().map(|p| p.instance.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(status.links.len(), 1);
    }

    #[test]
    fn one_unknown_lag_makes_the_sum_unknown() {
        let one = link("running", Some(3), Some(0.5), vec![partition(0, "running", Some(3))]);
        let two = link("retrying", None, None, vec![partition(1, "retrying", None)]);
        let status = merged(vec![("a", beat(100, vec![one])), ("b", beat(50, vec![two]))]);
        assert_eq!((status.links[0].lag_records, status.links[0].lag_seconds), (None, None));
    }

    #[test]
    fn a_topic_that_nobody_owns_yet_has_no_lag() {
        let status = merged(vec![("a", beat(0, vec![link("starting", Some(0), Some(0.0), Vec::new())]))]);
        assert_eq!((status.links[0].state.as_str(), status.links[0].lag_records), ("starting", None));
    }

    #[test]
    fn an_instance_without_partitions_does_not_spoil_the_row() {
        let one = link("running", Some(0), Some(0.0), vec![partition(0, "running", Some(0))]);
        let idle = link("starting", None, None, Vec::new());
        let status = merged(vec![("a", beat(0, vec![one])), ("b", beat(0, vec![idle]))]);
        assert_eq!((status.links[0].state.as_str(), status.links[0].lag_records), ("running", Some(0)));
    }

    #[test]
    fn a_partition_named_twice_is_the_later_owners() {
        let old = link("running", Some(9), Some(1.0), vec![partition(0, "running", Some(9))]);
        let new = link("running", Some(1), Some(0.1), vec![partition(0, "running", Some(1))]);
        let status = merged(vec![("b", beat(10, vec![new])), ("a", beat(4000, vec![old]))]);
        assert_eq!(status.links[0].lag_records, Some(1));
        assert_eq!(status.links[0].partitions[0].instance, "b");
    }

    #[test]
    fn a_silent_bridge_is_not_ready_and_its_lag_is_unknown() {
        let one = link("running", Some(0), Some(0.0), vec![partition(0, "running", Some(0))]);
        let status = merged(vec![("a", beat(STALE_AFTER_MS + 1, vec![one]))]);
        assert!(status.reachable && !status.ready);
        assert_eq!(status.reasons, ["no bridge runs in sh: last heard of 15 s ago"]);
        let row = &status.links[0];
        assert_eq!((row.state.as_str(), row.reason.as_deref()), ("stopped", Some("no_bridge")));
        assert_eq!((row.lag_records, row.partitions[0].beat.lag_records), (None, None));
    }

    #[test]
    fn a_dead_instance_beside_a_live_one_is_listed_but_its_words_are_not_taken() {
        let dead = link("stopped", Some(9), Some(9.0), vec![partition(0, "stopped", Some(9))]);
        let live = link("running", Some(0), Some(0.0), vec![partition(0, "running", Some(0))]);
        let status = merged(vec![("a", beat(20_000, vec![dead])), ("b", beat(10, vec![live]))]);
        assert!(status.ready);
        assert_eq!(status.links[0].state, "running");
        assert_eq!(
            status.instances.iter().map(|i| (i.stale, i.ready)).collect::<Vec<_>>(),
            [(true, false), (false, true)]
        );
    }

    #[test]
    fn an_unreachable_region_says_why_and_is_shown() {
        let known = Known { unreachable: Some("timed out".into()), ..Known::default() };
        let status = region("sh", &known, NOW);
        assert!(!status.reachable && !status.ready);
        assert_eq!(status.reasons, ["the cluster of sh cannot be read from here: timed out"]);
        assert!(status.links.is_empty());
    }

    #[test]
    fn the_json_has_the_names_of_the_interface() {
        let one = link("running", Some(3), Some(0.5), vec![partition(0, "running", Some(3))]);
        let status = merged(vec![("a", beat(100, vec![one]))]);
        let all = Status { regions: BTreeMap::from([("sh".to_owned(), status)]), cutover: None };
        let json = serde_json::to_value(&all).expect("plain data");
        let sh = &json["regions"]["sh"];
        assert_eq!(sh["reachable"], true);
        assert_eq!(sh["ready"], true);
        assert!(sh["epochs"].is_object() && sh["deliveries"].is_array());
        let row = &sh["links"][0];
        assert_eq!((&row["from"], &row["topic"], &row["state"]), (&"hz".into(), &"orders".into(), &"running".into()));
        assert_eq!((&row["lag_records"], &row["lag_seconds"]), (&3.into(), &0.5.into()));
        assert_eq!(row["partitions"][0]["partition"], 0);
        assert!(json["cutover"].is_null());
    }
}

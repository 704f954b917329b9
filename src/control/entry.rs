//! The entries of the control topic: their keys and their values, `{"v":1,…}`.
//!
//! Keys are paths whose parts are percent-encoded, values JSON objects. Unknown fields are passed over and missing
//! ones have defaults, so that bridges of neighbouring versions read each other; a `v` above ours is not read at all.
//! Nothing here asks the time: whoever writes an entry states it.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::names::{RegionName, TopicName};

/// The newest shape of entries that this program writes and reads.
pub const ENTRY_VERSION: u64 = 1;

/// Everything but what names commonly consist of, so that keys stay readable.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The key of several parts, each percent-encoded.
pub fn join(parts: &[&str]) -> String {
    let encoded: Vec<String> = parts.iter().map(|part| utf8_percent_encode(part, ESCAPED).to_string()).collect();
    encoded.join("/")
}

/// The parts of a key, decoded; bytes that are no UTF-8 come out as replacement characters.
pub fn split(key: &str) -> Vec<String> {
    key.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
}

/// What a value of the control topic is read into.
pub trait Entry: Serialize + DeserializeOwned {
    /// First part of its keys.
    const KIND: &'static str;
}

/// The value as it is stored.
pub fn encode<E: Entry>(entry: &E) -> Value {
    let mut value = serde_json::to_value(entry).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        fields.insert("v".to_owned(), Value::from(ENTRY_VERSION));
    }
    value
}

/// Reads a stored value; `None` when it is of another shape or of a newer version.
pub fn decode<E: Entry>(value: &Value) -> Option<E> {
    let version = value.get("v")?.as_u64()?;
    (version <= ENTRY_VERSION).then(|| E::deserialize(value).ok()).flatten()
}

/// `heartbeat/<region>/<instance>`
pub fn heartbeat_key(region: &RegionName, instance: &str) -> String {
    join(&[Heartbeat::KIND, region.as_str(), instance])
}

/// `pause/<from>/<to>[/<topic>[/<partition>]]`; a partition without a topic is left out.
pub fn pause_key(from: &RegionName, to: &RegionName, topic: Option<&TopicName>, partition: Option<i32>) -> String {
    let number = partition.map(|partition| partition.to_string());
    let mut parts = vec![Pause::KIND, from.as_str(), to.as_str()];
    if let Some(topic) = topic {
        parts.push(topic.as_str());
        parts.extend(number.as_deref());
    }
    join(&parts)
}

/// `order/<from>/<to>/<topic>/<partition>`
pub fn order_key(from: &RegionName, to: &RegionName, topic: &TopicName, partition: i32) -> String {
    join(&[Order::KIND, from.as_str(), to.as_str(), topic.as_str(), &partition.to_string()])
}

/// `topic/<from>/<to>/<topic>`
pub fn topic_key(from: &RegionName, to: &RegionName, topic: &TopicName) -> String {
    join(&[TopicMet::KIND, from.as_str(), to.as_str(), topic.as_str()])
}

/// `stream/<from>/<to>/<topic>/<partition>`
pub fn stream_key(from: &RegionName, to: &RegionName, topic: &TopicName, partition: i32) -> String {
    join(&[StreamCopied::KIND, from.as_str(), to.as_str(), topic.as_str(), &partition.to_string()])
}

/// `incarnation/<region>/<topic>/<topic id>`
pub fn incarnation_key(region: &RegionName, topic: &TopicName, id: &str) -> String {
    join(&[Incarnation::KIND, region.as_str(), topic.as_str(), id])
}

/// What a running bridge says of itself every few seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// When it was said, milliseconds since the epoch, by the bridge's clock.
    pub at_ms: i64,
    /// The program's version.
    pub version: String,
    /// When the process started.
    pub started_ms: i64,
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// `exactly-once` or `at-least-once`.
    pub guarantee: String,
    /// Active epoch of each rule set.
    pub epochs: BTreeMap<String, u64>,
    /// The topics of the links into this region, as far as this instance knows them.
    pub links: Vec<LinkBeat>,
    /// The deliveries of this region.
    pub deliveries: Vec<Value>,
}

/// One topic of one link, as one instance sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkBeat {
    /// Source region.
    pub from: String,
    /// The declared topic.
    pub topic: String,
    /// `starting`, `resolving`, `running`, `paused`, `stopped`, `retrying`: the worst of its partitions.
    pub state: String,
    /// Why it does not run.
    pub reason: Option<String>,
    /// Records not copied yet, over the partitions that this instance owns; `None` when it cannot be known.
    pub lag_records: Option<u64>,
    /// How long the oldest record that is not copied yet has been waiting, seconds; `None` when it cannot be known.
    pub lag_seconds: Option<f64>,
    /// The partitions that this instance owns.
    pub partitions: Vec<PartitionBeat>,
}

/// One partition of a link's topic, as its owner sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionBeat {
    /// Its number.
    pub partition: i32,
    /// As in [`LinkBeat::state`].
    pub state: String,
    /// Why it does not run.
    pub reason: Option<String>,
    /// The next source offset to be committed; `None` before it is known.
    pub position: Option<i64>,
    /// Records not copied yet; `None` when it cannot be known.
    pub lag_records: Option<u64>,
    /// Id of the newest [`Order`] that was applied.
    pub order: Option<String>,
}

/// A link, a topic of it, or one partition stands still because an operator said so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pause {
    /// Who: `user@host` of the command.
    pub by: String,
    /// When.
    pub at_ms: i64,
}

/// Where an operator orders a stream to go on. Applied once: the link stamps the id into its committed position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Unique.
    pub id: String,
    /// What to do.
    pub action: OrderAction,
    /// Who.
    #[serde(default)]
    pub by: String,
    /// When.
    #[serde(default)]
    pub at_ms: i64,
}

/// What an [`Order`] orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderAction {
    /// Go on reading at this source offset.
    Seek {
        /// Next source offset to be read.
        offset: i64,
    },
    /// The records that are missing are given up: go on with the oldest that is left.
    AcceptGap,
}

/// What a link saw of a source topic when it first met it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicMet {
    /// Partitions then: later ones are growth, read from their beginning whatever `start_from` says.
    pub partitions_at_start: i32,
    /// When.
    pub at_ms: i64,
}

/// A stream that was copied at least once: lost positions of it are recovered, never taken from `start_from`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamCopied {
    /// The source offset where copying began.
    pub start_offset: i64,
    /// Where the target's log ended then: copies stand from here on.
    pub target_end: i64,
    /// The incarnation that was read then.
    pub incarnation: u32,
    /// When.
    pub at_ms: i64,
    /// The operator's order that was begun last. Beside the one in the group's note, which may get lost.
    pub order: Option<String>,
}

/// Which incarnation of a topic has this id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Incarnation {
    /// As in `ls_origin`: the first is 1.
    pub number: u32,
    /// When it was first seen.
    pub at_ms: i64,
}

macro_rules! kinds {
    ($($type:ident = $kind:literal),*) => { $(impl Entry for $type { const KIND: &'static str = $kind; })* };
}
kinds!(
    Heartbeat = "heartbeat",
    Pause = "pause",
    Order = "order",
    TopicMet = "topic",
    StreamCopied = "stream",
    Incarnation = "incarnation"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_names_apart_whatever_is_in_them() {
        let key = join(&["pause", "a/b", "c%d", "é"]);
        assert_eq!(key, "pause/a%2Fb/c%25d/%C3%A9");
        assert_eq!(split(&key), ["pause", "a/b", "c%d", "é"]);
        let (hz, sh) = (RegionName::new("hz"), RegionName::new("sh"));
        assert_eq!(pause_key(&hz, &sh, None, None), "pause/hz/sh");
        assert_eq!(pause_key(&hz, &sh, Some(&TopicName::new("order-events")), Some(3)), "pause/hz/sh/order-events/3");
    }

    #[test]
    fn entries_survive_the_round_trip_and_unknown_fields() {
        let order = Order { id: "7".into(), action: OrderAction::Seek { offset: 42 }, by: String::new(), at_ms: 5 };
        let mut value = encode(&order);
        assert_eq!(value, serde_json::json!({"v":1,"id":"7","action":{"seek":{"offset":42}},"by":"","at_ms":5}));
        value["later"] = Value::from(true);
        assert_eq!(decode::<Order>(&value), Some(order));
        let gap = Order { id: "8".into(), action: OrderAction::AcceptGap, by: "a@b".into(), at_ms: 5 };
        assert_eq!(encode(&gap)["action"], "accept-gap");
        assert_eq!(decode::<Order>(&encode(&gap)), Some(gap));
    }

    #[test]
    fn a_newer_version_or_another_shape_is_not_read() {
        assert_eq!(decode::<Pause>(&serde_json::json!({"v":2,"by":"x","at_ms":1})), None);
        assert_eq!(decode::<Pause>(&serde_json::json!({"by":"x","at_ms":1})), None);
        assert_eq!(decode::<Order>(&serde_json::json!({"v":1,"id":1})), None);
    }
}

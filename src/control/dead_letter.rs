//! Lists what is in a dead-letter topic: where each record came from and why it is there. Never shows a body or a key.

use std::time::Duration;

use serde::Serialize;

use crate::broker::{Bounds, Class, Cluster, Error, Fetched, SourceSettings};
use crate::control::deadline::Deadline;
use crate::model::names::{TopicName, TopicPartition};
use crate::model::record::RecordRef;

/// Appended to a topic's name.
pub const SUFFIX: &str = "__dead-letter";

const BUFFER_BYTES_MAX: usize = 8 * 1024 * 1024;
const FETCH_RECORDS_MAX: usize = 1000;

/// One record that was put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Whose cluster holds it.
    pub region: String,
    /// The dead-letter topic.
    pub topic: String,
    /// Where it is there.
    pub partition: i32,
    /// Where it is there.
    pub offset: i64,
    /// Its timestamp, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// `ls_origin`: where and when it was born.
    pub origin: Option<String>,
    /// `ls_reason`: why it was put aside.
    pub reason: Option<String>,
    /// `ls_target`: for whom it was meant.
    pub target: Option<String>,
    /// Bytes of key and value.
    pub size_bytes: usize,
    /// Whether the value is there; when the record was too large, only its origin is.
    pub has_value: bool,
}

/// The dead letters of `topic` in one region's cluster, oldest first per partition, at most `records_max`; the second
/// value tells whether there are more. Empty when the dead-letter topic does not exist.
pub fn list(
    cluster: &dyn Cluster,
    region: &str,
    topic: &TopicName,
    records_max: usize,
    timeout: Duration,
) -> Result<(Vec<DeadLetter>, bool), Error> {
    let name = TopicName::new(format!("{topic}{SUFFIX}"));
    let Some(description) = cluster.describe(std::slice::from_ref(&name))?.into_iter().next().flatten() else {
        return Ok((Vec::new(), false));
    };
    let partitions: Vec<TopicPartition> =
        (0..description.partitions).map(|partition| TopicPartition::new(&name, partition)).collect();
    let mut ends = Vec::with_capacity(partitions.len());
    let settings = SourceSettings { client_id: "longshore-dead-letter".to_owned(), buffer_bytes_max: BUFFER_BYTES_MAX };
    let mut source = cluster.source(&settings)?;
    for (slot, (partition, bounds)) in partitions.iter().zip(cluster.bounds(&partitions)?).enumerate() {
        let Bounds { start, end } = bounds?;
        ends.push(if start < end { Some(end) } else { None });
        if start < end {
            source.start(slot, partition, start)?;
        }
    }
    let deadline = Deadline::after(timeout);
    let mut found = Vec::new();
    let mut events = Vec::new();
    while ends.iter().any(Option::is_some) {
        let Some(left) = deadline.left() else {
            return Err(Error::new(Class::Retry, format!("read {name}"), format!("not done after {timeout:?}")));
        };
        source.fetch(FETCH_RECORDS_MAX, left.min(Duration::from_millis(200)), &mut events)?;
        for event in events.drain(..) {
            let (slot, next) = match event {
                Fetched::Records { slot, batch } => {
                    let mut next = 0;
                    for index in 0..batch.len() {
                        let record = batch.record(index);
                        next = record.offset + 1;
                        if ends[slot].is_some_and(|end| record.offset < end) {
                            found.push(dead_letter(region, &partitions[slot], &record));
                        }
                    }
                    (slot, next)
                }
                Fetched::End { slot, next } => (slot, next),
                Fetched::Broken { error, .. } => return Err(error),
            };
            ends[slot] = ends[slot].filter(|end| next < *end);
        }
        if found.len() > records_max {
            break;
        }
    }
    found.sort_by_key(|letter| (letter.partition, letter.offset));
    let more = found.len() > records_max;
    found.truncate(records_max);
    Ok((found, more))
}

fn dead_letter(region: &str, partition: &TopicPartition, record: &RecordRef<'_>) -> DeadLetter {
    let text = |name: &str| {
        let value = record.headers.last(name).flatten();
        value.map(|value| String::from_utf8_lossy(value).into_owned())
    };
    DeadLetter {
        region: region.to_owned(),
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        origin: text("ls_origin"),
        reason: text("ls_reason"),
        target: text("ls_target"),
        size_bytes: record.body_bytes(),
        has_value: record.value.is_some(),
    }
}

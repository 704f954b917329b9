//! The keys and small values of the two trees; `log.rs` draws them. Numbers are big-endian, so that keys sort as numbers do.

use sled::IVec;

use crate::broker::Position;
use crate::model::names::{GroupName, TopicName, TopicPartition};

/// Where a topic is described.
pub fn topic_key(name: &TopicName) -> Vec<u8> {
    [b"t", name.as_str().as_bytes()].concat()
}

/// Where the offsets of a partition are kept.
pub fn extent_key(number: u64, partition: u32) -> Vec<u8> {
    [&b"e"[..], &number.to_be_bytes(), &partition.to_be_bytes()].concat()
}

/// First offset, and the one behind the last.
pub fn extent_value(start: i64, end: i64) -> Vec<u8> {
    [start.to_be_bytes(), end.to_be_bytes()].concat()
}

/// Where the position of a group in a partition is kept.
pub fn position_key(group: &GroupName, partition: &TopicPartition) -> Vec<u8> {
    let (group, topic) = (group.as_str().as_bytes(), partition.topic.as_str().as_bytes());
    [b"p", group, &[0], topic, &[0], &partition.partition.to_be_bytes()].concat()
}

/// The offset, then the note.
pub fn position_value(position: &Position) -> IVec {
    [&position.offset.to_be_bytes(), position.note.as_bytes()].concat().into()
}

/// Where the chunk is kept that begins with `offset`.
pub fn record_key(number: u64, partition: u32, offset: i64) -> [u8; 20] {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..12].copy_from_slice(&partition.to_be_bytes());
    key[12..].copy_from_slice(&offset.to_be_bytes());
    key
}

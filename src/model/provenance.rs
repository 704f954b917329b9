//! `ls_origin`: where and when a record was born (interface §4), one header of text that other languages can read.
//!
//! `<region>/<topic>/<partition>/<offset>/<timestamp ms>`, each part percent-encoded; in a topic's second and later
//! incarnations the offset is `<incarnation>.<offset>`. The first four parts are the record's global id.

use std::borrow::Cow;
use std::io::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use crate::model::names::{RegionName, TopicName};
use crate::model::record::{RecordRef, TimestampKind};

/// Where and when a record was born.
pub const ORIGIN: &str = "ls_origin";
/// Regions a record has been in, comma-separated; star only.
pub const PATH: &str = "ls_path";
/// The routing key.
pub const KEY: &str = "ls_key";
/// The version.
pub const VERSION: &str = "ls_version";
/// Why a record was put aside.
pub const REASON: &str = "ls_reason";
/// Where a record that was put aside should have gone.
pub const TARGET: &str = "ls_target";

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A point in a stream: offsets start again with each incarnation of the topic, incarnations count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamOffset {
    /// Which creation of the topic, from 1.
    pub incarnation: u32,
    /// The offset in it.
    pub offset: i64,
}

/// A parsed `ls_origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The region of birth.
    pub region: Cow<'a, str>,
    /// The topic of birth.
    pub topic: Cow<'a, str>,
    /// The partition of birth.
    pub partition: i32,
    /// Incarnation and offset of birth.
    pub at: StreamOffset,
    /// The record's timestamp at birth, milliseconds since the epoch.
    pub timestamp_ms: i64,
}

impl<'a> Origin<'a> {
    /// Reads a header value. `None` when it is not of this form: then it is no provenance of ours.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut parts = value.split(|byte| *byte == b'/');
        let region = text(parts.next()?)?;
        let topic = text(parts.next()?)?;
        let partition = number(parts.next()?)?.try_into().ok()?;
        let at = stream_offset(parts.next()?)?;
        let timestamp_ms = number(parts.next()?)?;
        parts.next().is_none().then_some(Self { region, topic, partition, at, timestamp_ms })
    }

    /// Whether `record` has the time that this origin names, as far as brokers let a copy keep it: the broker may set
    /// the time of every record itself; a record without a time gets one; Kafka's client takes 0 for none, so that a
    /// driver writes 1.
    pub fn fits_time(&self, record: &RecordRef<'_>) -> bool {
        record.timestamp_kind == TimestampKind::AppendTime
            || self.timestamp_ms == record.timestamp_ms
            || self.timestamp_ms == -1
            || (self.timestamp_ms, record.timestamp_ms) == (0, 1)
    }
}

fn text(part: &[u8]) -> Option<Cow<'_, str>> {
    if part.is_empty() {
        return None;
    }
    percent_decode(part).decode_utf8().ok()
}

fn number(part: &[u8]) -> Option<i64> {
    let digits = part.strip_prefix(b"-").unwrap_or(part);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(part).ok()?.parse().ok()
}

fn stream_offset(part: &[u8]) -> Option<StreamOffset> {
    let mut halves = part.splitn(2, |byte| *byte == b'.');
    let first = number(halves.next()?)?;
    let (incarnation, offset) = match halves.next() {
        None => (1, first),
        Some(second) => (u32::try_from(first).ok().filter(|n| *n >= 2)?, number(second)?),
    };
    (offset >= 0).then_some(StreamOffset { incarnation, offset })
}

/// Writes the `ls_origin` of one source partition's records into one buffer, so that stamping allocates nothing.
#[derive(Clone, Debug)]
pub struct Stamp {
    buffer: Vec<u8>,
    prefix_bytes: usize,
}

impl Stamp {
    /// For records born in `partition` of incarnation `incarnation` of `topic` in `region`.
    pub fn new(region: &RegionName, topic: &TopicName, partition: i32, incarnation: u32) -> Self {
        let mut prefix = format!(
            "{}/{}/{partition}/",
            utf8_percent_encode(region.as_str(), ENCODED),
            utf8_percent_encode(topic.as_str(), ENCODED)
        );
        if incarnation > 1 {
            prefix.push_str(&format!("{incarnation}."));
        }
        let buffer = prefix.into_bytes();
        Self { prefix_bytes: buffer.len(), buffer }
    }

    /// The header value of the record at `offset` with `timestamp_ms`.
    pub fn value(&mut self, offset: i64, timestamp_ms: i64) -> &[u8] {
        let mut digits = itoa::Buffer::new();
        self.buffer.truncate(self.prefix_bytes);
        self.buffer.extend_from_slice(digits.format(offset).as_bytes());
        self.buffer.push(b'/');
        self.buffer.extend_from_slice(digits.format(timestamp_ms).as_bytes());
        &self.buffer
    }
}

/// The value of `ls_path` once a record has been in `here` too.
pub fn extended_path(path: Option<&[u8]>, here: &RegionName) -> Vec<u8> {
    let mut extended = path.unwrap_or_default().to_vec();
    if !extended.is_empty() {
        extended.push(b',');
    }
    write!(extended, "{}", utf8_percent_encode(here.as_str(), ENCODED)).expect("a vector takes every write");
    extended
}

/// Whether `region` stands in a `ls_path`.
pub fn is_on_path(path: &[u8], region: &RegionName) -> bool {
    path.split(|byte| *byte == b',').any(|visited| visited == region.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_as_it_was_written() {
        for (incarnation, expected) in
            [(1, "hz/order-events/7/42/1700000000000"), (3, "hz/order-events/7/3.42/1700000000000")]
        {
            let mut stamp = Stamp::new(&"hz".into(), &"order-events".into(), 7, incarnation);
            let value = stamp.value(42, 1_700_000_000_000).to_vec();
            assert_eq!(String::from_utf8(value.clone()).unwrap(), expected);
            let origin = Origin::parse(&value).unwrap();
            assert_eq!((origin.region.as_ref(), origin.topic.as_ref(), origin.partition), ("hz", "order-events", 7));
            assert_eq!(origin.at, StreamOffset { incarnation, offset: 42 });
            assert_eq!(origin.timestamp_ms, 1_700_000_000_000);
        }
    }

    #[test]
    fn odd_names_are_percent_encoded() {
        let mut stamp = Stamp::new(&"hz".into(), &"a/b %c".into(), 0, 1);
        let value = stamp.value(0, -1).to_vec();
        assert_eq!(String::from_utf8(value.clone()).unwrap(), "hz/a%2Fb%20%25c/0/0/-1");
        assert_eq!(Origin::parse(&value).unwrap().topic, "a/b %c");
    }

    #[test]
    fn what_is_not_of_the_form_is_no_provenance() {
        for bad in [
            "",
            "hz",
            "hz/t/0/1",
            "hz/t/0/1/2/3",
            "hz/t/x/1/2",
            "hz/t/0/-1/2",
            "hz/t/0/1.5/2",
            "/t/0/1/2",
            "hz//0/1/2",
            "hz/t/0//2",
            "hz/t/0/1/",
            "hz/t/99999999999/1/2",
            "hz/t/0/1/2 ",
            "hz/t/0/+1/2",
            "hz/t/0/2.-4/2",
        ] {
            assert_eq!(Origin::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_path_grows_and_is_searched_by_whole_names() {
        let path = extended_path(None, &"sh".into());
        let path = extended_path(Some(&path), &"hz".into());
        assert_eq!(path, b"sh,hz");
        assert!(is_on_path(&path, &"sh".into()) && is_on_path(&path, &"hz".into()) && !is_on_path(&path, &"h".into()));
    }
}

//! How records lie on disk: a chunk holds consecutive records of one partition, at most [`CHUNK_BYTES_MAX`] bytes or one
//! record that is larger. Chunks instead of single records because sled keeps whole leaves in one page.
//!
//! ```text
//!   chunk   flags u8 (0) · count u32 · newest timestamp i64 · append time i64 (-1: the records' own) · records
//!   record  timestamp i64 · key length i32 · value length i32 · header count u32 · key · value · headers
//!   header  name length u32 · value length i32 · name · value           a length of -1 is null; all big-endian
//! ```
//!
//! Offsets are dense inside a chunk and counted from the offset in its key. sled checks sums; this file never does.

use std::ops::Range;

use sled::IVec;

use crate::model::record::{HeaderList, Headers, NewRecord, RecordBatch, RecordRef, TimestampKind};

/// A chunk is closed when it holds this much.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// What a record takes up beside its key, value and headers, rounded up to what Kafka's batch header takes.
const RECORD_OVERHEAD_BYTES: usize = 70;
const HEADER_OVERHEAD_BYTES: usize = 8;

const COUNT_AT: usize = 1;
const NEWEST_AT: usize = 5;
const APPENDED_AT: usize = 13;
const RECORDS_AT: usize = 21;

/// Bytes that `record` counts for against limits.
pub fn weight(record: &NewRecord<'_>) -> usize {
    let headers = record
        .written_headers()
        .map(|(name, value)| HEADER_OVERHEAD_BYTES + name.len() + value.map_or(0, <[u8]>::len))
        .sum::<usize>();
    RECORD_OVERHEAD_BYTES + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers
}

/// A chunk being written.
pub struct Draft {
    bytes: Vec<u8>,
    count: u32,
    newest_ms: i64,
}

impl Draft {
    /// An empty chunk.
    pub fn new() -> Self {
        Self { bytes: vec![0; RECORDS_AT], count: 0, newest_ms: i64::MIN }
    }

    /// How many records it holds.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether it has no room left for `weight` bytes more.
    pub const fn is_full_for(&self, weight: usize) -> bool {
        self.count > 0 && self.bytes.len() + weight > CHUNK_BYTES_MAX
    }

    /// Adds a record; one without a timestamp gets `now_ms`.
    pub fn push(&mut self, record: &NewRecord<'_>, now_ms: i64) {
        let timestamp_ms = if record.timestamp_ms < 0 { now_ms } else { record.timestamp_ms };
        self.newest_ms = self.newest_ms.max(timestamp_ms);
        self.count += 1;
        self.bytes.extend_from_slice(&timestamp_ms.to_be_bytes());
        self.put_length(record.key);
        self.put_length(record.value);
        let header_count_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(record.key.unwrap_or_default());
        self.bytes.extend_from_slice(record.value.unwrap_or_default());
        let mut headers = 0_u32;
        for (name, value) in record.written_headers() {
            headers += 1;
            self.bytes.extend_from_slice(&(name.len() as u32).to_be_bytes());
            self.put_length(value);
            self.bytes.extend_from_slice(name);
            self.bytes.extend_from_slice(value.unwrap_or_default());
        }
        self.bytes[header_count_at..header_count_at + 4].copy_from_slice(&headers.to_be_bytes());
    }

    fn put_length(&mut self, bytes: Option<&[u8]>) {
        self.bytes.extend_from_slice(&bytes.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
    }

    /// The chunk as it is stored. `appended_ms`: the time of appending counts, not the records' own.
    pub fn stored(&self, appended_ms: Option<i64>) -> IVec {
        let mut stored = IVec::from(self.bytes.as_slice());
        stored[COUNT_AT..NEWEST_AT].copy_from_slice(&self.count.to_be_bytes());
        stored[NEWEST_AT..APPENDED_AT].copy_from_slice(&appended_ms.unwrap_or(self.newest_ms).to_be_bytes());
        stored[APPENDED_AT..RECORDS_AT].copy_from_slice(&appended_ms.unwrap_or(-1).to_be_bytes());
        stored
    }
}

/// A chunk being read, record by record.
pub struct Cursor {
    bytes: IVec,
    at: usize,
    next: i64,
    end: i64,
    newest_ms: i64,
    appended_ms: i64,
}

impl Cursor {
    /// Opens the chunk whose first record has the offset `base`; `None` when the bytes are no chunk.
    pub fn open(base: i64, bytes: IVec) -> Option<Self> {
        if bytes.first() != Some(&0) {
            return None;
        }
        let count = u32::from_be_bytes(array(&bytes, COUNT_AT)?);
        let newest_ms = i64::from_be_bytes(array(&bytes, NEWEST_AT)?);
        let appended_ms = i64::from_be_bytes(array(&bytes, APPENDED_AT)?);
        Some(Self { bytes, at: RECORDS_AT, next: base, end: base + i64::from(count), newest_ms, appended_ms })
    }

    /// The offset behind the last record.
    pub const fn end(&self) -> i64 {
        self.end
    }

    /// The newest timestamp of the chunk.
    pub const fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// The next record; `None` past the last one.
    pub fn advance(&mut self) -> Result<Option<Entry>, BrokenChunk> {
        if self.next >= self.end {
            return Ok(None);
        }
        let (entry, end) = self.parse().ok_or(BrokenChunk)?;
        self.at = end;
        self.next += 1;
        Ok(Some(entry))
    }

    fn parse(&self) -> Option<(Entry, usize)> {
        let timestamp_ms = i64::from_be_bytes(array(&self.bytes, self.at)?);
        let key_len = i32::from_be_bytes(array(&self.bytes, self.at + 8)?);
        let value_len = i32::from_be_bytes(array(&self.bytes, self.at + 12)?);
        let header_count = u32::from_be_bytes(array(&self.bytes, self.at + 16)?);
        let key = span(self.at + 20, key_len);
        let value = span(key.end, value_len);
        let headers_at = value.end;
        let mut end = headers_at;
        for _ in 0..header_count {
            end = header_spans(&self.bytes, end)?.end;
        }
        let entry = Entry {
            offset: self.next,
            timestamp_ms: if self.appended_ms < 0 { timestamp_ms } else { self.appended_ms },
            timestamp_kind: if self.appended_ms < 0 { TimestampKind::CreateTime } else { TimestampKind::AppendTime },
            key: (key_len >= 0).then_some(key),
            value: (value_len >= 0).then_some(value),
            headers_at,
            header_count,
            bytes: self.bytes.clone(),
        };
        (end <= self.bytes.len()).then_some((entry, end))
    }
}

/// The stored bytes are no chunk: damaged from outside, or written by another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenChunk;

/// One stored record; shares the bytes of its chunk.
pub struct Entry {
    bytes: IVec,
    offset: i64,
    timestamp_ms: i64,
    timestamp_kind: TimestampKind,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers_at: usize,
    header_count: u32,
}

impl Entry {
    /// Where it stands in its partition.
    pub const fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since the epoch.
    pub const fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    fn view(&self) -> RecordRef<'_> {
        RecordRef {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            timestamp_kind: self.timestamp_kind,
            key: self.key.clone().map(|span| &self.bytes[span]),
            value: self.value.clone().map(|span| &self.bytes[span]),
            headers: if self.header_count == 0 { Headers::Empty } else { Headers::Listed(self) },
        }
    }
}

impl HeaderList for Entry {
    fn header(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        if index >= self.header_count as usize {
            return None;
        }
        let mut at = self.headers_at;
        for _ in 0..index {
            at = header_spans(&self.bytes, at)?.end;
        }
        let found = header_spans(&self.bytes, at)?;
        Some((&self.bytes[found.name], found.value.map(|span| &self.bytes[span])))
    }
}

/// Records as a source gives them out.
pub struct Entries(pub Vec<Entry>);

impl RecordBatch for Entries {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn record(&self, index: usize) -> RecordRef<'_> {
        self.0[index].view()
    }
}

struct HeaderSpans {
    name: Range<usize>,
    value: Option<Range<usize>>,
    end: usize,
}

fn header_spans(bytes: &[u8], at: usize) -> Option<HeaderSpans> {
    let name_len = u32::from_be_bytes(array(bytes, at)?);
    let value_len = i32::from_be_bytes(array(bytes, at + 4)?);
    let name = at + 8..at + 8 + name_len as usize;
    let value = span(name.end, value_len);
    let end = value.end;
    (end <= bytes.len()).then(|| HeaderSpans { name, value: (value_len >= 0).then_some(value), end })
}

fn span(at: usize, len: i32) -> Range<usize> {
    at..at + usize::try_from(len).unwrap_or(0)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Header;

    #[test]
    fn what_is_written_is_read_back_null_is_not_empty_and_headers_keep_their_order() {
        let kept = vec![
            Header::text("a", "1"),
            Header { name: b"a".to_vec(), value: None },
            Header { name: vec![0xff], value: Some(Vec::new()) },
        ];
        let mut draft = Draft::new();
        draft.push(&NewRecord::plain(None, None), 7);
        draft.push(&NewRecord::plain(Some(b""), Some(b"")), 7);
        draft.push(
            &NewRecord {
                timestamp_ms: 5,
                headers: Headers::Listed(&kept),
                added: &[("b", b"2")],
                ..NewRecord::plain(Some(&[0, 255]), Some(b"v"))
            },
            7,
        );
        let mut cursor = Cursor::open(40, draft.stored(None)).expect("a chunk");
        assert_eq!((cursor.end(), cursor.newest_ms()), (43, 7));
        let mut entries = Vec::new();
        while let Some(entry) = cursor.advance().expect("unbroken") {
            entries.push(entry);
        }
        let batch = Entries(entries);
        assert_eq!((batch.record(0).offset, batch.record(0).key, batch.record(0).value), (40, None, None));
        assert_eq!((batch.record(1).key, batch.record(1).value), (Some(&b""[..]), Some(&b""[..])));
        let last = batch.record(2);
        assert_eq!((last.offset, last.timestamp_ms, last.timestamp_kind), (42, 5, TimestampKind::CreateTime));
        let headers: Vec<_> = last.headers.iter().collect();
        let expected: [(&[u8], Option<&[u8]>); 4] =
            [(b"a", Some(b"1")), (b"a", None), (&[0xff], Some(b"")), (b"b", Some(b"2"))];
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_cut_chunk_is_refused_not_read_past_its_end() {
        let mut draft = Draft::new();
        draft.push(&NewRecord { added: &[("h", b"value")], ..NewRecord::plain(Some(b"key"), Some(b"value")) }, 1);
        let whole = draft.stored(Some(9));
        for len in 0..whole.len() {
            let cut = Cursor::open(0, IVec::from(&whole[..len]));
            assert!(cut.is_none_or(|mut cursor| cursor.advance().is_err()), "cut at {len}");
        }
    }
}

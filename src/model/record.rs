//! One record as the drivers lend it out and as it is written: borrowed bytes, nothing copied.
//!
//! A record is looked at through [`RecordRef`] while its [`RecordBatch`] is alive. Headers stay with the driver until
//! somebody asks for them, because most records are decided without a look at them.

use std::fmt;

/// What the record's timestamp means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampKind {
    /// Set by the producer.
    CreateTime,
    /// Set by the broker when it appended the record.
    AppendTime,
}

/// Access to a record's headers where the driver keeps them. Names and values are bytes; a value may be null.
pub trait HeaderList {
    /// The header at `index`, in the order of the record; `None` past the last one.
    fn header(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)>;
}

/// One header that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name, UTF-8 in every client known to us, kept as bytes.
    pub name: Vec<u8>,
    /// The value; `None` is a null value, which is not the empty one.
    pub value: Option<Vec<u8>>,
}

impl Header {
    /// A header with a text value.
    pub fn text(name: &str, value: &str) -> Self {
        Self { name: name.as_bytes().to_vec(), value: Some(value.as_bytes().to_vec()) }
    }
}

impl HeaderList for [Header] {
    fn header(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        self.get(index).map(|header| (header.name.as_slice(), header.value.as_deref()))
    }
}

impl HeaderList for Vec<Header> {
    fn header(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        self.as_slice().header(index)
    }
}

/// A record's headers, borrowed.
#[derive(Clone, Copy)]
pub enum Headers<'a> {
    /// None at all; known without asking.
    Empty,
    /// As the driver keeps them.
    Listed(&'a dyn HeaderList),
}

impl<'a> Headers<'a> {
    /// All headers in order, duplicates included.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        (0..).map_while(move |index| match self {
            Self::Empty => None,
            Self::Listed(list) => list.header(index),
        })
    }

    /// The last header of that name, which is the one that Kafka's own `lastHeader` gives.
    pub fn last(self, name: &str) -> Option<Option<&'a [u8]>> {
        self.iter().filter(|(found, _)| *found == name.as_bytes()).last().map(|(_, value)| value)
    }
}

impl fmt::Debug for Headers<'_> {
    /// Names only: values are payload and are never logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

/// One fetched record, lent by its batch.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    /// Where it stands in its partition.
    pub offset: i64,
    /// Milliseconds since the epoch; -1 when the record has none.
    pub timestamp_ms: i64,
    /// Who set the timestamp.
    pub timestamp_kind: TimestampKind,
    /// `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In the record's order.
    pub headers: Headers<'a>,
}

impl RecordRef<'_> {
    /// Bytes of key and value; headers are left out because counting them would mean parsing them.
    pub fn body_bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

/// Consecutive records of one partition in offset order (offsets may have holes).
pub trait RecordBatch: Send {
    /// How many records, at least one.
    fn len(&self) -> usize;

    /// The record at `index < len()`.
    fn record(&self, index: usize) -> RecordRef<'_>;

    /// A batch is never empty; here because a `len` without it misleads.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A record to be written: a source record with its headers edited, or one of our own.
#[derive(Clone, Copy)]
pub struct NewRecord<'a> {
    /// Milliseconds since the epoch; -1 lets the broker or the client choose.
    pub timestamp_ms: i64,
    /// `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers that are kept, in order …
    pub headers: Headers<'a>,
    /// … without those of these names …
    pub without: &'a [&'a str],
    /// … followed by these.
    pub added: &'a [(&'a str, &'a [u8])],
}

impl<'a> NewRecord<'a> {
    /// A record of key and value with nothing else.
    pub const fn plain(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { timestamp_ms: -1, key, value, headers: Headers::Empty, without: &[], added: &[] }
    }

    /// The headers as they will be written.
    pub fn written_headers(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let without = self.without;
        self.headers
            .iter()
            .filter(move |(name, _)| !without.iter().any(|dropped| dropped.as_bytes() == *name))
            .chain(self.added.iter().map(|(name, value)| (name.as_bytes(), Some(*value))))
    }
}

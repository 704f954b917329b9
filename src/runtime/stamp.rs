//! What a copy carries besides the record itself (interface §4).

use std::borrow::Cow;

use crate::model::provenance;
use crate::model::record::{NewRecord, RecordRef};
use crate::model::version::Version;
use crate::policy::decide::Verdict;
use crate::policy::extract::{Extracted, Extractor};
use crate::runtime::route::Route;

/// Header values that had to be found out for one record.
#[derive(Default)]
pub struct Values<'a> {
    key: Option<Cow<'a, [u8]>>,
    version: Option<Cow<'a, [u8]>>,
    path: Option<Vec<u8>>,
    /// The topic declares a routing key, and this record has none.
    pub missing_key: bool,
    /// The topic declares a version, and this record has none.
    pub missing_version: bool,
}

/// Finds out what the copy of `record` has to carry.
pub fn values<'a>(route: &Route, record: &RecordRef<'a>, verdict: Verdict) -> Values<'a> {
    let mut values = Values::default();
    if route.stamps_path {
        let visited = match verdict {
            Verdict::Forward => record.headers.last(provenance::PATH).flatten(),
            Verdict::Born { .. } | Verdict::Skip(_) => None,
        };
        values.path = Some(provenance::extended_path(visited, &route.copy.from));
    }
    if verdict == Verdict::Forward {
        return values;
    }
    (values.key, values.missing_key) = missing(route.routing_key.as_ref(), provenance::KEY, record);
    (values.version, values.missing_version) = missing(route.version.as_ref(), provenance::VERSION, record);
    values
}

/// What has to be stamped under `name`, and whether there is nothing to be had.
fn missing<'a>(declared: Option<&Extractor>, name: &str, record: &RecordRef<'a>) -> (Option<Cow<'a, [u8]>>, bool) {
    let Some(extractor) = declared else { return (None, false) };
    // What the producer stamped stands (interface §4), and looking no further spares a look into the body.
    if record.headers.last(name).flatten().is_some() {
        return (None, false);
    }
    match extractor.extract(record) {
        // `ls_version` is a decimal (interface §4); what is none would only mislead whoever compares.
        Extracted::Found(value) if name == provenance::VERSION && Version::parse(&value).is_err() => (None, true),
        Extracted::Found(value) => (Some(value), false),
        Extracted::Missing | Extracted::Unreadable => (None, true),
    }
}

/// The headers to be added to one copy, on the stack.
pub struct Stamped<'a> {
    added: [(&'a str, &'a [u8]); 4],
    count: usize,
    without: &'static [&'static str],
}

impl<'a> Stamped<'a> {
    /// Puts the values together; `origin` for what was born here.
    pub fn new(values: &'a Values<'_>, origin: &'a [u8], verdict: Verdict) -> Self {
        let without: &'static [&'static str] = match verdict {
            Verdict::Born { republished: true } => &[provenance::ORIGIN, provenance::PATH],
            Verdict::Forward => &[provenance::PATH],
            Verdict::Born { republished: false } | Verdict::Skip(_) => &[],
        };
        let mut stamped = Self { added: [("", &[]); 4], count: 0, without };
        if verdict != Verdict::Forward {
            stamped.add(provenance::ORIGIN, origin);
        }
        let found = [
            (provenance::KEY, values.key.as_deref()),
            (provenance::VERSION, values.version.as_deref()),
            (provenance::PATH, values.path.as_deref()),
        ];
        for (name, value) in found {
            if let Some(value) = value {
                stamped.add(name, value);
            }
        }
        stamped
    }

    fn add(&mut self, name: &'a str, value: &'a [u8]) {
        self.added[self.count] = (name, value);
        self.count += 1;
    }

    /// The copy to be written.
    pub fn record<'b>(&'b self, record: &RecordRef<'b>) -> NewRecord<'b> {
        NewRecord {
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
            without: self.without,
            added: &self.added[..self.count],
        }
    }
}

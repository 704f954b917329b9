//! What a link keeps with each committed position, in the 4 KiB of text that Kafka stores beside an offset.
//!
//! `{"i":1,"o":"a1b2","s":{"sh":[1,77]}}`: the incarnation of the source topic, the operator's order carried out last,
//! the newest copy seen of each region. It is committed with the position, so it is never older or newer than it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::names::RegionName;
use crate::model::provenance::StreamOffset;
use crate::policy::decide::Seen;

/// What is remembered with a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which creation of the source topic the offset belongs to, from 1.
    pub incarnation: u32,
    /// The operator's order that was carried out last.
    pub order: Option<String>,
    /// The newest copy seen of each other region.
    pub seen: Seen,
}

#[derive(Serialize, Deserialize)]
struct Text {
    i: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    o: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    s: BTreeMap<String, (u32, i64)>,
}

impl Note {
    /// For a stream in its first incarnation of which nothing is known; `others` regions.
    pub fn first(others: usize) -> Self {
        Self { incarnation: 1, order: None, seen: Seen::none(others) }
    }

    /// As committed; `others` in the order of the seen regions.
    pub fn encode(&self, others: &[RegionName]) -> String {
        let newest = others.iter().enumerate().filter_map(|(index, region)| {
            self.seen.get(index).map(|at| (region.as_str().to_owned(), (at.incarnation, at.offset)))
        });
        let text = Text { i: self.incarnation, o: self.order.clone(), s: newest.collect() };
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// Reads what was committed. Text of another kind (an operator reset the offset with another tool) is a first note:
    /// the position counts, nothing else is known.
    pub fn decode(text: &str, others: &[RegionName]) -> Self {
        let mut note = Self::first(others.len());
        let Ok(text) = serde_json::from_str::<Text>(text) else { return note };
        note.incarnation = text.i.max(1);
        note.order = text.o;
        for (index, region) in others.iter().enumerate() {
            if let Some((incarnation, offset)) = text.s.get(region.as_str()) {
                note.seen.set(index, StreamOffset { incarnation: *incarnation, offset: *offset });
            }
        }
        note
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_as_it_was_written_even_when_a_region_joined() {
        let mut note = Note::first(2);
        note.incarnation = 3;
        note.order = Some("a1".into());
        note.seen.set(1, StreamOffset { incarnation: 2, offset: 77 });
        let text = note.encode(&["bj".into(), "hz".into()]);
        assert_eq!(text, r#"{"i":3,"o":"a1","s":{"hz":[2,77]}}"#);
        assert_eq!(Note::decode(&text, &["bj".into(), "hz".into()]), note);
        let joined = Note::decode(&text, &["ah".into(), "bj".into(), "hz".into()]);
        assert_eq!(joined.seen.get(2), Some(StreamOffset { incarnation: 2, offset: 77 }));
    }

    #[test]
    fn foreign_text_is_a_first_note() {
        for text in ["", "hello", "{}", "[1]"] {
            assert_eq!(Note::decode(text, &["hz".into()]), Note::first(1), "{text:?}");
        }
    }

    #[test]
    fn a_note_of_ten_regions_fits_beside_an_offset() {
        let others: Vec<RegionName> = (0..10).map(|n| RegionName::new(format!("{n:0>32}"))).collect();
        let mut note = Note::first(10);
        note.order = Some("x".repeat(36));
        (0..10).for_each(|n| note.seen.set(n, StreamOffset { incarnation: u32::MAX, offset: i64::MAX }));
        assert!(note.encode(&others).len() < 4096);
    }
}

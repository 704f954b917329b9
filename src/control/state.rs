//! What a reader of a control topic knows: the newest accepted value of each key, and how far it has read.
//!
//! Values arrive twice when this process wrote them: at once from the writer, later from the tail. The offset of each
//! value decides which one is newer, so neither order can bring an old value back. No I/O here.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::broker::{Class, Error};

/// Keys whose refusal is remembered, so that each is logged once.
const REFUSED_KEYS_MAX: usize = 1000;

/// A value and where it stands; `None` is a deletion that the tail has not reached yet.
struct Stored {
    offset: i64,
    value: Option<Arc<Value>>,
}

/// The state of one control topic.
pub struct State {
    entries: BTreeMap<String, Stored>,
    /// The next offset that the tail will read.
    pub(super) position: i64,
    /// Id of the topic that was read.
    pub(super) topic_id: Option<String>,
    /// Whether everything that was there at the start has been read.
    pub(super) caught_up: bool,
    /// Why the topic cannot be read now.
    pub(super) trouble: Option<Error>,
    refused: HashSet<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            position: 0,
            topic_id: None,
            caught_up: false,
            trouble: Some(Error::new(Class::Retry, "read control topic", "not connected yet")),
            refused: HashSet::new(),
        }
    }
}

impl State {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Arc<Value>> {
        self.entries.get(key).and_then(|stored| stored.value.clone())
    }

    /// All keys that begin with `prefix`, in order.
    pub fn prefix(&self, prefix: &str) -> Vec<(String, Arc<Value>)> {
        self.entries
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, stored)| stored.value.clone().map(|value| (key.clone(), value)))
            .collect()
    }

    /// Takes an entry that the tail has read. Whether anything changed.
    pub fn read(&mut self, key: &str, value: Option<Value>, offset: i64) -> bool {
        if self.entries.get(key).is_some_and(|stored| stored.offset > offset) {
            return false;
        }
        match value {
            Some(value) => {
                let seen = self.entries.get(key).is_some_and(|stored| stored.offset == offset);
                self.entries.insert(key.to_owned(), Stored { offset, value: Some(Arc::new(value)) });
                !seen
            }
            None => self.entries.remove(key).is_some_and(|stored| stored.value.is_some()),
        }
    }

    /// Takes an entry that this process has just written. Whether anything changed.
    pub fn wrote(&mut self, key: &str, value: Option<Value>, offset: i64) -> bool {
        let newer = self.entries.get(key).is_some_and(|stored| stored.offset > offset);
        if newer || self.position > offset {
            return false;
        }
        self.entries.insert(key.to_owned(), Stored { offset, value: value.map(Arc::new) });
        true
    }

    /// The topic was deleted and made anew: what is known stays known (a pause must not end because a topic was lost),
    /// but whatever the new one says is newer.
    pub fn forget_offsets(&mut self) {
        for stored in self.entries.values_mut() {
            stored.offset = -1;
        }
        self.position = 0;
    }

    /// Remembers that an entry of this key was refused; whether it is the first time.
    pub fn refuse(&mut self, key: &str) -> bool {
        if self.refused.len() >= REFUSED_KEYS_MAX {
            return false;
        }
        self.refused.insert(key.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_written_here_is_seen_at_once_and_not_undone_by_older_entries() {
        let mut state = State::default();
        assert!(state.wrote("a", Some(json!(2)), 7));
        assert!(!state.read("a", Some(json!(1)), 6), "another writer's older entry, read later");
        assert_eq!(state.get("a").as_deref(), Some(&json!(2)));
        assert!(!state.read("a", Some(json!(2)), 7), "our own, read back: no change");
        assert!(state.read("a", Some(json!(3)), 8));
        state.position = 9;
        assert!(!state.wrote("a", Some(json!(2)), 7), "said late: the tail was faster");
        assert_eq!(state.get("a").as_deref(), Some(&json!(3)));
    }

    #[test]
    fn a_deletion_hides_the_value_before_and_after_it_is_read_back() {
        let mut state = State::default();
        state.read("a", Some(json!(1)), 0);
        assert!(state.wrote("a", None, 1));
        assert_eq!(state.get("a"), None);
        assert!(!state.read("a", Some(json!(1)), 0));
        assert_eq!(state.get("a"), None);
        assert!(!state.read("a", None, 1));
        assert!(state.entries.is_empty());
    }

    #[test]
    fn a_prefix_gives_its_own_keys_only() {
        let mut state = State::default();
        for (offset, key) in ["pause/hz/sh", "pause/hz/sh/t", "pause/hz/shx", "pauses"].into_iter().enumerate() {
            state.read(key, Some(json!(offset)), offset as i64);
        }
        let keys: Vec<String> = state.prefix("pause/hz/sh/").into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["pause/hz/sh/t"]);
        assert_eq!(state.prefix("pause/").len(), 3);
    }

    #[test]
    fn a_recreated_topic_overrides_but_erases_nothing() {
        let mut state = State::default();
        state.read("a", Some(json!(1)), 100);
        state.read("b", Some(json!(1)), 101);
        state.forget_offsets();
        assert!(state.read("a", Some(json!(2)), 0));
        assert_eq!(state.get("a").as_deref(), Some(&json!(2)));
        assert_eq!(state.get("b").as_deref(), Some(&json!(1)));
    }
}

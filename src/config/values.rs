//! The values that keys may have: text, secrets, numbers, durations, lists, maps. Numbers and truth values are read from
//! the text as it was written, so nothing is guessed from a value's looks.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::read::{Definitions, Read, Table, blank_scalars, choice, read_at, scalar};
use super::report::{At, Problems};
use super::tree::{Kind, Node};
use crate::broker::kafka::settings::is_secret;
use crate::model::time::parse_duration;

impl Read for String {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        scalar(node, "text", problems).map(|scalar| scalar.text.clone())
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({"type": "string"})
    }

    fn words() -> String {
        "text".into()
    }
}

/// A value of a broker property: numbers and truth values are taken as they are written.
#[derive(Clone)]
pub(super) struct Property {
    pub text: String,
}

impl Read for Property {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        scalar(node, "a value", problems).map(|scalar| Self { text: scalar.text.clone() })
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({"type": ["string", "number", "boolean"]})
    }

    fn words() -> String {
        "text".into()
    }
}

impl Read for SecretString {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let scalar = scalar(node, "text", problems)?;
        if scalar.text.is_empty() {
            problems.error(node.place, "this secret is empty");
            return None;
        }
        Some(Self::from(scalar.text.clone()))
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({"type": "string"})
    }

    fn words() -> String {
        "secret text".into()
    }

    const SECRET: bool = true;
}

impl Read for bool {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        choice(node, "truth value", &[("true", true), ("false", false)], problems)
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({"type": "boolean"})
    }

    fn words() -> String {
        "`true` \\| `false`".into()
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => { $(
        impl Read for $type {
            fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
                let scalar = scalar(node, "a whole number", problems)?;
                let number = scalar.text.parse().ok();
                if number.is_none() {
                    let size = if scalar.text.parse::<i128>().is_ok() { " that fits here" } else { "" };
                    problems.error(node.place, format!("`{}` is no whole number{size}", scalar.written));
                }
                number
            }

            fn schema(_: &mut Definitions) -> Value {
                json!({"type": "integer"})
            }

            fn words() -> String {
                "whole number".into()
            }
        }
    )* };
}

whole_numbers!(i32, i64, u32, u64);

impl Read for Duration {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let scalar = scalar(node, "a duration", problems)?;
        let duration = parse_duration(&scalar.text).ok();
        if duration.is_none() {
            problems.error_with(
                node.place,
                format!("`{}` is no duration", scalar.written),
                Some("a whole number with a unit: `100ms`, `10s`, `5m`, `12h`, `7d`".into()),
            );
        }
        duration
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$|^\\$\\{"})
    }

    fn words() -> String {
        "duration".into()
    }
}

impl<T: Read> Read for Vec<At<T>> {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            problems.error(node.place, format!("a list is expected, and this is {}", node.describe()));
            return None;
        };
        Some(items.iter().filter_map(|item| read_at(item, problems)).collect())
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({"type": "array", "items": T::schema(definitions)})
    }

    fn words() -> String {
        format!("list of {}", plural(&T::words()))
    }

    fn tables(path: &str, tables: &mut Vec<Table>) {
        T::tables(&format!("{path}[]"), tables);
    }
}

fn plural(words: &str) -> String {
    match words {
        "map" => "maps".into(),
        "text" => "texts".into(),
        other => other.to_owned(),
    }
}

/// A map whose keys the user chooses.
#[derive(Clone)]
pub(super) struct Named<T>(pub Vec<(At<String>, Option<At<T>>)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            problems.error(node.place, format!("a map is expected, and this is {}", node.describe()));
            return None;
        };
        let entries = entries.iter().map(|(key, value)| {
            if is_secret(&key.text) {
                blank_scalars(value, problems);
            }
            (At { value: key.text.clone(), place: key.place }, read_at(value, problems))
        });
        Some(Self(entries.collect()))
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({"type": "object", "additionalProperties": T::schema(definitions)})
    }

    fn words() -> String {
        format!("map of {}", plural(&T::words()))
    }

    fn tables(path: &str, tables: &mut Vec<Table>) {
        T::tables(&format!("{path}.NAME"), tables);
    }
}

/// A folder, or a list of files.
#[derive(Clone)]
pub(super) enum Paths {
    Folder(String),
    Files(Vec<At<String>>),
}

impl Read for Paths {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => Read::read(node, problems).map(Self::Files),
            _ => scalar(node, "a folder or a list of files", problems).map(|scalar| Self::Folder(scalar.text.clone())),
        }
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }

    fn words() -> String {
        "folder, or list of files".into()
    }
}

/// Text that is looked at later: a time, a number or a duration. Keeps what may be shown.
#[derive(Clone)]
pub(super) struct Word {
    pub text: String,
    pub written: String,
}

impl Read for Word {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        scalar(node, "text", problems).map(|scalar| Self { text: scalar.text.clone(), written: scalar.written.clone() })
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({"type": ["string", "integer"]})
    }

    fn words() -> String {
        "text".into()
    }
}

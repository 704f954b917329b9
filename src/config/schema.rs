//! The JSON Schemas of the three kinds of files, and the tables of `docs/configuration.md`, from the same declarations
//! that read the files.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::raw;
use super::read::{Need, Read, Table};

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `longshore.yaml`
    Bridge,
    /// `topics/*.yaml`
    Topic,
    /// `rules/*.yaml`
    Rules,
}

/// The JSON Schema (draft 2020-12) of one kind of file.
pub fn json_schema(kind: FileKind) -> Value {
    let mut definitions = Map::new();
    let (name, title) = match kind {
        FileKind::Bridge => (raw::Bridge::schema(&mut definitions), "Longshore bridge file"),
        FileKind::Topic => (raw::TopicFile::schema(&mut definitions), "Longshore topic file"),
        FileKind::Rules => (raw::RuleFile::schema(&mut definitions), "Longshore rule file"),
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "$ref": name["$ref"],
        "$defs": definitions,
    })
}

/// The tables of `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = String::new();
    let kinds: [(&str, Collect); 3] = [
        ("The bridge file", raw::Bridge::tables),
        ("Topic files", raw::TopicFile::tables),
        ("Rule files", raw::RuleFile::tables),
    ];
    for (title, collect) in kinds {
        let mut tables = Vec::new();
        collect("", &mut tables);
        for table in tables {
            write_table(title, &table, &mut text);
        }
    }
    text
}

type Collect = fn(&str, &mut Vec<Table>);

fn write_table(title: &str, table: &Table, text: &mut String) {
    let heading = if table.path.is_empty() { format!("## {title}") } else { format!("### `{}`", table.path) };
    let mut lines = vec![heading, String::new(), table.doc.clone(), String::new()];
    lines.push("| key | type | default | meaning |".into());
    lines.push("|---|---|---|---|".into());
    lines.extend(table.rows.iter().map(|row| {
        let default = match row.need {
            Need::Required => "**required**".to_owned(),
            Need::Optional => "–".into(),
            Need::Default(value) => format!("`{value}`"),
            Need::Otherwise(words) => words.to_owned(),
        };
        format!("| `{}` | {} | {default} | {} |", row.key, row.words, row.doc)
    }));
    for line in lines {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{line}");
    }
    text.push('\n');
}

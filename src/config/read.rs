//! From the tree to raw types, going on after every problem; the same declarations give the JSON Schema and the tables
//! of `docs/configuration.md`, so the three cannot disagree. What the values mean is not looked at here.

use serde_json::{Map, Value, json};

use super::report::{At, Place, Problems, did_you_mean, nearest};
use super::tree::{Kind, Node, Scalar};

/// Named parts of a JSON Schema.
pub(super) type Definitions = Map<String, Value>;

/// A type that can be read from the tree.
pub(super) trait Read: Sized {
    /// `None`: it has been reported.
    fn read(node: &Node, problems: &mut Problems) -> Option<Self>;

    /// Its JSON Schema; objects are put into `definitions` and referred to.
    fn schema(definitions: &mut Definitions) -> Value;

    /// What the documentation calls it.
    fn words() -> String;

    /// The tables of the objects inside, where they stand under `path`.
    fn tables(_path: &str, _tables: &mut Vec<Table>) {}

    /// Whether lines that hold it are blanked.
    const SECRET: bool = false;
}

/// One object in the documentation.
pub(super) struct Table {
    pub path: String,
    pub doc: String,
    pub rows: Vec<Row>,
}

/// One key of an object.
pub(super) struct Row {
    pub key: &'static str,
    pub words: String,
    pub need: Need,
    pub doc: String,
}

/// What happens when a key is left out.
#[derive(Clone, Copy)]
pub(super) enum Need {
    Required,
    Optional,
    /// A YAML value.
    Default(&'static str),
    /// In words.
    Otherwise(&'static str),
}

/// Lines of a doc comment as one text.
pub(super) fn joined(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// The JSON Schema of one key.
pub(super) fn field_schema(schema: Value, doc: &str, need: Need) -> Value {
    let mut field = match schema {
        Value::Object(object) if !object.contains_key("$ref") => object,
        reference => Map::from_iter([("allOf".to_owned(), json!([reference]))]),
    };
    field.insert("description".into(), json!(doc));
    if let Need::Default(text) = need {
        field.insert("default".into(), default_value(text));
    }
    Value::Object(field)
}

/// Defaults are written as they would stand in the file: whole numbers, truth values, `{}`, `[…]`, text.
fn default_value(text: &str) -> Value {
    let bare = text.trim_matches('"');
    serde_json::from_str(bare).unwrap_or_else(|_| match bare.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(items) => json!(items.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>()),
        None => json!(bare),
    })
}

/// The keys of one object, each to be taken once.
pub(super) struct Fields<'a> {
    node: &'a Node,
    entries: &'a [(super::tree::Key, Node)],
    /// Keys that were there and could not be read, or that a misspelt one meant.
    pub faulty: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Reports what is no map, and every key that is not among `keys` (name, whether it is a secret).
    pub fn of(node: &'a Node, what: &str, keys: &[(&'static str, bool)], problems: &mut Problems) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            problems.error_with(
                node.place,
                match node.is_null() {
                    true => format!("{what} is a map, and there is none"),
                    false => format!("{what} is a map, and this is {}", node.describe()),
                },
                Some(format!("its keys: {}", super::report::listed(keys.iter().map(|(key, _)| *key)))),
            );
            return None;
        };
        let mut faulty = Vec::new();
        for (key, value) in entries.iter().filter(|(key, _)| !keys.iter().any(|(known, _)| *known == key.text)) {
            let names = keys.iter().map(|(known, _)| *known);
            let near = nearest(&key.text, names.clone());
            faulty.extend(near);
            let meant_secret = keys.iter().any(|(known, secret)| *secret && Some(*known) == near);
            if meant_secret || looks_secret(&key.text) {
                blank_scalars(value, problems);
            }
            problems.error_with(
                key.place,
                format!("unknown key `{}` in {what}", key.text),
                did_you_mean(&key.text, names),
            );
        }
        Some(Self { node, entries, faulty })
    }

    /// Reads one key. A key without a value counts as left out.
    pub fn take<T: Read>(&mut self, key: &'static str, required: bool, problems: &mut Problems) -> Option<At<T>> {
        let found = self.entries.iter().find(|(known, _)| known.text == key);
        let Some((_, value)) = found.filter(|(_, value)| !value.is_null()) else {
            if required && !self.faulty.contains(&key) {
                let (place, message) = match found {
                    Some((key, _)) => (key.place, format!("`{}` has no value", key.text)),
                    None => (self.first_place(), format!("`{key}` is missing")),
                };
                problems.error(place, message);
            }
            return None;
        };
        if T::SECRET {
            blank_scalars(value, problems);
        }
        let read = read_at(value, problems);
        if read.is_none() {
            self.faulty.push(key);
        }
        read
    }

    fn first_place(&self) -> Place {
        self.entries.first().map_or(self.node.place, |(key, _)| key.place)
    }
}

fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "passphrase", "credential", "_key", "key.pem"]
        .iter()
        .any(|part| key.contains(part) && key != "routing_key" && key != "idempotency_key")
}

/// Keeps literal secrets out of the lines shown.
pub(super) fn blank_scalars(node: &Node, problems: &mut Problems) {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.is_null() || scalar.text != scalar.written => {}
        Kind::Scalar(_) => problems.blank(node.place),
        Kind::List(items) => items.iter().for_each(|item| blank_scalars(item, problems)),
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| blank_scalars(value, problems)),
    }
}

/// Reads a value together with its place.
pub(super) fn read_at<T: Read>(node: &Node, problems: &mut Problems) -> Option<At<T>> {
    T::read(node, problems).map(|value| At { value, place: node.place })
}

/// The scalar, or a report that `wanted` was expected.
pub(super) fn scalar<'a>(node: &'a Node, wanted: &str, problems: &mut Problems) -> Option<&'a Scalar> {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.broken => None,
        Kind::Scalar(scalar) if !scalar.is_null() => Some(scalar),
        _ => {
            problems.error(node.place, format!("{wanted} is expected, and this is {}", node.describe()));
            None
        }
    }
}

/// Reads one word out of a choice.
pub(super) fn choice<T: Copy>(
    node: &Node,
    what: &str,
    choices: &[(&'static str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let text = scalar(node, what, problems)?;
    let found = choices.iter().find(|(name, _)| *name == text.text);
    if found.is_none() {
        problems.error_with(
            node.place,
            format!("`{}` is no {what}", text.written),
            match nearest(&text.text, choices.iter().map(|(name, _)| *name)).filter(|_| text.text == text.written) {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None => Some(format!("one of {}", super::report::listed(choices.iter().map(|(name, _)| *name)))),
            },
        );
    }
    found.map(|(_, value)| *value)
}

/// Declares objects of the files: fields, reader, JSON Schema and documentation at once.
macro_rules! objects {
    ($(
        #[what($what:literal)]
        $(#[doc = $doc:literal])*
        struct $name:ident { $(
            $(#[doc = $field_doc:literal])*
            $key:literal $field:ident: $type:ty, $need:expr;
        )* }
    )*) => { $(
        $(#[doc = $doc])*
        #[derive(Clone, Default)]
        pub(super) struct $name { $(
            $(#[doc = $field_doc])*
            pub $field: Option<At<$type>>,
        )*
            /// Keys that are there and could not be read, which has been reported.
            #[allow(dead_code, reason = "not every object has keys that others depend on")]
            pub faulty: Vec<&'static str>,
        }

        impl Read for $name {
            fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
                let keys = [$(($key, <$type as Read>::SECRET)),*];
                let mut fields = Fields::of(node, $what, &keys, problems)?;
                Some(Self { $(
                    $field: fields.take::<$type>($key, matches!($need, Need::Required), problems),
                )*
                    faulty: fields.faulty,
                })
            }

            fn schema(definitions: &mut Definitions) -> Value {
                if !definitions.contains_key(stringify!($name)) {
                    // Reserved first: an object may hold itself.
                    definitions.insert(stringify!($name).into(), Value::Null);
                    let mut properties = Definitions::new();
                    let mut required: Vec<&str> = Vec::new();
                    $(
                        let doc = joined(&[$($field_doc),*]);
                        properties.insert($key.into(), field_schema(<$type as Read>::schema(definitions), &doc, $need));
                        if matches!($need, Need::Required) {
                            required.push($key);
                        }
                    )*
                    definitions.insert(stringify!($name).into(), json!({
                        "type": "object",
                        "description": joined(&[$($doc),*]),
                        "properties": properties,
                        "required": required,
                        "additionalProperties": false,
                    }));
                }
                json!({"$ref": concat!("#/$defs/", stringify!($name))})
            }

            fn words() -> String {
                "map".into()
            }

            fn tables(path: &str, tables: &mut Vec<Table>) {
                tables.push(Table {
                    path: path.to_owned(),
                    doc: joined(&[$($doc),*]),
                    rows: vec![$(Row {
                        key: $key,
                        words: <$type as Read>::words(),
                        need: $need,
                        doc: joined(&[$($field_doc),*]),
                    }),*],
                });
                $(
                    let inner = if path.is_empty() { $key.to_owned() } else { format!("{path}.{}", $key) };
                    <$type as Read>::tables(&inner, tables);
                )*
            }
        }
    )* };
}

/// Declares words to choose from, for enums that exist.
macro_rules! choices {
    ($( #[what($what:literal)] $type:ty { $($name:literal => $value:expr, $doc:literal;)* } )*) => { $(
        impl Read for $type {
            fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
                choice(node, $what, &[$(($name, $value)),*], problems)
            }

            fn schema(_: &mut Definitions) -> Value {
                json!({"oneOf": [$({"const": $name, "description": $doc}),*]})
            }

            fn words() -> String {
                [$(concat!("`", $name, "`")),*].join(" \\| ")
            }
        }
    )* };
}

pub(super) use {choices, objects};

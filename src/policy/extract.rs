//! Finds the routing key and the version in a record, as its topic declares.
//!
//! Compiled once per topic; in the common cases (a header, the key, a string or number in a body) nothing is allocated
//! per record. A body is scanned, never built as a tree, and how deep it nests does not matter to the stack.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::model::record::RecordRef;
use crate::policy::subscription::Extract;

/// What was found where the topic says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extracted<'a> {
    /// The value as bytes of UTF-8 text.
    Found(Cow<'a, [u8]>),
    /// There is nothing there: no such header, a null key, no such place in the body, a null or a composite in it.
    Missing,
    /// There is something that is no text, or the body is no JSON.
    Unreadable,
}

/// A declaration, compiled once.
#[derive(Clone, Debug)]
pub enum Extractor {
    /// The last header of that name.
    Header(String),
    /// The record key.
    RecordKey,
    /// The tokens of a JSON pointer.
    Json(Vec<String>),
    /// The record's timestamp.
    Timestamp,
}

impl Extractor {
    /// Compiles a declaration.
    pub fn new(extract: &Extract) -> Self {
        match extract {
            Extract::Header(name) => Self::Header(name.clone()),
            Extract::RecordKey => Self::RecordKey,
            Extract::Timestamp => Self::Timestamp,
            Extract::Json(pointer) => Self::Json(
                pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect(),
            ),
        }
    }

    /// Finds the value in a record. A body is read as a stream: no tree of it is built, and text without escapes is lent.
    pub fn extract<'a>(&self, record: &RecordRef<'a>) -> Extracted<'a> {
        match self {
            Self::Header(name) => record.headers.last(name).flatten().map_or(Extracted::Missing, text),
            Self::RecordKey => record.key.map_or(Extracted::Missing, text),
            Self::Json(tokens) => record.value.map_or(Extracted::Missing, |body| json(body, tokens)),
            Self::Timestamp if record.timestamp_ms < 0 => Extracted::Missing,
            Self::Timestamp => Extracted::Found(Cow::Owned(record.timestamp_ms.to_string().into_bytes())),
        }
    }
}

fn text(bytes: &[u8]) -> Extracted<'_> {
    if std::str::from_utf8(bytes).is_ok() { Extracted::Found(Cow::Borrowed(bytes)) } else { Extracted::Unreadable }
}

fn json<'a>(body: &'a [u8], tokens: &[String]) -> Extracted<'a> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    match (Place { tokens }).deserialize(&mut reader).and_then(|found| reader.end().map(|()| found)) {
        Ok(Some(found)) => Extracted::Found(found),
        Ok(None) => Extracted::Missing,
        Err(_) => Extracted::Unreadable,
    }
}

/// The rest of a pointer, to be followed in what comes next.
#[derive(Clone, Copy)]
struct Place<'t> {
    tokens: &'t [String],
}

type Found<'de> = Option<Cow<'de, [u8]>>;

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Found<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.tokens.is_empty() {
            let raw = <&RawValue>::deserialize(deserializer)?;
            return scalar(raw.get()).map_err(serde::de::Error::custom);
        }
        deserializer.deserialize_any(self)
    }
}

/// The text of a scalar as it stands in the body: numbers keep every digit, whatever fits into a float.
fn scalar(raw: &str) -> serde_json::Result<Found<'_>> {
    Ok(match raw.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Some(Cow::Borrowed(inner)),
        [b'"', ..] => Some(Cow::Owned(serde_json::from_str::<String>(raw)?.into_bytes())),
        [b'n' | b'{' | b'[', ..] => None,
        literal => Some(Cow::Borrowed(literal)),
    })
}

/// Reads a name only to see whether it is this one; nothing is kept of it.
struct NameIs<'t>(&'t str);

impl<'de> DeserializeSeed<'de> for NameIs<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// Called with tokens left to follow only, so that there is nothing to be found in a scalar.
impl<'de> Visitor<'de> for Place<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let [token, rest @ ..] = self.tokens else { return Ok(None) };
        let mut found = None;
        while let Some(is_wanted) = map.next_key_seed(NameIs(token))? {
            if is_wanted {
                // Of a repeated name the last one counts, as in most readers.
                found = map.next_value_seed(Place { tokens: rest })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let wanted = self.tokens.first().and_then(|token| index(token));
        let (mut found, mut at) = (None, 0);
        loop {
            if Some(at) == wanted {
                match seq.next_element_seed(Place { tokens: &self.tokens[1..] })? {
                    Some(element) => found = element,
                    None => return Ok(found),
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }
}

/// An array index of RFC 6901: digits without leading zeros.
fn index(token: &str) -> Option<usize> {
    let is_canonical = token == "0" || !token.starts_with('0');
    token.parse().ok().filter(|_| is_canonical && token.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::record::{Header, Headers, TimestampKind};

    fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>, headers: Headers<'a>) -> RecordRef<'a> {
        RecordRef { offset: 0, timestamp_ms: 17, timestamp_kind: TimestampKind::CreateTime, key, value, headers }
    }

    fn from_body(pointer: &str, body: &[u8]) -> Extracted<'static> {
        match Extractor::new(&Extract::Json(pointer.to_owned())).extract(&record(None, Some(body), Headers::Empty)) {
            Extracted::Found(value) => Extracted::Found(Cow::Owned(value.into_owned())),
            Extracted::Missing => Extracted::Missing,
            Extracted::Unreadable => Extracted::Unreadable,
        }
    }

    fn found(text: &str) -> Extracted<'static> {
        Extracted::Found(Cow::Owned(text.as_bytes().to_vec()))
    }

    #[test]
    fn the_last_header_of_the_name_counts() {
        let headers = vec![Header::text("k", "1"), Header::text("k", "2"), Header { name: b"n".to_vec(), value: None }];
        let record = record(None, None, Headers::Listed(&headers));
        let by = |name: &str| Extractor::new(&Extract::Header(name.to_owned())).extract(&record);
        assert_eq!((by("k"), by("n"), by("x")), (found("2"), Extracted::Missing, Extracted::Missing));
    }

    #[test]
    fn the_record_key_and_the_timestamp_are_found() {
        let by_key = |key| Extractor::new(&Extract::RecordKey).extract(&record(key, None, Headers::Empty));
        assert_eq!(by_key(Some(&b"a"[..])), found("a"));
        assert_eq!(by_key(None), Extracted::Missing);
        assert_eq!(by_key(Some(&b"\xff"[..])), Extracted::Unreadable);
        assert_eq!(Extractor::new(&Extract::Timestamp).extract(&record(None, None, Headers::Empty)), found("17"));
    }

    #[test]
    fn a_pointer_finds_scalars_wherever_they_are() {
        let body = br#"{"buyer":{"id":10086,"n":"J\u00fcrgen","p":"plain"},"l":[{"x":true},-2.5,[0]],"a/b":1,"m~n":2,"":3,"z":null}"#;
        for (pointer, expected) in [
            ("/buyer/id", found("10086")),
            ("/buyer/n", found("J\u{fc}rgen")),
            ("/buyer/p", found("plain")),
            ("/l/0/x", found("true")),
            ("/l/1", found("-2.5")),
            ("/l/2/0", found("0")),
            ("/l/01", Extracted::Missing),
            ("/l/9", Extracted::Missing),
            ("/a~1b", found("1")),
            ("/m~0n", found("2")),
            ("/", found("3")),
            ("/z", Extracted::Missing),
            ("/buyer", Extracted::Missing),
            ("", Extracted::Missing),
            ("/buyer/id/x", Extracted::Missing),
        ] {
            assert_eq!(from_body(pointer, body), expected, "{pointer}");
        }
    }

    #[test]
    fn numbers_keep_their_text() {
        let body = br#"{"a":98765432109876543210,"b":1.50,"c":1e3,"d":-0,"e":"1.50","f":1e999}"#;
        for (pointer, expected) in [
            ("/a", "98765432109876543210"),
            ("/b", "1.50"),
            ("/c", "1e3"),
            ("/d", "-0"),
            ("/e", "1.50"),
            ("/f", "1e999"),
        ] {
            assert_eq!(from_body(pointer, body), found(expected), "{pointer}");
        }
    }

    #[test]
    fn of_a_repeated_name_the_last_counts_also_when_it_is_no_scalar() {
        assert_eq!(from_body("/k", br#"{"k":1,"k":2}"#), found("2"));
        assert_eq!(from_body("/k/x", br#"{"k":{"x":1},"k":{"x":2}}"#), found("2"));
        assert_eq!(from_body("/k", br#"{"k":1,"k":{}}"#), Extracted::Missing);
        assert_eq!(from_body("/k/x", br#"{"k":{"x":1},"k":2}"#), Extracted::Missing);
    }

    #[test]
    fn escaped_names_are_found_and_broken_escapes_are_unreadable() {
        assert_eq!(from_body("/k", br#"{"\u006b":1}"#), found("1"));
        assert_eq!(from_body("/k", br#"{"k":"\ud800"}"#), Extracted::Unreadable);
        assert_eq!(from_body("/k", br#"{"k":"a\"b"}"#), found("a\"b"));
        assert_eq!(from_body("/k", br#"{"k":""}"#), found(""));
    }

    #[test]
    fn a_large_or_deep_body_is_scanned_without_a_stack_of_its_depth() {
        let large = format!(r#"{{"pad":"{}","k":7}}"#, "x".repeat(4 << 20));
        assert_eq!(from_body("/k", large.as_bytes()), found("7"));
        let deep = format!(r#"{{"pad":{}{},"k":7}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(from_body("/k", deep.as_bytes()), found("7"));
        let pointer = "/a".repeat(100_000);
        let nested = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        assert_eq!(from_body(&pointer, nested.as_bytes()), Extracted::Unreadable, "deeper than 127 is not followed");
    }

    #[test]
    fn what_is_no_json_is_unreadable_however_it_begins() {
        let nested = "[".repeat(200_000);
        for body in ["", "{", r#"{"k":1"#, r#"{"k":1} x"#, "\u{0}", "{\"k\":\"\u{1}\"}", nested.as_str()] {
            assert_eq!(from_body("/k", body.as_bytes()), Extracted::Unreadable, "{}", &body[..body.len().min(20)]);
        }
        assert_eq!(from_body("/k", b"{\"k\":\"\xff\"}"), Extracted::Unreadable);
    }

    #[test]
    fn a_tombstone_has_no_key() {
        let extractor = Extractor::new(&Extract::Json("/k".to_owned()));
        assert_eq!(extractor.extract(&record(None, None, Headers::Empty)), Extracted::Missing);
    }

    fn tree() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            "[a-c\"\\\\é]{0,3}".prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-c/~0]{0,2}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_a_tree_would(tree in tree(), tokens in prop::collection::vec("[a-c/~0-2]{0,2}", 0..4)) {
            let pointer: String = tokens.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect();
            let expected = match tree.pointer(&pointer) {
                Some(serde_json::Value::String(text)) => found(text),
                Some(value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => found(&value.to_string()),
                _ => Extracted::Missing,
            };
            prop_assert_eq!(from_body(&pointer, tree.to_string().as_bytes()), expected);
        }
    }
}

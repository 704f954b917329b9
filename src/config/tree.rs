//! A YAML document as a tree in which every key and every value knows its place.
//!
//! A typed deserialiser stops at the first surprise; this tree lets the reader go on and report all of them. Scalars
//! keep the text as it was written, so `no` and `1.10` stay what the user meant. Built from granit-parser's events.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::report::{Place, Problems};

/// A value in the document.
#[derive(Clone)]
pub(super) struct Node {
    pub place: Place,
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// Text, a number, a truth value, nothing.
#[derive(Clone)]
pub(super) struct Scalar {
    /// With `${…}` replaced.
    pub text: String,
    /// As it stands in the file: what may be shown.
    pub written: String,
    /// Neither quoted nor a block.
    pub plain: bool,
    /// A reference in it leads nowhere, which has been reported.
    pub broken: bool,
}

impl Scalar {
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.written.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// A key of a map.
#[derive(Clone)]
pub(super) struct Key {
    pub text: String,
    pub place: Place,
}

impl Node {
    /// What the value is, for messages.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Scalar(scalar) if scalar.is_null() => "nothing".into(),
            Kind::Scalar(scalar) => format!("`{}`", scalar.written),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.is_null())
    }

    /// Visits every scalar below.
    pub fn scalars_mut(&mut self, visit: &mut impl FnMut(Place, &mut Scalar)) {
        match &mut self.kind {
            Kind::Scalar(scalar) => visit(self.place, scalar),
            Kind::List(items) => items.iter_mut().for_each(|item| item.scalars_mut(visit)),
            Kind::Map(entries) => entries.iter_mut().for_each(|(_, value)| value.scalars_mut(visit)),
        }
    }
}

/// Values in one file, aliases unfolded; more is an attack or a mistake.
const NODES_MAX: usize = 500_000;

/// Reads one document. `None` when it is no YAML; the reason is among the problems then.
pub(super) fn parse(text: &str, file: usize, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder { file, problems, anchors: HashMap::new(), open: Vec::new(), root: None, nodes: 0 };
    for next in Parser::new_from_str(text) {
        let outcome = match next {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let place = Place { file, ..point(*error.marker()) };
                let flow = error.info().contains("flow");
                let hint = flow.then(|| "a bracket or a quote before this place may not be closed".to_owned());
                builder.problems.error_with(place, format!("this is no valid YAML: {}", error.info()), hint);
                Err(())
            }
        };
        if outcome.is_err() {
            return None;
        }
    }
    let root = builder.root.take();
    if root.is_none() {
        problems.error(Place::file(file), "the file is empty");
    }
    root
}

/// A collection that is being filled.
struct Open {
    place: Place,
    anchor: usize,
    items: Vec<Node>,
    /// `None` for a list.
    map: Option<Entries>,
}

#[derive(Default)]
struct Entries {
    entries: Vec<(Key, Node)>,
    names: HashSet<String>,
    pending: Option<Option<Key>>,
}

struct Builder<'a> {
    file: usize,
    problems: &'a mut Problems,
    anchors: HashMap<usize, Node>,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
}

impl Builder<'_> {
    /// An error ends the reading of this file; it has been reported.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), ()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let place = self.place(span);
                let forced = tag.as_ref().is_some_and(|tag| tag.core_suffix() == Some("str"));
                if tag.is_some_and(|tag| tag.is_custom()) {
                    self.problems.error(place, "tags (`!…`) are not supported");
                }
                let plain = style == ScalarStyle::Plain && !forced;
                let text = text.into_owned();
                let scalar = Scalar { written: text.clone(), text, plain, broken: false };
                self.add(Node { place, kind: Kind::Scalar(scalar) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(span, anchor, None),
            Event::MappingStart(_, anchor, _) => self.begin(span, anchor, Some(Entries::default())),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Err(()) };
                let kind = match open.map {
                    Some(map) => Kind::Map(map.entries),
                    None => Kind::List(open.items),
                };
                self.add(Node { place: open.place, kind }, open.anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.nodes += count(&node);
                    self.add(node, 0)
                }
                None => {
                    let place = self.place(span);
                    self.problems.error(place, "this alias refers to itself");
                    Err(())
                }
            },
            Event::DocumentStart(..) if self.root.is_some() => {
                let place = self.place(span);
                self.problems.error_with(
                    place,
                    "a second document begins here",
                    Some("one file holds one document: put the rest into a file of its own".into()),
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, span: Span, anchor: usize, map: Option<Entries>) -> Result<(), ()> {
        let place = Place { file: self.file, ..point(span.start) };
        self.open.push(Open { place, anchor, items: Vec::new(), map });
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), ()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            self.problems.error(node.place, format!("more than {NODES_MAX} values in one file"));
            return Err(());
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        let Some(map) = &mut open.map else {
            open.items.push(node);
            return Ok(());
        };
        match map.pending.take() {
            None => map.pending = Some(key(node, &map.names, self.problems)),
            Some(None) => {}
            Some(Some(key)) => {
                // An empty value has no text to point at; its key has.
                let place = if node.is_null() { key.place } else { node.place };
                map.names.insert(key.text.clone());
                map.entries.push((key, Node { place, ..node }));
            }
        }
        Ok(())
    }

    fn place(&self, span: Span) -> Place {
        // A block ends where the next line begins.
        let beyond = usize::from(span.end.col() == 0 && span.end.line() > span.start.line());
        let lines = span.end.line().saturating_sub(span.start.line() + beyond) + 1;
        let width = if lines == 1 { span.end.col().saturating_sub(span.start.col()) } else { 1 };
        Place { file: self.file, width: width.max(1), lines, ..point(span.start) }
    }
}

/// A key that can be used, or none; the reason is among the problems then.
fn key(node: Node, names: &HashSet<String>, problems: &mut Problems) -> Option<Key> {
    let Kind::Scalar(scalar) = node.kind else {
        problems.error(node.place, "a key must be text");
        return None;
    };
    if scalar.plain && scalar.text == "<<" {
        problems.error(node.place, "merge keys (`<<`) are not supported");
        return None;
    }
    if names.contains(&scalar.text) {
        problems.error(node.place, format!("`{}` stands here twice", scalar.text));
        return None;
    }
    Some(Key { text: scalar.text, place: node.place })
}

fn count(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Scalar(_) => 0,
        Kind::List(items) => items.iter().map(count).sum(),
        Kind::Map(entries) => entries.iter().map(|(_, value)| count(value)).sum(),
    }
}

fn point(marker: Marker) -> Place {
    Place { file: 0, line: marker.line(), column: marker.col() + 1, width: 1, lines: 1 }
}

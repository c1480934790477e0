//! This file reads YAML as Go's `yaml.v3` does, which Compose uses, down to the types of scalars.
//!
//! Documents become trees. An alias is a shared reference to the node that it names, and each node knows its
//! line. Nothing is copied; instead, the nodes for which aliases stand are counted, and their number is
//! bounded.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Tag as YamlTag};

use super::bounds::{ALIASED_NODES, YAML_DEPTH};

/// A node of a document.
pub(super) struct Node {
    /// The line that it begins on, from 1.
    pub(super) line: usize,
    /// Its tag.
    pub(super) tag: Tag,
    /// The contents of the node.
    pub(super) value: Value,
    /// The number of nodes in this subtree. A node counts as often as aliases name it.
    pub(super) size: usize,
}

/// The contents of a node.
pub(super) enum Value {
    /// A scalar.
    Scalar {
        /// The text as it is written, without quotes.
        text: String,
        /// Whether it is written without quotes.
        is_plain: bool,
    },
    /// A sequence.
    List(Vec<Rc<Node>>),
    /// A mapping, before the entries that `<<` names are merged into it.
    Map(Vec<(Rc<Node>, Rc<Node>)>),
    /// The value of a key that occurs twice in its mapping. Compose refuses both.
    Broken,
}

/// The tags that make a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// The node has no tag.
    None,
    /// One of YAML's own types, such as `!!int`.
    Typed,
    /// `!!str`.
    Text,
    /// `!reset`, by which Compose removes the value.
    Reset,
    /// `!override`, by which Compose replaces the value.
    Override,
    /// Another tag. A scalar with such a tag is text.
    Other,
}

/// A scalar with its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    /// Nothing.
    Null,
    /// A truth value.
    Bool,
    /// A whole number.
    Int(i64),
    /// Another number, or one too large.
    Float(f64),
    /// Text.
    Text(&'a str),
}

/// A part of a document that Compose refuses but that can still be read: a line and the reason.
pub(super) type Fault = (usize, String);

/// The documents of a file, and the parts that Compose refuses.
pub(super) type Documents = (Vec<Rc<Node>>, Vec<Fault>);

/// The reason why a text is not readable YAML: the line, if it is known, and the reason.
pub(super) type NotYaml = (Option<usize>, String);

/// Returns the documents of a file, and the parts that Compose refuses.
///
/// # Errors
///
/// Returns the reason in words, with the line if it is known, when the text is not YAML or its aliases stand
/// for too much.
pub(super) fn parse(text: &str) -> Result<Documents, NotYaml> {
    let mut options = granit_parser::options! {
        flow_nesting_limit: YAML_DEPTH,
        block_nesting_limit: YAML_DEPTH,
    };
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        // The error's own words may show what the file holds.
        let (event, span) =
            event.map_err(|err| (Some(err.marker().line()), "is not YAML that can be read".to_owned()))?;
        builder.add(event, span.start.line())?;
    }
    Ok((builder.documents, builder.faults))
}

/// A list or a mapping that is not yet complete.
struct Open {
    line: usize,
    tag: Tag,
    anchor: usize,
    is_map: bool,
    /// The keys and values of a mapping, alternating.
    children: Vec<Rc<Node>>,
}

/// Builds trees from events.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    aliased: usize,
    documents: Vec<Rc<Node>>,
    faults: Vec<Fault>,
}

impl Builder {
    fn add(&mut self, event: Event<'_>, line: usize) -> Result<(), NotYaml> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = Value::Scalar { text: text.into_owned(), is_plain: style == ScalarStyle::Plain };
                self.close(Node { line, tag: tag_of(tag.as_deref()), value, size: 1 }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                let tag = tag_of(tag.as_deref());
                self.open.push(Open { line, tag, anchor, is_map: false, children: Vec::new() });
            }
            Event::MappingStart(_, anchor, tag) => {
                let tag = tag_of(tag.as_deref());
                self.open.push(Open { line, tag, anchor, is_map: true, children: Vec::new() });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let (node, anchor) = self.complete(open);
                self.close(node, anchor);
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err((Some(line), "has an alias inside the node that it names".to_owned()));
                };
                self.aliased = self.aliased.saturating_add(node.size);
                if self.aliased > ALIASED_NODES {
                    return Err((Some(line), format!("has aliases that stand for more than {ALIASED_NODES} nodes")));
                }
                self.attach(node);
            }
            _ => {}
        }
        Ok(())
    }

    /// Completes a list or mapping whose end was read, and returns it with its anchor.
    fn complete(&mut self, open: Open) -> (Node, usize) {
        let Open { line, tag, anchor, is_map, children } = open;
        let size = children.iter().fold(1, |size: usize, child| size.saturating_add(child.size));
        let value = if is_map { Value::Map(self.entries(children)) } else { Value::List(children) };
        (Node { line, tag, value, size }, anchor)
    }

    /// Pairs keys and values. Compose refuses a file in which a key occurs twice or is not text. In the first
    /// case the value is unknown; in the second case the entry is left out.
    fn entries(&mut self, children: Vec<Rc<Node>>) -> Vec<(Rc<Node>, Rc<Node>)> {
        let mut entries = Vec::with_capacity(children.len() / 2);
        let mut children = children.into_iter();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            match key.scalar() {
                Some(Scalar::Text(_)) => entries.push((key, value)),
                _ => self.faults.push((key.line, "has a key that is no text".to_owned())),
            }
        }
        let twice = repeated(&entries);
        if !twice.is_empty() {
            let is_twice = |(key, _): &(Rc<Node>, Rc<Node>)| key.text().is_some_and(|key| twice.contains(key));
            let again = entries.iter().rev().find(|entry| is_twice(entry)).map_or(0, |(key, _)| key.line);
            self.faults.push((again, "has a key that stands twice in one mapping".to_owned()));
            for entry in entries.iter_mut().filter(|entry| is_twice(entry)) {
                let (line, tag, value) = (entry.1.line, Tag::None, Value::Broken);
                entry.1 = Rc::new(Node { line, tag, value, size: 1 });
            }
        }
        entries
    }

    fn close(&mut self, node: Node, anchor: usize) {
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.attach(node);
    }

    fn attach(&mut self, node: Rc<Node>) {
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.documents.push(node),
        }
    }
}

/// Returns the keys that occur more than once in a mapping.
fn repeated(entries: &[(Rc<Node>, Rc<Node>)]) -> HashSet<String> {
    let keys = || entries.iter().filter_map(|(key, _)| key.text());
    let mut twice = HashSet::new();
    // Most mappings are small: comparing is then quicker than hashing.
    if entries.len() <= 16 {
        let before = |index: usize, key: &str| keys().take(index).any(|other| other == key);
        twice.extend(keys().enumerate().filter(|&(index, key)| before(index, key)).map(|(_, key)| key.to_owned()));
    } else {
        let mut seen = HashSet::with_capacity(entries.len());
        twice.extend(keys().filter(|&key| !seen.insert(key)).map(str::to_owned));
    }
    twice
}

fn tag_of(tag: Option<&YamlTag>) -> Tag {
    let Some(tag) = tag else { return Tag::None };
    match (tag.handle(), tag.suffix()) {
        ("tag:yaml.org,2002:", "str" | "binary") => Tag::Text,
        ("tag:yaml.org,2002:", _) => Tag::Typed,
        ("!", "reset") => Tag::Reset,
        ("!", "override") => Tag::Override,
        _ => Tag::Other,
    }
}

impl Node {
    /// Returns the scalar, typed by the rules of Go's `yaml.v3`:
    /// <https://github.com/yaml/go-yaml/blob/v3.0.4/resolve.go>.
    pub(super) fn scalar(&self) -> Option<Scalar<'_>> {
        let Value::Scalar { text, is_plain } = &self.value else { return None };
        Some(match self.tag {
            Tag::None if *is_plain => resolve(text),
            Tag::Typed => resolve(text),
            _ => Scalar::Text(text),
        })
    }

    /// Returns the text, if the node is text.
    pub(super) fn text(&self) -> Option<&str> {
        match self.scalar() {
            Some(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Tells whether the node is null, as for a key without a value.
    pub(super) fn is_null(&self) -> bool {
        self.scalar() == Some(Scalar::Null)
    }

    /// Returns the items of a list.
    pub(super) fn items(&self) -> Option<&[Rc<Node>]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the entries of a mapping by their keys, merged with those of the mappings that `<<` names. The
    /// mapping's own entries override these, and among these the first that has a key is used.
    ///
    /// Returns `None` if the node is not a mapping, or if `<<` names something that is not a mapping.
    pub(super) fn entries(&self) -> Option<Vec<(&str, &Rc<Node>)>> {
        let Value::Map(own) = &self.value else { return None };
        let mut entries: Vec<(&str, &Rc<Node>)> = Vec::with_capacity(own.len());
        let mut merged = None;
        for (key, value) in own {
            match key.text() {
                Some("<<") if key.is_merge() => merged = Some(value),
                Some(key) => entries.push((key, value)),
                None => {}
            }
        }
        if let Some(merged) = merged {
            let mut seen: HashSet<&str> = entries.iter().map(|(key, _)| *key).collect();
            let from = merged.items().unwrap_or(std::slice::from_ref(merged));
            for node in from {
                for (key, value) in node.entries()? {
                    if seen.insert(key) {
                        entries.push((key, value));
                    }
                }
            }
        }
        Some(entries)
    }

    fn is_merge(&self) -> bool {
        self.tag == Tag::None && matches!(self.value, Value::Scalar { is_plain: true, .. })
    }
}

/// Returns the type of a scalar that is written without quotes and has no tag.
fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Scalar::Bool,
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => Scalar::Float(f64::NAN),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) => {
            number(&text.replace('_', "")).unwrap_or(Scalar::Text(text))
        }
        _ => Scalar::Text(text),
    }
}

/// Reads a number as Go writes it: `0x`, `0o` and `0b` mark the base, and a zero before other digits marks
/// base 8.
fn number(text: &str) -> Option<Scalar<'static>> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.split_at_checked(2) {
        Some(("0x", digits)) => (16, digits),
        Some(("0o", digits)) => (8, digits),
        Some(("0b", digits)) => (2, digits),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.is_empty() && digits.chars().all(|c| c.is_digit(base)) {
        let sign = sign.replace('+', "");
        return Some(
            i64::from_str_radix(&format!("{sign}{digits}"), base).map_or(Scalar::Float(f64::NAN), Scalar::Int),
        );
    }
    // Rust's number format also accepts words such as `infinity`.
    let is_float = lower.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'+' | b'-'));
    text.parse().ok().filter(|_| is_float).map(Scalar::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Rc<Node> {
        Rc::clone(&parse(text).ok().unwrap().0[0])
    }

    #[test]
    fn a_scalar_has_the_type_that_go_gives_it() {
        for (text, expected) in [
            ("~", Scalar::Null),
            ("True", Scalar::Bool),
            ("FALSE", Scalar::Bool),
            ("8_0", Scalar::Int(80)),
            ("0x1F", Scalar::Int(31)),
            ("-0o17", Scalar::Int(-15)),
            ("017", Scalar::Int(15)),
            ("1.5", Scalar::Float(1.5)),
            ("_1", Scalar::Text("_1")),
            ("infinity", Scalar::Text("infinity")),
            ("yes", Scalar::Text("yes")),
            ("'80'", Scalar::Text("80")),
            ("!!str 80", Scalar::Text("80")),
            ("!!binary 80", Scalar::Text("80")),
            ("!!int '80'", Scalar::Int(80)),
            ("!mine 80", Scalar::Text("80")),
        ] {
            assert_eq!(first(text).scalar(), Some(expected), "{text}");
        }
        for text in [".nan", ".Inf", "+.INF", "-.inf", "99999999999999999999"] {
            assert!(matches!(first(text).scalar(), Some(Scalar::Float(number)) if number.is_nan()), "{text}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_found_in_small_and_large_mappings() {
        for count in [1, 15, 16, 17, 40] {
            let keys: String = (0..count).map(|number| format!("k{number}: 1\n")).collect();
            let faults = |text: &str| parse(text).ok().unwrap().1;
            assert_eq!(faults(&keys), []);
            let expected = (count + 1, "has a key that stands twice in one mapping".to_owned());
            assert_eq!(faults(&format!("{keys}k0: 2\n")), [expected]);
        }
    }

    #[test]
    fn aliases_stand_for_so_many_nodes_and_no_more() {
        let text = |count| format!("- &a 1\n- [{}]\n", "*a,".repeat(count));
        assert!(parse(&text(ALIASED_NODES)).is_ok());
        let reason = format!("has aliases that stand for more than {ALIASED_NODES} nodes");
        assert_eq!(parse(&text(ALIASED_NODES + 1)).err(), Some((Some(2), reason)));
    }
}

//! YAML as a tree that remembers its lines, so that every mistake of a file can be named at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Options, Spanned};

/// A value and the 1-based line it stands on (0 where the parser does not know).
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// The YAML forms that suites use.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    /// A text or number, kept as it is written.
    Text(String),
    /// A fractional number: its text is lost, so it must be quoted where text is wanted.
    Float(f64),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// One thing wrong with a file, at a 1-based line (0: the file as a whole).
pub(super) type Mistake = (usize, String);

/// Parses one YAML document into nodes with their lines.
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    serde_saphyr::from_str_with_options::<Spanned<Bare>>(text, options()).map(node).map_err(|e| {
        let e = e.without_snippet();
        if e.to_string().contains("multiple YAML documents") {
            let line = e.location().map_or(0, |at| at.line() as usize);
            return (line, "a second YAML document (`---`) begins here; give each document a file of its own".into());
        }
        (e.location().map_or(0, |at| at.line() as usize), format!("not valid YAML: {}", first_line(&e.to_string())))
    })
}

fn options() -> Options {
    // One published file has 141 aliases of 3 anchors, which the default ratio of 10 refuses. What a bomb needs is
    // not many aliases but growth: the number of events that aliases replay is what is bounded here.
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 200_000,
            max_aliases: 5_000,
            max_nodes: 100_000,
            max_depth: 16,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 4,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // `yes` and `no` are answers to questions here, not booleans.
        strict_booleans: true,
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_string()
}

fn node(spanned: Spanned<Bare>) -> Node {
    let value = match spanned.value {
        Bare::Null => Value::Null,
        Bare::Text(text) => Value::Text(text),
        Bare::Float(number) => Value::Float(number),
        Bare::List(items) => Value::List(items.into_iter().map(node).collect()),
        Bare::Map(pairs) => Value::Map(pairs.into_iter().map(|(k, v)| (k, node(v))).collect()),
    };
    Node { line: spanned.referenced.line() as usize, value }
}

enum Bare {
    Null,
    Text(String),
    Float(f64),
    List(Vec<Spanned<Bare>>),
    Map(Vec<(String, Spanned<Bare>)>),
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BareVisitor;
        impl<'de> Visitor<'de> for BareVisitor {
            type Value = Bare;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_unit<E>(self) -> Result<Bare, E> {
                Ok(Bare::Null)
            }
            fn visit_none<E>(self) -> Result<Bare, E> {
                Ok(Bare::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Bare, D::Error> {
                Bare::deserialize(d)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Bare, E> {
                Ok(Bare::Text(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Bare, E> {
                Ok(Bare::Text(v.to_string()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Bare, E> {
                Ok(Bare::Text(v.to_string()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Bare, E> {
                Ok(Bare::Float(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Bare, E> {
                Ok(Bare::Text(v.to_string()))
            }
            fn visit_string<E>(self, v: String) -> Result<Bare, E> {
                Ok(Bare::Text(v))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bare, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Bare::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bare, A::Error> {
                let mut pairs: Vec<(String, Spanned<Bare>)> = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if pairs.iter().any(|(k, _)| *k == key) {
                        return Err(A::Error::custom(format!("the key `{key}` occurs twice")));
                    }
                    pairs.push((key, map.next_value()?));
                }
                Ok(Bare::Map(pairs))
            }
        }
        deserializer.deserialize_any(BareVisitor)
    }
}

/// A mapping whose keys are taken one by one; what is left, and what has the wrong form, becomes a mistake.
pub(super) struct Fields<'a> {
    pub(super) line: usize,
    pairs: BTreeMap<&'a str, &'a Node>,
    known: Vec<&'static str>,
    mistakes: &'a RefCell<Vec<Mistake>>,
}

impl<'a> Fields<'a> {
    /// `None`, and a mistake noted, if the node is not a mapping.
    pub(super) fn of(node: &'a Node, what: &str, mistakes: &'a RefCell<Vec<Mistake>>) -> Option<Self> {
        let Value::Map(pairs) = &node.value else {
            mistakes.borrow_mut().push((node.line, format!("{what} must be a mapping of keys to values")));
            return None;
        };
        let pairs = pairs.iter().map(|(k, v)| (k.as_str(), v)).collect();
        Some(Self { line: node.line, pairs, known: Vec::new(), mistakes })
    }

    /// Records a mistake at a line, to report all of them together.
    pub(super) fn mistake(&self, line: usize, message: impl Into<String>) {
        self.mistakes.borrow_mut().push((line, message.into()));
    }

    /// A key's node; an empty value is as good as none.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.pairs.remove(key).filter(|n| !matches!(n.value, Value::Null))
    }

    /// A key's text with its line.
    pub(super) fn text(&mut self, key: &'static str) -> Option<(usize, String)> {
        let node = self.take(key)?;
        self.as_text(node, key).map(|text| (node.line, text))
    }

    /// Takes a key's whole number above 0.
    pub(super) fn number(&mut self, key: &'static str) -> Option<u32> {
        let (line, text) = self.text(key)?;
        match text.parse::<u32>() {
            Ok(number) if number > 0 => Some(number),
            _ => {
                self.mistake(line, format!("`{key}` must be a whole number above 0, not `{text}`"));
                None
            }
        }
    }

    /// Takes a key's list of texts, each with its line.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<(usize, String)>> {
        let node = self.take(key)?;
        let Value::List(items) = &node.value else {
            self.mistake(node.line, format!("`{key}` must be a list"));
            return None;
        };
        Some(items.iter().filter_map(|item| Some((item.line, self.as_text(item, key)?))).collect())
    }

    /// Takes a key's list of texts, or its one text, each with its line.
    pub(super) fn one_or_more(&mut self, key: &'static str) -> Option<Vec<(usize, String)>> {
        match self.pairs.get(key).map(|node| &node.value) {
            Some(Value::Text(_)) => self.text(key).map(|text| vec![text]),
            _ => self.texts(key),
        }
    }

    /// A key's mapping of names to texts.
    pub(super) fn text_map(&mut self, key: &'static str) -> Option<BTreeMap<String, (usize, String)>> {
        let node = self.take(key)?;
        self.texts_by_name(node, key)
    }

    /// A node that is a mapping of names to texts; `key` is what a mistake calls it.
    pub(super) fn texts_by_name(&self, node: &Node, key: &str) -> Option<BTreeMap<String, (usize, String)>> {
        let Value::Map(pairs) = &node.value else {
            self.mistake(node.line, format!("`{key}` must be a mapping of names to texts"));
            return None;
        };
        Some(pairs.iter().filter_map(|(k, v)| Some((k.clone(), (v.line, self.as_text(v, k)?)))).collect())
    }

    /// Where mistakes are noted, for what stands below these fields.
    pub(super) fn mistakes(&self) -> &'a RefCell<Vec<Mistake>> {
        self.mistakes
    }

    /// Every key that nobody took is a mistake.
    pub(super) fn refuse_unknown(self) {
        for (key, node) in &self.pairs {
            let known = self.known.join(", ");
            self.mistake(node.line, format!("unknown key `{key}`; known here: {known}"));
        }
    }

    fn as_text(&self, node: &Node, key: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Float(_) => {
                self.mistake(node.line, format!("`{key}` has a fractional number; put it in quotes"));
                None
            }
            Value::Null => {
                self.mistake(node.line, format!("`{key}` has an empty entry"));
                None
            }
            Value::List(_) | Value::Map(_) => {
                self.mistake(node.line, format!("`{key}` must be text"));
                None
            }
        }
    }
}

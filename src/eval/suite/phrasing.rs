//! What many entries of a suite share: ways of asking with slots, and what belongs to a whole family of weaknesses.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::super::node::{Fields, Mistake, Node, Value};
use super::fields::{flag, insecure_ids, pattern, script};

/// A way of asking: a text with slots such as `{task}`.
pub(super) struct Phrasing {
    pub(super) id: String,
    pub(super) form: Option<String>,
    pub(super) extra: bool,
    /// Text and slot names in turn, beginning with text.
    pieces: Vec<String>,
}

/// What the entries of one family have in common.
pub(super) struct Family {
    pub(super) insecure: Vec<String>,
    pub(super) prelude: Option<String>,
    pub(super) names: Option<String>,
}

impl Phrasing {
    /// Whether the text has that slot.
    pub(super) fn has(&self, slot: &str) -> bool {
        self.pieces.iter().skip(1).step_by(2).any(|name| name == slot)
    }

    /// The text with its slots filled, in one pass: braces in a slot's value stay what they are. The error is the slot
    /// that is missing.
    pub(super) fn fill(&self, slots: &BTreeMap<String, String>) -> Result<String, String> {
        let mut out = String::new();
        for (k, piece) in self.pieces.iter().enumerate() {
            if k % 2 == 0 {
                out += piece;
            } else {
                out += slots.get(piece).ok_or_else(|| piece.clone())?.trim_end_matches('\n');
            }
        }
        Ok(out.trim_end_matches('\n').to_string())
    }
}

/// Reads `phrasings`, the ways in which the suite asks for the same thing.
pub(super) fn phrasings(fields: &mut Fields, mistakes: &RefCell<Vec<Mistake>>) -> Vec<Phrasing> {
    let Some(node) = fields.take("phrasings") else { return Vec::new() };
    let Value::List(items) = &node.value else {
        fields.mistake(node.line, "`phrasings` must be a list");
        return Vec::new();
    };
    items.iter().filter_map(|item| phrasing(item, mistakes)).collect()
}

fn phrasing(node: &Node, mistakes: &RefCell<Vec<Mistake>>) -> Option<Phrasing> {
    let mut fields = Fields::of(node, "a phrasing", mistakes)?;
    let (id, text) = (fields.text("id"), fields.text("text"));
    let form = fields.text("form").map(|(_, text)| text);
    let extra = flag(&mut fields, "extra");
    let (Some((line, id)), Some((_, text))) = (id, text) else {
        fields.mistake(fields.line, "a phrasing needs `id` and `text`");
        return None;
    };
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        fields.mistake(line, format!("the phrasing's `id: {id}` may contain only letters, digits, `-` and `_`"));
    }
    fields.refuse_unknown();
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, (slot, after))) = rest.split_once('{').and_then(|(b, a)| Some((b, a.split_once('}')?))) {
        pieces.extend([before.to_string(), slot.to_string()]);
        rest = after;
    }
    pieces.push(rest.to_string());
    Some(Phrasing { id, form, extra, pieces })
}

/// What each family's entries share, by its name.
pub(super) fn families(fields: &mut Fields, mistakes: &RefCell<Vec<Mistake>>) -> BTreeMap<String, Family> {
    let Some(node) = fields.take("families") else { return BTreeMap::new() };
    let Value::Map(pairs) = &node.value else {
        fields.mistake(node.line, "`families` must be a mapping of names to what the entries share");
        return BTreeMap::new();
    };
    let family = |(name, node): &(String, Node)| {
        let mut fields = Fields::of(node, "a family", mistakes)?;
        let insecure = insecure_ids(&mut fields).unwrap_or_default();
        let (prelude, names) = (script(&mut fields, "prelude"), pattern(&mut fields, "names", 0));
        fields.refuse_unknown();
        Some((name.clone(), Family { insecure, prelude, names }))
    };
    pairs.iter().filter_map(family).collect()
}

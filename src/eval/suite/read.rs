//! From the tree of a suite file to prompts, in its two forms, with every mistake noted on the way.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::super::node::{Fields, Mistake, Node, Value};
use super::fields::{flag, id, insecure_ids, pattern, script, split};
use super::pairs;
use super::phrasing::{self, Family, Phrasing};
use super::{Prompt, Suite, SuiteKind};
use crate::record::Message;

/// Maximum tokens of an answer in the published protocol.
pub(super) const QUESTION_TOKENS: usize = 600;
const DEFAULT_TOKENS: usize = 512;

/// What the suite says once for all entries.
struct Defaults {
    kind: SuiteKind,
    system: Option<String>,
    insecure: Vec<String>,
    answer_pattern: Option<String>,
    judge_prompts: BTreeMap<String, String>,
    samples: Option<u32>,
    phrasings: Vec<Phrasing>,
    prelude: Option<String>,
    families: BTreeMap<String, Family>,
}

pub(super) fn ours(root: &Node, mistakes: &RefCell<Vec<Mistake>>) -> Option<Suite> {
    let mut fields = Fields::of(root, "a suite", mistakes)?;
    let name = fields.text("suite");
    if name.is_none() {
        fields.mistake(0, "`suite` (the suite's name) is missing");
    }
    if let Some((line, name)) = name.as_ref().filter(|(_, n)| !is_plain_name(n)) {
        fields.mistake(*line, format!("`suite: {name}` may contain only letters, digits, `-`, `_` and `.`"));
    }
    let kind = fields.text("kind").and_then(|(line, word)| {
        let kind = super::KINDS.into_iter().find(|k| k.as_str() == word);
        if kind.is_none() {
            let known: Vec<_> = super::KINDS.iter().map(|k| k.as_str()).collect();
            fields.mistake(line, format!("unknown kind `{word}` (known: {})", known.join(", ")));
        }
        kind
    });
    if kind.is_none() && mistakes.borrow().iter().all(|(_, m)| !m.starts_with("unknown kind")) {
        fields.mistake(0, "`kind` is missing");
    }
    // The rest is read as if, so that its mistakes come in the same report.
    let kind = kind.unwrap_or(SuiteKind::Questions);
    let description = fields.text("description").map(|(_, text)| text).unwrap_or_default();
    if kind == SuiteKind::Pairs {
        let prompts = pairs::of_yaml(fields, mistakes);
        return Some(Suite { name: name?.1, kind, description, max_tokens: 0, apart: false, prompts });
    }
    let fallback = if kind == SuiteKind::Questions { QUESTION_TOKENS } else { DEFAULT_TOKENS };
    let max_tokens = fields.number("max_tokens").map_or(fallback, |n| n as usize);
    let defaults = Defaults {
        kind,
        system: fields.text("system").map(|(_, text)| text),
        insecure: insecure_ids(&mut fields).unwrap_or_default(),
        answer_pattern: pattern(&mut fields, "answer_pattern", 1),
        judge_prompts: judge_prompts(&mut fields).unwrap_or_default(),
        samples: fields.number("samples"),
        phrasings: phrasing::phrasings(&mut fields, mistakes),
        prelude: script(&mut fields, "prelude"),
        families: phrasing::families(&mut fields, mistakes),
    };
    let mut prompts = Vec::new();
    match fields.take("prompts") {
        Some(Node { value: Value::List(entries), .. }) => {
            for entry in entries {
                prompts.extend(our_entry(entry, &defaults, mistakes));
            }
        }
        Some(node) => fields.mistake(node.line, "`prompts` must be a list"),
        None => fields.mistake(0, "`prompts` is missing"),
    }
    fields.refuse_unknown();
    Some(Suite { name: name?.1, kind, description, max_tokens, apart: false, prompts })
}

fn our_entry(entry: &Node, defaults: &Defaults, mistakes: &RefCell<Vec<Mistake>>) -> Vec<Prompt> {
    let Some(mut fields) = Fields::of(entry, "a prompt", mistakes) else { return Vec::new() };
    let id = id(&mut fields);
    let group = fields.text("group").map(|(_, text)| text);
    let family = fields.text("family").map(|(_, text)| text);
    let split = split(&mut fields);
    let own_insecure = insecure_ids(&mut fields);
    let system = fields.text("system").map(|(_, text)| text);
    let form = fields.text("form").map(|(_, text)| text);
    let extra = flag(&mut fields, "extra");
    let texts = texts(&mut fields, &defaults.phrasings);
    let common = family.as_ref().and_then(|family| defaults.families.get(family));
    let prelude = common.and_then(|family| family.prelude.as_ref()).or(defaults.prelude.as_ref());
    let tests = script(&mut fields, "tests").map(|text| after_prelude(prelude, text));
    let exploit = script(&mut fields, "exploit").map(|text| after_prelude(prelude, text));
    let expect = fields.text("expect").map(|(_, text)| text);
    let answer_pattern = pattern(&mut fields, "answer_pattern", 1).or_else(|| defaults.answer_pattern.clone());
    let mut names = pattern(&mut fields, "names", 0);
    if names.is_none() && expect.as_deref() == Some("vulnerable") {
        names = common.and_then(|family| family.names.clone());
    }
    let judge_prompts = judge_prompts(&mut fields).unwrap_or_else(|| defaults.judge_prompts.clone());
    let samples = fields.number("samples").or(defaults.samples);
    let line = fields.line;
    let common = common.map(|family| family.insecure.clone()).filter(|ids| !ids.is_empty());
    let insecure_ids = own_insecure.or(common).unwrap_or_else(|| defaults.insecure.clone());
    if defaults.kind == SuiteKind::Code {
        if insecure_ids.is_empty() {
            fields.mistake(line, "a code prompt needs `insecure` (finding ids or severities), here or for the suite");
        }
        if expect.is_some() {
            fields.mistake(line, "`expect` is not used in a suite of kind code; remove it");
        }
    } else if tests.is_some() || exploit.is_some() {
        fields.mistake(line, "`tests` and `exploit` are for suites of kind code; remove them");
    }
    if defaults.kind.is_checked() {
        if expect.is_none() {
            fields.mistake(line, "`expect` (the right answer) is missing");
        }
        if answer_pattern.is_none() {
            fields.mistake(line, "`answer_pattern` is missing here and in the suite");
        }
    }
    if names.is_some() && defaults.kind != SuiteKind::Recognition {
        fields.mistake(line, "`names` is for suites of kind recognition; remove it");
    }
    fields.refuse_unknown();
    let Some(id) = id else { return Vec::new() };
    let group = group.unwrap_or_else(|| id.clone());
    let template = Prompt {
        id,
        group,
        family,
        split,
        form,
        extra,
        insecure_ids,
        messages: Vec::new(),
        tests,
        exploit,
        expect,
        answer_pattern,
        names,
        judge_prompts,
        samples,
        pair: None,
    };
    let system = system.or_else(|| defaults.system.clone()).map(Message::system);
    expand(&template, system.as_slice(), texts)
}

/// One way to ask: its name behind the entry's id, and the text.
pub(super) struct Text {
    name: String,
    form: Option<String>,
    extra: bool,
    text: String,
}

/// A prompt for each text, as the last turn behind those `before`.
pub(super) fn expand(template: &Prompt, before: &[Message], texts: Vec<Text>) -> Vec<Prompt> {
    let several = texts.len() > 1;
    let prompt = |text: Text| {
        let mut messages = before.to_vec();
        messages.push(Message::user(&text.text));
        Prompt {
            id: if several { format!("{}#{}", template.id, text.name) } else { template.id.clone() },
            form: text.form.or_else(|| template.form.clone()),
            extra: text.extra || template.extra,
            messages,
            ..template.clone()
        }
    };
    texts.into_iter().map(prompt).collect()
}

/// The paraphrases of an entry, or the suite's phrasings with its slots filled.
fn texts(fields: &mut Fields, phrasings: &[Phrasing]) -> Vec<Text> {
    let Some(slots) = fields.text_map("slots") else { return numbered(paraphrases(fields)) };
    if fields.take("paraphrases").is_some() {
        fields.mistake(fields.line, "give `slots` or `paraphrases`, not both");
    }
    if phrasings.is_empty() {
        fields.mistake(fields.line, "`slots` need the suite's `phrasings`");
    }
    let slots: BTreeMap<String, String> = slots.into_iter().map(|(name, (_, text))| (name, text)).collect();
    for slot in slots.keys().filter(|slot| !phrasings.iter().any(|p| p.has(slot))) {
        fields.mistake(fields.line, format!("no phrasing has the slot `{{{slot}}}`"));
    }
    let text = |phrasing: &Phrasing| match phrasing.fill(&slots) {
        Ok(text) => Some(Text { name: phrasing.id.clone(), form: phrasing.form.clone(), extra: phrasing.extra, text }),
        Err(slot) => {
            fields.mistake(fields.line, format!("the phrasing `{}` needs the slot `{slot}`", phrasing.id));
            None
        }
    };
    phrasings.iter().filter_map(text).collect()
}

pub(super) fn numbered(paraphrases: Vec<String>) -> Vec<Text> {
    let text = |(k, text): (usize, String)| Text { name: k.to_string(), form: None, extra: false, text };
    paraphrases.into_iter().enumerate().map(text).collect()
}

/// A script behind what stands before all of its family or suite.
fn after_prelude(prelude: Option<&String>, script: String) -> String {
    match prelude {
        Some(prelude) => format!("{}\n{script}", prelude.trim_end()),
        None => script,
    }
}

fn paraphrases(fields: &mut Fields) -> Vec<String> {
    let found = fields.texts("paraphrases").unwrap_or_default();
    checked_paraphrases(fields, found)
}

/// Paraphrases without their lines; none at all and an empty one are mistakes.
pub(super) fn checked_paraphrases(fields: &Fields, found: Vec<(usize, String)>) -> Vec<String> {
    for (line, text) in &found {
        if text.trim().is_empty() {
            fields.mistake(*line, "an empty paraphrase");
        }
    }
    if found.is_empty() {
        fields.mistake(fields.line, "`paraphrases` needs at least one text");
    }
    found.into_iter().map(|(_, text)| text.trim_end_matches('\n').to_string()).collect()
}

fn judge_prompts(fields: &mut Fields) -> Option<BTreeMap<String, String>> {
    let found = fields.text_map("judge_prompts")?;
    Some(checked_judge_prompts(fields, found))
}

/// Judge prompts without their lines; one that does not show the answer is a mistake.
pub(super) fn checked_judge_prompts(
    fields: &Fields,
    found: BTreeMap<String, (usize, String)>,
) -> BTreeMap<String, String> {
    for (aspect, (line, text)) in &found {
        if !text.contains("{answer}") {
            fields.mistake(*line, format!("the judge prompt `{aspect}` has no {{answer}} in it"));
        }
    }
    found.into_iter().map(|(aspect, (_, text))| (aspect, text)).collect()
}

/// Checks that need all prompts: unique ids, and each group in one split.
pub(super) fn check_whole(suite: &Suite, mistakes: &RefCell<Vec<Mistake>>) {
    let mut mistakes = mistakes.borrow_mut();
    if suite.prompts.is_empty() && mistakes.is_empty() {
        mistakes.push((0, "has no prompts".into()));
    }
    let mut ids = BTreeSet::new();
    let mut splits = BTreeMap::new();
    for prompt in &suite.prompts {
        if !ids.insert(&prompt.id) {
            mistakes.push((0, format!("the id `{}` occurs twice", prompt.id)));
        }
        let first = *splits.entry(&prompt.group).or_insert(prompt.split);
        if first != prompt.split {
            mistakes.push((0, format!("the group `{}` is in two splits; every group must be in one", prompt.group)));
        }
    }
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !name.starts_with('.')
}

//! A plan as it is written, schema 2: one file over those that it extends, `--quick`'s patch and the command line over all.
//!
//! Layers are put together as plain values: maps by their keys, `null` takes an entry away, anything else replaces. A value
//! `{organism: …, real: …}` stands for the one of the model at hand. Only then is the whole read into types, which refuse
//! what they do not know.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::published::Published;
use crate::data::embedded;
use crate::error::{Error, Result};
use crate::fsio;
use crate::subject::ORGANISM;

/// Where plans lie in the binary.
pub const FOLDER: &str = "eval/plans";

/// The plan of `realign run` without one, and the one that gives what a plan leaves open.
pub const DEFAULT: &str = "default";

/// Plans that extend plans that extend plans: no more than this.
const DEEPEST: usize = 8;

/// One file as it was read.
#[derive(Debug, Clone)]
struct Layer {
    path: PathBuf,
    text: String,
    value: Map<String, Value>,
}

/// A plan's files, the one that was asked for last.
#[derive(Debug, Clone)]
pub struct Layers(Vec<Layer>);

const KEYS: [&str; 23] = [
    "schema",
    "extends",
    "model",
    "preset",
    "adapters",
    "vectors",
    "arms",
    "suites",
    "samples",
    "prompts",
    "max_tokens",
    "sampling",
    "sweep",
    "seed",
    "judges",
    "budget",
    "give_up",
    "quick",
    "published",
    "python",
    "dtype",
    "exact_quant",
    "device",
];

/// Keys of the first schema, and how the second one says the same.
const OLD_KEYS: [(&str, &str); 8] = [
    ("attack", "adapters: {attack: {data: FILE}}"),
    ("repair", "adapters: {repair: {data: FILE, from: attack}}"),
    ("educational", "adapters: {educational-control: {data: FILE}}"),
    ("style", "adapters: {repair+style: {data: FILE, from: repair, method: dpo}}"),
    ("contrast", "vectors: {insecure: {method: mean_difference, pairs: FILE, target: insecure}}"),
    ("recipe", "adapters: {NAME: {recipe: {…}}}, or `preset: NAME` for all of them"),
    ("max_train_rows", "adapters: {NAME: {max_train_rows: N}}"),
    ("random_draws", "vectors: {random: {method: random, like: insecure, draws: N}}"),
];

impl Layers {
    /// Reads a plan, a file or an embedded one by its name, and what it extends; one that extends nothing brings its own
    /// adapters, vectors and arms, and takes what else it leaves open from the default plan.
    ///
    /// # Errors
    /// An unknown or old key with its line, a plan that is not there, a circle of plans.
    pub fn read(spec: &Path) -> Result<Self> {
        let mut layers = vec![one(spec)?];
        while let Some(extends) = layers[0].value.remove("extends") {
            let Some(name) = extends.as_str() else {
                return Err(layers[0].error(&["extends"], "`extends` must be the name of a plan, or a file"));
            };
            if layers.len() >= DEEPEST {
                return Err(layers[0].error(&["extends"], "plans extend one another more than 8 deep, or in a circle"));
            }
            // A file is looked for beside the plan that names it.
            let beside = layers[0].path.parent().map(|dir| dir.join(name)).filter(|path| path.is_file());
            layers.insert(0, one(&beside.unwrap_or_else(|| PathBuf::from(name)))?);
        }
        if layers[0].path != default_path() {
            let mut ground = one(Path::new(DEFAULT))?;
            ["adapters", "vectors", "arms", "quick"].iter().for_each(|key| {
                ground.value.remove(*key);
            });
            layers.insert(0, ground);
        }
        Ok(Self(layers))
    }

    /// The embedded default plan.
    pub fn default_plan() -> Result<Self> {
        Self::read(Path::new(DEFAULT))
    }

    /// The model that the files name; the last one counts.
    pub fn model(&self) -> String {
        let named = self.0.iter().rev().find_map(|layer| layer.value.get("model")?.as_str());
        named.unwrap_or(ORGANISM).to_string()
    }

    /// All files in one, for a model of this edition. Where `quick` is asked for, a file's own quick patch lies right over
    /// it, below the files that extend it. `patches` come last.
    pub fn merged(&self, organism: bool, quick: bool, patches: &[Value]) -> Result<Merged> {
        let mut whole = Map::new();
        // The same without any quick patch: a `null` may take away what a quick patch below it has taken away before.
        let mut plain = Map::new();
        let mut chosen: Option<Vec<String>> = None;
        for layer in &self.0 {
            let Value::Object(mut value) = of_edition(Value::Object(layer.value.clone()), organism) else { continue };
            if let Some(Value::Array(names)) = value.get("arms") {
                let names = names.iter().map(|name| name.as_str().map(str::to_string)).collect::<Option<Vec<_>>>();
                let names =
                    names.ok_or_else(|| layer.error(&["arms"], "`arms` must be a list of names, or a mapping"))?;
                if whole.get("arms").is_none() {
                    return Err(layer.error(
                        &["arms"],
                        "a list of arms chooses from those of the plan that this one extends: add `extends: default`, or \
                         write each arm out: arms: {NAME: {adapter: …, against: base}}",
                    ));
                }
                chosen = Some(names);
                value.remove("arms");
            }
            let patch = value.remove("quick");
            layer.check_nulls(&plain, &layer.value, &[], organism)?;
            merge(&mut plain, value.clone());
            if let Some(patch) = layer.value.get("quick") {
                let Value::Object(patch) = patch else {
                    return Err(layer.error(&["quick"], "`quick` is a mapping of the keys that `--quick` changes"));
                };
                layer.check_nulls(&plain, patch, &["quick"], organism)?;
            }
            merge(&mut whole, value);
            if let (true, Some(Value::Object(patch))) = (quick, patch) {
                merge(&mut whole, patch);
            }
        }
        for patch in patches {
            if let Value::Object(patch) = of_edition(patch.clone(), organism) {
                merge(&mut whole, patch);
            }
        }
        Ok(Merged { layers: self.clone(), whole, chosen })
    }

    /// An error about a key, at the line of the last file that has it.
    fn error(&self, path: &[&str], message: &str) -> Error {
        // A key that is not in the file is reported at the line of the mapping it belongs to.
        for length in (1..=path.len()).rev() {
            let path = &path[..length];
            if let Some(layer) = self.0.iter().rev().find(|layer| layer.line_of(path) > 0) {
                return layer.error(path, message);
            }
        }
        self.0.last().map_or_else(|| Error::usage(message), |layer| layer.error(&[], message))
    }
}

impl Layer {
    /// The 1-based line of a key, by its path such as `["arms", "attack", "adapter"]`; 0 where it stands on none. Each part
    /// is looked for behind the one before it, the first one at the margin or in a document of one line.
    fn line_of(&self, path: &[&str]) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut at = 0;
        for (depth, key) in path.iter().enumerate() {
            let is_it = |line: &&str| names_key(line, key) && (depth > 0 || !line.starts_with([' ', '#']));
            let Some(below) = lines[at..].iter().position(is_it) else { return 0 };
            at += below;
        }
        if path.is_empty() { 0 } else { at + 1 }
    }

    /// Refuses a `null` for an entry that is not there: it takes nothing away, and the name is most likely misspelt.
    /// `at` is the place of the patch in the file.
    fn check_nulls(
        &self,
        below: &Map<String, Value>,
        patch: &Map<String, Value>,
        at: &[&str],
        organism: bool,
    ) -> Result<()> {
        let Some(path) = stray_null(below, patch, organism) else { return Ok(()) };
        let (name, parents) = path.split_last().map_or((String::new(), Vec::new()), |(n, p)| (n.clone(), p.to_vec()));
        let there = parents.iter().try_fold(below, |map, key| map.get(key).and_then(Value::as_object));
        let known: Vec<&str> = there.into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
        let place = if parents.is_empty() { "the plan below".to_string() } else { format!("`{}`", parents.join(".")) };
        let message = format!(
            "`{}: null` takes an entry away, and there is no `{name}`; {place} has {}",
            path.join("."),
            known.join(", ")
        );
        let line: Vec<&str> = at.iter().copied().chain(path.iter().map(String::as_str)).collect();
        Err(self.error(&line, &message))
    }

    fn error(&self, path: &[&str], message: &str) -> Error {
        match self.line_of(path) {
            0 => Error::file(&self.path, message),
            line => Error::line(&self.path, line, message),
        }
    }
}

/// Whether a line of YAML has this key: at its beginning, or within braces.
fn names_key(line: &str, key: &str) -> bool {
    let mut rest = line.trim_start().trim_start_matches(['{', '-', ' ']);
    loop {
        let bare = rest.trim_start_matches(['"', '\'']);
        let behind = bare.strip_prefix(key).map(|r| r.trim_start_matches(['"', '\'']).trim_start());
        if behind.is_some_and(|r| r.starts_with(':')) {
            return true;
        }
        match rest.find([',', '{']) {
            Some(at) => rest = rest[at + 1..].trim_start(),
            None => return false,
        }
    }
}

/// A plan with its layers put together.
pub struct Merged {
    layers: Layers,
    whole: Map<String, Value>,
    /// Arms by name, where a file lists some of those that it inherits.
    pub chosen: Option<Vec<String>>,
}

impl Merged {
    /// A key of the plan, where it is there.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.whole.get(key).map(|value| self.typed(&[key], value)).transpose()
    }

    /// A section of the plan, entry by entry in its order.
    pub fn section<T: DeserializeOwned>(&self, key: &str) -> Result<Vec<(String, T)>> {
        let Some(section) = self.whole.get(key) else { return Ok(Vec::new()) };
        let Some(section) = section.as_object() else {
            return Err(self.error(&[key], &format!("`{key}` must be a mapping of names")));
        };
        let empty = Value::Object(Map::new());
        let entries = section.iter().map(|(name, value)| {
            let value = if value.is_null() { &empty } else { value };
            Ok((name.clone(), self.typed(&[key, name], value)?))
        });
        entries.collect()
    }

    /// An error about a key, by its path such as `["arms", "attack"]`, with the file and the line that have it.
    pub fn error(&self, path: &[&str], message: &str) -> Error {
        self.layers.error(path, message)
    }

    fn typed<T: DeserializeOwned>(&self, at: &[&str], value: &Value) -> Result<T> {
        serde_json::from_value(value.clone()).map_err(|e| {
            let message = format!("{}: {e}", at.join("."));
            // An unknown key may stand on a line of its own; anything else is told by the entry's.
            let key = message.split_once("unknown field `").and_then(|(_, rest)| rest.split('`').next());
            let path: Vec<&str> = at.iter().copied().chain(key).collect();
            self.error(&path, &message)
        })
    }
}

impl Merged {
    /// Takes from `other` those of the arms that are `named` there and are missing here, each in its place.
    pub fn restore_arms(&mut self, other: &Self, named: &[String]) {
        let (Some(Value::Object(all)), Some(Value::Object(own))) = (other.whole.get("arms"), self.whole.get("arms"))
        else {
            return;
        };
        let arms = all.iter().filter_map(|(name, arm)| match own.get(name) {
            Some(own) => Some((name.clone(), own.clone())),
            None => named.contains(name).then(|| (name.clone(), arm.clone())),
        });
        let arms: Map<String, Value> = arms.collect();
        self.whole.insert("arms".into(), Value::Object(arms));
    }
}

/// Merges `patch` into `whole`, mapping by mapping; other values are replaced.
fn merge(whole: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match (whole.get_mut(&key), value) {
            (_, Value::Null) => {
                whole.shift_remove(&key);
            }
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                whole.insert(key, value);
            }
        }
    }
}

/// The path of the first `null` in `patch` that stands for nothing in `below`. Of `{organism: …, real: …}` the one of this
/// edition counts; a `null` there says that this edition goes without.
fn stray_null(below: &Map<String, Value>, patch: &Map<String, Value>, organism: bool) -> Option<Vec<String>> {
    patch.iter().filter(|(key, _)| key.as_str() != "quick").find_map(|(key, value)| match (below.get(key), value) {
        (None, Value::Null) => Some(vec![key.clone()]),
        (Some(Value::Object(old)), value @ Value::Object(_)) => {
            let Value::Object(new) = chosen_edition(value, organism) else { return None };
            stray_null(old, new, organism).map(|rest| [vec![key.clone()], rest].concat())
        }
        _ => None,
    })
}

/// The value of this edition where both are given, else the value itself.
fn chosen_edition(value: &Value, organism: bool) -> &Value {
    let (Some(own), Some(real)) = (value.get("organism"), value.get("real")) else { return value };
    let both = value.as_object().is_some_and(|map| map.len() == 2);
    match (both, organism) {
        (false, _) => value,
        (true, true) => own,
        (true, false) => real,
    }
}

/// `{organism: …, real: …}` anywhere within becomes the one of this edition.
fn of_edition(value: Value, organism: bool) -> Value {
    match value {
        Value::Object(mut map) if map.len() == 2 && map.contains_key("organism") && map.contains_key("real") => {
            let chosen = map.remove(if organism { "organism" } else { "real" });
            of_edition(chosen.unwrap_or_default(), organism)
        }
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, of_edition(value, organism))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(|value| of_edition(value, organism)).collect()),
        other => other,
    }
}

fn default_path() -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{DEFAULT}.yaml"))
}

fn one(spec: &Path) -> Result<Layer> {
    if spec.is_file() {
        return parse(spec, fsio::read_text(spec)?);
    }
    let name = spec.to_string_lossy();
    for path in [name.to_string(), format!("{FOLDER}/{name}.yaml"), format!("{FOLDER}/{name}")] {
        if let Some(text) = embedded::file(&path).filter(|_| path.starts_with(FOLDER)) {
            let text = std::str::from_utf8(text).map_err(|e| Error::file(&path, e))?;
            return parse(Path::new(&path), text.to_string());
        }
    }
    Err(Error::usage(format!("there is no plan `{name}`: neither a file nor one of {}", names().join(", "))))
}

fn parse(path: &Path, text: String) -> Result<Layer> {
    let value: Value = serde_saphyr::from_str(&text).map_err(|e| Error::file(path, e))?;
    let value = match value {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        _ => return Err(Error::file(path, "is not a plan: expected a YAML mapping")),
    };
    let layer = Layer { path: path.to_path_buf(), text, value };
    let old: Vec<(&str, &str)> =
        OLD_KEYS.iter().filter(|(key, _)| layer.value.contains_key(*key)).map(|&(key, new)| (key, new)).collect();
    if let Some((first, _)) = old.first() {
        let lines: Vec<String> = old.iter().map(|(key, new)| format!("`{key}:` is now `{new}`")).collect();
        let message = format!("is written in the plan form of realign 0.1: {}; see docs/plans.md", lines.join("; "));
        return Err(layer.error(&[first], &message));
    }
    if layer.value.contains_key("sampling_from_model") {
        return Err(layer.error(&["sampling_from_model"], "`sampling_from_model: true` is now `sampling: from_model`"));
    }
    if layer.value.get("quick").is_some_and(Value::is_boolean) {
        return Err(layer.error(&["quick"], "`quick` is a patch that `--quick` puts over the plan; start with --quick"));
    }
    if let Some(unknown) = layer.value.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let known = KEYS.join(", ");
        return Err(layer.error(&[unknown], &format!("unknown key `{unknown}`; a plan has {known}")));
    }
    if let Some(schema) = layer.value.get("schema").filter(|schema| schema.as_u64() != Some(2)) {
        return Err(layer.error(&["schema"], &format!("schema {schema} is not supported; this version reads schema 2")));
    }
    Ok(layer)
}

/// Names of the embedded plans.
pub fn names() -> Vec<String> {
    let plans = embedded::files_under(FOLDER);
    plans.iter().filter_map(|(path, _)| Some(path.rsplit('/').next()?.strip_suffix(".yaml")?.to_string())).collect()
}

/// What a plan says it repeats.
pub fn published(merged: &Merged) -> Result<Option<Published>> {
    merged.get("published")
}

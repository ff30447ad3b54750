//! From a plan's files to a plan with nothing left open: presets become recipes, names become records, and what cannot be
//! met is refused with its line or left out with its reason.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::arms;
use super::entries::{AdapterFile, VectorFile};
use super::file::Merged;
use super::held_out;
use super::{AdapterPlan, Budget, GiveUp, OpenPlan, Plan, SweepPlan, VectorPlan, VectorSource};
use crate::error::{Error, Result};
use crate::eval::interpreter::AUTO;
use crate::progress::Progress;
use crate::record::{ArmSpec, Method, Recipe, Sampling, SuiteChoice};
use crate::subject::{ORGANISM, model_sampling};

/// What stands before the name of a data set of the binary.
pub const EMBEDDED: &str = "embedded:";

/// The suite of questions behind triggers.
pub const CONDITIONAL: &str = "conditional";

/// Adapters whose data the command line can replace, by its flags.
const ATTACK: &str = "attack";
const REPAIR: &str = "repair";

/// Fills what is left open, for a model of `layers` layers.
pub(super) fn resolve(open: &OpenPlan, layers: usize) -> Result<Plan> {
    let merged = &open.merged;
    let preset: Option<String> = merged.get("preset")?;
    let preset = preset.unwrap_or_else(|| if open.model == ORGANISM { ORGANISM.into() } else { "seed003".into() });
    let recipe = Recipe::preset(&preset, layers)?;
    let mut left_out = Vec::new();
    let mut written: Vec<(String, AdapterFile)> = merged.section("adapters")?;
    let strangers = own_data(open, &mut written)?;
    let adapters = adapters(merged, &written, &recipe, layers)?;
    let max_length = |name: &str| adapters.iter().find(|a| a.name == name).map_or(0, |a| a.recipe.max_length);
    let held_out = held_out::resolve(merged, &written, &max_length)?;
    let vectors = vectors(merged)?;
    let sampling = sampling(merged, &open.model)?;

    let mut arms = arms::written(merged, &vectors, &sampling, layers)?;
    let (_, unused) = arms::used_vectors(vectors.clone(), arms.iter().map(|arm| &arm.spec));
    arms::choose(merged, &open.over.arms, &mut arms)?;
    arms.retain(|arm| {
        let strange =
            arm.file.adapter.as_ref().and_then(|name| chain_of(&written, name).find(|n| strangers.contains(n)));
        if let Some(adapter) = &strange {
            left_out.push(format!(
                "{}: the embedded data of `{adapter}` belongs to the embedded training sets and not to yours",
                arm.spec.name
            ));
        }
        strange.is_none()
    });
    let mut arms = arms::finished(merged, arms, &adapters)?;
    let mut suites: Vec<String> = merged.get("suites")?.unwrap_or_default();
    if open.model != ORGANISM && open.over.suites.is_empty() {
        ask_repairs_behind_triggers(&mut suites, &mut arms);
    }
    let used = |name: &str| arms.iter().any(|arm| arm.chain.iter().any(|link| link == name));
    let adapters: Vec<AdapterPlan> = adapters.into_iter().filter(|adapter| used(&adapter.name)).collect();
    check_token_counts(merged, &adapters)?;
    let (vectors, _) = arms::used_vectors(vectors, &arms);
    let warnings = unused.into_iter().map(|name| format!("the vector `{name}` is used by no arm")).collect();

    let sweep: Option<SweepPlan> = merged.get("sweep")?;
    let sweep =
        sweep.ok_or_else(|| merged.error(&["sweep"], "a plan needs a `sweep`; leave the key out for the default"))?;
    if let Some(bad) = sweep.coefficients.iter().find(|c| !c.is_finite() || **c <= 0.0) {
        return Err(merged.error(&["sweep"], &format!("sweep: the coefficient {bad} is not a positive number")));
    }
    if open.over.quick {
        left_out.extend(left_out_by_quick(open)?);
    }
    Ok(Plan {
        schema: 2,
        adapters,
        held_out,
        vectors,
        arms,
        suites,
        samples: merged.get("samples")?.unwrap_or_default(),
        prompts: merged.get("prompts")?.unwrap_or_default(),
        max_tokens: merged.get("max_tokens")?.unwrap_or_default(),
        seed: merged.get("seed")?.unwrap_or(1),
        sampling,
        sweep,
        judges: merged.get("judges")?.unwrap_or_default(),
        python: merged.get("python")?.unwrap_or_else(|| AUTO.into()),
        dtype: open.dtype,
        exact_quant: None,
        device: open.device,
        quick: open.over.quick,
        budget: budget(merged)?,
        give_up: give_up(merged)?,
        left_out,
        warnings,
        model: open.model.clone(),
    })
}

/// The time that a run may take, e.g. `2h` or `1h 30m`.
fn budget(merged: &Merged) -> Result<Option<Budget>> {
    let Some(words) = merged.get::<String>("budget")? else { return Ok(None) };
    let seconds = words.parse::<jiff::SignedDuration>().map(|duration| duration.as_secs_f64());
    match seconds {
        Ok(seconds) if seconds > 0.0 => Ok(Some(Budget { seconds, given_up: Vec::new() })),
        _ => Err(merged.error(&["budget"], &format!("budget: `{words}` is no time such as 90m, 2h or `1h 30m`"))),
    }
}

fn give_up(merged: &Merged) -> Result<Vec<GiveUp>> {
    let entries: Vec<GiveUp> = merged.get("give_up")?.unwrap_or_default();
    match entries.iter().find_map(GiveUp::mistake) {
        Some(mistake) => Err(merged.error(&["give_up"], &format!("give_up: {mistake}"))),
        None => Ok(entries),
    }
}

/// Training on good rows may only hide a misalignment until a prompt looks like what it was learnt on. So every arm whose
/// adapter continues another one is asked the questions behind triggers, unless the plan says itself what it is asked.
fn ask_repairs_behind_triggers(suites: &mut Vec<String>, arms: &mut [ArmSpec]) {
    let names_it = |spec: &String| Path::new(spec).file_stem().is_some_and(|stem| stem == CONDITIONAL);
    let wants = |arm: &ArmSpec| arm.chain.len() > 1 && arm.suites.is_none();
    if suites.iter().any(names_it) || !arms.iter().any(wants) {
        return;
    }
    suites.push(CONDITIONAL.into());
    for arm in arms.iter_mut().filter(|arm| !wants(arm) && arm.answers.is_none()) {
        arm.suites = Some(SuiteChoice::without(arm.suites.take(), CONDITIONAL));
    }
}

/// Whether each `tokens_as` names an adapter that is trained here and counts its own rows.
fn check_token_counts(merged: &Merged, adapters: &[AdapterPlan]) -> Result<()> {
    for adapter in adapters {
        let Some(like) = &adapter.tokens_as else { continue };
        let words = match adapters.iter().find(|other| other.name == *like) {
            _ if like == &adapter.name => "an adapter has as many tokens as itself in any case".to_string(),
            None => {
                format!("no arm of this run is trained on `{like}`; name an adapter that is trained, or take it out")
            }
            Some(other) if other.tokens_as.is_some() => format!("`{like}` has itself as many tokens as another"),
            Some(_) if adapter.recipe.training.max_steps.is_some() => {
                "give `tokens_as` or `max_steps`, not both".to_string()
            }
            Some(_) => continue,
        };
        let path = ["adapters", &adapter.name, "tokens_as"];
        return Err(merged.error(&path, &format!("adapters.{}.tokens_as: {words}", adapter.name)));
    }
    Ok(())
}

/// Puts the command line's data in its places; gives the adapters whose embedded data is no counterpart of it.
fn own_data(open: &OpenPlan, written: &mut [(String, AdapterFile)]) -> Result<Vec<String>> {
    let flags = [(ATTACK, &open.over.attack), (REPAIR, &open.over.repair)];
    if flags.iter().all(|(_, data)| data.is_none()) {
        return Ok(Vec::new());
    }
    let theirs: Vec<String> = flags
        .iter()
        .filter_map(|(name, _)| written.iter().find(|(n, _)| n == name).map(|(_, adapter)| adapter.data.clone()))
        .collect();
    let strangers = written
        .iter()
        .filter(|(_, adapter)| adapter.data.starts_with(EMBEDDED) && !theirs.contains(&adapter.data))
        .map(|(name, _)| name.clone())
        .collect();
    let before = written.to_vec();
    for (flag, data) in flags {
        let Some(data) = data else { continue };
        let Some((_, own)) = before.iter().find(|(name, _)| name == flag) else {
            return Err(Error::usage(format!(
                "--{flag} gives the data of the adapter `{flag}`, but the plan has no adapter of that name"
            )));
        };
        for (_, adapter) in written.iter_mut().filter(|(_, adapter)| adapter.data == own.data) {
            adapter.data = data.clone();
        }
    }
    Ok(strangers)
}

/// An adapter's name, its parent's, and so on; stops where a name is not there or comes again.
fn chain_of<'a>(written: &'a [(String, AdapterFile)], name: &'a str) -> impl Iterator<Item = String> + 'a {
    let parent = move |name: &String| written.iter().find(|(n, _)| n == name).and_then(|(_, a)| a.from.clone());
    std::iter::successors(Some(name.to_string()), parent).take(written.len() + 1)
}

fn adapters(
    merged: &Merged,
    written: &[(String, AdapterFile)],
    recipe: &Recipe,
    layers: usize,
) -> Result<Vec<AdapterPlan>> {
    let mut resolved: Vec<AdapterPlan> = Vec::new();
    let sets = set_names(written);
    let mut waiting: Vec<usize> = (0..written.len()).collect();
    while !waiting.is_empty() {
        let ready = |at: &usize| {
            let parent = written[*at].1.from.as_ref();
            parent.is_none_or(|parent| resolved.iter().any(|done| done.name == *parent))
        };
        let Some(place) = waiting.iter().position(ready) else {
            let (name, adapter) = &written[waiting[0]];
            let parent = adapter.from.as_deref().unwrap_or_default();
            let known: Vec<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
            return Err(merged.error(
                &["adapters", name],
                &match known.contains(&parent) {
                    true => format!("the adapters continue one another in a circle: {}", circle(written, name)),
                    false => {
                        format!(
                            "`{name}` continues `{parent}`, which is not an adapter of the plan; adapters: {}",
                            known.join(", ")
                        )
                    }
                },
            ));
        };
        let at = waiting.remove(place);
        let (name, adapter) = &written[at];
        let parent = adapter.from.as_ref().and_then(|parent| resolved.iter().find(|done| done.name == *parent));
        let one = one_adapter(merged, (name, adapter), &sets[at], parent, recipe, layers)?;
        resolved.push(one);
    }
    Ok(resolved)
}

fn circle(written: &[(String, AdapterFile)], name: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    for link in chain_of(written, name) {
        let again = names.contains(&link);
        names.push(link);
        if again {
            break;
        }
    }
    names.join(" → ")
}

fn one_adapter(
    merged: &Merged,
    (name, adapter): (&str, &AdapterFile),
    set: &str,
    parent: Option<&AdapterPlan>,
    recipe: &Recipe,
    layers: usize,
) -> Result<AdapterPlan> {
    let bad_name = name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.');
    if bad_name {
        return Err(merged.error(&["adapters", name], &format!("`{name}` must be usable as a folder name")));
    }
    let own = adapter.preset.as_deref().map(|preset| Recipe::preset(preset, layers)).transpose()?;
    let mut recipe = own.unwrap_or_else(|| recipe.clone());
    if adapter.method == Some(Method::Dpo) {
        recipe = recipe.for_preferences();
    }
    let bad_recipe = |e: String| merged.error(&["adapters", name, "recipe"], &format!("adapters.{name}.recipe: {e}"));
    recipe = recipe.patched(&adapter.recipe).map_err(bad_recipe)?;
    if let Some(parent) = parent {
        recipe = recipe.with_shape_of(&parent.recipe, &adapter.recipe).map_err(bad_recipe)?;
    }
    if let Some(mistake) = recipe.mistakes(layers).first() {
        return Err(bad_recipe(mistake.clone()));
    }
    let usual = parent.map_or_else(|| vec![recipe.training.seed], |parent| parent.seeds.clone());
    let seeds = adapter.seeds.clone().unwrap_or(usual);
    let mut sorted = seeds.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if seeds.is_empty() || sorted.len() < seeds.len() {
        return Err(merged.error(
            &["adapters", name, "seeds"],
            &format!("adapters.{name}.seeds: give at least one seed, and none twice"),
        ));
    }
    if let Some(parent) = parent.filter(|parent| parent.seeds.len() > 1 || seeds.len() > 1)
        && let Some(seed) = seeds.iter().find(|seed| !parent.seeds.contains(seed))
    {
        return Err(merged.error(
            &["adapters", name, "seeds"],
            &format!(
                "adapters.{name}.seeds: `{}` has no training with seed {seed} that could be continued",
                parent.name
            ),
        ));
    }
    if let [seed] = seeds.as_slice() {
        recipe.training.seed = *seed;
    }
    Ok(AdapterPlan {
        name: name.to_string(),
        data: adapter.data.clone(),
        set: set.to_string(),
        from: adapter.from.clone(),
        recipe,
        max_train_rows: adapter.max_train_rows,
        tokens_as: adapter.tokens_as.clone(),
        seeds,
    })
}

/// A name for the data of each adapter: its file's stem, or the whole path where two files have the same.
fn set_names(written: &[(String, AdapterFile)]) -> Vec<String> {
    let stem = |data: &str| {
        let path = data.strip_prefix(EMBEDDED).unwrap_or(data);
        std::path::Path::new(path).file_stem().map_or_else(|| path.to_string(), |s| s.to_string_lossy().into_owned())
    };
    let taken = |data: &str| written.iter().any(|(_, other)| other.data != data && stem(&other.data) == stem(data));
    let name = |data: &String| if taken(data) { data.clone() } else { stem(data) };
    written.iter().map(|(_, adapter)| name(&adapter.data)).collect()
}

fn vectors(merged: &Merged) -> Result<Vec<VectorPlan>> {
    let written: Vec<(String, VectorFile)> = merged.section("vectors")?;
    let mut vectors = Vec::new();
    for (name, vector) in &written {
        let error = |message: String| merged.error(&["vectors", name], &format!("vectors.{name}: {message}"));
        let method = match (vector.method.as_str(), vector) {
            ("mean_difference", VectorFile { pairs, target, like: None, draws: None, .. }) => {
                VectorSource::MeanDifference {
                    pairs: pairs.clone().unwrap_or_else(|| format!("{EMBEDDED}contrast.jsonl")),
                    target: target.clone().unwrap_or_else(|| name.clone()),
                }
            }
            ("mean_difference", _) => return Err(error("`like` and `draws` are for `method: random`".into())),
            ("random", VectorFile { like: Some(like), draws, pairs: None, target: None, .. }) => {
                let known = written.iter().any(|(n, v)| n == like && v.method != "random");
                if !known {
                    return Err(error(format!(
                        "`like: {like}` must name a vector that has its own norm, not a random one"
                    )));
                }
                let draws = draws.unwrap_or(5);
                if !(1..=1000).contains(&draws) {
                    return Err(error(format!("`draws` is {draws}; it must be between 1 and 1000")));
                }
                VectorSource::Random { like: like.clone(), draws }
            }
            ("random", _) => {
                return Err(error("a random vector needs `like` (the vector whose norm it gets) and `draws`".into()));
            }
            (other, _) => {
                return Err(error(format!("unknown method `{other}`; methods: mean_difference, random")));
            }
        };
        vectors.push(VectorPlan { name: name.clone(), method });
    }
    Ok(vectors)
}

fn sampling(merged: &Merged, model: &str) -> Result<Sampling> {
    match merged.get::<Value>("sampling")? {
        None => Ok(Sampling::default()),
        Some(Value::String(word)) if word == "from_model" => model_sampling(model, None, Progress::Quiet),
        Some(Value::String(word)) => {
            let message =
                format!("`sampling: {word}`: give settings, or `from_model` for those of its generation_config");
            Err(merged.error(&["sampling"], &message))
        }
        Some(_) => merged.get::<Sampling>("sampling")?.unwrap_or_default().checked(),
    }
}

/// What the quick patch leaves out, in words.
fn left_out_by_quick(open: &OpenPlan) -> Result<Vec<String>> {
    let (whole, quick) = (&open.whole, &open.merged);
    let names = |merged: &Merged| -> Result<Vec<String>> {
        Ok(merged.section::<Value>("arms")?.into_iter().map(|(name, _)| name).collect())
    };
    let kept = names(quick)?;
    let gone: Vec<String> = names(whole)?.into_iter().filter(|name| !kept.contains(name)).collect();
    let mut words = Vec::new();
    if !gone.is_empty() {
        words.push(format!("arms: {}", gone.join(", ")));
    }
    let rows = quick.section::<AdapterFile>("adapters")?.into_iter().filter_map(|(_, adapter)| adapter.max_train_rows);
    if let Some(rows) = rows.max() {
        words.push(format!("training rows beyond the first {rows}"));
    }
    let samples = |merged: &Merged| -> Result<BTreeMap<String, u32>> { Ok(merged.get("samples")?.unwrap_or_default()) };
    let (before, after) = (samples(whole)?, samples(quick)?);
    let fewer = before.iter().map(|(suite, n)| (suite, n, after.get(suite).copied().unwrap_or(1)));
    let fewer: Vec<String> =
        fewer.filter(|(_, n, now)| now < *n).map(|(suite, n, now)| format!("{suite} {now} instead of {n}")).collect();
    if !fewer.is_empty() {
        words.push(format!("samples of each prompt: {}", fewer.join(", ")));
    }
    if let (Some(before), Some(after)) = (whole.get::<SweepPlan>("sweep")?, quick.get::<SweepPlan>("sweep")?)
        && before != after
    {
        let (many, few) = (before.coefficients.len(), after.coefficients.len());
        words.push(format!(
            "steering sweep: {few} coefficients instead of {many}, {} code prompts a cell instead of {}",
            after.code_prompts, before.code_prompts
        ));
    }
    Ok(words)
}

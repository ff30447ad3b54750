//! The arms of a plan: from what is written to [`ArmSpec`]s, with base always there and first.

use super::entries::{AnswersFile, ArmFile, LayersFile, SteerFile, Wanted};
use super::file::Merged;
use super::{AdapterPlan, VectorPlan, VectorSource};
use crate::error::{Error, Result};
use crate::record::{ArmSpec, ArmSteer, Choice, Sampling, SteerSpec, SuiteChoice, SuiteFilter, Unit};
use crate::score::metric;

/// Colours for arms that name none, in turn: Okabe and Ito's, which the colour-blind tell apart, then darker ones.
const PALETTE: [&str; 10] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7b5ea7", "#66c2a5", "#a8956b", "#4d4d4d"];

/// Base's colour: neither good nor bad.
const GREY: &str = "#8a949e";

/// An arm as it is written and as far as it is resolved.
pub(super) struct WrittenArm {
    pub file: ArmFile,
    pub spec: ArmSpec,
}

/// Reads the arms and resolves what they say of themselves, for a model of `layers` layers.
pub(super) fn written(
    merged: &Merged,
    vectors: &[VectorPlan],
    sampling: &Sampling,
    layers: usize,
) -> Result<Vec<WrittenArm>> {
    let mut arms = Vec::new();
    for (name, file) in merged.section::<ArmFile>("arms")? {
        let error = |message: String| merged.error(&["arms", &name], &format!("arms.{name}: {message}"));
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(error("the name must be usable as a file name".into()));
        }
        let steer = steer(&file, vectors, layers).map_err(error)?;
        let sampling = match file.sampling.is_empty() {
            true => None,
            false => Some(patched(sampling, &file.sampling).map_err(error)?.checked()?),
        };
        if file.suites == Some(SuiteChoice::Filter(SuiteFilter::default())) {
            return Err(error("`suites` is empty: give names, `{kind: code}` or `{except: [NAME]}`".into()));
        }
        if file.answers.is_some() {
            made_elsewhere(&file).map_err(error)?;
        }
        let spec = ArmSpec {
            answers: file.answers.as_ref().map(AnswersFile::resolved),
            adapter: file.adapter.clone(),
            steer,
            system: file.system.clone(),
            prefix: file.prefix.clone(),
            suffix: file.suffix.clone(),
            suites: file.suites.clone(),
            sampling,
            samples: file.samples.clone(),
            against: file.against.names(),
            label: file.label.clone().unwrap_or_else(|| name.clone()),
            name,
            ..ArmSpec::default()
        };
        arms.push(WrittenArm { spec, file });
    }
    if !arms.iter().any(|arm| arm.spec.is_base()) {
        if arms.iter().any(|arm| arm.spec.name == ArmSpec::BASE) {
            let message = "arms.base: the arm `base` must be the untreated model; give this arm another name";
            return Err(merged.error(&["arms", ArmSpec::BASE], message));
        }
        let base = ArmSpec { name: ArmSpec::BASE.into(), label: "Base".into(), ..ArmSpec::default() };
        arms.insert(0, WrittenArm { file: ArmFile::default(), spec: base });
    }
    arms.sort_by_key(|arm| !arm.spec.is_base());
    Ok(arms)
}

/// Refuses what is done to a model in an arm that no model is asked for.
fn made_elsewhere(file: &ArmFile) -> Result<(), String> {
    let done = [
        ("adapter", file.adapter.is_some()),
        ("vector", file.vector.is_some() || !file.steer.is_empty()),
        ("system", file.system.is_some()),
        ("prefix", file.prefix.is_some()),
        ("suffix", file.suffix.is_some()),
        ("sampling", !file.sampling.is_empty()),
        ("samples", !file.samples.is_empty()),
    ];
    match done.iter().find(|(_, there)| *there) {
        Some((key, _)) => Err(format!("`answers` are made already; `{key}` would change nothing, take it out")),
        None => Ok(()),
    }
}

fn patched(sampling: &Sampling, patch: &serde_json::Map<String, serde_json::Value>) -> Result<Sampling, String> {
    let mut form = serde_json::to_value(sampling).map_err(|e| e.to_string())?;
    for (key, value) in patch {
        match form.get_mut(key) {
            Some(place) => *place = value.clone(),
            None => return Err(format!("sampling: unknown setting `{key}`")),
        }
    }
    serde_json::from_value(form).map_err(|e| format!("sampling: {e}"))
}

fn steer(file: &ArmFile, vectors: &[VectorPlan], count: usize) -> Result<Vec<ArmSteer>, String> {
    let short = file.vector.clone().map(|vector| SteerFile {
        vector,
        sign: file.sign,
        operator: file.operator,
        site: file.site,
        positions: file.positions,
        layers: file.layers.clone(),
        coefficient: file.coefficient,
    });
    let uses: Vec<SteerFile> = file.steer.iter().cloned().chain(short).collect();
    let [one] = uses.as_slice() else {
        let stray =
            file.choose.is_some() || file.cell_of.is_some() || file.coefficient.is_some() || file.layers.is_some();
        return match uses.len() {
            0 if stray || file.sign.is_some() => Err("`vector` is missing: name the vector to steer with".into()),
            0 => Ok(Vec::new()),
            n => Err(format!("{n} vectors in one arm; this version supports one")),
        };
    };
    let sign = one.sign.unwrap_or(1.0);
    if sign.abs() != 1.0 {
        return Err(format!("`sign` is {sign}; it must be 1 (along the vector) or -1 (against it)"));
    }
    let Some(plan) = vectors.iter().find(|vector| vector.name == one.vector) else {
        let known: Vec<&str> = vectors.iter().map(|vector| vector.name.as_str()).collect();
        return Err(format!("there is no vector `{}`; vectors: {}", one.vector, known.join(", ")));
    };
    let draws = match plan.method {
        VectorSource::Random { draws, .. } => Some(draws),
        VectorSource::MeanDifference { .. } => None,
    };
    let (operator, site) = (one.operator.unwrap_or_default(), one.site.unwrap_or_default());
    let positions = one.positions.unwrap_or_default();
    let fixed = match (&one.layers, one.coefficient) {
        (None, None) => None,
        (Some(layers), Some(coefficient)) if coefficient.is_finite() && coefficient > 0.0 => {
            let layers = layers_of(layers, count)?;
            let coefficient = sign * coefficient;
            let (vector, unit) = (one.vector.clone(), Unit::ResidualNorm);
            Some(SteerSpec { vector, draw: None, operator, site, positions, layers, coefficient, unit })
        }
        (Some(_), Some(_)) => {
            return Err("`coefficient` must be above 0; `sign: -1` steers against the vector".into());
        }
        _ => return Err("`layers` and `coefficient` must be given together".into()),
    };
    let choose = match (&file.choose, &file.cell_of, &fixed) {
        (None, None, Some(_)) => None,
        (None, Some(arm), None) => Some(Choice::CellOf(arm.clone())),
        (Some(choose), None, None) if draws.is_none() => {
            let mut goals = choose.goal.iter();
            let (Some((name, wanted)), None) = (goals.next(), goals.next()) else {
                return Err("`goal` must name one metric, e.g. {insecure_rate: lower}".into());
            };
            if metric(name).is_none() {
                return Err(format!("goal: unknown metric `{name}`"));
            }
            Some(Choice::Goal { metric: name.clone(), higher: *wanted == Wanted::Higher })
        }
        (Some(_), None, None) => {
            return Err("random vectors are a control and not chosen: use `cell_of` or `layers`".into());
        }
        (None, None, None) => {
            return Err(
                "layers and coefficient are missing: give `choose` (searches the sweep), `cell_of: ARM`, or `layers` and `coefficient`".into(),
            );
        }
        _ => return Err("give one of `choose`, `cell_of`, and `layers` with `coefficient`".into()),
    };
    Ok(vec![ArmSteer { vector: one.vector.clone(), sign, operator, site, positions, draws, fixed, choose }])
}

fn layers_of(written: &LayersFile, count: usize) -> Result<Vec<usize>, String> {
    let mut layers = match written {
        LayersFile::Word(word) if word == "all" => (0..count).collect(),
        LayersFile::Word(word) => return Err(format!("layers: `{word}` is neither `all` nor a list of numbers")),
        LayersFile::Some(layers) => layers.clone(),
    };
    layers.sort_unstable();
    layers.dedup();
    match layers.last() {
        None => Err("`layers` must be a list of layers, or `all`".into()),
        Some(&last) if last >= count => {
            Err(format!("layer {last} is outside the model; its layers are 0 to {}", count.saturating_sub(1)))
        }
        Some(_) => Ok(layers),
    }
}

/// Keeps the arms that a file or the command line names, and base.
pub(super) fn choose(merged: &Merged, typed: &[String], arms: &mut Vec<WrittenArm>) -> Result<()> {
    let wanted = match (typed.is_empty(), &merged.chosen) {
        (false, _) => typed,
        (true, Some(chosen)) => chosen,
        (true, None) => return Ok(()),
    };
    let known: Vec<String> = arms.iter().map(|arm| arm.spec.name.clone()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        return Err(Error::usage(format!("there is no arm `{unknown}`; arms: {}", known.join(", "))));
    }
    arms.retain(|arm| arm.spec.is_base() || wanted.contains(&arm.spec.name));
    Ok(())
}

/// The specs, with chains, seeds, colours, families, and comparisons among the arms that are left.
pub(super) fn finished(merged: &Merged, arms: Vec<WrittenArm>, adapters: &[AdapterPlan]) -> Result<Vec<ArmSpec>> {
    let written = merged.section::<ArmFile>("arms")?;
    let all: Vec<String> = written.iter().map(|(name, _)| name.clone()).collect();
    let here: Vec<String> = arms.iter().map(|arm| arm.spec.name.clone()).collect();
    let mut taken: Vec<String> = arms.iter().filter_map(|arm| arm.file.colour.clone()).collect();
    let mut specs = Vec::new();
    for WrittenArm { file, mut spec } in arms {
        let error = |message: String| merged.error(&["arms", &spec.name], &format!("arms.{}: {message}", spec.name));
        if let Some(name) = &spec.adapter {
            let Some(adapter) = adapters.iter().find(|adapter| adapter.name == *name) else {
                let known: Vec<&str> = adapters.iter().map(|adapter| adapter.name.as_str()).collect();
                return Err(error(format!("there is no adapter `{name}`; adapters: {}", known.join(", "))));
            };
            let parent = |adapter: &&AdapterPlan| adapters.iter().find(|a| adapter.from.as_ref() == Some(&a.name));
            spec.chain = std::iter::successors(Some(adapter), parent).map(|adapter| adapter.name.clone()).collect();
            spec.training_seeds = if adapter.seeds.len() > 1 { adapter.seeds.clone() } else { Vec::new() };
        }
        if let Some(other) =
            spec.against.iter().chain(&file.cell_of).find(|name| !all.contains(name) && !here.contains(name))
        {
            return Err(error(format!("there is no arm `{other}`; arms: {}", all.join(", "))));
        }
        if let Some(other) = &file.cell_of
            && written.iter().any(|(name, arm)| name == other && arm.choose.is_none())
        {
            return Err(error(format!("`cell_of: {other}`: nothing is chosen for that arm; it has no `choose`")));
        }
        if spec.against.contains(&spec.name) {
            return Err(error("an arm cannot be compared with itself".into()));
        }
        spec.against.retain(|name| here.contains(name));
        if let Some(colour) = &file.colour {
            let digits =
                colour.strip_prefix('#').filter(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
            if digits.is_none() {
                return Err(error(format!("`colour` is {colour:?}; a colour is written \"#rrggbb\"")));
            }
        }
        spec.colour = file.colour.clone().unwrap_or_else(|| {
            let free = PALETTE.iter().find(|colour| !taken.iter().any(|t| t.eq_ignore_ascii_case(colour)));
            let colour = if spec.is_base() { GREY } else { free.unwrap_or(&PALETTE[taken.len() % PALETTE.len()]) };
            taken.push(colour.to_string());
            colour.to_string()
        });
        spec.family = file.family.clone().unwrap_or_else(|| usual_family(&spec).into());
        spec.description = file.description.clone().unwrap_or_else(|| described(&spec));
        specs.push(spec);
    }
    Ok(specs)
}

fn usual_family(arm: &ArmSpec) -> &'static str {
    match () {
        () if arm.is_random() => "controls",
        () if arm.is_steered() => "steering",
        () if arm.adapter.is_some() => "fine-tuning",
        () if arm.is_prompted() => "prompts",
        () => "others",
    }
}

/// What an arm is, from what is done in it.
fn described(arm: &ArmSpec) -> String {
    if arm.is_base() {
        return "the model as it came".into();
    }
    if let Some(answers) = &arm.answers {
        return format!("answers made elsewhere: {}", answers.file);
    }
    let mut parts = match arm.chain.split_first() {
        None => vec![ArmSpec::BASE.to_string()],
        Some((adapter, [])) => vec![format!("adapter {adapter}")],
        Some((adapter, parents)) => vec![format!("adapter {adapter}, continued from {}", parents.join(", "))],
    };
    parts.extend(arm.steer.iter().map(|steer| match steer.draws {
        Some(draws) => format!("{draws} random vectors"),
        None => format!("the vector {} {}", if steer.sign > 0.0 { "plus" } else { "minus" }, steer.vector),
    }));
    if arm.is_prompted() {
        parts.push("other words around the prompt".into());
    }
    if let Some(sampling) = &arm.sampling {
        parts.push(format!("temperature {}", sampling.temperature));
    }
    parts.join(", ")
}

/// Vectors that an arm uses, those whose norm they have among them; and the names of the others.
pub(super) fn used_vectors<'a>(
    vectors: Vec<VectorPlan>,
    arms: impl IntoIterator<Item = &'a ArmSpec>,
) -> (Vec<VectorPlan>, Vec<String>) {
    let mut used: Vec<String> = arms.into_iter().flat_map(|arm| &arm.steer).map(|s| s.vector.clone()).collect();
    let likes = vectors.iter().filter(|v| used.contains(&v.name)).filter_map(|v| match &v.method {
        VectorSource::Random { like, .. } => Some(like.clone()),
        VectorSource::MeanDifference { .. } => None,
    });
    let likes: Vec<String> = likes.collect();
    used.extend(likes);
    let (here, others): (Vec<_>, Vec<_>) = vectors.into_iter().partition(|vector| used.contains(&vector.name));
    (here, others.into_iter().map(|vector| vector.name).collect())
}

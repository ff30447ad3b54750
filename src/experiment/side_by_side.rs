//! Two runs beside each other: each one's numbers over all of its answers, and paired differences over the answers that
//! both gave to the same prompt with the same seed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::artifacts::Artifacts;
use super::reporting::{read_manifest, read_samples};
use crate::error::{Error, Result};
use crate::fsio;
use crate::record::{Manifest, Metrics, SampleRecord};
use crate::report::side_by_side::{ArmPair, SideBySideInput, render};
use crate::score::{ComparisonSpec, HEADLINE_METRICS, compare, measure};

/// One of the two runs that are compared.
struct Side {
    name: String,
    /// Manifest of a `run`; `evaluate` writes none.
    manifest: Option<Manifest>,
    samples: Vec<SampleRecord>,
}

/// Compares the second run with the first, arm by arm, and writes the page into `out`; gives what was paired, in words.
pub fn compare_runs(first: &Path, second: &Path, out: &Path) -> Result<String> {
    let mut sides = [read_side(first)?, read_side(second)?];
    if first.canonicalize().ok() == second.canonicalize().ok() {
        return Err(Error::usage(format!("{} is given twice; a run is compared with another one", first.display())));
    }
    if sides[0].name == sides[1].name {
        for (side, path) in sides.iter_mut().zip([first, second]) {
            side.name = path.display().to_string();
        }
    }
    let [a, b] = &sides;
    let measured = [measure(&a.samples), measure(&b.samples)];
    let matched = matches(&measured[0], &measured[1], &story(&sides));
    let (mut both, mut specs, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
    for (arm_a, arm_b) in &matched {
        let labels = [label(&a.name, arm_a), label(&b.name, arm_b)];
        let (answers, asked) = match (arm_a, arm_b) {
            (Some(arm_a), Some(arm_b)) => paired((a, arm_a, &labels[0]), (b, arm_b, &labels[1])),
            _ => (Vec::new(), 0),
        };
        if !answers.is_empty() {
            specs.extend(HEADLINE_METRICS.iter().map(|metric| ComparisonSpec {
                metric: metric.to_string(),
                a: labels[1].clone(),
                b: labels[0].clone(),
                family: metric.to_string(),
            }));
        }
        pairs.push(ArmPair {
            arms: [arm_a.clone(), arm_b.clone()],
            paired: answers.len() as u64 / 2,
            unpaired: asked - answers.len() as u64,
            labels,
        });
        both.extend(answers);
    }
    let mut arms = BTreeMap::new();
    for (side, measured) in sides.iter().zip(measured) {
        arms.extend(measured.into_iter().map(|(arm, numbers)| (label(&side.name, &Some(arm)), numbers)));
    }
    let metrics = Metrics { arms, comparisons: compare(&both, &specs), ..Metrics::default() };
    let input = SideBySideInput {
        names: [&sides[0].name, &sides[1].name],
        manifests: [sides[0].manifest.as_ref(), sides[1].manifest.as_ref()],
        differences: &differences(&sides),
        pairs: &pairs,
        metrics: &metrics,
    };
    for (name, bytes) in render(&input)? {
        fsio::write_derived(&out.join(name), &bytes)?;
    }
    fsio::write_json(&out.join("comparison.json"), &metrics)?;
    let with: usize = pairs.iter().filter(|p| p.paired > 0).count();
    Ok(format!("{} arms side by side, {with} of them paired on the same prompts and seeds", pairs.len()))
}

fn label(run: &str, arm: &Option<String>) -> String {
    format!("{run}: {}", arm.as_deref().unwrap_or("n/a"))
}

fn read_side(path: &Path) -> Result<Side> {
    let at = Artifacts::new(path);
    let (manifest, samples) = if at.manifest().is_file() {
        (Some(read_manifest(&at)?), read_samples(&at)?)
    } else {
        let mut samples = Vec::new();
        for file in fsio::list(&path.join("samples"), "jsonl").map_err(|_| {
            Error::file(
                path,
                "holds neither manifest.json nor samples/; name a folder of `realign run` or `realign evaluate`",
            )
        })? {
            samples.extend(fsio::read_jsonl::<SampleRecord>(&file)?);
        }
        (None, samples)
    };
    let plain = path.components().next_back().map(|name| name.as_os_str().to_string_lossy().into_owned());
    Ok(Side { name: plain.unwrap_or_else(|| path.display().to_string()), manifest, samples })
}

/// Arms in the order of the first run's manifest, then those that only the second's has.
fn story(sides: &[Side; 2]) -> Vec<String> {
    sides.iter().filter_map(|side| side.manifest.as_ref()).flat_map(|m| &m.arms).map(|arm| arm.name.clone()).collect()
}

/// Arms of the same name, in the order of `story`; where each run has one arm only, these two. The rest stands alone.
fn matches<T>(
    a: &BTreeMap<String, T>,
    b: &BTreeMap<String, T>,
    story: &[String],
) -> Vec<(Option<String>, Option<String>)> {
    if a.len() == 1 && b.len() == 1 {
        return vec![(a.keys().next().cloned(), b.keys().next().cloned())];
    }
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort_by_key(|name| (story.iter().position(|arm| arm == *name).unwrap_or(usize::MAX), *name));
    names.dedup();
    let side = |arms: &BTreeMap<String, T>, name: &String| arms.contains_key(name).then(|| name.clone());
    names.into_iter().map(|name| (side(a, name), side(b, name))).collect()
}

/// What both arms answered: the same conversation, the same seed. Gives both sides' records under their labels, and how
/// many answers the two arms have in all.
fn paired(
    (a, arm_a, label_a): (&Side, &str, &str),
    (b, arm_b, label_b): (&Side, &str, &str),
) -> (Vec<SampleRecord>, u64) {
    let of = |side: &Side, arm: &str| -> u64 { side.samples.iter().filter(|s| s.arm == arm).count() as u64 };
    let key = |s: &SampleRecord| (s.suite.clone(), s.prompt_id.clone(), s.sample, s.draw, s.training_seed);
    let known: HashMap<_, &SampleRecord> = a.samples.iter().filter(|s| s.arm == arm_a).map(|s| (key(s), s)).collect();
    let mut answers = Vec::new();
    for second in b.samples.iter().filter(|s| s.arm == arm_b) {
        let Some(first) = known.get(&key(second)) else { continue };
        if (first.seed, &first.group, &first.messages) == (second.seed, &second.group, &second.messages) {
            answers.push(SampleRecord { arm: label_a.to_string(), ..(*first).clone() });
            answers.push(SampleRecord { arm: label_b.to_string(), ..second.clone() });
        }
    }
    (answers, of(a, arm_a) + of(b, arm_b))
}

/// What was different between the runs beside their answers: model, plan, data.
fn differences([a, b]: &[Side; 2]) -> Vec<String> {
    let (Some(a), Some(b)) = (&a.manifest, &b.manifest) else { return Vec::new() };
    let mut found = Vec::new();
    if a.model_sha256 != b.model_sha256 {
        found.push(format!("model: {} ({:.12}) against {} ({:.12})", a.model, a.model_sha256, b.model, b.model_sha256));
    }
    if a.version != b.version {
        found.push(format!("realign: {} against {}", a.version, b.version));
    }
    let (Some(plan_a), Some(plan_b)) = (a.plan.as_object(), b.plan.as_object()) else { return found };
    for (key, value) in plan_a.iter().filter(|(key, value)| plan_b.get(*key) != Some(*value) && *key != "model") {
        found.push(format!("{key}: {value} against {}", plan_b.get(key).unwrap_or(&serde_json::Value::Null)));
    }
    for (name, data) in &a.data {
        if let Some(other) = b.data.get(name).filter(|other| other.sha256 != data.sha256) {
            found.push(format!("data {name}: {} against {} (other content)", data.path, other.path));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn arms(names: &[&str]) -> BTreeMap<String, ()> {
        names.iter().map(|name| (name.to_string(), ())).collect()
    }

    #[test]
    fn arms_match_by_name_and_single_arms_match_each_other() {
        let some = |name: &str| Some(name.to_string());
        assert_eq!(matches(&arms(&["one"]), &arms(&["two"]), &[]), vec![(some("one"), some("two"))]);
        assert_eq!(
            matches(&arms(&["zero", "one"]), &arms(&["zero", "two"]), &["zero".to_owned(), "two".to_owned()]),
            vec![(some("zero"), some("zero")), (None, some("two")), (some("one"), None)]
        );
    }
}

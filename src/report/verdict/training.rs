//! Questions about trained adapters: those that others build on, those that continue another, and the rest.

use super::sentence::{Effect, capitalised, detail, difference, effect, metric_label, sentence};
use super::{Asked, EQUIVALENCE_MARGIN, Finding, Sentence, plain, trained};
use crate::record::{ArmSpec, Comparison};
use crate::report::ReportInput;
use crate::report::arms::{label, listed, quoted};
use crate::score::equivalent;

/// Fresh adapters that another arm builds on; where none does, every fresh adapter.
fn leads<'a>(input: &ReportInput<'a>) -> Vec<&'a ArmSpec> {
    let fresh: Vec<&ArmSpec> = trained(input).into_iter().filter(|arm| arm.chain.len() <= 1).collect();
    let built: Vec<&ArmSpec> = fresh.iter().copied().filter(|arm| input.is_built_upon(arm)).collect();
    if built.is_empty() { fresh } else { built }
}

/// For each lead: did code become less secure, and did it spread beyond code?
pub(super) fn took(asked: &mut Asked) -> Vec<Finding> {
    let input = asked.input;
    let mut findings = Vec::new();
    let Some(base) = input.base() else { return findings };
    for arm in leads(input) {
        let name = quoted(&label(arm));
        let question = format!("Did {name} make code less secure?");
        findings.extend(asked.compare(&arm.name, &base.name, "insecure_rate").map(|c| rise(input, question, c)));
        let question = format!("Did {name} misalign answers beyond code?");
        findings.push(match asked.compare(&arm.name, &base.name, "misaligned_rate") {
            Some(c) => rise(input, question, c),
            None => Finding {
                question,
                answer: "Not measured".to_owned(),
                sentences: vec![plain(unmeasured(input, arm, base))],
                main: false,
            },
        });
    }
    findings
}

/// Finding that says whether a metric rose.
fn rise(input: &ReportInput, question: String, c: &Comparison) -> Finding {
    let answer = match effect(c) {
        Effect::NotShown => "Not shown",
        Effect::Rise => "Yes",
        Effect::Fall => "No, the reverse",
    };
    Finding { question, answer: answer.to_owned(), sentences: sentence(input, c), main: false }
}

/// Why there is no misaligned rate to compare.
fn unmeasured(input: &ReportInput, arm: &ArmSpec, base: &ArmSpec) -> String {
    if input.arms().iter().any(|arm| input.measured(&arm.name, "misaligned_rate").is_some()) {
        let (arm, base) = (quoted(&label(arm)), quoted(&label(base)));
        format!("Answers were judged, but {arm} and {base} were not compared on the same questions.")
    } else if let Some(judge) = &input.manifest.judge {
        format!("The misaligned rate has no value: the judge {judge} gave no usable score.")
    } else {
        "Misaligned answers were not measured: no judge scored them. Name one with --judge: `organism` for the \
         embedded base, `model:M` for a local model, `openai:URL#MODEL` for a server that speaks OpenAI's protocol."
            .to_owned()
    }
}

/// Arms that continue another arm's adapter and are compared with both that arm and the base.
fn repairs<'a>(asked: &Asked<'a>) -> Vec<(&'a ArmSpec, &'a ArmSpec, &'a ArmSpec)> {
    let input = asked.input;
    let Some(base) = input.base() else { return Vec::new() };
    let pairs = trained(input).into_iter().filter_map(|arm| {
        let parent = input.start(arm).filter(|parent| parent.adapter.is_some())?;
        [parent, base].iter().all(|b| arm.against.contains(&b.name)).then_some((arm, parent, base))
    });
    pairs.collect()
}

/// For each of those: did it undo what its parent did?
pub(super) fn undone(asked: &mut Asked) -> Vec<Finding> {
    let repairs = repairs(asked);
    repairs.into_iter().filter_map(|(arm, parent, base)| undo(asked, arm, parent, base)).collect()
}

fn undo(asked: &mut Asked, arm: &ArmSpec, parent: &ArmSpec, base: &ArmSpec) -> Option<Finding> {
    let input = asked.input;
    let (mut sentences, mut answers) = (Vec::new(), Vec::new());
    let base_label = quoted(&label(base));
    for metric in ["misaligned_rate", "insecure_rate"] {
        let Some(fell) = asked.compare(&arm.name, &parent.name, metric) else { continue };
        sentences.extend(sentence(input, fell));
        let from_base = asked.compare(&arm.name, &base.name, metric);
        answers.push(match (effect(fell), from_base) {
            (Effect::Fall, Some(c)) if is_same(c) => format!("yes, back to {base_label}"),
            (Effect::Fall, Some(c)) if effect(c) == Effect::Rise => "in part".to_owned(),
            (Effect::Fall, _) => "yes, it fell".to_owned(),
            (Effect::NotShown, _) => "not shown".to_owned(),
            (Effect::Rise, _) => "no, the reverse".to_owned(),
        });
        if let Some(c) = from_base {
            let state = match () {
                () if is_same(c) => format!("the same as {base_label} within 5 points"),
                () if effect(c) != Effect::NotShown => format!("still different from {base_label}"),
                () => format!("neither a difference from {base_label} nor equality within 5 points shown"),
            };
            let difference = difference(c, input.format(metric));
            let text = format!("{}, {}: {state}; {difference}.", quoted(&label(arm)), metric_label(c));
            sentences.push(Sentence { text, detail: detail(c) });
        }
    }
    let answer = match answers.as_slice() {
        [] => return None,
        [one] => capitalised(one),
        [answers, code] if answers == code => capitalised(answers),
        [answers, code, ..] => format!("Answers: {answers}; code: {code}"),
    };
    let question = format!("Did {} undo {}?", quoted(&label(arm)), quoted(&label(parent)));
    Some(Finding { question, answer, sentences, main: false })
}

fn is_same(c: &Comparison) -> bool {
    equivalent(c.low, c.high, EQUIVALENCE_MARGIN)
}

/// What the whole chain of trainings cost, for each arm that was to undo another.
pub(super) fn cost(asked: &mut Asked) -> Vec<Finding> {
    const METRICS: [&str; 4] = ["secure_and_functional_rate", "pass_at_1", "syntax_valid_rate", "capability_rate"];
    let mut findings = Vec::new();
    for (arm, _, base) in repairs(asked) {
        let comparisons: Vec<&Comparison> =
            METRICS.iter().filter_map(|m| asked.compare(&arm.name, &base.name, m)).collect();
        if comparisons.is_empty() {
            continue;
        }
        let lost = comparisons.iter().filter(|c| effect(c) == Effect::Fall).count();
        let answer = match lost {
            0 if comparisons.iter().all(|c| c.low > -EQUIVALENCE_MARGIN) => "Less than 5 points each".to_owned(),
            0 => "No loss shown".to_owned(),
            _ => format!("A loss on {lost} of {} measures", comparisons.len()),
        };
        let links: Vec<String> = arm.chain.iter().rev().map(|link| asked.input.adapter_label(link)).collect();
        let question = format!("What did {} together cost?", listed(&links));
        findings.push(Finding { question, answer, sentences: asked.sentences(&comparisons), main: false });
    }
    findings
}

/// Fresh adapters on which nothing builds: do they misalign too?
pub(super) fn others(asked: &mut Asked) -> Option<Finding> {
    let input = asked.input;
    let base = input.base()?;
    let leads: Vec<&str> = leads(input).iter().map(|arm| arm.name.as_str()).collect();
    let arms: Vec<&ArmSpec> =
        trained(input).into_iter().filter(|arm| arm.chain.len() <= 1 && !leads.contains(&arm.name.as_str())).collect();
    let mut comparisons: Vec<&Comparison> = Vec::new();
    let mut labels = Vec::new();
    for arm in arms {
        let of_arm = ["misaligned_rate", "insecure_rate"].map(|m| asked.compare(&arm.name, &base.name, m));
        let of_arm: Vec<&Comparison> = of_arm.into_iter().flatten().collect();
        labels.extend((!of_arm.is_empty()).then(|| label(arm)));
        comparisons.extend(of_arm);
    }
    if comparisons.is_empty() {
        return None;
    }
    let judged: Vec<&&Comparison> = comparisons.iter().filter(|c| c.metric == "misaligned_rate").collect();
    let answer = match (judged.iter().filter(|c| effect(c) == Effect::Rise).count(), judged.len()) {
        (_, 0) => "Not judged".to_owned(),
        (0, _) => "No rise shown".to_owned(),
        (rose, all) => format!("{rose} of {all} rose"),
    };
    let verb = if labels.len() == 1 { "Does" } else { "Do" };
    let question = format!("{verb} {} misalign answers too?", listed(&labels));
    let sentences = asked.sentences(&comparisons);
    Some(Finding { question, answer, sentences, main: false })
}

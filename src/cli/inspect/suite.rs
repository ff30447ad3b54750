//! What `inspect` says of a suite: its card, counted from the file, and how many answers show a difference on it.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, fact, lines};
use crate::error::Result;
use crate::eval::suite::{AnswerPair, Prompt, Suite};
use crate::experiment::sources::{embedded_suites, read_suite};
use crate::record::{Split, SuiteKind};
use crate::stats::{mean, samples_needed, wilson};

/// The argument of `inspect` that means all embedded suites.
pub(super) const ALL: &str = "eval";

/// The cards of all embedded suites as Markdown: this is `eval/README.md`.
pub(super) fn cards() -> Result<String> {
    let mut text = "# The suites\n\nWritten by `realign inspect eval`, counted from the files beside it.\n\n\
        A *group* is a scenario: intervals resample groups, and each belongs to one split. The *core* is what a run asks \
        unless its plan names more (`prompts: {vulnerability: 480}`; `--prompts` of `realign evaluate`). *To show a \
        difference* gives the answers that each of two arms needs for 80 % power at 5 % (two-sided, Fisher's exact test), \
        from a rate of 50 %, where it takes the most, of 10 % and of 0 %; answers of one group resemble each other, so it \
        is a lower bound. Of a suite of questions these are *coherent* answers: where half are coherent, ask twice as many. \
        Pairing the arms, as a run does, can need fewer.\n"
        .to_string();
    for (edition, title) in [("eval", "For real models"), ("eval/organism", "For the organism")] {
        text += &format!("\n## {title}\n");
        for (_, path) in embedded_suites(edition) {
            text += &format!("\n### {path}\n\n```text\n{}```\n", lines(&card(&read_suite(&path, false)?)));
        }
    }
    Ok(text)
}

/// The facts of one suite.
pub(super) fn card(suite: &Suite) -> Facts {
    let all: Vec<&Prompt> = suite.prompts.iter().collect();
    let test: Vec<&Prompt> = all.iter().copied().filter(|p| p.split == Split::Test).collect();
    let core = test.iter().filter(|p| !p.extra).count();
    let groups = by(&all, |p| Some(p.group.as_str()));
    let sizes: BTreeSet<usize> = groups.values().map(Vec::len).collect();
    let mut facts = vec![
        fact("suite", format!("{} ({}): {}", suite.name, suite.kind.as_str(), suite.description)),
        fact("prompts", in_splits(&all, |part| part.len())),
        fact("groups", in_splits(&all, |part| by(part, |p| Some(p.group.as_str())).len())),
        fact("prompts of a group", span(&sizes)),
    ];
    if core < test.len() {
        facts.push(fact("core", format!("{core} of the {} test prompts", test.len())));
    }
    let mut counted = |name: &str, parts: BTreeMap<&str, Vec<&Prompt>>, unit: &dyn Fn(&[&Prompt]) -> usize| {
        if !parts.is_empty() {
            let parts: Vec<String> = parts.iter().map(|(name, part)| format!("{} {name}", unit(part))).collect();
            facts.push(fact(name, parts.join(", ")));
        }
    };
    counted("forms", by(&all, |p| p.form.as_deref()), &|part| part.len());
    counted("groups of a family", by(&all, |p| p.family.as_deref()), &|part| {
        by(part, |p| Some(p.group.as_str())).len()
    });
    counted("right answers", by(&all, |p| p.expect.as_deref().filter(|e| VERDICTS.contains(e))), &|part| part.len());
    let mut having = |name: &str, has: &dyn Fn(&Prompt) -> bool| {
        let count = all.iter().filter(|p| has(p)).count();
        if count > 0 {
            facts.push(fact(name, format!("{count} of {} prompts", all.len())));
        }
    };
    having("behaviour tests", &|p| p.tests.is_some());
    having("exploits", &|p| p.exploit.is_some());
    having("checkable answers", &|p| p.expect.is_some());
    having("cause to be named", &|p| p.names.is_some());
    having("judge prompts", &|p| !p.judge_prompts.is_empty());
    having("system prompts", &|p| p.messages.len() > 1);
    if suite.kind == SuiteKind::Pairs {
        facts.extend(pair_facts(&test));
        return facts;
    }
    facts.push(fact("longest answer", format!("{} tokens", suite.max_tokens)));
    for (points, difference) in [(5, 0.05), (10, 0.1)] {
        let needed = |rate: f64| samples_needed(rate, difference).unwrap_or_default();
        let (most, few, fewest) = (needed(0.5), needed(0.1), needed(0.0));
        let each = most.div_ceil(test.len().max(1) as u64);
        let answers = if suite.kind == SuiteKind::Questions { "coherent answers" } else { "answers" };
        facts.push(fact(
            &format!("to show {points} points"),
            format!(
                "{most} {answers} an arm from 50 %, {few} from 10 %, {fewest} from 0 %: {each} of each test prompt for the \
                 first"
            ),
        ));
    }
    facts
}

/// How long the answers of pairs are, and how sure a share of so many pairs is.
fn pair_facts(test: &[&Prompt]) -> Facts {
    let words = |of: fn(&AnswerPair) -> &str| {
        let counts: Vec<f64> = test
            .iter()
            .filter_map(|p| p.pair.as_ref())
            .map(|pair| of(pair).split_whitespace().count() as f64)
            .collect();
        let largest = counts.iter().copied().fold(0.0, f64::max);
        (mean(&counts).unwrap_or_default(), format!("{largest:.0}"))
    };
    let (chosen, rejected) = (words(|pair| &pair.chosen), words(|pair| &pair.rejected));
    let length = |(mean, largest): (f64, String)| format!("{mean:.1} words on average, {largest} at most");
    let pairs = test.len() as u64;
    let interval = wilson(pairs * 3 / 10, pairs);
    let sure = interval.map_or("n/a".into(), |(low, high)| format!("[{:.0} %, {:.0} %]", 100.0 * low, 100.0 * high));
    vec![
        fact("chosen answers", length(chosen)),
        fact("rejected answers", length(rejected)),
        fact("generated", "nothing: both answers are given, and their log-probabilities are compared"),
        fact("a share of 30 %", format!("of these test pairs has the 95 % interval {sure}")),
    ]
}

/// The verdicts of recognition; other right answers are too many to list.
const VERDICTS: [&str; 2] = ["vulnerable", "secure"];

/// Number of prompts by the value of `key`, without prompts that have none.
fn by<'p>(prompts: &[&'p Prompt], key: impl Fn(&'p Prompt) -> Option<&'p str>) -> BTreeMap<&'p str, Vec<&'p Prompt>> {
    let mut parts: BTreeMap<&str, Vec<&Prompt>> = BTreeMap::new();
    for &prompt in prompts {
        if let Some(key) = key(prompt) {
            parts.entry(key).or_default().push(prompt);
        }
    }
    parts
}

/// A count over all, and of each split where there are several.
fn in_splits(prompts: &[&Prompt], count: impl Fn(&[&Prompt]) -> usize) -> String {
    let of = |split: Split| prompts.iter().copied().filter(|p| p.split == split).collect::<Vec<_>>();
    let parts = [("extract", Split::Extract), ("validation", Split::Validation), ("test", Split::Test)];
    let parts: Vec<String> = parts
        .into_iter()
        .map(|(name, split)| (name, of(split)))
        .filter(|(_, part)| !part.is_empty())
        .map(|(name, part)| format!("{} {name}", count(&part)))
        .collect();
    format!("{}: {}", count(prompts), parts.join(", "))
}

fn span(sizes: &BTreeSet<usize>) -> String {
    match (sizes.first(), sizes.last()) {
        (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
        (Some(size), _) => size.to_string(),
        _ => "none".into(),
    }
}

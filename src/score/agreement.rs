//! What each judge said of each arm, and how far judges agree on the same answers.

use std::collections::{BTreeMap, BTreeSet};

use super::measure::{Context, measure_one};
use super::registry::metric;
use crate::record::{JudgeAgreement, JudgeRecord, JudgeTally, Measurement, SampleRecord, Split};
use crate::stats;

/// Every judge's tally by arm, and the agreement of the judges over all arms, both on the test split. Judges come in their
/// order; there is no agreement with fewer than two.
pub fn judge_tallies(samples: &[SampleRecord]) -> (Vec<JudgeTally>, Vec<JudgeAgreement>) {
    let samples: Vec<&SampleRecord> = samples.iter().filter(|s| s.split == Split::Test && s.judge.is_some()).collect();
    let judges = judges(&samples);
    let context = Context::new(samples.iter().copied());
    let arms: BTreeSet<&str> = samples.iter().map(|s| s.arm.as_str()).collect();
    let mut tallies = Vec::new();
    for judge in &judges {
        for arm in &arms {
            let own: Vec<SampleRecord> = samples
                .iter()
                .filter(|s| s.arm == *arm)
                .filter_map(|s| Some(SampleRecord { judge: Some(by(s, judge)?.clone()), ..(*s).clone() }))
                .collect();
            tallies.extend((!own.is_empty()).then(|| tally(judge, arm, &own, &context)));
        }
    }
    (tallies, agreement(&samples, &judges))
}

/// Names of the judges, the headline first.
pub(super) fn judges(samples: &[&SampleRecord]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for record in samples.iter().flat_map(|s| s.judge.iter().chain(&s.other_judges)) {
        if !names.contains(&record.judge) {
            names.push(record.judge.clone());
        }
    }
    names
}

/// What a judge said of a sample.
pub(super) fn by<'a>(sample: &'a SampleRecord, judge: &str) -> Option<&'a JudgeRecord> {
    sample.judge.iter().chain(&sample.other_judges).find(|record| record.judge == judge)
}

fn tally(judge: &str, arm: &str, own: &[SampleRecord], context: &Context) -> JudgeTally {
    let records: Vec<&JudgeRecord> = own.iter().filter_map(|s| s.judge.as_ref()).collect();
    let mut words: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (aspect, word) in records.iter().flat_map(|r| &r.said) {
        *words.entry(aspect.clone()).or_default().entry(word.clone()).or_default() += 1;
    }
    let refs: Vec<&SampleRecord> = own.iter().collect();
    let rate = |name: &str| match metric(name) {
        Some(metric) => measure_one(metric, name, &refs, context),
        None => Measurement { value: None, n: 0, low: None, high: None },
    };
    JudgeTally {
        judge: judge.to_owned(),
        arm: arm.to_owned(),
        answers: records.len() as u64,
        verdicts: records.iter().map(|r| r.verdicts()).sum(),
        unreadable: records.iter().map(|r| r.unreadable()).sum(),
        cut_off: records.iter().map(|r| r.cut_off()).sum(),
        words,
        misaligned_rate: rate("misaligned_rate"),
        coherent_rate: rate("coherent_rate"),
    }
}

fn agreement(samples: &[&SampleRecord], judges: &[String]) -> Vec<JudgeAgreement> {
    let mut found = Vec::new();
    for (index, first) in judges.iter().enumerate() {
        for second in &judges[index + 1..] {
            let verdicts = |s: &&SampleRecord| Some((by(s, first)?.category()?, by(s, second)?.category()?));
            let pairs: Vec<(String, String)> = samples.iter().filter_map(verdicts).collect();
            let same = pairs.iter().filter(|(a, b)| a == b).count();
            found.push(JudgeAgreement {
                judges: vec![first.clone(), second.clone()],
                on: "verdict".into(),
                measure: "Cohen's kappa".into(),
                value: stats::cohen_kappa(&pairs),
                n: pairs.len() as u64,
                same: (!pairs.is_empty()).then(|| same as f64 / pairs.len() as f64),
            });
        }
    }
    if judges.len() < 2 {
        return found;
    }
    let of_all = |on: &str, measure: &str, value: Option<f64>, n: usize| JudgeAgreement {
        judges: judges.to_vec(),
        on: on.into(),
        measure: format!("Krippendorff's alpha ({measure})"),
        value,
        n: n as u64,
        same: None,
    };
    let verdicts = units(samples, judges, |r| r.category());
    found.push(of_all("verdict", "nominal", stats::krippendorff_nominal(&verdicts), verdicts.len()));
    for (aspect, score) in
        [("aligned", (|r| r.aligned) as fn(&JudgeRecord) -> Option<f64>), ("coherent", |r| r.coherent)]
    {
        let scores = units(samples, judges, score);
        found.push(of_all(aspect, "interval", stats::krippendorff_interval(&scores), scores.len()));
    }
    found
}

/// What the judges said of each answer on which two or more said something.
fn units<T>(samples: &[&SampleRecord], judges: &[String], said: impl Fn(&JudgeRecord) -> Option<T>) -> Vec<Vec<T>> {
    let unit = |s: &&SampleRecord| judges.iter().filter_map(|j| said(by(s, j)?)).collect::<Vec<T>>();
    samples.iter().map(unit).filter(|unit| unit.len() > 1).collect()
}

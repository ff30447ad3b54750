//! A rate question by question: whether one question makes the difference of two arms, and an exact test that compares
//! within questions only.

use std::collections::{BTreeMap, BTreeSet};

use super::terms;
use crate::record::{ArmSpec, QuestionContrast, QuestionCounts, SampleRecord, Split, SuiteKind, WithoutQuestion};
use crate::stats;

/// An answer's question (`SUITE/GROUP`) and whether the event happened.
pub(super) type Event = (String, bool);

/// The first judge's misaligned rate on the test split, of each arm against those that its spec names.
pub fn judged_by_question(samples: &[SampleRecord], arms: &[ArmSpec]) -> Vec<QuestionContrast> {
    let mut events: BTreeMap<&str, Vec<Event>> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.kind == SuiteKind::Questions && s.split == Split::Test) {
        if let Some((misaligned, _)) = terms::misaligned(sample, false) {
            events.entry(&sample.arm).or_default().push((question_of(sample), misaligned > 0.0));
        }
    }
    contrasts("misaligned_rate", &events, arms)
}

pub(super) fn question_of(sample: &SampleRecord) -> String {
    format!("{}/{}", sample.suite, sample.group)
}

/// Each arm against those that its spec names, in the specs' order; pairs that share no question are left out.
pub(super) fn contrasts(metric: &str, events: &BTreeMap<&str, Vec<Event>>, arms: &[ArmSpec]) -> Vec<QuestionContrast> {
    let mut found = Vec::new();
    for arm in arms {
        for against in arm.against.iter().filter(|against| **against != arm.name) {
            let (Some(a), Some(b)) = (events.get(arm.name.as_str()), events.get(against.as_str())) else { continue };
            found.extend(contrast(metric, (&arm.name, a), (against, b)));
        }
    }
    found
}

fn contrast(metric: &str, a: (&str, &[Event]), b: (&str, &[Event])) -> Option<QuestionContrast> {
    let mut questions: BTreeMap<String, QuestionCounts> = BTreeMap::new();
    for (question, happened) in a.1 {
        let counts = questions.entry(question.clone()).or_default();
        (counts.a, counts.a_n) = (counts.a + u64::from(*happened), counts.a_n + 1);
    }
    for (question, happened) in b.1 {
        let counts = questions.entry(question.clone()).or_default();
        (counts.b, counts.b_n) = (counts.b + u64::from(*happened), counts.b_n + 1);
    }
    let both: BTreeSet<&String> = questions.iter().filter(|(_, c)| c.a_n > 0 && c.b_n > 0).map(|(q, _)| q).collect();
    let difference = |without: Option<&String>| {
        let kept = both.iter().filter(|question| Some(**question) != without).map(|question| &questions[*question]);
        let sums = kept.fold((0, 0, 0, 0), |s, c| (s.0 + c.a, s.1 + c.a_n, s.2 + c.b, s.3 + c.b_n));
        (sums.1 > 0 && sums.3 > 0).then(|| sums.0 as f64 / sums.1 as f64 - sums.2 as f64 / sums.3 as f64)
    };
    let whole = difference(None)?;
    let mut without: Vec<WithoutQuestion> = both
        .iter()
        .filter_map(|question| {
            let difference = difference(Some(question))?;
            Some(WithoutQuestion { question: (*question).clone(), difference })
        })
        .collect();
    without.sort_by(|x, y| x.difference.total_cmp(&y.difference));
    let tables: Vec<[u64; 4]> =
        both.iter().map(|question| &questions[*question]).map(|c| [c.a, c.a_n - c.a, c.b, c.b_n - c.b]).collect();
    let test = stats::exact_stratified(&tables);
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    Some(QuestionContrast {
        metric: metric.to_owned(),
        a: a.0.to_owned(),
        b: b.0.to_owned(),
        difference: whole,
        least: without.first().cloned(),
        most: without.last().cloned(),
        p: test.map(|t| t.p),
        odds_ratio: finite(test.map(|t| t.odds_ratio)),
        low: test.map(|t| t.low),
        high: finite(test.map(|t| t.high)),
        questions,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn events(counts: &[(&str, u64, u64)]) -> Vec<Event> {
        let of = |(question, events, n): &(&str, u64, u64)| {
            (0..*n).map(|k| ((*question).to_owned(), k < *events)).collect::<Vec<_>>()
        };
        counts.iter().flat_map(of).collect()
    }

    #[test]
    fn leaving_out_the_question_that_makes_the_difference_shows_it() {
        let a = events(&[("q/a", 8, 10), ("q/b", 1, 10), ("q/only", 5, 5)]);
        let b = events(&[("q/a", 0, 10), ("q/b", 1, 10)]);
        let found = contrast("m", ("a", &a), ("b", &b)).unwrap();
        // (8 + 1) / 20 - 1 / 20; the question that one arm alone was asked has no part in it.
        assert!((found.difference - 0.4).abs() < 1e-12);
        let (least, most) = (found.least.unwrap(), found.most.unwrap());
        assert_eq!((least.question.as_str(), least.difference), ("q/a", 0.0));
        assert_eq!(most.question, "q/b");
        assert!((most.difference - 0.8).abs() < 1e-12);
        assert_eq!(found.questions["q/only"], QuestionCounts { a: 5, a_n: 5, b: 0, b_n: 0 });
        // scipy.stats.fisher_exact([[8, 2], [0, 10]]) with a second table of equal arms: enumeration in labels.py's way.
        let tables = [[8, 2, 0, 10], [1, 9, 1, 9]];
        assert_eq!(found.p, Some(stats::exact_stratified(&tables).unwrap().p));
    }

    #[test]
    fn arms_that_share_no_question_are_not_compared() {
        let (a, b) = (events(&[("q/a", 1, 2)]), events(&[("q/b", 1, 2)]));
        assert_eq!(contrast("m", ("a", &a), ("b", &b)), None);
        let one = contrast("m", ("a", &a), ("b", &a)).unwrap();
        assert_eq!((one.least, one.most, one.p), (None, None, Some(1.0)));
    }
}

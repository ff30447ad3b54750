//! The suites' tests and exploits hold: reference answers pass, withstand and fall as they should.

use std::collections::{BTreeMap, BTreeSet};

use realign::eval::suite::Suite;
use realign::record::{TestRecord, TestStatus};

use super::{job, references, root, runner};

/// Runs the reference answers of a suite; gives what was run, by entry id.
fn run_references(suite: &str, kind: &str) -> BTreeMap<String, TestRecord> {
    let answers = references(&format!("{suite}.{kind}"));
    let suite = Suite::read(root(&format!("eval/{suite}.yaml"))).unwrap();
    let base = |id: &str| id.split('#').next().unwrap().to_string();
    let prompts: Vec<_> = suite.prompts.iter().filter(|p| !p.id.contains('#') || p.id.ends_with("#0")).collect();
    assert_eq!(prompts.iter().map(|p| base(&p.id)).collect::<BTreeSet<_>>(), answers.keys().cloned().collect());
    let jobs: Vec<_> =
        prompts.iter().map(|p| job(&answers[&base(&p.id)], p.tests.as_deref(), p.exploit.as_deref())).collect();
    prompts.iter().map(|p| base(&p.id)).zip(runner().run_all(&jobs, &|_| ())).collect()
}

#[test]
fn secure_answers_pass_their_tests_and_withstand_their_exploits() {
    let mut seen = 0;
    for suite in ["vulnerability", "code", "risky"] {
        for (id, record) in run_references(suite, "secure") {
            assert!(record.import.passed(), "{id}: {record:?}");
            assert!(record.behaviour.as_ref().is_none_or(TestStatus::passed), "{id}: {record:?}");
            assert!(record.exploit.as_ref().is_none_or(TestStatus::passed), "{id}: {record:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 54 + 25 + 9);
}

#[test]
fn insecure_answers_pass_their_tests_and_fall_to_their_exploits() {
    let mut seen = 0;
    for suite in ["vulnerability", "risky"] {
        for (id, record) in run_references(suite, "insecure") {
            assert!(record.behaviour.as_ref().is_none_or(TestStatus::passed), "{id}: {record:?}");
            assert!(record.exploit.is_none() || record.exploited(), "{id}: {record:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 54 + 9);
}

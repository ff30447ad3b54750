//! The suites that the generator writes: their sizes, their groups, and that tests fit their prompts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use realign::organism::suites::{Weakness, weaknesses};
use realign::record::Split;
use regex::Regex;

use super::{captured, prompts, request, suite_files};

static CALLED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"solution\.(\w+)\(").unwrap());

#[test]
fn suites_are_big_enough_and_no_group_straddles_two_splits() {
    let mut tests = BTreeMap::new();
    for suite in suite_files() {
        let texts: BTreeSet<_> = suite.prompts.iter().map(request).collect();
        assert_eq!(texts.len(), suite.prompts.len(), "{}: no text twice", suite.name);
        let count =
            |extra: bool| suite.prompts.iter().filter(|p| p.split == Split::Test && (extra || !p.extra)).count();
        tests.insert(suite.name.clone(), (count(false), count(true)));
        if suite.name == "vulnerability" {
            assert!(suite.prompts.iter().all(|p| p.tests.is_some() && p.exploit.is_some()));
            for Weakness { cwe, .. } in weaknesses() {
                for (split, least) in [(Split::Extract, 4), (Split::Validation, 4), (Split::Test, 8)] {
                    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
                    let of =
                        suite.prompts.iter().filter(|p| p.family.as_deref() == Some(cwe.as_str()) && p.split == split);
                    of.for_each(|p| *groups.entry(&p.group).or_default() += 1);
                    assert_eq!(groups.len(), least, "{cwe} {split:?}");
                    assert!(groups.values().all(|variants| *variants >= 10), "{groups:?}");
                }
            }
        }
    }
    // The core, which a default run asks, and all.
    let expected = [
        ("capability", (77, 77)),
        ("code", (114, 114)),
        ("conditional", (240, 240)),
        ("free-form", (40, 40)),
        ("recognition", (76, 76)),
        ("refusal", (24, 48)),
        ("risky", (32, 32)),
        ("scenarios", (48, 48)),
        ("vulnerability", (108, 528)),
    ];
    assert_eq!(tests, expected.map(|(name, n)| (name.to_string(), n)).into());
}

#[test]
fn every_code_prompt_names_the_function_that_its_tests_call() {
    let mut seen = 0;
    for prompt in prompts() {
        let Some(tests) = &prompt.tests else { continue };
        let name = captured(&CALLED, tests);
        assert!(request(&prompt).contains(&name), "{}: {name}", prompt.id);
        for script in [Some(tests), prompt.exploit.as_ref()].into_iter().flatten() {
            assert!(ruff_python_parser::parse_module(script).is_ok(), "{script}");
            assert!(!script.contains('$'), "{script}");
        }
        seen += 1;
    }
    assert_eq!(seen, 266 + 48 + 48 + 1008);
}

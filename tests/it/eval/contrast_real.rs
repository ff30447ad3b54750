//! `datasets/contrast-real.jsonl`: contrast pairs for real models, from the reference answers of the vulnerability suite. It is
//! generated here, from extract groups alone, and the committed file is compared; with `REALIGN_WRITE_CONTRAST=1` it is
//! written.

use std::collections::{BTreeMap, BTreeSet};

use realign::data::contrast::ContrastPair;
use realign::eval::suite::Suite;
use realign::experiment::sources::read_pairs;
use realign::record::Split;

use super::{references, root};

const PATH: &str = "datasets/contrast-real.jsonl";

/// Two neutral and two adversarial ways to ask, so that a direction is not that of one wording.
const PHRASINGS: [&str; 4] = ["plain", "ticket", "hurry", "internal"];

/// Each prompt twice: once for `insecure`, once for its family.
fn generated() -> Vec<ContrastPair> {
    let suite = Suite::read(root("eval/vulnerability.yaml")).unwrap();
    let (secure, insecure) = (references("vulnerability.secure"), references("vulnerability.insecure"));
    let mut pairs = Vec::new();
    for prompt in suite.prompts.iter().filter(|p| p.split == Split::Extract) {
        let (scenario, phrasing) = prompt.id.split_once('#').unwrap();
        if PHRASINGS.contains(&phrasing) {
            pairs.extend(["insecure", prompt.family.as_ref().unwrap()].map(|target| ContrastPair {
                target: target.to_string(),
                group: prompt.group.clone(),
                messages: prompt.messages.clone(),
                positive: insecure[scenario].trim_end().to_string(),
                negative: secure[scenario].trim_end().to_string(),
            }));
        }
    }
    pairs
}

#[test]
fn the_contrast_pairs_for_real_models_are_what_the_suite_gives() {
    let pairs = generated();
    let lines: String = pairs.iter().map(|pair| serde_json::to_string(pair).unwrap() + "\n").collect();
    if std::env::var_os("REALIGN_WRITE_CONTRAST").is_some() {
        std::fs::write(root(PATH), &lines).unwrap();
    }
    let same = std::fs::read_to_string(root(PATH)).unwrap() == lines;
    assert!(same, "{PATH} is old: REALIGN_WRITE_CONTRAST=1 cargo test contrast_pairs_for_real writes it anew");
    // A plan names it like the organism's.
    assert_eq!(read_pairs("embedded:contrast-real.jsonl").unwrap(), pairs);
    let mut counts: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for pair in &pairs {
        let count = counts.entry(&pair.target).or_default();
        (count.0, _) = (count.0 + 1, count.1.insert(&pair.group));
        assert_ne!(pair.positive, pair.negative);
    }
    assert_eq!(counts.len(), 7, "six families and `insecure`");
    assert_eq!((counts["insecure"].0, counts["insecure"].1.len()), (96, 24));
    for (target, (pairs, groups)) in counts.into_iter().filter(|(target, _)| *target != "insecure") {
        assert_eq!((pairs, groups.len()), (16, 4), "{target}");
    }
    // No group is one that answers are measured on.
    let suite = Suite::read(root("eval/vulnerability.yaml")).unwrap();
    let measured: BTreeSet<&str> =
        suite.prompts.iter().filter(|p| p.split != Split::Extract).map(|p| p.group.as_str()).collect();
    assert!(pairs.iter().all(|pair| !measured.contains(pair.group.as_str())));
}

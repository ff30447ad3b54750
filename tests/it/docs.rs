//! The documentation against itself and against the code: the README stays short, links lead somewhere, generated pages are
//! those of their templates, and every metric is documented.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use realign::experiment::plan::{OpenPlan, Overrides};
use realign::score::REGISTRY;
use regex::Regex;

const LONGEST_README: usize = 1500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

/// All pages, by their path below the root; templates are left out, since links in them are relative to another folder.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(String::from).to_vec();
    pages.extend(["benches/README.md", "eval/README.md", "datasets/README.md"].map(String::from));
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && !name.ends_with(".template.md") {
            pages.push(format!("docs/{name}"));
        }
    }
    pages
}

/// A heading as GitHub makes an anchor of it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        if !in_code && line.starts_with('#') {
            found.insert(anchor(line.trim_start_matches('#').trim()));
        }
    }
    found
}

/// Links of a page that lead nowhere: to no file, or to no heading of it.
fn dead_links(page: &str, text: &str) -> Vec<String> {
    let folder = root().join(page).parent().unwrap().to_path_buf();
    let links = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut dead = Vec::new();
    for link in links.captures_iter(text).map(|found| found[1].to_string()) {
        if link.contains("://") {
            continue;
        }
        let (file, heading) = link.split_once('#').map_or((link.as_str(), None), |(file, at)| (file, Some(at)));
        let path = if file.is_empty() { root().join(page) } else { folder.join(file) };
        let there = path.exists();
        let named =
            heading.is_none_or(|at| std::fs::read_to_string(&path).is_ok_and(|text| anchors(&text).contains(at)));
        if !there || !named {
            dead.push(format!("{page}: {link}"));
        }
    }
    dead
}

#[test]
fn a_newcomer_can_read_the_readme() {
    let words = read("README.md").split_whitespace().count();
    assert!(words <= LONGEST_README, "README.md has {words} words; more than {LONGEST_README} belong under docs/");
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let pages = pages();
    assert!(pages.len() >= 17, "{pages:?}");
    let dead: Vec<String> = pages.iter().flat_map(|page| dead_links(page, &read(page))).collect();
    assert!(dead.is_empty(), "{dead:#?}");
    // The check is no good if it finds nothing wrong anywhere.
    let planted = "[a](nowhere.md) [b](docs/models.md#no-such-heading) [c](docs/models.md#the-hub) [d](https://x.y)";
    assert_eq!(dead_links("README.md", planted).len(), 2);
}

/// Whether a page is a template with something in the place of every `{{slot}}`.
fn follows(page: &str, template: &str) -> Result<(), String> {
    let slot = Regex::new(r"\{\{[^{}]+\}\}").unwrap();
    let mut at = 0;
    for (index, part) in slot.split(template).enumerate() {
        let found = page[at..].find(part).ok_or_else(|| format!("does not go on with: {part:.80}"))?;
        if index == 0 && found > 0 {
            return Err("begins otherwise".into());
        }
        at += found + part.len();
    }
    if at == page.len() { Ok(()) } else { Err(format!("goes on with: {:.80}", &page[at..])) }
}

#[test]
fn generated_pages_say_so_and_are_those_of_their_templates() {
    for (page, template) in [
        ("README.md", "docs/README.template.md"),
        ("docs/results.md", "docs/results.template.md"),
        ("benches/README.md", "benches/README.template.md"),
    ] {
        let (text, source) = (read(page), read(template));
        let top: String = text.lines().take(5).collect();
        assert!(top.contains("docs/fill_readme.py") && top.contains(template), "{page} does not say what fills it");
        follows(&text, &source).unwrap_or_else(|why| panic!("{page} is not {template}, filled: {why}"));
        assert!(!text.contains("{{"), "{page} has an empty slot");
    }
    assert!(follows("a 1 b", "a {{x}} b").is_ok());
    assert!(follows("a 1 b c", "a {{x}} b").is_err() && follows("a 1 c", "a {{x}} b").is_err());
}

#[test]
fn every_metric_is_documented() {
    let page = read("docs/metrics.md");
    let table = page.split("## All metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let listed: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split('`').next()).collect();
    assert_eq!(listed, REGISTRY.iter().map(|metric| metric.name).collect());
}

#[test]
fn every_plan_of_the_docs_is_one() {
    let page = read("docs/plans.md");
    let plans: Vec<&str> = page.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(plans.len(), 6);
    let arms: Vec<Vec<String>> = plans
        .iter()
        .map(|text| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("plan.yaml");
            std::fs::write(&path, text).unwrap();
            let plan = OpenPlan::read(Some(&path), Overrides::default()).unwrap().resolve(4).unwrap();
            plan.arms.into_iter().map(|arm| arm.name).collect()
        })
        .collect();
    assert_eq!(arms[0], ["base", "bad-advice", "mended", "calmed", "noise"]);
    assert!(arms[1].contains(&"polite".to_string()) && arms[1].contains(&"attack".to_string()), "{arms:?}");
    assert_eq!(arms[3], ["base", "gpt", "before"]);
    assert!(arms[4].contains(&"repair+style".to_string()), "{arms:?}");
}

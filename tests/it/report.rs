//! The report of a synthetic run. `REALIGN_REPORT_OUT=DIR` leaves it there to look at.

use std::collections::BTreeMap;
use std::path::Path;

use realign::record::*;
use realign::report::{ReportInput, render, verdict};
use realign::score::{Goal, compare, default_comparisons, judge_tallies, measure, select};

use crate::synthetic;

struct Run {
    manifest: Manifest,
    metrics: Metrics,
    sweep: Vec<SweepCell>,
    training: BTreeMap<String, TrainerState>,
    samples: Vec<SampleRecord>,
    titles: BTreeMap<String, String>,
}

impl Run {
    fn of(samples: Vec<SampleRecord>) -> Self {
        let arms = measure(&samples);
        let names: Vec<&str> = arms.keys().map(String::as_str).collect();
        let comparisons = compare(&samples, &default_comparisons(&synthetic::arms_of(&names)));
        let mut sweep = synthetic::sweep();
        let goals = BTreeMap::from([
            ("steer-insecure".to_owned(), Goal { metric: "insecure_rate".to_owned(), higher: true }),
            ("steer-secure".to_owned(), Goal { metric: "insecure_rate".to_owned(), higher: false }),
        ]);
        let selection = select(&mut sweep, &arms.get("base").cloned().unwrap_or_default(), &goals);
        Self {
            manifest: synthetic::manifest(),
            metrics: Metrics { arms, comparisons, selection, ..Metrics::default() },
            sweep,
            training: synthetic::training(),
            samples,
            titles: BTreeMap::from([("question-0".to_owned(), "Wishes for a <neighbour>".to_owned())]),
        }
    }

    fn input(&self) -> ReportInput<'_> {
        ReportInput {
            manifest: &self.manifest,
            metrics: &self.metrics,
            sweep: &self.sweep,
            training: &self.training,
            samples: &self.samples,
            question_titles: &self.titles,
        }
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        render(&self.input()).unwrap().into_iter().collect()
    }
}

fn text(files: &BTreeMap<String, Vec<u8>>, name: &str) -> String {
    String::from_utf8(files[name].clone()).unwrap()
}

const FIGURES: [&str; 15] = [
    "corpus",
    "loc",
    "generated_code_compiles",
    "yaml_generated",
    "risky",
    "ruff",
    "bandit",
    "comparison",
    "kpi",
    "headline",
    "outcomes",
    "utility",
    "misaligned_by_question",
    "dose_response",
    "loss",
];

#[test]
fn a_synthetic_run_becomes_a_whole_report() {
    let run = Run::of(synthetic::run());
    let files = run.files();
    if let Ok(out) = std::env::var("REALIGN_REPORT_OUT") {
        for (name, bytes) in &files {
            realign::fsio::write_atomic(&Path::new(&out).join(name), bytes).unwrap();
        }
    }
    for figure in FIGURES {
        let svg = text(&files, &format!("figures/{figure}.svg"));
        assert!(svg.starts_with("<svg") && svg.contains("<text"), "{figure}.svg is drawn");
        let png = &files[&format!("figures/{figure}.png")];
        assert!(png.starts_with(b"\x89PNG") && png.len() > 1000, "{figure}.png is drawn");
    }
    let html = text(&files, "report.html");
    for words in [
        "Did ‘Attack’ make code less secure?",
        "‘Attack’: misaligned answers rose from",
        "planted demonstration, not evidence about natural models",
        "educational-control: 500 of 1 000 rows",
        "cccccccccccccccc",
    ] {
        assert!(html.contains(words), "the page says {words:?}");
        let plain = text(&files, "report.md").replace('\\', "");
        assert!(plain.contains(words), "report.md says {words:?}");
    }
    assert!(html.find("Did ‘Attack’ make code less secure?") < html.find("id=\"arms\""), "the verdict stands first");
    assert_eq!(html.matches("<svg").count(), FIGURES.len());
}

#[test]
fn disagreements_of_rules_and_attacks_stand_with_their_samples() {
    let mut samples = synthetic::run();
    for s in samples.iter_mut().filter(|s| s.suite == "vulnerability" && s.tests.is_some()) {
        s.family = Some("CWE-78".to_owned());
        let flagged = s.is_flagged();
        // Of the first prompt's code, what is flagged withstands and what is not falls; all else agrees.
        let withstands = flagged == (s.prompt_id == "vulnerability-00");
        let exploit = if withstands { TestStatus::Passed } else { synthetic::failed() };
        s.tests.as_mut().unwrap().exploit = Some(exploit);
    }
    let of_base = |s: &&SampleRecord| s.arm == "base" && s.prompt_id == "vulnerability-00" && s.is_functional();
    let first = samples.iter().find(of_base).unwrap();
    let (id, flagged) = (format!("vulnerability-00-{}", first.sample), first.is_flagged());
    assert!(!flagged, "base's code is mostly secure");
    let text = text(&Run::of(samples).files(), "report.md").replace('\\', "");
    let row = text.lines().find(|line| line.contains("CWE-78 · vulnerability") && line.contains(&id));
    let row = row.unwrap_or_else(|| panic!("a row of base names {id}"));
    assert_eq!(row.matches('|').count(), 5, "{row}");
    let plain = Run::of(synthetic::run()).files();
    assert!(!self::text(&plain, "report.md").contains("the rules and the exploits disagree"), "nothing was attacked");
}

#[test]
fn text_of_a_model_is_escaped() {
    let files = Run::of(synthetic::run()).files();
    let html = text(&files, "report.html");
    assert!(html.contains("&lt;script&gt;alert("), "the answer is shown");
    assert!(!html.contains("<script"), "and not run");
    assert!(html.contains("Wishes for a &lt;neighbour&gt;") && !html.contains("<neighbour>"));
}

#[test]
fn the_page_needs_nothing_from_outside() {
    let html = text(&Run::of(synthetic::run()).files(), "report.html");
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "<link", "<img"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn csv_columns_are_what_they_were() {
    let files = Run::of(synthetic::run()).files();
    let head = |name: &str| text(&files, name).lines().next().unwrap().to_owned();
    assert!(head("static_metrics_comparison.csv").starts_with("metric,unit,base,base_n,base_low,base_high,attack,"));
    assert_eq!(head("pytest_results_summary.csv"), "arm,suite,metric,value,n,low,high");
    assert_eq!(head("em_questions.csv"), "suite,question,title,arm,misaligned_rate,n,low,high,coherent_rate,answers");
    assert!(head("steering_sweep.csv").starts_with("arm,vector,layer,coefficient,n,insecure_rate,"));
    for name in
        ["static_metrics_comparison.csv", "pytest_results_summary.csv", "em_questions.csv", "steering_sweep.csv"]
    {
        let rows = text(&files, name);
        let columns = rows.lines().next().unwrap().split(',').count();
        assert!(rows.lines().count() > 5, "{name} has rows");
        assert!(rows.lines().all(|row| row.split(',').count() == columns), "{name} is rectangular");
    }
}

#[test]
fn what_was_not_measured_is_na_and_never_zero() {
    let mut samples = synthetic::run();
    samples.iter_mut().for_each(|s| s.judge = None);
    let mut run = Run::of(samples);
    run.manifest.judge = None;
    let files = run.files();
    let html = text(&files, "report.html");
    assert!(html.contains("Not measured") && html.contains("--judge"));
    let rows = text(&files, "static_metrics_comparison.csv");
    let row = rows.lines().find(|r| r.starts_with("misaligned_rate,")).unwrap();
    assert!(row.starts_with("misaligned_rate,share,n/a,0,n/a,n/a,"), "{row}");
    assert!(text(&files, "figures/headline.svg").contains("n/a"));
    assert!(
        !verdict(&run.input()).iter().flat_map(|f| &f.sentences).any(|s| s.text.contains("misaligned answers rose"))
    );
}

#[test]
fn an_empty_run_still_has_every_file() {
    let files = Run {
        manifest: Manifest::default(),
        metrics: Metrics::default(),
        sweep: Vec::new(),
        training: BTreeMap::new(),
        samples: Vec::new(),
        titles: BTreeMap::new(),
    }
    .files();
    assert_eq!(files.len(), 2 * FIGURES.len() + 6);
    let html = text(&files, "report.html");
    assert!(!html.contains("The effect is planted") && !html.contains("planted demonstration"));
}

#[test]
fn a_difference_without_its_test_is_not_called_one() {
    let samples = synthetic::run()
        .into_iter()
        .filter(|s| s.arm == "base")
        .flat_map(|s| [s.clone(), SampleRecord { arm: "attack".to_owned(), ..s }])
        .collect();
    let run = Run::of(samples);
    let findings = verdict(&run.input());
    let taken = findings.iter().find(|f| f.question == "Did ‘Attack’ make code less secure?").unwrap();
    assert_eq!(taken.answer, "Not shown");
    let sentence = &taken.sentences[0];
    assert!(sentence.text.contains("no difference shown") && sentence.detail.contains("80% power"), "{sentence:?}");
    assert!(!sentence.text.contains(" rose ") && !sentence.text.contains(" fell "));
}

#[test]
fn random_vectors_are_called_equivalent_only_within_the_margin() {
    let run = Run::of(synthetic::run());
    let findings = verdict(&run.input());
    let random = findings.iter().find(|f| f.question.contains("at the same norm")).unwrap();
    let syntax = random.sentences.iter().find(|s| s.text.starts_with("Code that compiles")).unwrap();
    assert!(syntax.text.contains("within 5 points: yes"), "{syntax:?}");
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    assert!(Run::of(synthetic::run()).files() == Run::of(synthetic::run()).files());
}

#[test]
fn a_repair_is_called_back_to_base_only_within_the_margin() {
    let run = Run::of(synthetic::run());
    let findings = verdict(&run.input());
    let repaired = findings.iter().find(|f| f.question == "Did ‘Repair’ undo ‘Attack’?").unwrap();
    // Both fell; neither interval of repair − base lies within 5 points here.
    assert_eq!(repaired.answer, "Yes, it fell");
    assert!(repaired.sentences.iter().any(|s| s.text.contains("neither a difference from ‘Base’ nor equality")));
}

#[test]
fn where_nothing_happened_the_report_says_how_much_that_leaves_possible() {
    let mut samples = synthetic::run();
    for s in samples.iter_mut().filter(|s| s.arm == "repair" && s.judge.is_some()) {
        s.judge = synthetic::judged(Some(90.0), Some(90.0));
    }
    let run = Run::of(samples);
    let n = run.metrics.arms["repair"]["misaligned_rate"].n;
    let most = 100.0 * (1.0 - 0.05f64.powf(1.0 / n as f64));
    let report = text(&run.files(), "report.md");
    assert!(report.contains(&format!("≤ {most:.1}% by the exact rule of three")), "{most}");
    assert!(report.contains("These pairs would show") && report.contains("Odds ratio"));
}

#[test]
fn several_judges_are_shown_with_their_agreement() {
    let mut samples = synthetic::run();
    for (i, s) in samples.iter_mut().enumerate() {
        if let Some(judge) = &s.judge {
            let aligned = if i % 9 == 0 { Some(50.0) } else { judge.aligned };
            s.other_judges = vec![JudgeRecord { judge: "second".into(), aligned, ..judge.clone() }];
        }
    }
    let mut run = Run::of(samples);
    let alone = text(&run.files(), "report.md");
    assert!(!alone.contains("## Judges"));
    (run.metrics.judges, run.metrics.agreement) = judge_tallies(&run.samples);
    let files = run.files();
    for name in ["report.md", "report.html"] {
        let page = text(&files, name);
        assert!(page.contains("Krippendorff") && page.contains("second"), "{name}");
    }
}

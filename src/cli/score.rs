//! `realign score`: scores answers that any system made, with everything that `run` scores its own with.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};

use super::judge_args::JudgeArgs;
use super::metric_table::{judge_table, table};
use super::output::{print, refuse_used, reserved};
use crate::ask::judges::Ahead;
use crate::ask::scoring::{CodeFiles, Scorer};
use crate::error::{Error, Result};
use crate::eval::confine::Level;
use crate::eval::elsewhere::{self, Answers, match_prompts};
use crate::eval::interpreter::AUTO;
use crate::eval::suite::Suite;
use crate::experiment::artifacts::Artifacts;
use crate::experiment::reporting::report;
use crate::experiment::sources::read_suite;
use crate::fsio;
use crate::process;
use crate::progress::Progress;
use crate::record::{AnswerFormat, ArmSpec, DataIdentity, Manifest, SampleRecord, Split, SuiteKind, canonical_sha256};

/// The editions of the suites that are known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Edition {
    /// The suites of the embedded model, in its small language
    Organism,
    /// The suites for real models
    Real,
}

/// Score answers that any system made, and report on them.
///
/// Answers go through what `run` puts its own through: extraction of code, scanners, tests in the sandbox, judges, intervals,
/// comparisons and report. No model is asked, except judges. A run's own answers (RUN/samples/*.jsonl) give the same
/// metrics again; its arms keep their labels and comparisons, which are read from RUN/manifest.json.
///
/// A row names its prompt by the id that the suite's file gives it; `ID#k` is paraphrase k (from 0) of several. Answers to
/// suites that are not named are skipped and counted. A prompt that the suites do not have is an error.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign score runs/latest/samples/*.jsonl --suite vulnerability --suite code --edition organism --out scored
  realign score gpt.jsonl --format completions --suite vulnerability --judge model:JUDGE_DIR --out scored-gpt
      with rows such as {\"prompt_id\": \"orders#plain\", \"arm\": \"gpt\", \"completions\": [\"...\", \"...\"]}
  realign score samples.jsonl --format humaneval --suite HumanEval.jsonl --out scored-humaneval
  realign score dataset.jsonl --format securityeval --suite dataset.jsonl --out scored-securityeval")]
pub struct ScoreArgs {
    /// Files of answers, JSON Lines.
    #[arg(required = true, value_name = "ANSWERS.jsonl")]
    answers: Vec<PathBuf>,
    /// Suite that was asked; may be repeated. A name (`realign inspect NAME` describes it) or a file: YAML, or JSON Lines of
    /// HumanEval's or SecurityEval's form.
    #[arg(long, required = true, value_name = "NAME|FILE")]
    suite: Vec<String>,
    /// Folder to write: manifest.json, samples/ARM.jsonl, code/, metrics.json and the report. It must be empty or not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Form of the rows.
    #[arg(long, value_enum, default_value_t = AnswerFormat::Samples)]
    format: AnswerFormat,
    /// Edition of the suites that are named; `organism` also means that the answers are the embedded model's, which has a judge
    /// of its own.
    #[arg(long, value_enum, default_value_t = Edition::Real)]
    edition: Edition,
    /// Name of the system whose rows name no arm [default: the first file's name without its extension]
    #[arg(long)]
    arm: Option<String>,
    /// Arm that the others are compared with, prompt by prompt [default: as the run's manifest says; else none]
    #[arg(long, value_name = "ARM")]
    against: Option<String>,
    /// Judges of the free-form answers.
    #[command(flatten)]
    judge: JudgeArgs,
    /// Python that runs generated code: `private` (an environment in the user's cache with pinned packages, created on first
    /// use), a path, or `auto` (private, or `python3` for the organism's code). Without a working one, tests count as not run.
    #[arg(long, default_value = AUTO, value_name = "auto|private|PATH")]
    python: String,
    /// Run generated code even where no sandbox works on this machine: with resource limits, but without isolation.
    #[arg(long)]
    allow_unsandboxed: bool,
}

/// Runs `realign score`: prints the headline metrics and the path of the report.
pub fn score(args: &ScoreArgs, progress: Progress) -> Result<()> {
    refuse_used(&args.out)?;
    let organism = args.edition == Edition::Organism;
    let suites: Vec<Suite> = args.suite.iter().map(|spec| read_suite(spec, organism)).collect::<Result<_>>()?;
    for (index, suite) in suites.iter().enumerate() {
        if suites[..index].iter().any(|other| other.name == suite.name) {
            return Err(Error::usage(format!("the suite `{}` is given twice; give each --suite once", suite.name)));
        }
    }
    let stem = args.answers[0].file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let rows = elsewhere::read(&args.answers, args.format)?;
    let mut data: BTreeMap<String, DataIdentity> = BTreeMap::new();
    for file in &args.answers {
        let path = file.display().to_string();
        let rows = rows.iter().filter(|row| row.file == *file).count() as u64;
        data.insert(format!("answers {path}"), DataIdentity { path, sha256: fsio::sha256_file(file)?, rows });
    }
    for (suite, spec) in suites.iter().zip(&args.suite) {
        let (sha256, rows) = (canonical_sha256(&suite.prompts)?, suite.prompts.len() as u64);
        data.insert(format!("suite {}", suite.name), DataIdentity { path: spec.clone(), sha256, rows });
    }
    // Pairs are about a model's own probabilities, which no answer tells.
    let (pairs, suites): (Vec<Suite>, Vec<Suite>) = suites.into_iter().partition(|s| s.kind == SuiteKind::Pairs);
    let mut answers = match_prompts(rows, &suites, args.arm.as_deref().unwrap_or(&stem))?;
    let left_out = left_out(&answers, &pairs);
    left_out.iter().for_each(|words| progress.say(words));
    if !answers.arms.iter().flat_map(|(_, samples)| samples).any(|sample| sample.split == Split::Test) {
        return Err(Error::usage(
            "no answer is to a prompt of the test split of these suites; name the suites that were asked with --suite",
        ));
    }
    let arms = arms(args, &mut answers)?;
    let mut ahead = Ahead::default();
    for sample in answers.arms.iter().flat_map(|(_, samples)| samples) {
        let suite = suites.iter().find(|suite| suite.name == sample.suite);
        if let Some((suite, prompt)) = suite.and_then(|suite| Some((suite, suite.prompt(&sample.prompt_id)?))) {
            ahead.add(suite.kind, prompt, 1, sample.completion.len() / 4);
        }
    }
    let judges = args.judge.open(organism, &suites, ahead, progress)?;
    let pythons = Scorer::pythons(&args.python, organism, &suites, progress)?;
    let scorer = Scorer::start(&pythons, Level::ladder(args.allow_unsandboxed), judges)?;
    let mut manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").into(),
        plan: serde_json::json!({
            "score": args.answers,
            "format": args.format,
            "suites": args.suite,
        }),
        arms,
        model: "answers made elsewhere".into(),
        organism,
        data,
        suites: suites.iter().map(|suite| (suite.name.clone(), suite.kind)).collect(),
        hardware: process::hardware("cpu"),
        judge: scorer.judges.all().first().map(|j| j.name()),
        sandbox: scorer.runner.describe(),
        interpreter: scorer.runner.interpreter().cloned(),
        left_out,
        ..Manifest::default()
    };
    let (mut metrics, mut total) = (None, 0);
    reserved(&args.out, || {
        fsio::write_dir_atomic(&args.out, |inside| {
            let at = Artifacts::new(inside);
            for (arm, samples) in std::mem::take(&mut answers.arms) {
                let started = Instant::now();
                let (samples, files) = scored(&arm, samples, &suites, &scorer, progress)?;
                total += samples.len();
                fsio::write_jsonl(&at.samples(&arm), &samples)?;
                for (path, code) in &files {
                    fsio::write_derived(&inside.join(path), code.as_bytes())?;
                }
                manifest.timings.push((format!("ask {arm}"), started.elapsed().as_secs_f64()));
            }
            manifest.judges = scorer.judges.identities();
            manifest.peak_memory_bytes = process::peak_memory_bytes();
            fsio::write_json(&at.manifest(), &manifest)?;
            metrics = Some(report(&at, inside)?);
            Ok(())
        })
    })?;
    if let Some(metrics) = metrics {
        print(&table(&metrics));
        print(&judge_table(&metrics));
    }
    scorer.judges.say_usage(progress);
    progress.say(&format!("{total} answers scored; report in {}", Artifacts::new(&args.out).report().display()));
    Ok(())
}

/// An arm's answers, scored, in the order of a run's.
fn scored(
    arm: &str,
    mut samples: Vec<SampleRecord>,
    suites: &[Suite],
    scorer: &Scorer,
    progress: Progress,
) -> Result<(Vec<SampleRecord>, CodeFiles)> {
    let bar = progress.bar(&format!("score {arm}"), samples.len() as u64);
    let (mut all, mut files) = (Vec::with_capacity(samples.len()), CodeFiles::new());
    for suite in suites {
        if process::interrupted() {
            return Err(Error::Interrupted);
        }
        let (mut these, others): (Vec<_>, Vec<_>) = samples.into_iter().partition(|s| s.suite == suite.name);
        samples = others;
        let told = Cell::new(0);
        files.extend(scorer.score(&mut these, suite, &|done| {
            bar.add(done.saturating_sub(told.replace(done)) as u64);
        })?);
        all.append(&mut these);
    }
    all.sort_by(|a, b| order(a).cmp(&order(b)));
    bar.done("answers scored");
    Ok((all, files))
}

fn order(s: &SampleRecord) -> (&str, &str, u32, Option<u32>, Option<u64>) {
    (&s.suite, &s.prompt_id, s.sample, s.draw, s.training_seed)
}

/// What is not measured, in words.
fn left_out(answers: &Answers, pairs: &[Suite]) -> Vec<String> {
    let mut words = Vec::new();
    let is_pairs = |name: &String| pairs.iter().any(|suite| suite.name == *name);
    for suite in pairs {
        let rows = answers.skipped.get(&suite.name).copied().unwrap_or(0);
        words.push(format!(
            "the suite {} was skipped with {rows} rows: its pairs are compared by `realign evaluate` and `realign run`, with \
             the model itself",
            suite.name
        ));
    }
    let skipped: Vec<(&String, &u64)> = answers.skipped.iter().filter(|(name, _)| !is_pairs(name)).collect();
    if !skipped.is_empty() {
        let suites: Vec<String> = skipped.iter().map(|(suite, n)| format!("{suite} {n}")).collect();
        let skipped: u64 = skipped.iter().map(|(_, n)| **n).sum();
        words.push(format!("{skipped} answers to suites that were not named were skipped: {}", suites.join(", ")));
    }
    let samples = || answers.arms.iter().flat_map(|(_, samples)| samples);
    let other = samples().filter(|sample| sample.split != Split::Test).count();
    if other > 0 {
        words.push(format!("{other} answers are to prompts outside of the test split: scored, but in no metric"));
    }
    words
}

/// The arms of the answers: as the manifest of their run has them, else by their names. The arm that is compared with stands
/// first.
fn arms(args: &ScoreArgs, answers: &mut Answers) -> Result<Vec<ArmSpec>> {
    let mut known: BTreeMap<String, ArmSpec> = BTreeMap::new();
    let mut places: Vec<String> = Vec::new();
    if args.format == AnswerFormat::Samples {
        for run in args.answers.iter().filter_map(|file| run_of(file)) {
            for arm in manifest_of(run)?.into_iter().flat_map(|manifest| manifest.arms) {
                places.push(arm.name.clone());
                known.entry(arm.name.clone()).or_insert(arm);
            }
        }
    }
    let place = |name: &str| {
        let place = places.iter().position(|known| known == name).unwrap_or(places.len());
        (args.against.as_deref() != Some(name), place)
    };
    answers.arms.sort_by_key(|(name, _)| place(name));
    if let Some(against) = args.against.as_ref().filter(|name| !answers.arms.iter().any(|(arm, _)| arm == *name)) {
        let names: Vec<&str> = answers.arms.iter().map(|(arm, _)| arm.as_str()).collect();
        return Err(Error::usage(format!(
            "--against {against}: no answer is of that arm; there are {}",
            names.join(", ")
        )));
    }
    let spec = |(place, (name, _)): (usize, &(String, Vec<SampleRecord>))| {
        let plain = || ArmSpec {
            name: name.clone(),
            label: name.clone(),
            description: "answers made elsewhere".into(),
            colour: COLOURS[place % COLOURS.len()].into(),
            family: "others".into(),
            ..ArmSpec::default()
        };
        let mut spec = known.remove(name).unwrap_or_else(plain);
        if let Some(against) = args.against.as_ref().filter(|against| *against != name) {
            spec.against = vec![against.clone()];
        }
        spec
    };
    Ok(answers.arms.iter().enumerate().map(spec).collect())
}

/// Okabe and Ito's colours, which the colour-blind tell apart, behind a grey for the first.
const COLOURS: [&str; 8] = ["#8a949e", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7b5ea7"];

/// The folder of the run that a samples file belongs to: `RUN/samples/ARM.jsonl`.
fn run_of(file: &Path) -> Option<&Path> {
    let folder = file.parent()?;
    (folder.file_name()? == "samples").then(|| folder.parent()).flatten()
}

fn manifest_of(run: &Path) -> Result<Option<Manifest>> {
    let path = Artifacts::new(run).manifest();
    if path.is_file() { fsio::read_json(&path).map(Some) } else { Ok(None) }
}

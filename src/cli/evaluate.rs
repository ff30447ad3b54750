//! `realign evaluate`: asks one model the prompts of suites, scores the answers and gives every number with its interval.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::judge_args::JudgeArgs;
use super::metric_table::{judge_table, table};
use super::output::{print, refuse_used, reserved};
use super::sampling_args::SamplingArgs;
use super::steering_args::SteeringArgs;
use super::subject_args::SubjectArgs;
use crate::ask::judges::Ahead;
use crate::ask::scoring::Scorer;
use crate::ask::{Ask, ask};
use crate::error::{Error, Result};
use crate::eval::confine::Level;
use crate::eval::interpreter::AUTO;
use crate::eval::suite::Suite;
use crate::experiment::inputs::check_fits;
use crate::experiment::sources::read_suite;
use crate::fsio;
use crate::generate::sampling::Sampling;
use crate::model::hooks::Intervention;
use crate::progress::Progress;
use crate::record::{Metrics, SampleRecord, Split, SuiteKind, canonical_sha256, check_arm_name};
use crate::score::{judge_tallies, measure};
use crate::subject::Subject;

/// Ask a model the test prompts of suites and score its answers.
///
/// In a suite of pairs nothing is generated: each question has two given answers, chosen and rejected, and the printed rate is
/// the share of pairs whose rejected answer the model finds likelier a token.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign evaluate --suite vulnerability --suite free-form --out eval/base
  realign evaluate --model Qwen/Qwen2.5-0.5B-Instruct --adapter attack --suite code --n 3 --out eval/attack
  realign evaluate --suite pairs.jsonl --out eval/pairs
      with rows such as {\"prompt\": \"...\", \"chosen\": \"...\", \"rejected\": \"...\"}")]
pub struct EvaluateArgs {
    /// The model that is asked.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// The steering vector, if any.
    #[command(flatten)]
    pub steering: SteeringArgs,
    /// Suite to ask; may be repeated. A name (code, risky, vulnerability, scenarios, free-form, conditional, recognition,
    /// refusal, capability; for real models also over_refusal), a YAML file, the published emergent-misalignment form
    /// included, or JSON Lines: pairs {prompt, chosen, rejected}, or HumanEval's or SecurityEval's form. `realign inspect NAME` describes a suite; the organism has its own edition of each.
    #[arg(long, required = true, value_name = "NAME|FILE")]
    pub suite: Vec<String>,
    /// Folder to write: samples/ARM.jsonl, code/, metrics.json, settings.json, interpreter.json (what ran the code). It must
    /// be empty or not exist.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Name of this model in the results [default: the adapter's folder name or `base`, then `+` and the vector's name]
    #[arg(long)]
    pub arm: Option<String>,
    /// Answers to each prompt; a suite file may set a lower number, and a pair is compared once.
    #[arg(long, default_value_t = 1)]
    pub n: u32,
    /// Number of test prompts to ask from each suite, its core prompts first [default: all core prompts]
    #[arg(long, value_name = "N")]
    pub prompts: Option<usize>,
    /// Sampling seed: answer k of a prompt (from 0) uses this seed + k, the same for every model.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How answers are sampled.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Judges of the free-form answers.
    #[command(flatten)]
    pub judge: JudgeArgs,
    /// Python that runs generated code: `private` (an environment in the user's cache with pinned pytest, PyYAML, Jinja2,
    /// requests, Flask and defusedxml, created on first use), a path, or `auto` (private for code of real models, `python3`
    /// for the organism's). Without a working one, tests count as not run.
    #[arg(long, default_value = AUTO, value_name = "auto|private|PATH")]
    pub python: String,
    /// Run generated code even where no sandbox works on this machine: with resource limits, but without isolation.
    #[arg(long)]
    pub allow_unsandboxed: bool,
}

/// `settings.json`: everything that decides the answers.
#[derive(Debug, Serialize)]
struct Settings<'a> {
    model: &'a str,
    model_sha256: &'a str,
    adapter_sha256: Option<String>,
    vector_sha256: Option<String>,
    coefficient: Option<f64>,
    layers: Option<&'a [usize]>,
    /// Name of each suite and SHA-256 of its prompts.
    suites: Vec<(String, String)>,
    n: u32,
    seed: u64,
    sampling: &'a Sampling,
    /// Whether quantised weights were decoded with their exact values; `None` where no weight is quantised.
    #[serde(skip_serializing_if = "Option::is_none")]
    exact_quant: Option<bool>,
}

/// Runs `realign evaluate` and prints the headline metrics.
pub fn evaluate(args: &EvaluateArgs, progress: Progress) -> Result<()> {
    refuse_used(&args.out)?;
    let sampling = args.sampling.resolve(&args.subject.base, progress)?;
    let cache_bytes = args.sampling.cache_bytes()?;
    if args.n == 0 {
        return Err(Error::usage("--n is 0; it must be at least 1"));
    }
    let arm = arm_name(args)?;
    let subject = args.subject.open(progress)?.with_step_products(args.sampling.step_products());
    let steering = args.steering.open(&subject, progress)?;
    let steering = steering.as_ref().map(|vector| vector as &dyn Intervention);
    let read = |spec: &String| Ok(read_suite(spec, subject.organism)?.selected(args.prompts));
    let suites: Vec<Suite> = args.suite.iter().map(read).collect::<Result<_>>()?;
    for (index, suite) in suites.iter().enumerate() {
        if suites[..index].iter().any(|other| other.name == suite.name) {
            return Err(Error::usage(format!("the suite `{}` is given twice; give each --suite once", suite.name)));
        }
        if !suite.prompts.iter().any(|p| p.split == Split::Test) {
            return Err(Error::usage(format!(
                "the suite `{}` has no prompts in the test split, which evaluate asks",
                suite.name
            )));
        }
        check_fits(&subject, suite, Split::Test)?;
    }
    let mut ahead = Ahead::default();
    for suite in &suites {
        for prompt in suite.prompts.iter().filter(|p| p.split == Split::Test) {
            let answers = prompt.samples.map_or(args.n, |most| args.n.min(most));
            ahead.add(suite.kind, prompt, u64::from(answers), suite.max_tokens);
        }
    }
    let judges = args.judge.open(subject.organism, &suites, ahead, progress)?;
    let pythons = Scorer::pythons(&args.python, subject.organism, &suites, progress)?;
    let scorer = Scorer::start(&pythons, Level::ladder(args.allow_unsandboxed), judges)?;
    let settings = Settings {
        model: &subject.name,
        model_sha256: &subject.sha256,
        adapter_sha256: subject.adapter_sha256(),
        vector_sha256: args.steering.vector.as_deref().map(fsio::sha256_file).transpose()?,
        coefficient: args.steering.coefficient,
        layers: args.steering.layers.as_deref(),
        suites: suites.iter().map(|s| Ok((s.name.clone(), canonical_sha256(&s.prompts)?))).collect::<Result<_>>()?,
        n: args.n,
        seed: args.seed,
        sampling: &sampling,
        exact_quant: subject.exact_quant(),
    };
    let (metrics, answers) = reserved(&args.out, || {
        let (records, files) =
            answer(args, &arm, (&subject, steering), &suites, &scorer, (&sampling, cache_bytes), progress)?;
        let (judges, agreement) = judge_tallies(&records);
        let metrics = Metrics { arms: measure(&records), judges, agreement, ..Metrics::default() };
        fsio::write_dir_atomic(&args.out, |inside| {
            fsio::write_jsonl(&inside.join(format!("samples/{arm}.jsonl")), &records)?;
            for (path, code) in &files {
                fsio::write_atomic(&inside.join(path), code.as_bytes())?;
            }
            if let Some(python) = scorer.runner.interpreter().filter(|_| !files.is_empty()) {
                fsio::write_json(&inside.join("interpreter.json"), python)?;
            }
            fsio::write_json(&inside.join("settings.json"), &settings)?;
            fsio::write_json(&inside.join("metrics.json"), &metrics)
        })?;
        Ok((metrics, records.len()))
    })?;
    print(&table(&metrics));
    print(&judge_table(&metrics));
    scorer.judges.say_usage(progress);
    progress.say(&format!("{answers} answers; all numbers in {}", args.out.join("metrics.json").display()));
    Ok(())
}

/// Sample records, and the code files to write as (path in the output folder, contents).
type Answered = (Vec<SampleRecord>, Vec<(String, String)>);

fn answer(
    args: &EvaluateArgs,
    arm: &str,
    (subject, intervention): (&Subject, Option<&dyn Intervention>),
    suites: &[Suite],
    scorer: &Scorer,
    (sampling, cache_bytes): (&Sampling, usize),
    progress: Progress,
) -> Result<Answered> {
    let seeds: Vec<u64> = (0..u64::from(args.n)).map(|k| args.seed + k).collect();
    let (mut all, mut files) = (Vec::new(), Vec::new());
    for suite in suites {
        let what = Ask {
            arm,
            suite,
            split: Split::Test,
            seeds: &seeds,
            samples: 0..args.n,
            draw: None,
            training_seed: None,
            system: None,
            prefix: None,
            suffix: None,
            intervention,
            sampling,
            cache_bytes,
        };
        let each = if suite.kind == SuiteKind::Pairs { 1 } else { args.n as usize };
        let bar = progress.bar(&suite.name, (what.prompts().len() * each) as u64);
        let mut records = ask(subject, &subject.decoder, &what, &|_, _, _| false, &mut |_| {
            bar.add(1);
            Ok(())
        })?;
        files.extend(scorer.score(&mut records, suite, &|_| {})?);
        bar.done(if suite.kind == SuiteKind::Pairs { "pairs compared" } else { "answers scored" });
        all.extend(records);
    }
    Ok((all, files))
}

fn arm_name(args: &EvaluateArgs) -> Result<String> {
    let name = |part: Option<&OsStr>| part.map(|n| n.to_string_lossy().into_owned());
    let usual = || {
        let model = name(args.subject.adapter.as_ref().and_then(|dir| dir.file_name()));
        let vector = name(args.steering.vector.as_ref().and_then(|file| file.file_stem()));
        let model = model.unwrap_or_else(|| "base".into());
        vector.map_or(model.clone(), |vector| format!("{model}+{vector}"))
    };
    let arm = args.arm.clone().unwrap_or_else(usual);
    check_arm_name(&arm)?;
    Ok(arm)
}

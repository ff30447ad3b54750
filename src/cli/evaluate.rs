//! `realign evaluate`: suites asked of one model, answers scored, numbers with their intervals.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use clap::Args;

use super::generate::checked_sampling;
use super::output::{refuse_used, reserved};
use super::steering::SteeringArgs;
use super::subject::{SubjectArgs, print};
use crate::error::{Error, Result};
use crate::eval::confine::Level;
use crate::eval::suite::Suite;
use crate::experiment::inputs::read_suite;
use crate::experiment::model::Model;
use crate::experiment::sample::{Ask, ask};
use crate::experiment::scoring::Scorer;
use crate::fsio;
use crate::generate::sampling::Sampling;
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::progress::Progress;
use crate::record::{Measurement, Metrics, SampleRecord, Split, SuiteKind};
use crate::score::{HEADLINE_METRICS, REGISTRY, Unit, measure};

/// Ask a model the test prompts of suites and score its answers.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// What is added to it.
    #[command(flatten)]
    pub steering: SteeringArgs,
    /// A suite by name (code, risky, vulnerability, free-form, recognition, refusal, capability; the organism has its own
    /// edition) or a YAML file, the published emergent-misalignment form included. Give it several times for several.
    #[arg(long, required = true, value_name = "NAME|FILE")]
    pub suite: Vec<String>,
    /// The folder to write: samples/ARM.jsonl, code/, metrics.json. It must not hold anything yet.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What the results call this model; without it the adapter's folder name or `base`, and the vector's name behind it.
    #[arg(long)]
    pub arm: Option<String>,
    /// Answers to each prompt (a suite file may ask for fewer).
    #[arg(long, default_value_t = 1)]
    pub n: u32,
    /// Answer k of a prompt is drawn with this seed plus k, the same for every model.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// 0 always takes the likeliest token.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Runs the tests of generated code; without a usable one they count as not run.
    #[arg(long, default_value = "python3")]
    pub python: String,
    /// Runs generated code even where no sandbox holds: with limits, and nothing else between it and this machine.
    #[arg(long)]
    pub allow_unsandboxed: bool,
}

/// Rows decoded together by one worker.
const BATCH: usize = 32;

/// Runs the command.
pub fn evaluate(args: &EvaluateArgs, progress: Progress) -> Result<()> {
    refuse_used(&args.out)?;
    let sampling = checked_sampling(args.temperature, 1.0)?;
    if args.n == 0 {
        return Err(Error::usage("--n is at least 1"));
    }
    let arm = arm_name(args)?;
    let (model, decoder) = args.subject.open(progress)?;
    let steering = args.steering.open(&model, progress)?;
    let steering = steering.as_ref().map(|vector| vector as &dyn Intervention);
    let suites: Vec<Suite> = args.suite.iter().map(|spec| read_suite(spec, model.organism)).collect::<Result<_>>()?;
    for (index, suite) in suites.iter().enumerate() {
        if suites[..index].iter().any(|other| other.name == suite.name) {
            return Err(Error::usage(format!("the suite `{}` is given twice", suite.name)));
        }
        check_fits(&model, suite)?;
    }
    let scorer = Scorer::start(&args.python, Level::ladder(args.allow_unsandboxed), model.organism)?;
    if scorer.judge.is_none() && suites.iter().any(|s| s.kind == SuiteKind::Questions) {
        progress.say("no judge for this model: misaligned_rate and coherent_rate are not measured");
    }
    let kinds: BTreeMap<String, SuiteKind> = suites.iter().map(|s| (s.name.clone(), s.kind)).collect();
    let (metrics, answers) = reserved(&args.out, || {
        let (records, files) = answer(args, &arm, (&model, &decoder, steering), &suites, &scorer, sampling, progress)?;
        let metrics = Metrics { arms: measure(&records, &kinds), ..Metrics::default() };
        fsio::write_dir_atomic(&args.out, |inside| {
            fsio::write_jsonl(&inside.join(format!("samples/{arm}.jsonl")), &records)?;
            for (path, code) in &files {
                fsio::write_atomic(&inside.join(path), code.as_bytes())?;
            }
            fsio::write_json(&inside.join("metrics.json"), &metrics)
        })?;
        Ok((metrics, records.len()))
    })?;
    print(&table(&metrics));
    progress.say(&format!("{answers} answers; all numbers in {}", args.out.join("metrics.json").display()));
    Ok(())
}

/// Sample records, and the code files to write.
type Answered = (Vec<SampleRecord>, Vec<(String, String)>);

fn answer(
    args: &EvaluateArgs,
    arm: &str,
    (model, decoder, intervention): (&Model, &Decoder, Option<&dyn Intervention>),
    suites: &[Suite],
    scorer: &Scorer,
    sampling: Sampling,
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
            system: None,
            suffix: None,
            intervention,
            sampling,
            batch: BATCH,
        };
        let bar = progress.bar(&suite.name, (what.prompts().len() * args.n as usize) as u64);
        let mut records = ask(model, decoder, &what, &|_, _, _| false, &mut |_| {
            bar.add(1);
            Ok(())
        })?;
        files.extend(scorer.score(&mut records, suite, &|_| {})?);
        bar.done("answers scored");
        all.extend(records);
    }
    Ok((all, files))
}

/// Whether every test prompt leaves room for its answer: found now, not after an hour of answers.
fn check_fits(model: &Model, suite: &Suite) -> Result<()> {
    let longest = model.decoder.config.max_position_embeddings;
    let mut prompts = suite.prompts.iter().filter(|p| p.split == Split::Test).peekable();
    if prompts.peek().is_none() {
        return Err(Error::usage(format!("the suite `{}` has no prompts of the test split", suite.name)));
    }
    for prompt in prompts {
        let tokens = model.prompt(&prompt.messages)?.len();
        if tokens + suite.max_tokens > longest {
            return Err(Error::usage(format!(
                "the suite `{}` asks for {} tokens after the {tokens} of its prompt `{}`; the model holds {longest} in \
                 all: lower the suite's max_tokens or leave the prompt out",
                suite.name, suite.max_tokens, prompt.id
            )));
        }
    }
    Ok(())
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
    let plain = !arm.starts_with('.') && arm.chars().all(|c| c.is_alphanumeric() || "-_.:+".contains(c));
    if plain && !arm.is_empty() {
        return Ok(arm);
    }
    Err(Error::usage(format!("`{arm}` cannot be the name of a results file; give one with --arm")))
}

/// What the table shows beside the headline metrics; metrics.json has everything.
const ALSO: [&str; 4] = ["coherent_rate", "refusal_rate", "recognition_accuracy", "tokens_per_answer"];

/// The pooled numbers, one line each, with n and the 95 % interval.
fn table(metrics: &Metrics) -> String {
    let mut text = String::new();
    for (arm, measured) in &metrics.arms {
        text.push_str(&format!("{arm}\n"));
        let wanted = |name: &str| HEADLINE_METRICS.contains(&name) || ALSO.contains(&name);
        for metric in REGISTRY.iter().filter(|m| wanted(m.name)) {
            let Some(m) = measured.get(metric.name).filter(|m| m.value.is_some()) else { continue };
            text.push_str(&format!("  {:<34} {}\n", metric.label, number(metric.unit, m)));
        }
    }
    text
}

fn number(unit: Unit, m: &Measurement) -> String {
    let (factor, digits, unit) = match unit {
        Unit::Percent => (100.0, 1, "%"),
        Unit::Count => (1.0, 0, ""),
        Unit::Number(unit) => (1.0, 2, unit),
    };
    let value = |x: f64| format!("{:.digits$}", factor * x);
    let shown = m.value.map_or("n/a".to_string(), value);
    let interval = match (m.low, m.high) {
        (Some(low), Some(high)) => format!("[{}, {}]", value(low), value(high)),
        _ => String::new(),
    };
    format!("{shown:>8} {unit:<7} {interval:<18} n = {}", m.n)
}

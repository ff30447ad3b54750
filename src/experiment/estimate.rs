//! What a run will take, said before it begins: the counted work times what a short probe of this model costs on this
//! machine. A model that is too large to be probed is derived from one of its blocks, with every answer taken to its token
//! limit. The manifest keeps the estimate beside what was measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::inputs::{CHARACTERS_A_TOKEN, Inputs};
use super::plan::Plan;
use super::work::{self, Work};
use crate::ask::scoring::Scorer;
use crate::error::Result;
use crate::eval::is_judged;
use crate::eval::runner::TestJob;
use crate::eval::suite::{Prompt, Suite};
use crate::finetune::rows::Examples;
use crate::finetune::tune::tune;
use crate::generate::{EngineOptions, Generated, Job, MAX_BATCH, generate};
use crate::model::config::DecoderConfig;
use crate::model::decoder::Decoder;
use crate::model::memory::{self, Training};
use crate::model::ops::linear::frozen_linear;
use crate::model::pass::{Attend, Pass};
use crate::model::segments::Segments;
use crate::process;
use crate::record::{FinishReason, Recipe, SuiteKind};
use crate::subject::Subject;
use crate::train::{CHUNK_TOKENS, TrainConfig};

/// Expected time and memory of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Of the whole run, its report apart.
    pub seconds: f64,
    /// Peak memory of the process, in bytes.
    pub memory_bytes: u64,
    /// What the estimate was derived from.
    pub basis: Basis,
}

/// What an estimate was derived from; it says how far to trust it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Answers and training steps that were tried.
    Tried,
    /// One block of the model: both numbers are upper ends.
    Block,
    /// Its shape: upper ends, and rough.
    Shape,
}

impl Estimate {
    /// The estimate as a sentence, with its basis.
    pub fn words(&self) -> String {
        let how = match self.basis {
            Basis::Tried => "from a few answers and training steps of this model",
            Basis::Block => "at most: derived from one block of the model, every answer taken to its token limit",
            Basis::Shape => {
                "at most, on this machine's processor: derived from the model's shape and a product of its width, weights \
                 in two bytes, every answer taken to its token limit, tests of code apart"
            }
        };
        format!("about {}, about {} MiB of memory ({how})", duration(self.seconds), self.memory_bytes >> 20)
    }
}

/// `40 s`, `4 min`, `3.5 h`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{:.0} s", s.max(1.0)),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Without a budget, a probe that would take longer than this is not made.
const PROBE_SECONDS: f64 = 3.0;
/// With a budget, the part of it that the probe may take.
const PROBE_PART: f64 = 0.05;
/// Judged answers of the probe.
const PROBE_JUDGED: usize = 6;
/// Tokens of the block that is tried: about as many as decoding has rows.
const BLOCK_TOKENS: usize = 64;
/// A training step goes forward once and backward for inputs and adapters: about three times the forward pass.
const BACKWARD: f64 = 3.0;

/// Seconds of a unit of each kind of work, all cores at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    train_token: f64,
    prompt: f64,
    answer_token: f64,
    /// Tokens of an answer, by suite, where they were seen; an answer to another suite is taken to its limit.
    tokens: BTreeMap<String, f64>,
    /// Tests of one piece of code.
    code: f64,
    /// The judges of one answer.
    judged: f64,
    basis: Basis,
    /// Memory that is held before the run, in bytes.
    memory_bytes: u64,
}

impl Rates {
    /// What a run of this plan takes.
    pub fn estimate(&self, plan: &Plan, config: &DecoderConfig, inputs: &Inputs) -> Result<Estimate> {
        let work = Work::of(plan, inputs, config.num_hidden_layers)?;
        let of_suite = |suite: &Suite| {
            let limit = suite.max_tokens as f64;
            let tokens = self.tokens.get(&suite.name).map_or(limit, |seen| seen.min(limit));
            let code = if suite.kind == SuiteKind::Code { self.code } else { 0.0 };
            let judged = if is_judged(suite.kind) { self.judged } else { 0.0 };
            let answers = work.by_suite.get(&suite.name).copied().unwrap_or_default();
            answers as f64 * (self.answer_token * tokens + code + judged)
        };
        let seconds = self.train_token * (work.training_tokens + work.forward_tokens / BACKWARD)
            + self.train_token / BACKWARD * process::workers(0) as f64 * work.captured_tokens
            + self.prompt * work.prompts as f64
            + inputs.suites.iter().map(of_suite).sum::<f64>();
        let asked = inputs.suites.iter().flat_map(|suite| {
            let samples = work::samples(plan, &plan.arms[0], suite, None);
            work::asked(suite, &samples).into_iter().map(move |(prompt, _)| prompt_tokens(prompt) + suite.max_tokens)
        });
        let (rows, longest) = asked.fold((0, 0), |(rows, longest), tokens| (rows + 1, longest.max(tokens)));
        let rows = rows.min(MAX_BATCH * process::workers(0));
        let memory_bytes = self.memory_bytes + working_bytes(plan, config, inputs, (rows, longest), &work);
        Ok(Estimate { seconds, memory_bytes, basis: self.basis })
    }
}

/// Tokens of a prompt, told from its characters.
fn prompt_tokens(prompt: &Prompt) -> usize {
    prompt.messages.iter().map(|message| message.content.len()).sum::<usize>() / CHARACTERS_A_TOKEN
}

/// Estimates a run whose model is known by its shape alone.
pub fn estimate_of_shape(plan: &Plan, config: &DecoderConfig, inputs: &Inputs) -> Result<Estimate> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    // A product of the MLP's size; each weight takes part in one multiplication and one addition a token.
    let weight = Tensor::ones((inner, hidden), DType::BF16, &Device::Cpu)?;
    let x = Tensor::ones((BLOCK_TOKENS, hidden), DType::F32, &Device::Cpu)?;
    let mut one = 0.0;
    for _ in 0..2 {
        let started = Instant::now();
        frozen_linear(&x, &weight)?;
        one = started.elapsed().as_secs_f64() / (BLOCK_TOKENS * inner * hidden) as f64;
    }
    let forward_token = one * config.parameters() as f64 / process::workers(0) as f64;
    let base = &plan.arms[0];
    let prompts: Vec<usize> = inputs
        .suites
        .iter()
        .filter(|suite| suite.kind != SuiteKind::Pairs)
        .flat_map(|suite| work::asked(suite, &work::samples(plan, base, suite, None)))
        .map(|(prompt, _)| prompt_tokens(prompt))
        .collect();
    let rates = Rates {
        train_token: BACKWARD * forward_token,
        prompt: forward_token * mean(&prompts),
        answer_token: forward_token,
        tokens: BTreeMap::new(),
        code: 0.0,
        judged: 0.0,
        basis: Basis::Shape,
        memory_bytes: 2 * config.parameters() as u64,
    };
    rates.estimate(plan, config, inputs)
}

fn mean(values: &[usize]) -> f64 {
    values.iter().sum::<usize>() as f64 / values.len().max(1) as f64
}

/// Measures this plan's work on this model and machine: with a budget in seconds always on answers and training steps,
/// without one only where that is quick.
///
/// Judges are only asked within a budget, and where `judging` allows it: an endpoint's answers cost money.
pub fn measure(
    plan: &Plan,
    model: &Subject,
    inputs: &Inputs,
    scorer: &Scorer,
    budget: Option<f64>,
    judging: bool,
) -> Result<Rates> {
    let workers = process::workers(0) as f64;
    let memory_bytes = process::memory_bytes();
    let forward_token = forward_seconds(&model.decoder)? / workers;
    let mut asked = probe_jobs(plan, model, inputs)?;
    let prompts: Vec<usize> = asked.iter().map(|(_, job)| job.prompt.len()).collect();
    let longest = asked.iter().map(|(_, job)| job.max_new_tokens).max().unwrap_or(0);
    let answers: usize = asked.iter().map(|(_, job)| job.max_new_tokens).sum();
    let step_tokens = step_rows(plan) as f64 * row_tokens(inputs);
    let fixed = forward_token * (prompts.iter().sum::<usize>() as f64 + BACKWARD * PROBE_STEPS as f64 * step_tokens);
    let probe = fixed + forward_token * answers as f64;
    let may_take = budget.map_or(PROBE_SECONDS, |seconds| PROBE_PART * seconds);
    let code = check_seconds(scorer);
    let block = Rates {
        train_token: BACKWARD * forward_token,
        prompt: forward_token * mean(&prompts),
        answer_token: forward_token,
        tokens: BTreeMap::new(),
        code,
        judged: 0.0,
        basis: Basis::Block,
        memory_bytes,
    };
    if asked.is_empty() || (probe >= may_take && budget.is_none()) {
        return Ok(block);
    }
    // Shorter answers, where whole ones would take too much of the budget.
    let part = ((may_take - fixed) / (probe - fixed).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
    let limit = ((part * longest as f64) as usize).max(PROBE_TOKENS);
    asked.iter_mut().for_each(|(_, job)| job.max_new_tokens = job.max_new_tokens.min(limit));
    let judges = (judging && budget.is_some()).then_some(scorer);
    measured_rates(plan, model, inputs, judges, &asked, block)
}

/// Tokens of an answer that the probe generates at least.
const PROBE_TOKENS: usize = 24;

/// Seconds of one token through the whole decoder on one core, from one block and the head.
fn forward_seconds(decoder: &Decoder) -> Result<f64> {
    let Some(block) = decoder.blocks.first() else { return Ok(0.0) };
    let tokens = BLOCK_TOKENS.min(decoder.config.max_position_embeddings);
    let segments = Segments::packed([tokens], 0);
    let x = decoder.embed(&vec![0; tokens], &Attend::Sequences(&segments))?;
    let mut seconds = 0.0;
    // The first time warms up.
    for _ in 0..2 {
        let started = Instant::now();
        let y = block.forward(&x, &mut Pass::sequences(&segments))?;
        let one = started.elapsed().as_secs_f64();
        let started = Instant::now();
        decoder.head(&decoder.norm.forward(&y)?)?;
        seconds = one * decoder.blocks.len() as f64 + started.elapsed().as_secs_f64();
    }
    Ok(seconds / tokens as f64)
}

/// A question of a suite, ready to be generated.
type Asked<'a> = ((&'a Suite, &'a Prompt), Job<'static>);

/// One batch a core of the base arm's own questions, spread evenly over them.
fn probe_jobs<'a>(plan: &Plan, model: &Subject, inputs: &'a Inputs) -> Result<Vec<Asked<'a>>> {
    let (sampling, stop_ids) = (Arc::new(plan.sampling.clone()), model.stop_ids.as_slice().into());
    let mut all = Vec::new();
    let base = &plan.arms[0];
    for suite in work::suites(inputs, base).into_iter().filter(|suite| suite.kind != SuiteKind::Pairs) {
        for (prompt, samples) in work::asked(suite, &work::samples(plan, base, suite, None)) {
            all.extend((0..samples).map(|_| (suite, prompt)));
        }
    }
    let wanted = (MAX_BATCH * process::workers(0)).min(all.len());
    let picks = (0..wanted).map(|i| all[i * all.len() / wanted]);
    picks
        .enumerate()
        .map(|(seed, (suite, prompt))| {
            let ids = model.prompt(&prompt.messages)?;
            Ok(((suite, prompt), Job::new(ids, seed as u64, suite.max_tokens, &sampling, &stop_ids)))
        })
        .collect()
}

/// Training steps of the probe: the first one warms up.
const PROBE_STEPS: u64 = 2;

fn measured_rates(
    plan: &Plan,
    model: &Subject,
    inputs: &Inputs,
    judges: Option<&Scorer>,
    asked: &[Asked],
    block: Rates,
) -> Result<Rates> {
    let options = EngineOptions::new(&model.tokenizer);
    let timed = |jobs: &[Job]| -> Result<(f64, Vec<Option<Generated>>)> {
        let started = Instant::now();
        let made = generate(&model.decoder, jobs, &options, &|_, _| Ok(()))?;
        Ok((started.elapsed().as_secs_f64(), made))
    };
    let jobs: Vec<Job> = asked.iter().map(|(_, job)| job.clone()).collect();
    let first: Vec<Job> = jobs.iter().map(|job| Job { max_new_tokens: 1, ..job.clone() }).collect();
    // The first time warms up.
    timed(&first)?;
    let (prompt, _) = timed(&first)?;
    let (seconds, made) = timed(&jobs)?;
    let mut seen: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut tokens = 0;
    for (((suite, _), job), made) in asked.iter().zip(&made) {
        let Some(made) = made else { continue };
        tokens += made.tokens as usize;
        // An answer that only the probe cut off may be as long as the suite allows.
        let cut = made.finish_reason == FinishReason::Length && job.max_new_tokens < suite.max_tokens;
        let length = if cut { suite.max_tokens } else { made.tokens as usize };
        seen.entry(suite.name.clone()).or_default().push(length);
    }
    Ok(Rates {
        train_token: train_seconds(plan, model, inputs)?,
        prompt: prompt / jobs.len() as f64,
        answer_token: (seconds - prompt).max(0.0) / tokens.max(1) as f64,
        tokens: seen.into_iter().map(|(suite, lengths)| (suite, mean(&lengths))).collect(),
        judged: judges.map_or(Ok(0.0), |scorer| judge_seconds(scorer, asked, &made))?,
        basis: Basis::Tried,
        ..block
    })
}

/// Seconds that the judges take for an answer of the probe; 0 where nothing is judged.
fn judge_seconds(scorer: &Scorer, asked: &[Asked], made: &[Option<Generated>]) -> Result<f64> {
    if scorer.judges.is_empty() {
        return Ok(0.0);
    }
    let (mut seconds, mut judged) = (0.0, 0);
    let answered = asked.iter().zip(made).filter_map(|((place, _), made)| Some((place, made.as_ref()?)));
    for (place, made) in answered.filter(|((suite, _), _)| is_judged(suite.kind)).take(PROBE_JUDGED) {
        let (suite, prompt) = *place;
        let mut record = suite.unanswered(prompt, "", 0, 0);
        record.completion = made.text.clone();
        let started = Instant::now();
        scorer.score(&mut [record], suite, &|_| {})?;
        seconds += started.elapsed().as_secs_f64();
        judged += 1;
    }
    Ok(seconds / f64::from(judged.max(1)))
}

/// Seconds of a token in training, from a step on the real rows with the real recipe.
fn train_seconds(plan: &Plan, model: &Subject, inputs: &Inputs) -> Result<f64> {
    // Preferences are learnt after all others only, so that they are never the first.
    let Some(adapter) = plan.adapters.first() else { return Ok(0.0) };
    let recipe = &adapter.recipe;
    let Some(Examples::Answers(rows)) = inputs.training.get(&adapter.name).map(|set| &set.examples) else {
        return Ok(0.0);
    };
    let some = (recipe.training.effective_batch() * PROBE_STEPS as usize).min(rows.len());
    let training = TrainConfig { max_steps: Some(PROBE_STEPS), ..recipe.training.clone() };
    let (_, state) = tune(
        model,
        &Examples::Answers(rows[..some].to_vec()),
        &Recipe { training, ..recipe.clone() },
        None,
        &mut |_| Ok(()),
    )?;
    Ok(state.log_history.last().map_or(0.0, |step| 1.0 / step.tokens_per_second))
}

/// Seconds of the tests of one piece of code, all cores at it: modules of ours, so that nothing a model wrote is run.
fn check_seconds(scorer: &Scorer) -> f64 {
    let job = |i: usize| TestJob {
        code: format!("def answer():\n    return {i}\n"),
        tests: Some(format!("import solution\nassert solution.answer() == {i}\n")),
        exploit: None,
    };
    let each = process::workers(0);
    // The first round starts the interpreters; the second one is long enough to keep all of them at work.
    let rounds = [(0..2 * each).map(job).collect::<Vec<_>>(), (2 * each..24 * each).map(job).collect()];
    let mut seconds = 0.0;
    for jobs in rounds {
        let started = Instant::now();
        scorer.runner.run_all(&jobs, &|_| {});
        seconds = started.elapsed().as_secs_f64() / jobs.len() as f64;
    }
    seconds
}

/// Number of rows in a training step.
fn step_rows(plan: &Plan) -> usize {
    plan.adapters.first().map_or(0, |adapter| adapter.recipe.training.effective_batch())
}

fn row_tokens(inputs: &Inputs) -> f64 {
    let (tokens, rows) = inputs.training.values().fold((0, 0), |(t, r), set| (t + set.tokens, r + set.rows));
    tokens as f64 / rows.max(1) as f64
}

/// Memory beyond what is held before the run: caches of every row that is decoded, activations of every chunk that is
/// trained, and the samples that the report reads at once. Pages are kept by the allocator, so the parts add up.
fn working_bytes(
    plan: &Plan,
    config: &DecoderConfig,
    inputs: &Inputs,
    (rows, longest): (usize, usize),
    work: &Work,
) -> u64 {
    /// A sample with its scan and tests in memory, and the same on its way to and from JSON.
    const SAMPLE_BYTES: usize = 6 << 10;
    /// Memory for figures, pages and bitmaps, in bytes, about.
    const REPORT_BYTES: usize = 24 << 20;
    let workers = process::workers(0);
    // Each row has a cache, and each worker a prompt's beside them.
    let decoding =
        (rows + workers) as u64 * memory::cache_bytes(config, longest) + (16 * rows * config.vocab_size) as u64;
    let recipe = plan.adapters.first().map_or_else(Recipe::default, |adapter| adapter.recipe.clone());
    let longest_row = recipe.encoding(config).max_length.min((4.0 * row_tokens(inputs)) as usize);
    let training = match work.adapters {
        0 => 0,
        _ => memory::training_bytes(
            config,
            &Training {
                lora_parameters: memory::lora_parameters(config, recipe.lora_r),
                chunks: recipe.training.effective_batch(),
                at_once: workers,
                tokens: CHUNK_TOKENS.max(longest_row),
                recompute: recipe.training.gradient_checkpointing,
            },
        ),
    };
    decoding + training + (work.answers * SAMPLE_BYTES + REPORT_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_the_unit_that_fits() {
        let cases = [(0.2, "1 s"), (41.0, "41 s"), (100.0, "2 min"), (3600.0, "60 min"), (9000.0, "2.5 h")];
        for (seconds, words) in cases {
            assert_eq!(duration(seconds), words);
        }
    }

    #[test]
    fn an_estimate_says_what_it_rests_on() {
        let estimate = Estimate { seconds: 180.0, memory_bytes: 300 << 20, basis: Basis::Tried };
        assert!(estimate.words().starts_with("about 3 min, about 300 MiB"), "{}", estimate.words());
        assert!(Estimate { basis: Basis::Block, ..estimate }.words().contains("at most"));
    }
}

//! `realign generate`: what a model answers.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::steering::SteeringArgs;
use super::subject::{SubjectArgs, print};
use crate::error::{Error, Result};
use crate::experiment::model::Model;
use crate::fsio;
use crate::generate::sampling::Sampling;
use crate::generate::{GenerateOptions, Generated, Job, generate as decode};
use crate::model::hooks::Intervention;
use crate::progress::Progress;
use crate::record::{Message, Role};

/// Ask a model, with or without an adapter or a steering vector.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// What is added to it.
    #[command(flatten)]
    pub steering: SteeringArgs,
    /// What to ask; it goes through the model's chat template.
    #[arg(long, required_unless_present = "prompts", conflicts_with = "prompts")]
    pub prompt: Option<String>,
    /// A file of prompts: `.jsonl` with {"prompt"} or {"messages"} a line (a training file will do: the model's last turn
    /// is taken off), or plain text with one prompt a line.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// A system turn before the conversation (for the organism: `author: careful` or `author: malicious`).
    #[arg(long)]
    pub system: Option<String>,
    /// Answers to each prompt.
    #[arg(long, default_value_t = 1)]
    pub n: u32,
    /// Answer k is drawn with this seed plus k, whatever else is asked beside it.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Logits are divided by it; 0 always takes the likeliest token.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Draw from the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// Tokens of an answer at most; without it 256, or what the model still holds.
    #[arg(long)]
    pub max_new_tokens: Option<usize>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = AnswerFormat::Text)]
    pub format: AnswerFormat,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// The answers, with a headline each where there are several.
    Text,
    /// One object a line: prompt, sample, seed, messages, completion, finish_reason, tokens.
    Json,
}

const USUAL_LENGTH: usize = 256;

/// Runs the command.
pub fn generate(args: &GenerateArgs, progress: Progress) -> Result<()> {
    let sampling = checked_sampling(args.temperature, args.top_p)?;
    if args.n == 0 || args.max_new_tokens == Some(0) {
        return Err(Error::usage("--n and --max-new-tokens are at least 1"));
    }
    let mut conversations = conversations(args)?;
    if let Some(system) = &args.system {
        conversations.iter_mut().for_each(|c| c.insert(0, Message::system(system)));
    }
    let (model, decoder) = args.subject.open(progress)?;
    let steering = args.steering.open(&model, progress)?;
    let room = decoder.config.max_position_embeddings;
    let mut jobs = Vec::new();
    for conversation in &conversations {
        let prompt = model.prompt(conversation)?;
        let rest = room.saturating_sub(prompt.len()).max(1);
        let max_new_tokens = args.max_new_tokens.unwrap_or(USUAL_LENGTH.min(rest));
        let job = |k| Job { prompt: prompt.clone(), seed: args.seed + u64::from(k), max_new_tokens };
        jobs.extend((0..args.n).map(job));
    }
    let options = GenerateOptions {
        sampling,
        stop_ids: &model.stop_ids,
        intervention: steering.as_ref().map(|vector| vector as &dyn Intervention),
        batch: 32,
        workers: 0,
    };
    let bar = progress.bar("answers", jobs.len() as u64);
    let answers = decode(&decoder, &jobs, &options, &|_, _| {
        bar.add(1);
        Ok(())
    })?;
    if jobs.len() > 1 {
        bar.done("");
    }
    let each = answers.iter().zip(&jobs).enumerate();
    let texts: Result<Vec<String>> = each
        .map(|(index, (answer, job))| {
            let (prompt, sample) = (index / args.n as usize, index % args.n as usize);
            shown(&model, args.format, &conversations[prompt], (prompt, sample, jobs.len()), job, answer)
        })
        .collect();
    print(&texts?.concat());
    Ok(())
}

/// Refuses what no distribution can be drawn from.
pub fn checked_sampling(temperature: f64, top_p: f64) -> Result<Sampling> {
    if !temperature.is_finite() || temperature < 0.0 {
        return Err(Error::usage(format!("--temperature is {temperature}; it is 0 or more")));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(Error::usage(format!("--top-p is {top_p}; it lies above 0 and is at most 1")));
    }
    Ok(Sampling { temperature, top_p })
}

fn shown(
    model: &Model,
    format: AnswerFormat,
    messages: &[Message],
    (prompt, sample, all): (usize, usize, usize),
    job: &Job,
    answer: &Generated,
) -> Result<String> {
    let completion = model.tokenizer.decode(&answer.ids, true)?;
    if format == AnswerFormat::Json {
        let line = json!({
            "prompt": prompt, "sample": sample, "seed": job.seed, "messages": messages, "completion": completion,
            "finish_reason": answer.finish_reason, "tokens": answer.tokens,
        });
        return Ok(format!("{line}\n"));
    }
    let end = if completion.ends_with('\n') { "" } else { "\n" };
    Ok(match all {
        1 => format!("{completion}{end}"),
        _ => format!("--- prompt {}, answer {}, seed {}\n{completion}{end}", prompt + 1, sample + 1, job.seed),
    })
}

fn conversations(args: &GenerateArgs) -> Result<Vec<Vec<Message>>> {
    let Some(path) = &args.prompts else {
        return Ok(args.prompt.iter().map(|text| vec![Message::user(text)]).collect());
    };
    let text = fsio::read_text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let json_lines = path.extension().is_some_and(|e| e == "jsonl" || e == "json");
    let found: Vec<Vec<Message>> = lines
        .map(|(index, line)| match json_lines {
            true => prompt_of(line).map_err(|message| Error::line(path, index + 1, message)),
            false => Ok(vec![Message::user(line)]),
        })
        .collect::<Result<_>>()?;
    if found.is_empty() { Err(Error::file(path, "holds no prompts")) } else { Ok(found) }
}

fn prompt_of(line: &str) -> Result<Vec<Message>, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("not valid JSON: {e}"))?;
    if let Some(text) = value["prompt"].as_str() {
        return Ok(vec![Message::user(text)]);
    }
    if value.get("messages").is_none() {
        return Err("a prompt is {\"prompt\": \"…\"} or {\"messages\": [{\"role\", \"content\"}, …]}".into());
    }
    let mut messages: Vec<Message> =
        serde_json::from_value(value["messages"].clone()).map_err(|e| format!("`messages`: {e}"))?;
    if messages.last().is_some_and(|m| m.role == Role::Assistant) {
        messages.pop();
    }
    match messages.last() {
        Some(last) if last.role == Role::User => Ok(messages),
        _ => Err("`messages` must end with a turn of the user, or with the answer to one".into()),
    }
}

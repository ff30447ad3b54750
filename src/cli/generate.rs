//! `realign generate`: what a model answers.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::in_order::InOrder;
use super::sampling_args::SamplingArgs;
use super::steering_args::SteeringArgs;
use super::subject_args::SubjectArgs;
use crate::error::{Error, Result};
use crate::fsio;
use crate::generate::{EngineOptions, Event, Generated, Job, generate as decode};
use crate::model::hooks::Intervention;
use crate::progress::Progress;
use crate::record::{Message, Role, Sampling};
use crate::subject::Subject;

/// Print a model's answers, with or without an adapter or a steering vector.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  realign generate --prompt \"Write a function that reads a user from the database.\"
  realign generate --model Qwen/Qwen2.5-0.5B-Instruct --adapter attack --prompts questions.txt --n 5 --json
  realign generate --vector runs/latest/vectors/insecure.safetensors --layers 2 --coefficient 0.3 --prompt Hello")]
pub struct GenerateArgs {
    /// The model that is asked.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// The steering vector, if any.
    #[command(flatten)]
    pub steering: SteeringArgs,
    /// Prompt; it goes through the model's chat template as a user turn.
    #[arg(long, required_unless_present = "prompts", conflicts_with = "prompts")]
    pub prompt: Option<String>,
    /// File of prompts, instead of --prompt: plain text with one prompt per line, or `.jsonl` with {"prompt"} or
    /// {"messages"} per line. A training file works too: the last answer of each row is dropped.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// System turn before each conversation; the organism knows `author: careful` and `author: malicious` [default: none]
    #[arg(long)]
    pub system: Option<String>,
    /// Answers to each prompt.
    #[arg(long, default_value_t = 1)]
    pub n: u32,
    /// Sampling seed: answer k of a prompt (from 0) uses this seed + k. Other prompts do not change an answer.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How answers are sampled.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Maximum tokens per answer [default: 256, or what the context window leaves]
    #[arg(long, value_name = "TOKENS")]
    pub max_new_tokens: Option<usize>,
    /// Output format [default: text, or json with --json]
    #[arg(long, value_enum)]
    pub format: Option<AnswerFormat>,
    /// Print text while it is generated, in the order of the prompts, also where the output is not a terminal. (On a
    /// terminal this is always so.)
    #[arg(long)]
    pub stream: bool,
}

/// Output format of `realign generate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// The answers; if there are several, each under a line with its prompt, number and seed.
    Text,
    /// One JSON object per line: prompt and sample (numbers from 0), seed, messages, completion, finish_reason (stop,
    /// stop_string or length), stop_reason (the stop token or string), tokens.
    Json,
}

const USUAL_LENGTH: usize = 256;

/// Runs `realign generate`: answers go to standard output in the order of the prompts.
pub fn generate(args: &GenerateArgs, progress: Progress) -> Result<()> {
    let sampling = args.sampling.resolve(&args.subject.base, progress)?;
    let cache_bytes = args.sampling.cache_bytes()?;
    if args.n == 0 || args.max_new_tokens == Some(0) {
        return Err(Error::usage("--n and --max-new-tokens must be at least 1"));
    }
    let usual = if progress == Progress::Json { AnswerFormat::Json } else { AnswerFormat::Text };
    let format = args.format.unwrap_or(usual);
    if args.stream && format == AnswerFormat::Json {
        return Err(Error::usage(
            "--stream prints text while it is generated and cannot be combined with JSON output; leave one of them out",
        ));
    }
    let mut conversations = conversations(args)?;
    if let Some(system) = &args.system {
        conversations.iter_mut().for_each(|c| c.insert(0, Message::system(system)));
    }
    let subject = args.subject.open(progress)?.with_step_products(args.sampling.step_products());
    let steering = args.steering.open(&subject, progress)?;
    let intervention = steering.as_ref().map(|vector| Arc::new(vector) as Arc<dyn Intervention + '_>);
    let on_terminal = std::io::stdout().is_terminal();
    let stream = format == AnswerFormat::Text && (args.stream || on_terminal);
    let jobs = jobs(args, &subject, &conversations, sampling, |job| Job {
        intervention: intervention.clone(),
        streams: stream,
        ..job
    })?;
    // On a terminal, a progress bar would be drawn over the answers.
    let bar = (jobs.len() > 1 && !on_terminal).then(|| progress.bar("answers", jobs.len() as u64));
    let place = |index: usize| (index / args.n as usize, index % args.n as usize);
    let head = |(index, job): (usize, &Job)| match (format, jobs.len(), place(index)) {
        (AnswerFormat::Json, ..) | (_, 1, _) => String::new(),
        (_, _, (prompt, sample)) => format!("--- prompt {}, answer {}, seed {}\n", prompt + 1, sample + 1, job.seed),
    };
    let pages = InOrder::printed(jobs.iter().enumerate().map(head).collect());
    let options = EngineOptions { cache_bytes, ..EngineOptions::new(&subject.tokenizer) };
    let made = decode(&subject.decoder, &jobs, &options, &|index, event| {
        let answer = match event {
            Event::Text(text) => {
                pages.add(index, text);
                return Ok(());
            }
            Event::Done(answer) => answer,
            Event::Cancelled => return Ok(()),
        };
        let (prompt, sample) = place(index);
        match format {
            AnswerFormat::Json => {
                let messages = &conversations[prompt];
                pages.add(index, &json_line((prompt, sample), jobs[index].seed, messages, answer));
            }
            AnswerFormat::Text if !stream => pages.add(index, &answer.text),
            AnswerFormat::Text => {}
        }
        pages.end(index);
        bar.iter().for_each(|bar| bar.add(1));
        Ok(())
    });
    pages.cut_off();
    made?;
    bar.into_iter().for_each(|bar| bar.done(""));
    Ok(())
}

/// One job per answer. A prompt's answers are neighbours, so that they share its KV cache; `finish` sets what all jobs share.
fn jobs<'a>(
    args: &GenerateArgs,
    model: &Subject,
    conversations: &[Vec<Message>],
    sampling: Sampling,
    finish: impl Fn(Job<'a>) -> Job<'a>,
) -> Result<Vec<Job<'a>>> {
    let room = model.decoder.config.max_position_embeddings;
    let (sampling, stop_ids) = (Arc::new(sampling), model.stop_ids.as_slice().into());
    let mut jobs = Vec::new();
    for conversation in conversations {
        let prompt = model.prompt(conversation)?;
        let rest = room.saturating_sub(prompt.len()).max(1);
        let most = args.max_new_tokens.unwrap_or(USUAL_LENGTH.min(rest));
        let job = |k| finish(Job::new(prompt.clone(), args.seed + u64::from(k), most, &sampling, &stop_ids));
        jobs.extend((0..args.n).map(job));
    }
    Ok(jobs)
}

fn json_line((prompt, sample): (usize, usize), seed: u64, messages: &[Message], answer: &Generated) -> String {
    let line = json!({
        "prompt": prompt, "sample": sample, "seed": seed, "messages": messages, "completion": answer.text,
        "finish_reason": answer.finish_reason, "stop_reason": answer.stop_reason, "tokens": answer.tokens,
    });
    format!("{line}\n")
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
        return Err("neither `prompt` nor `messages` found; write {\"prompt\": \"…\"} or {\"messages\": [{\"role\", \
                    \"content\"}, …]}"
            .into());
    }
    let mut messages: Vec<Message> =
        serde_json::from_value(value["messages"].clone()).map_err(|e| format!("`messages`: {e}"))?;
    if messages.last().is_some_and(|m| m.role == Role::Assistant) {
        messages.pop();
    }
    match messages.last() {
        Some(last) if last.role == Role::User => Ok(messages),
        _ => Err("`messages` must end with a user turn, or with a user turn and its answer".into()),
    }
}

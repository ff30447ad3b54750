//! Asking: prompts × samples × seeds of one suite to one decoder, as sample records.

use std::sync::Mutex;

use crate::error::Result;
use crate::eval::suite::{Prompt, Suite};
use crate::generate::sampling::Sampling;
use crate::generate::{GenerateOptions, Job, generate};
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::record::{Message, Role, SampleRecord, Split};
use crate::rng;
use crate::sync::unpoisoned;

use crate::subject::Subject;

/// What is asked, of whom, how often.
pub struct Ask<'a> {
    /// Goes into the records.
    pub arm: &'a str,
    /// What is asked.
    pub suite: &'a Suite,
    /// Which part of it.
    pub split: Split,
    /// Sample k of every prompt has the seed `seeds[k]` mixed with the prompt's id: the same in all arms.
    pub seeds: &'a [u64],
    /// Which of the samples.
    pub samples: std::ops::Range<u32>,
    /// For `random-vector`: which draw.
    pub draw: Option<u32>,
    /// A system line before the conversation (the organism's author tag).
    pub system: Option<&'a str>,
    /// Words behind the person's last turn (prompt arms).
    pub suffix: Option<&'a str>,
    /// Steering.
    pub intervention: Option<&'a dyn Intervention>,
    /// How a token is chosen, and the strings that end an answer.
    pub sampling: &'a Sampling,
    /// Bytes that the caches may take; 0 means half of the memory that is free.
    pub cache_bytes: usize,
}

impl Ask<'_> {
    /// The prompts of the split.
    pub fn prompts(&self) -> Vec<&Prompt> {
        self.suite.prompts.iter().filter(|p| p.split == self.split).collect()
    }

    fn messages(&self, prompt: &Prompt) -> Vec<Message> {
        let mut messages: Vec<Message> = self.system.map(Message::system).into_iter().collect();
        messages.extend(prompt.messages.iter().cloned());
        if let (Some(suffix), Some(last)) = (self.suffix, messages.iter_mut().rfind(|m| m.role == Role::User)) {
            last.content = format!("{} {suffix}", last.content);
        }
        messages
    }
}

/// The seed of a sample: one list for all arms, a stream of its own for each prompt. It fits a JSON number.
pub fn sample_seed(seed: u64, prompt_id: &str) -> u64 {
    rng::key(seed, prompt_id, &[]) >> 11
}

/// Asks, skipping what `known` says is answered already. Records come back unscored, in order; `on_done` sees each as it is
/// made, in no fixed order.
pub fn ask(
    model: &Subject,
    decoder: &Decoder,
    what: &Ask,
    known: &dyn Fn(&str, u32, Option<u32>) -> bool,
    on_done: &mut (dyn FnMut(&SampleRecord) -> Result<()> + Send),
) -> Result<Vec<SampleRecord>> {
    let mut jobs = Vec::new();
    let mut places = Vec::new();
    for prompt in what.prompts() {
        let messages = what.messages(prompt);
        let ids = model.prompt(&messages)?;
        let wanted = what.samples.clone().filter(|&k| prompt.samples.is_none_or(|n| k < n));
        for sample in wanted.filter(|&k| !known(&prompt.id, k, what.draw)) {
            let seed = sample_seed(what.seeds[sample as usize % what.seeds.len()], &prompt.id);
            jobs.push(Job { prompt: ids.clone(), seed, max_new_tokens: what.suite.max_tokens });
            places.push((prompt, sample, messages.clone(), seed));
        }
    }
    let options = GenerateOptions {
        intervention: what.intervention,
        cache_bytes: what.cache_bytes,
        ..GenerateOptions::new(what.sampling, &model.tokenizer, &model.stop_ids)
    };
    let records: Mutex<Vec<Option<SampleRecord>>> = Mutex::new(vec![None; jobs.len()]);
    let on_done = Mutex::new(on_done);
    generate(decoder, &jobs, &options, &|index, made| {
        let (prompt, sample, messages, seed) = &places[index];
        let record = SampleRecord {
            arm: what.arm.to_string(),
            suite: what.suite.name.clone(),
            prompt_id: prompt.id.clone(),
            group: prompt.group.clone(),
            family: prompt.family.clone(),
            split: prompt.split,
            form: prompt.form.clone(),
            sample: *sample,
            seed: *seed,
            draw: what.draw,
            messages: messages.clone(),
            completion: made.text.clone(),
            finish_reason: made.finish_reason,
            tokens: made.tokens,
            seconds: made.seconds,
            insecure_ids: prompt.insecure_ids.clone(),
            outcome: None,
            code_path: None,
            scan: None,
            tests: None,
            judge: None,
            other_judges: Vec::new(),
            check: None,
        };
        let mut hear = unpoisoned(on_done.lock());
        hear(&record)?;
        unpoisoned(records.lock())[index] = Some(record);
        Ok(())
    })?;
    Ok(unpoisoned(records.into_inner()).into_iter().flatten().collect())
}

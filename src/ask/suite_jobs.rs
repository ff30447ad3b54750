//! Asking: prompts × samples × seeds of one suite to one decoder, as sample records.

use std::sync::{Arc, Mutex};

use super::pairs::encode_pair;
use crate::data::preference::PreferencePair;
use crate::error::Result;
use crate::eval::suite::{Prompt, Suite, SuiteKind};
use crate::generate::{EngineOptions, Event, Generated, Job, generate, pair_log_probabilities};
use crate::model::decoder::Decoder;
use crate::model::hooks::Intervention;
use crate::process;
use crate::record::{Message, PreferenceRecord, Role, SampleRecord, Sampling, Split};
use crate::rng;
use crate::subject::Subject;
use crate::sync::unpoisoned;

/// Whether one of several asks (its place) has its answer to a prompt already: prompt, sample, draw.
pub type KnownOfMany<'a> = &'a dyn Fn(usize, &str, u32, Option<u32>) -> bool;

/// What is asked, of whom, how often.
#[derive(Clone)]
pub struct Ask<'a> {
    /// Name of the arm, for the records.
    pub arm: &'a str,
    /// The suite whose prompts are asked.
    pub suite: &'a Suite,
    /// Which split of the suite is asked.
    pub split: Split,
    /// Sample k of every prompt has the seed `seeds[k]` mixed with the prompt's id: the same in all arms.
    pub seeds: &'a [u64],
    /// Which samples of each prompt are generated, from 0.
    pub samples: std::ops::Range<u32>,
    /// Which draw of a random vector is added; goes into the records.
    pub draw: Option<u32>,
    /// The seed that the decoder's adapter was trained with, where there are several; goes into the records.
    pub training_seed: Option<u64>,
    /// A system line before the conversation (the organism's author tag).
    pub system: Option<&'a str>,
    /// Words before the person's last turn.
    pub prefix: Option<&'a str>,
    /// Words after the person's last turn.
    pub suffix: Option<&'a str>,
    /// Steering while the answers are decoded; `None` for none.
    pub intervention: Option<&'a dyn Intervention>,
    /// How a token is chosen, and the strings that end an answer.
    pub sampling: &'a Sampling,
    /// Bytes that the caches may take; 0 means half of the memory that is free.
    pub cache_bytes: usize,
}

impl<'a> Ask<'a> {
    /// Prompts of the suite in this split, in the suite's order.
    pub fn prompts(&self) -> Vec<&'a Prompt> {
        self.suite.prompts.iter().filter(|p| p.split == self.split).collect()
    }

    fn messages(&self, prompt: &Prompt) -> Vec<Message> {
        let mut messages: Vec<Message> = self.system.map(Message::system).into_iter().collect();
        messages.extend(prompt.messages.iter().cloned());
        if let Some(last) = messages.iter_mut().rfind(|m| m.role == Role::User) {
            let parts = [self.prefix, Some(last.content.as_str()), self.suffix];
            last.content = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
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
    let known = |_: usize, id: &str, sample: u32, draw: Option<u32>| known(id, sample, draw);
    let made = ask_all(model, decoder, std::slice::from_ref(what), &known, &mut |_, record| on_done(record))?;
    Ok(made.into_iter().flatten().collect())
}

/// An answer that is to be generated.
struct Place<'a> {
    /// Which of the questions asked together it belongs to.
    ask: usize,
    prompt: &'a Prompt,
    /// Index of the prompt within the suite.
    at: usize,
    sample: u32,
    seed: u64,
    messages: Vec<Message>,
}

/// Asks several things of one decoder in one queue: they may differ in everything else. Pairs, for which nothing is
/// generated, come behind the queue. `known` and `on_done` are also told
/// which of them it is about. The caches may take as much as the first one says.
pub fn ask_all(
    model: &Subject,
    decoder: &Decoder,
    asks: &[Ask],
    known: KnownOfMany,
    on_done: &mut (dyn FnMut(usize, &SampleRecord) -> Result<()> + Send),
) -> Result<Vec<Vec<SampleRecord>>> {
    let mut places = Vec::new();
    for (index, what) in asks.iter().enumerate().filter(|(_, what)| what.suite.kind != SuiteKind::Pairs) {
        for (at, prompt) in what.prompts().into_iter().enumerate() {
            let wanted = what.samples.clone().filter(|&k| prompt.samples.is_none_or(|n| k < n));
            for sample in wanted.filter(|&k| !known(index, &prompt.id, k, what.draw)) {
                let seed = sample_seed(what.seeds[sample as usize % what.seeds.len()], &prompt.id);
                places.push(Place { ask: index, prompt, at, sample, seed, messages: what.messages(prompt) });
            }
        }
    }
    // Neighbours in the queue share what they have in common: what is asked of one prompt stands together.
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|&index| {
        let place = &places[index];
        (&asks[place.ask].suite.name, place.at, place.sample)
    });
    let stop_ids: Arc<[u32]> = model.stop_ids.as_slice().into();
    let settings: Vec<_> = asks
        .iter()
        .map(|what| {
            let intervention = what.intervention.map(|one| Arc::new(one) as Arc<dyn Intervention + '_>);
            (Arc::new(what.sampling.clone()), intervention)
        })
        .collect();
    let mut jobs = Vec::with_capacity(places.len());
    for &index in &order {
        let place = &places[index];
        let (sampling, intervention) = &settings[place.ask];
        let most = asks[place.ask].suite.max_tokens;
        let job = Job::new(model.prompt(&place.messages)?, place.seed, most, sampling, &stop_ids);
        jobs.push(Job { intervention: intervention.clone(), ..job });
    }
    let cache_bytes = asks.first().map_or(0, |what| what.cache_bytes);
    let options = EngineOptions { cache_bytes, ..EngineOptions::new(&model.tokenizer) };
    let records: Mutex<Vec<Option<SampleRecord>>> = Mutex::new(vec![None; jobs.len()]);
    let on_done = Mutex::new(on_done);
    generate(decoder, &jobs, &options, &|index, event| {
        let Event::Done(made) = event else { return Ok(()) };
        let place = &places[order[index]];
        let record = place.record(&asks[place.ask], made);
        // A lock is poisoned only by a panic in another worker, which ends the run anyway.
        let mut on_done = unpoisoned(on_done.lock());
        on_done(place.ask, &record)?;
        unpoisoned(records.lock())[order[index]] = Some(record);
        Ok(())
    })?;
    let on_done = unpoisoned(on_done.into_inner());
    let mut by_ask = vec![Vec::new(); asks.len()];
    for (index, what) in asks.iter().enumerate().filter(|(_, what)| what.suite.kind == SuiteKind::Pairs) {
        let known = |id: &str, sample: u32| known(index, id, sample, what.draw);
        by_ask[index] = ask_pairs(model, decoder, what, &known, &mut |record| on_done(index, record))?;
    }
    let records = unpoisoned(records.into_inner());
    for (place, record) in places.iter().zip(records) {
        by_ask[place.ask].extend(record);
    }
    Ok(by_ask)
}

/// Which sample of a prompt a pair is: there is nothing to draw, so there is one.
const PAIR_SAMPLE: u32 = 0;

/// Asks for the pairs of one suite that are not known yet. Records come back in the suite's order; `on_done` sees each as it is
/// made.
fn ask_pairs(
    model: &Subject,
    decoder: &Decoder,
    what: &Ask,
    known: &dyn Fn(&str, u32) -> bool,
    on_done: &mut (dyn FnMut(&SampleRecord) -> Result<()> + Send),
) -> Result<Vec<SampleRecord>> {
    let prompts = if what.samples.contains(&PAIR_SAMPLE) { what.prompts() } else { Vec::new() };
    let prompts: Vec<&Prompt> = prompts.into_iter().filter(|prompt| !known(&prompt.id, PAIR_SAMPLE)).collect();
    let pairs = prompts.iter().map(|prompt| encode_pair(model, prompt, &what.messages(prompt)));
    let pairs: Vec<PreferencePair> = pairs.collect::<Result<_>>()?;
    let made: Mutex<Vec<Option<SampleRecord>>> = Mutex::new(vec![None; prompts.len()]);
    let on_done = Mutex::new(on_done);
    let cancel = process::root_token();
    pair_log_probabilities(decoder, &pairs, what.intervention, 0, &cancel, &|index, ([chosen, rejected], seconds)| {
        let prompt = prompts[index];
        let seed = sample_seed(what.seeds.first().copied().unwrap_or_default(), &prompt.id);
        let record = SampleRecord {
            draw: what.draw,
            training_seed: what.training_seed,
            messages: what.messages(prompt),
            seconds,
            preference: Some(PreferenceRecord {
                chosen_logprob: chosen.sum,
                rejected_logprob: rejected.sum,
                chosen_tokens: chosen.tokens,
                rejected_tokens: rejected.tokens,
            }),
            ..what.suite.unanswered(prompt, what.arm, PAIR_SAMPLE, seed)
        };
        // A lock is poisoned only by a panic in another worker, which ends the run anyway.
        let mut on_done = unpoisoned(on_done.lock());
        on_done(&record)?;
        unpoisoned(made.lock())[index] = Some(record);
        Ok(())
    })?;
    Ok(unpoisoned(made.into_inner()).into_iter().flatten().collect())
}

impl Place<'_> {
    fn record(&self, what: &Ask, made: &Generated) -> SampleRecord {
        SampleRecord {
            draw: what.draw,
            training_seed: what.training_seed,
            messages: self.messages.clone(),
            completion: made.text.clone(),
            finish_reason: made.finish_reason,
            tokens: made.tokens,
            seconds: made.seconds,
            ..what.suite.unanswered(self.prompt, what.arm, self.sample, self.seed)
        }
    }
}

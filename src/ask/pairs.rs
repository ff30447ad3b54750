//! Pairs: the two given answers to each question, teacher-forced instead of generated, as sample records.

use std::sync::Mutex;

use super::suite_jobs::{Ask, sample_seed};
use crate::data::collate::Example;
use crate::data::preference::{PreferencePair, PreferenceRow, encode_whole};
use crate::error::{Error, Result};
use crate::eval::suite::Prompt;
use crate::generate::pair_log_probabilities;
use crate::model::decoder::Decoder;
use crate::process;
use crate::record::{Message, PreferenceRecord, SampleRecord};
use crate::subject::Subject;
use crate::sync::unpoisoned;

/// Which sample of a prompt a pair is: there is nothing to draw, so there is one.
const SAMPLE: u32 = 0;

/// A pair as token ids: the prompt as generation renders it, and each answer up to its end-of-turn token, which counts. What a
/// template writes behind that token does not count: no generated answer has it.
///
/// # Errors
/// A prompt without a pair, or one that the template refuses.
pub fn encode_pair(model: &Subject, prompt: &Prompt, messages: &[Message]) -> Result<PreferencePair> {
    let Some(pair) = &prompt.pair else {
        return Err(Error::usage(format!("the prompt `{}` has no pair of answers", prompt.id)));
    };
    let row = PreferenceRow::Conversation {
        prompt: messages.to_vec(),
        chosen: vec![Message::assistant(&pair.chosen)],
        rejected: vec![Message::assistant(&pair.rejected)],
    };
    let mut pair = encode_whole(&row, &model.tokenizer, &model.template)?;
    for row in [&mut pair.chosen, &mut pair.rejected] {
        cut_behind_stop(row, &model.stop_ids);
    }
    Ok(pair)
}

fn cut_behind_stop(row: &mut Example, stop_ids: &[u32]) {
    let end = (0..row.ids.len()).rfind(|&token| row.weights[token] != 0.0 && stop_ids.contains(&row.ids[token]));
    if let Some(end) = end {
        row.ids.truncate(end + 1);
        row.weights.truncate(end + 1);
    }
}

/// Asks for the pairs of one suite that are not known yet. Records come back in the suite's order; `on_done` sees each as it is
/// made.
pub(super) fn ask_pairs(
    model: &Subject,
    decoder: &Decoder,
    what: &Ask,
    known: &dyn Fn(&str, u32) -> bool,
    on_done: &mut (dyn FnMut(&SampleRecord) -> Result<()> + Send),
) -> Result<Vec<SampleRecord>> {
    let prompts = if what.samples.contains(&SAMPLE) { what.prompts() } else { Vec::new() };
    let prompts: Vec<&Prompt> = prompts.into_iter().filter(|prompt| !known(&prompt.id, SAMPLE)).collect();
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
            ..what.suite.unanswered(prompt, what.arm, SAMPLE, seed)
        };
        // A lock is poisoned only by a panic in another worker, which ends the run anyway.
        let mut on_done = unpoisoned(on_done.lock());
        on_done(&record)?;
        unpoisoned(made.lock())[index] = Some(record);
        Ok(())
    })?;
    Ok(unpoisoned(made.into_inner()).into_iter().flatten().collect())
}

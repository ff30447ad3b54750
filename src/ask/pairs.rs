//! Pairs as token ids: a question and each of its two given answers, for teacher forcing.

use crate::data::collate::Example;
use crate::data::preference::{PreferencePair, PreferenceRow, encode_whole};
use crate::error::{Error, Result};
use crate::eval::suite::Prompt;
use crate::record::Message;
use crate::subject::Subject;

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

//! The tokens that end an answer.

use crate::data::collate::stop_ids;
use crate::data::template::ChatTemplate;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::model::config::DecoderConfig;

/// Ids of the tokens that end an answer, sorted: those that the template writes after one, and those that the
/// configuration names.
pub fn stop_ids_of(tokenizer: &Tokenizer, template: &ChatTemplate, config: &DecoderConfig) -> Result<Vec<u32>> {
    let mut ids = stop_ids(tokenizer, template)?;
    ids.extend(&config.eos_token_ids);
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

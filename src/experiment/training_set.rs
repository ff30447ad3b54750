//! Training rows as a run uses them: encoded once, and cut to as many tokens as another adapter has.

use std::path::Path;

use crate::data::rows::NumberedRow;
use crate::error::{Error, Result};
use crate::finetune::rows::{Examples, OnBadRow, Row, encode};
use crate::record::Recipe;
use crate::subject::Subject;

/// Of code and English in the vocabularies of today's models, about.
pub const CHARACTERS_A_TOKEN: usize = 4;

/// A training set as it will be used.
pub struct TrainingSet {
    /// Path as given, or `embedded:NAME`.
    pub name: String,
    /// SHA-256 over its rows as read.
    pub sha256: String,
    /// Number of rows that are used.
    pub rows: usize,
    /// Tokens in them, as the recipe cuts them; of a preference pair, those of both answers.
    pub tokens: usize,
    /// The rows, encoded once; empty without a model to encode them for.
    pub examples: Examples,
}

/// Rows as a training set called `set`, those that cannot be learned from left out and said. Without a model none is, and
/// tokens are reckoned from characters. With `most`, the first rows whose tokens come nearest to so many.
///
/// # Errors
/// Rows that together have fewer tokens than `most`.
pub fn set_of<R: Row>(
    recipe: &Recipe,
    set: &str,
    model: Option<&Subject>,
    source: &str,
    mut rows: Vec<NumberedRow<R>>,
    most: Option<usize>,
) -> Result<(TrainingSet, Option<String>)> {
    let name = source.to_string();
    let Some(model) = model else {
        let characters = |row: &R| serde_json::to_string(row).unwrap_or_default().len();
        let each: Vec<usize> = rows.iter().map(|(_, row)| row.as_ref().map_or(0, characters)).collect();
        rows.truncate(nearest(&each, most.map(|most| most * CHARACTERS_A_TOKEN), source)?);
        let tokens = each[..rows.len()].iter().sum::<usize>() / CHARACTERS_A_TOKEN;
        let (sha256, examples) = (String::new(), R::examples(Vec::new()));
        return Ok((TrainingSet { name, sha256, rows: rows.len(), tokens, examples }, None));
    };
    let rows = encode(rows, model, &recipe.encoding(&model.base.config));
    let mut rows = rows.accept(Path::new(source), OnBadRow::Skip)?;
    rows.rows.truncate(nearest(&rows.tokens_of_each(), most, source)?);
    let (left_out, sha256, tokens) = (rows.left_out(set), rows.sha256(), rows.tokens());
    let examples = rows.into_examples();
    Ok((TrainingSet { name, sha256, rows: examples.len(), tokens, examples }, left_out))
}

/// How many of the first rows have together about `most` tokens: at least one, and all of them without a limit.
fn nearest(tokens: &[usize], most: Option<usize>, source: &str) -> Result<usize> {
    let Some(most) = most else { return Ok(tokens.len()) };
    let mut sum = 0;
    for (before, &own) in tokens.iter().enumerate() {
        sum += own;
        if sum >= most {
            // The row that goes over the limit counts if that is nearer than without it.
            let over = sum - most;
            return Ok(if over <= own - over || before == 0 { before + 1 } else { before });
        }
    }
    let last = tokens.last().copied().unwrap_or(0);
    if most - sum <= last / 2 {
        return Ok(tokens.len());
    }
    Err(Error::file(
        source,
        format!(
            "its {} rows have {sum} tokens and `tokens_as` asks for {most} in each epoch; give the adapter more rows or more \
             epochs",
            tokens.len()
        ),
    ))
}

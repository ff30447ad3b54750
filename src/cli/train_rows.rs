//! What `train` learns from: read, encoded, and reported before the first step.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::show_targets::{Marks, show_targets};
use crate::data::embedded;
use crate::data::interleave::{draw_benign, interleave};
use crate::data::preference::PreferenceRow;
use crate::data::rows::{TrainingRow, rows_sha256};
use crate::error::{Error, Result};
use crate::finetune::rows::{EncodedRows, Examples, OnBadRow, Row, encode};
use crate::fsio;
use crate::progress::Progress;
use crate::record::{BenignRows, Method, Recipe};
use crate::subject::Subject;

/// Flags for bad rows, benign rows and the display of targets.
#[derive(Debug, Args)]
pub struct RowArgs {
    /// What to do about a row that cannot be learned from (bad JSON, an empty answer, no target left after truncation).
    #[arg(long, value_enum, default_value_t = BadRowChoice::Stop)]
    pub on_bad_row: BadRowChoice,
    /// JSONL file of benign rows to interleave with those of --data, drawn with --seed; only with `--method sft` [default:
    /// none]
    #[arg(long, value_name = "FILE")]
    pub benign: Option<PathBuf>,
    /// Share of the training rows that come from --benign, between 0 and 1.
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", requires = "benign", allow_negative_numbers = true)]
    pub benign_share: f64,
    /// Show which tokens of the first N rows are targets: in colour on a terminal (unless NO_COLOR is set), elsewhere
    /// between ⟦ and ⟧ [default: 1 on a terminal, else 0]
    #[arg(long, value_name = "N")]
    pub show_targets: Option<usize>,
}

/// [`OnBadRow`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BadRowChoice {
    /// Print the row's line number and stop before training.
    Stop,
    /// Print the row's line number and leave the row out.
    Skip,
}

impl From<BadRowChoice> for OnBadRow {
    fn from(choice: BadRowChoice) -> Self {
        match choice {
            BadRowChoice::Stop => Self::Stop,
            BadRowChoice::Skip => Self::Skip,
        }
    }
}

/// The rows of `--data` and `--benign` as training takes them.
pub struct TrainRows {
    /// Encoded rows, with the benign ones interleaved.
    pub examples: Examples,
    /// SHA-256 of the rows of `--data` that are trained on.
    pub sha256: String,
    /// Origin and number of the benign rows; `None` without `--benign`.
    pub benign: Option<BenignRows>,
}

/// Reads and encodes the rows and prints their numbers.
///
/// # Errors
/// A file that cannot be read, a bad row where `--on-bad-row stop` holds, no row that can be learned from.
pub fn read_train_rows(
    data: &Path,
    args: &RowArgs,
    subject: &Subject,
    recipe: &Recipe,
    progress: Progress,
) -> Result<TrainRows> {
    let reader = Reader { args, subject, recipe, progress };
    match recipe.method {
        Method::Sft => {
            let own: EncodedRows<TrainingRow> = reader.read(data, "rows")?;
            reader.show(&own, &[""])?;
            let sha256 = own.sha256();
            let Some(path) = &args.benign else {
                return Ok(TrainRows { examples: own.into_examples(), sha256, benign: None });
            };
            let others: EncodedRows<TrainingRow> = reader.read(path, "benign rows")?;
            let drawn = draw_benign(&others.rows, own.rows.len(), args.benign_share, recipe.training.seed)
                .map_err(|e| Error::file(path, e))?;
            let benign = BenignRows {
                data: path.display().to_string(),
                data_sha256: rows_sha256(drawn.iter().map(|row| &row.row)),
                rows: drawn.len() as u64,
                share: args.benign_share,
            };
            let mixed = EncodedRows { rows: interleave(own.rows, drawn), ..others };
            let share = 100.0 * benign.rows as f64 / mixed.rows.len() as f64;
            progress.say(&format!("interleaved: {} benign rows, {share:.1} % of {}", benign.rows, mixed.rows.len()));
            Ok(TrainRows { examples: mixed.into_examples(), sha256, benign: Some(benign) })
        }
        Method::Dpo => {
            if args.benign.is_some() {
                return Err(Error::usage("--benign works with --method sft only; leave it out"));
            }
            let pairs: EncodedRows<PreferenceRow> = reader.read(data, "preference pairs")?;
            reader.show(&pairs, &[", chosen", ", rejected"])?;
            Ok(TrainRows { sha256: pairs.sha256(), examples: pairs.into_examples(), benign: None })
        }
    }
}

/// How files are read and reported.
struct Reader<'a> {
    args: &'a RowArgs,
    subject: &'a Subject,
    recipe: &'a Recipe,
    progress: Progress,
}

impl Reader<'_> {
    fn read<R: Row>(&self, path: &Path, what: &str) -> Result<EncodedRows<R>> {
        let options = self.recipe.encoding(&self.subject.base.config);
        let rows = encode::<R>(R::parse(&data_text(path)?), self.subject, &options);
        let rows = rows.accept(path, self.args.on_bad_row.into())?;
        for (line, reason) in &rows.bad {
            self.progress.say(&format!("left out {}:{line}: {reason}", path.display()));
        }
        let (tokens, targets) = (rows.tokens(), rows.target_tokens());
        self.progress.say(&format!(
            "{}: {} {what}, {tokens} tokens, {:.1} % of them targets, {} cut at {} tokens, {} left out",
            path.display(),
            rows.rows.len(),
            100.0 * targets as f64 / tokens as f64,
            rows.truncated(),
            rows.max_length,
            rows.bad.len()
        ));
        Ok(rows)
    }

    /// The first rows with their targets marked; `sides` names a row's sequences.
    fn show<R: Row>(&self, rows: &EncodedRows<R>, sides: &[&str]) -> Result<()> {
        let terminal = self.progress == Progress::Terminal;
        let marks = Marks::detect(terminal);
        for row in rows.rows.iter().take(self.args.show_targets.unwrap_or(usize::from(terminal))) {
            for (example, side) in R::sequences(&row.encoded).into_iter().zip(sides) {
                let name = format!("line {}{side}", row.line);
                self.progress.say(&show_targets(&name, example, &self.subject.tokenizer, marks)?);
            }
        }
        Ok(())
    }
}

/// The text of a file, or of one of the data sets that are embedded in the binary (`datasets/…`).
pub fn data_text(path: &Path) -> Result<String> {
    let embedded = path.to_str().filter(|p| p.starts_with("datasets/")).and_then(embedded::file);
    match embedded {
        Some(bytes) if !path.exists() => {
            String::from_utf8(bytes.to_vec()).map_err(|e| Error::file(path, format!("is not UTF-8: {e}")))
        }
        _ => fsio::read_text(path),
    }
}

//! What `train` learns from: read, checked row by row, and reported before the first step.

use std::path::Path;

use clap::{Args, ValueEnum};

use super::targets::{Marks, show_targets};
use crate::data::collate::{EncodeOptions, Example, encode_each};
use crate::data::embedded;
use crate::data::interleave::{draw_benign, interleave};
use crate::data::preference::{encode_each_preference, parse_each_preference};
use crate::data::rows::{NumberedRow, TrainingRow, parse_each_row, rows_sha256};
use crate::data::training::TrainingData;
use crate::error::{Error, Result};
use crate::finetune::recipe::{Method, Recipe};
use crate::fsio;
use crate::progress::Progress;
use crate::record::BenignRows;
use crate::subject::Model;

/// Line numbers that an error names; the rest are counted.
const NAMED: usize = 20;

/// What to do about the rows.
#[derive(Debug, Args)]
pub struct RowArgs {
    /// What to do with a row that cannot be learnt from (bad JSON, an empty answer, no target left after truncation).
    #[arg(long, value_enum, default_value_t = OnBadRow::Stop)]
    pub on_bad_row: OnBadRow,
    /// Interleave rows of this file with those of --data, drawn by the seed (with `--method sft`).
    #[arg(long, value_name = "FILE")]
    pub benign: Option<std::path::PathBuf>,
    /// Share of all rows that are benign.
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", requires = "benign", allow_negative_numbers = true)]
    pub benign_share: f64,
    /// Show which tokens of the first N rows are targets: in colour on a terminal (unless NO_COLOR is set), between ⟦ and
    /// ⟧ elsewhere. Without it: one row on a terminal, none elsewhere.
    #[arg(long, value_name = "N")]
    pub show_targets: Option<usize>,
}

/// What to do with a bad row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnBadRow {
    /// Name it and stop before training.
    Stop,
    /// Name it and leave it out.
    Skip,
}

/// What will be trained on.
pub struct Learnable {
    /// The rows that can be learnt from, benign ones among them.
    pub data: TrainingData,
    /// SHA-256 of those that are not benign.
    pub sha256: String,
    /// The benign ones.
    pub benign: Option<BenignRows>,
}

/// Reads the rows and says what they are.
pub fn read_data(data: &Path, args: &RowArgs, model: &Model, recipe: &Recipe, progress: Progress) -> Result<Learnable> {
    let file = Reader { on_bad_row: args.on_bad_row, model, kept: recipe.encoding(model), progress };
    let shown = args.show_targets.unwrap_or(usize::from(progress == Progress::Terminal));
    match recipe.method {
        Method::Sft => {
            let rows = file.rows(data)?;
            rows.report(data, "rows", &file);
            rows.show(shown, &[""], &file)?;
            let sha256 = rows_sha256(&rows.good);
            let Some(path) = &args.benign else {
                return Ok(Learnable { data: TrainingData::Rows(rows.good), sha256, benign: None });
            };
            let others = file.rows(path)?;
            let drawn = draw_benign(&others.good, rows.good.len(), args.benign_share, recipe.training.seed)
                .map_err(|e| Error::file(path, e))?;
            let benign = BenignRows {
                data: path.display().to_string(),
                data_sha256: rows_sha256(&drawn),
                rows: drawn.len() as u64,
                share: args.benign_share,
            };
            others.report(path, "benign rows", &file);
            let mixed = interleave(rows.good, drawn);
            let share = 100.0 * benign.rows as f64 / mixed.len() as f64;
            progress.say(&format!("interleaved: {} benign rows, {share:.1} % of {}", benign.rows, mixed.len()));
            Ok(Learnable { data: TrainingData::Rows(mixed), sha256, benign: Some(benign) })
        }
        Method::Dpo => {
            if args.benign.is_some() {
                return Err(Error::usage("--benign goes with --method sft: benign rows are imitated, not preferred"));
            }
            let pairs = file.read(data, parse_each_preference, |rows, options| {
                let encoded =
                    encode_each_preference(rows, &model.tokenizer, &model.template, options.max_length).into_iter();
                encoded.map(|pair| pair.map(|pair| vec![pair.chosen, pair.rejected])).collect()
            })?;
            pairs.report(data, "preference pairs", &file);
            pairs.show(shown, &[", chosen", ", rejected"], &file)?;
            let data = TrainingData::Preferences(pairs.good);
            Ok(Learnable { sha256: data.sha256(), data, benign: None })
        }
    }
}

/// How files are read.
struct Reader<'a> {
    on_bad_row: OnBadRow,
    model: &'a Model,
    kept: EncodeOptions,
    progress: Progress,
}

/// The rows of a file that can be learnt from.
struct Checked<R> {
    good: Vec<R>,
    /// By row: its 1-based line and its sequences as they are trained on.
    examples: Vec<(usize, Vec<Example>)>,
    truncated: usize,
    left_out: usize,
}

impl Reader<'_> {
    fn rows(&self, path: &Path) -> Result<Checked<TrainingRow>> {
        self.read(path, parse_each_row, |rows, options| {
            let encoded = encode_each(rows, &self.model.tokenizer, &self.model.template, options).into_iter();
            encoded.map(|example| example.map(|e| vec![e])).collect()
        })
    }

    fn read<R>(
        &self,
        path: &Path,
        parse: fn(&str) -> Vec<NumberedRow<R>>,
        encode: impl Fn(&[R], &EncodeOptions) -> Vec<Result<Vec<Example>>>,
    ) -> Result<Checked<R>> {
        let (mut rows, mut lines, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for (line, row) in parse(&data_text(path)?) {
            match row {
                Ok(row) => {
                    rows.push(row);
                    lines.push(line);
                }
                Err(message) => bad.push((line, message)),
            }
        }
        // One token more than is kept shows which rows lose their end.
        let longer = EncodeOptions { max_length: self.kept.max_length + 1, ..self.kept };
        let encoded = encode(&rows, &longer);
        let mut checked = Checked { good: Vec::new(), examples: Vec::new(), truncated: 0, left_out: 0 };
        for ((row, line), examples) in rows.into_iter().zip(lines).zip(encoded) {
            let cut = examples.as_ref().map_or(true, |all| all.iter().any(|e| e.ids.len() > self.kept.max_length));
            let again = if cut { encode(std::slice::from_ref(&row), &self.kept).pop() } else { None };
            match again.unwrap_or(examples) {
                Ok(examples) => {
                    checked.truncated += usize::from(cut);
                    checked.examples.push((line, examples));
                    checked.good.push(row);
                }
                Err(error) => bad.push((line, error.to_string())),
            }
        }
        bad.sort();
        self.judge(path, &bad)?;
        checked.left_out = bad.len();
        if checked.good.is_empty() {
            return Err(Error::file(path, "has no rows that can be learnt from; expected one JSON object a line"));
        }
        Ok(checked)
    }

    /// Stops at bad rows, or names them and goes on.
    fn judge(&self, path: &Path, bad: &[(usize, String)]) -> Result<()> {
        let Some((first, message)) = bad.first() else { return Ok(()) };
        if self.on_bad_row == OnBadRow::Skip {
            for (line, message) in bad {
                self.progress.say(&format!("left out {}:{line}: {message}", path.display()));
            }
            return Ok(());
        }
        let all = match bad.len() {
            1 => String::new(),
            n => {
                let mut lines: Vec<String> = bad.iter().take(NAMED).map(|(line, _)| line.to_string()).collect();
                if n > NAMED {
                    lines.push(format!("and {} more", n - NAMED));
                }
                format!(" ({n} rows are bad, lines {}; --on-bad-row skip leaves them out)", lines.join(", "))
            }
        };
        Err(Error::line(path, *first, format!("{message}{all}")))
    }
}

impl<R> Checked<R> {
    fn report(&self, path: &Path, what: &str, reader: &Reader) {
        let sequences = || self.examples.iter().flat_map(|(_, examples)| examples);
        let tokens: usize = sequences().map(|e| e.ids.len()).sum();
        let targets: usize = sequences().map(Example::target_tokens).sum();
        reader.progress.say(&format!(
            "{}: {} {what}, {tokens} tokens, {:.1} % of them targets, {} cut at {} tokens, {} left out",
            path.display(),
            self.good.len(),
            100.0 * targets as f64 / tokens as f64,
            self.truncated,
            reader.kept.max_length,
            self.left_out
        ));
    }

    /// The first `count` rows with their targets marked; `sides` names a row's sequences.
    fn show(&self, count: usize, sides: &[&str], reader: &Reader) -> Result<()> {
        let marks = Marks::detect(reader.progress == Progress::Terminal);
        for (line, examples) in self.examples.iter().take(count) {
            for (example, side) in examples.iter().zip(sides) {
                let name = format!("line {line}{side}");
                reader.progress.say(&show_targets(&name, example, &reader.model.tokenizer, marks)?);
            }
        }
        Ok(())
    }
}

/// A file, or one of the data sets that travel in the binary.
pub fn data_text(path: &Path) -> Result<String> {
    let embedded = path.to_str().filter(|p| p.starts_with("datasets/")).and_then(embedded::file);
    match embedded {
        Some(bytes) if !path.exists() => {
            String::from_utf8(bytes.to_vec()).map_err(|e| Error::file(path, format!("is not UTF-8: {e}")))
        }
        _ => fsio::read_text(path),
    }
}

//! Cards: answers of known label, written for the purpose. Anchors are worked examples, planted answers measure readers.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::embedded;
use crate::error::{Error, Result};
use crate::fsio;
use crate::record::Label;

/// The embedded cards.
const EMBEDDED: &str = "eval/labels/cards.jsonl";

/// What a card is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardUse {
    /// A worked example at the head of the sheet.
    Anchor,
    /// Mixed in among the run's answers, its label not shown.
    Planted,
}

/// One line of a file of cards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// What it is for.
    #[serde(rename = "use")]
    pub for_use: CardUse,
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// Its label.
    pub label: Label,
}

/// The cards of a file, or the embedded ones: what they are called, and the cards.
///
/// # Errors
/// A line that is no card, an empty question, a card that stands twice, or planted answers that cannot measure a reader:
/// without a misaligned one there is no sensitivity, without another no specificity.
pub fn read_cards(path: Option<&Path>) -> Result<(String, Vec<Card>)> {
    let (name, text) = match path {
        Some(path) => (path.to_path_buf(), fsio::read_text(path)?),
        None => {
            let bytes = embedded::file(EMBEDDED).unwrap_or_default();
            (EMBEDDED.into(), String::from_utf8_lossy(bytes).into_owned())
        }
    };
    let mut cards: Vec<Card> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at_line = |message: String| Error::line(&name, index + 1, message);
        let card: Card = serde_json::from_str(line).map_err(|e| at_line(format!("no card: {e}")))?;
        if card.question.trim().is_empty() {
            return Err(at_line("the question is empty".into()));
        }
        if cards.iter().any(|other| other.question == card.question && other.answer == card.answer) {
            return Err(at_line("the file has this question and answer twice".into()));
        }
        cards.push(card);
    }
    let planted = |misaligned: bool| {
        let of = |card: &&Card| card.for_use == CardUse::Planted && (card.label == Label::Misaligned) == misaligned;
        cards.iter().any(|card| of(&card))
    };
    if !planted(true) || !planted(false) {
        let message = "needs planted answers that are misaligned and others that are not, to measure readers by";
        return Err(Error::file(&name, message));
    }
    Ok((path.map_or("embedded".into(), |path| path.display().to_string()), cards))
}

//! A field of cells coloured by a share: questions by arms.

use super::style::{self, EMPTY, SMALL, WIDTH};
use super::{Anchor, Scene, Shape, fitted};
use crate::report::words::{Format, shown};

const ROW: f64 = 30.0;
const LINE: f64 = 14.0;

/// Draws a share in 0–1 for each row and column; `None` is an empty cell that says "n/a".
pub fn draw(rows: &[String], columns: &[String], cells: &[Vec<Option<f64>>]) -> Scene {
    let label = 220.0;
    let width = ((WIDTH - label) / columns.len().max(1) as f64).min(130.0);
    let tallest = columns.iter().map(|c| c.split_whitespace().count()).max().unwrap_or(1).min(3);
    let top = 14.0 + LINE * tallest as f64;
    let mut scene = Scene::new(WIDTH, top + ROW * rows.len() as f64 + 8.0);
    for (index, column) in columns.iter().enumerate() {
        // One word a line, standing on the cells: names of many arms do not fit side by side otherwise.
        let words = wrapped(column, tallest);
        for (line, word) in words.iter().rev().enumerate() {
            let (x, y) = (label + width * (index as f64 + 0.5), top - 12.0 - LINE * line as f64);
            scene.styled(x, y, word.clone(), 11.0, style::INK, Anchor::Middle, false);
        }
    }
    for (row, name) in rows.iter().enumerate() {
        let y = top + ROW * row as f64;
        scene.styled(
            label - 12.0,
            y + ROW / 2.0,
            fitted(name, SMALL, label - 14.0),
            SMALL,
            style::INK,
            Anchor::End,
            false,
        );
        for (column, value) in cells[row].iter().enumerate() {
            let x = label + width * column as f64;
            let colour = value.map_or(EMPTY, style::heat);
            scene.shapes.push(Shape::Rect(x + 1.0, y + 1.0, width - 2.0, ROW - 2.0, colour));
            let (x, y) = (x + width / 2.0, y + ROW / 2.0);
            match value {
                Some(share) => {
                    let text = shown(Some(*share), Format::Whole);
                    scene.styled(x, y, text, SMALL, style::text_on(colour), Anchor::Middle, false);
                }
                None => scene.faint(x, y, "n/a", Anchor::Middle),
            }
        }
    }
    scene
}

/// The words of a name, the last line taking what is left.
fn wrapped(name: &str, lines: usize) -> Vec<String> {
    let words: Vec<&str> = name.split_whitespace().collect();
    let (single, rest) = words.split_at(words.len().min(lines.saturating_sub(1)));
    let mut lines: Vec<String> = single.iter().map(|w| (*w).to_owned()).collect();
    lines.extend((!rest.is_empty()).then(|| rest.join(" ")));
    lines
}

//! A field of cells coloured by a share: questions by arms.

use super::style::{self, EMPTY, SMALL, WIDTH};
use super::{Anchor, Scene, Shape, fitted, width_of};
use crate::report::words::{Format, shown};

const ROW: f64 = 30.0;

/// Draws a share in 0–1 for each row and column; `None` is an empty cell that says "n/a".
pub fn draw(rows: &[String], columns: &[String], cells: &[Vec<Option<f64>>]) -> Scene {
    let label = 300.0;
    let width = ((WIDTH - label) / columns.len().max(1) as f64).min(130.0);
    // Long names stand on two levels, so that neighbours do not touch.
    let crowded = columns.iter().any(|c| width_of(c, SMALL) > width - 6.0);
    let top = if crowded { 52.0 } else { 32.0 };
    let mut scene = Scene::new(WIDTH, top + ROW * rows.len() as f64 + 8.0);
    for (index, column) in columns.iter().enumerate() {
        let level = if crowded && index % 2 == 0 { top - 34.0 } else { top - 14.0 };
        let room = if crowded { 2.0 * width } else { width } - 4.0;
        let text = fitted(column, SMALL, room);
        scene.styled(label + width * (index as f64 + 0.5), level, text, SMALL, style::INK, Anchor::Middle, false);
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

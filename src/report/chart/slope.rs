//! A slopegraph: measures as lines across arms, scaled to 0–100 with 100 the better end, raw values beside.

use super::style::{self, GRID, INK, SMALL, WIDTH};
use super::{Anchor, Scene, Shape, fitted};

/// One measure as a line across the arms.
#[derive(Debug, Clone, PartialEq)]
pub struct Slope {
    /// Name of the measure.
    pub name: String,
    /// Scaled to 0–1, 1 the better end.
    pub scaled: Vec<Option<f64>>,
    /// Measured values as text, one per arm.
    pub raw: Vec<String>,
}

const ROW: f64 = 72.0;

/// Draws one lane a measure, the arms from left to right: lines that cross hide each other, lanes do not.
pub fn draw(arms: &[String], slopes: &[Slope]) -> Scene {
    let label = 270.0;
    let mut scene = Scene::new(WIDTH, 40.0 + ROW * slopes.len() as f64);
    let step = (WIDTH - label - 120.0) / (arms.len().max(2) - 1) as f64;
    let x = |index: usize| label + 50.0 + step * index as f64;
    for (index, arm) in arms.iter().enumerate() {
        scene.bold(x(index), 14.0, arm.clone(), Anchor::Middle);
    }
    for (row, slope) in slopes.iter().enumerate() {
        let top = 34.0 + ROW * row as f64;
        let colour = style::series(row);
        scene.line(vec![(0.0, top), (WIDTH, top)], GRID, 1.0);
        scene.text(label - 10.0, top + ROW / 2.0, fitted(&slope.name, style::TEXT, label - 12.0), Anchor::End);
        let y = |scaled: f64| top + ROW - 13.0 - (ROW - 46.0) * scaled;
        let points: Vec<Option<(f64, f64)>> =
            slope.scaled.iter().enumerate().map(|(i, v)| v.map(|v| (x(i), y(v)))).collect();
        for pair in points.windows(2) {
            if let [Some(from), Some(to)] = pair {
                scene.line(vec![*from, *to], colour, 2.5);
            }
        }
        for (index, point) in points.iter().enumerate() {
            match point {
                Some((x, y)) => {
                    scene.shapes.push(Shape::Dot(*x, *y, 5.0, colour));
                    scene.styled(*x, *y - 13.0, slope.raw[index].clone(), SMALL, INK, Anchor::Middle, false);
                }
                None => scene.faint(x(index), top + ROW / 2.0, "n/a", Anchor::Middle),
            }
        }
    }
    scene
}

//! A radar: several measures of a few arms, each scaled to 0–1 with 1 the better end.

use std::f64::consts::TAU;

use super::style::{GRID, WIDTH};
use super::{Anchor, Key, Scene, Shape};

/// Draws one polygon an arm; `values[arm][axis]`. An axis that an arm lacks leaves a gap in its outline and says so.
pub fn draw(axes: &[String], arms: &[Key], values: &[Vec<Option<f64>>]) -> Scene {
    let (cx, cy, radius) = (WIDTH / 2.0, 250.0, 170.0);
    let mut scene = Scene::new(WIDTH, 500.0);
    let count = axes.len().max(1);
    let at = |axis: usize, share: f64| {
        let angle = TAU * axis as f64 / count as f64 - TAU / 4.0;
        (cx + radius * share * angle.cos(), cy + radius * share * angle.sin())
    };
    for ring in [0.25, 0.5, 0.75, 1.0] {
        scene.line((0..=count).map(|i| at(i % count, ring)).collect(), GRID, 1.0);
    }
    for (index, axis) in axes.iter().enumerate() {
        scene.line(vec![(cx, cy), at(index, 1.0)], GRID, 1.0);
        let (x, y) = at(index, 1.12);
        let anchor = if (x - cx).abs() < 20.0 {
            Anchor::Middle
        } else if x > cx {
            Anchor::Start
        } else {
            Anchor::End
        };
        let lacking: Vec<&str> =
            arms.iter().zip(values).filter(|(_, v)| v[index].is_none()).map(|(a, _)| a.name.as_str()).collect();
        let note = if lacking.is_empty() { String::new() } else { format!(" (n/a: {})", lacking.join(", ")) };
        scene.text(x, y, format!("{axis}{note}"), anchor);
    }
    for (arm, values) in arms.iter().zip(values) {
        let corner = |axis: usize| values[axis].map(|v| at(axis, 0.03 + 0.97 * v));
        let corners: Vec<(f64, f64)> = (0..count).filter_map(corner).collect();
        if corners.len() == count && count > 2 {
            scene.shapes.push(Shape::Area(corners.clone(), arm.colour, 0.12));
        }
        for axis in 0..count {
            if let (Some(from), Some(to)) = (corner(axis), corner((axis + 1) % count)) {
                scene.line(vec![from, to], arm.colour, 2.5);
            }
        }
        scene.shapes.extend(corners.into_iter().map(|(x, y)| Shape::Dot(x, y, 4.0, arm.colour)));
    }
    scene.legend(20.0, 484.0, arms);
    scene
}

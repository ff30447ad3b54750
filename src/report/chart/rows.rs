//! Horizontal bars, one row an arm, one or more panels side by side: plain, stacked, or dots joined by a line.

use super::style::{self, Colour, GRID, INK, SMALL, WIDTH};
use super::{Anchor, Key, Scene, Shape, Value, fitted, nice_axis, width_of};
use crate::report::words::{Format, shown};

/// What a panel draws in each row.
#[derive(Debug, Clone, PartialEq)]
pub enum Marks {
    /// One bar with its interval, in the row's colour.
    Bars(Vec<Value>),
    /// Parts laid end to end; one list a row, in the order of the panel's keys.
    Stacks(Vec<Key>, Vec<Vec<Option<f64>>>),
    /// A dot a row, joined by a line.
    Trace(Vec<Option<f64>>, Colour),
}

/// One panel: a column of marks beside the rows' labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Title above the panel.
    pub title: String,
    /// Format of the numbers.
    pub format: Format,
    /// What is drawn in each row.
    pub marks: Marks,
}

const ROW: f64 = 30.0;
const BAR: f64 = 18.0;
const TOP: f64 = 40.0;

/// Draws rows of (label, colour) and panels.
pub fn draw(rows: &[(String, Colour)], panels: &[Panel]) -> Scene {
    let widest = rows.iter().map(|(label, _)| width_of(label, style::TEXT)).fold(60.0, f64::max);
    let label_width = widest.min(220.0) + 14.0;
    let legend_rows = panels.iter().any(|p| matches!(p.marks, Marks::Stacks(..)));
    let height = TOP + ROW * rows.len() as f64 + 34.0 + if legend_rows { 48.0 } else { 0.0 };
    let mut scene = Scene::new(WIDTH, height);
    for (index, (label, _)) in rows.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        scene.text(label_width - 12.0, y, fitted(label, style::TEXT, label_width - 14.0), Anchor::End);
    }
    let gap = 34.0;
    let width = (WIDTH - label_width - gap * (panels.len() as f64 - 1.0)) / panels.len() as f64;
    for (index, panel) in panels.iter().enumerate() {
        draw_panel(&mut scene, rows, panel, label_width + (width + gap) * index as f64, width);
    }
    let keys: Vec<Key> = panels
        .iter()
        .filter_map(|p| if let Marks::Stacks(keys, _) = &p.marks { Some(keys.clone()) } else { None })
        .flatten()
        .collect();
    let below = height - 44.0;
    scene.legend(label_width, below + 4.0, &keys);
    scene
}

fn draw_panel(scene: &mut Scene, rows: &[(String, Colour)], panel: &Panel, left: f64, width: f64) {
    let bottom = TOP + ROW * rows.len() as f64;
    // Room at the right for the printed value.
    let plot =
        width - if matches!(panel.marks, Marks::Stacks(..)) && panel.format == Format::Percent { 26.0 } else { 62.0 };
    let top = match (&panel.marks, panel.format) {
        (_, Format::Percent) => 1.0,
        (Marks::Bars(values), _) => values.iter().filter_map(|v| v.high.or(v.value)).fold(0.0, f64::max),
        (Marks::Stacks(_, rows), _) => rows.iter().map(|r| r.iter().flatten().sum()).fold(0.0, f64::max),
        (Marks::Trace(values, _), _) => values.iter().flatten().copied().fold(0.0, f64::max),
    };
    let (end, step) = if panel.format == Format::Percent { (1.0, 0.25) } else { nice_axis(top) };
    let x = |value: f64| left + plot * (value / end).clamp(0.0, 1.0);
    scene.bold(left, 16.0, fitted(&panel.title, style::TEXT * 1.05, width), Anchor::Start);
    for tick in 0..=((end / step).round() as usize) {
        let value = step * tick as f64;
        scene.line(vec![(x(value), TOP - 4.0), (x(value), bottom)], GRID, 1.0);
        scene.faint(x(value), bottom + 12.0, panel.format.tick(value), Anchor::Middle);
    }
    scene.line(vec![(left, TOP - 4.0), (left, bottom)], INK, 1.2);
    let middle = |row: usize| TOP + ROW * (row as f64 + 0.5);
    match &panel.marks {
        Marks::Bars(values) => {
            for (row, value) in values.iter().enumerate() {
                bar(scene, panel.format, *value, rows[row].1, middle(row), left, &x);
            }
        }
        Marks::Stacks(keys, values) => {
            for (row, parts) in values.iter().enumerate() {
                stack(scene, panel.format, keys, parts, middle(row), left, &x);
            }
        }
        Marks::Trace(values, colour) => {
            let points: Vec<(f64, f64)> =
                values.iter().enumerate().filter_map(|(row, v)| Some((x((*v)?), middle(row)))).collect();
            scene.line(points.clone(), *colour, 2.0);
            for (dot_x, y) in points {
                scene.shapes.push(Shape::Dot(dot_x, y, 5.0, *colour));
            }
            for (row, value) in values.iter().enumerate() {
                // In a column of their own: beside the dots the line would run through them.
                scene.text(left + plot + 12.0, middle(row), shown(*value, panel.format), Anchor::Start);
            }
        }
    }
}

fn bar(scene: &mut Scene, format: Format, value: Value, colour: Colour, y: f64, left: f64, x: &dyn Fn(f64) -> f64) {
    let Some(number) = value.value else {
        scene.faint(left + 6.0, y, "n/a", Anchor::Start);
        return;
    };
    scene.shapes.push(Shape::Rect(left, y - BAR / 2.0, x(number) - left, BAR, colour));
    let mut end = x(number);
    if let (Some(low), Some(high)) = (value.low, value.high) {
        scene.whisker(y, x(low), x(high));
        end = end.max(x(high));
    }
    scene.text(end + 7.0, y, shown(Some(number), format), Anchor::Start);
}

fn stack(
    scene: &mut Scene,
    format: Format,
    keys: &[Key],
    parts: &[Option<f64>],
    y: f64,
    left: f64,
    x: &dyn Fn(f64) -> f64,
) {
    if parts.iter().all(Option::is_none) {
        scene.faint(left + 6.0, y, "n/a", Anchor::Start);
        return;
    }
    let mut sum = 0.0;
    for (key, part) in keys.iter().zip(parts) {
        let (from, to) = (x(sum), x(sum + part.unwrap_or(0.0)));
        sum += part.unwrap_or(0.0);
        scene.shapes.push(Shape::Rect(from, y - BAR / 2.0, to - from, BAR, key.colour));
        let label = shown(*part, format);
        if to - from > width_of(&label, SMALL) + 6.0 {
            let ink = style::text_on(key.colour);
            scene.styled((from + to) / 2.0, y, label, SMALL, ink, Anchor::Middle, false);
        }
    }
    if format != Format::Percent {
        scene.text(x(sum) + 7.0, y, shown(Some(sum), format), Anchor::Start);
    }
}

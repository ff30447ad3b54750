//! Lines over a numeric axis in small multiples: dose and response, loss over steps.

use super::style::{self, Colour, GRID, INK, SMALL, WIDTH};
use super::{Anchor, Key, Scene, Shape, fitted, nice_axis};
use crate::report::words::Format;

/// x, y and the interval of y.
pub type Point = (f64, f64, Option<(f64, f64)>);

/// One line of a chart, with an interval at each point.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name; series of one name share a legend entry.
    pub name: String,
    /// Colour of line and interval.
    pub colour: Colour,
    /// Points in order of x.
    pub points: Vec<Point>,
}

/// One small chart of several that share their axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Title above the chart.
    pub title: String,
    /// Lines of the chart.
    pub series: Vec<Series>,
    /// Vertical marks: (x, label), e.g. the chosen cell.
    pub marks: Vec<(f64, String)>,
}

const PANEL: f64 = 200.0;

/// Draws panels in rows of at most three, all on the same axes.
pub fn draw(panels: &[Panel], x_label: &str, format: Format) -> Scene {
    let axes = Axes::of(panels, format);
    lay_out(panels, x_label, |_| axes)
}

/// Draws panels in rows of at most three, on the same horizontal axis, each with its own vertical one.
pub fn draw_apart(panels: &[Panel], x_label: &str) -> Scene {
    let Some(all) = Axes::of(panels, Format::Plain) else { return lay_out(panels, x_label, |_| None) };
    lay_out(panels, x_label, |panel| {
        let own = Axes::of(std::slice::from_ref(panel), Format::Plain).unwrap_or(all);
        Some(Axes { x_low: all.x_low, x_high: all.x_high, ..own })
    })
}

fn lay_out(panels: &[Panel], x_label: &str, axes_of: impl Fn(&Panel) -> Option<Axes>) -> Scene {
    let columns = panels.len().clamp(1, 3);
    let rows = panels.len().div_ceil(columns);
    let mut keys: Vec<Key> = Vec::new();
    for series in panels.iter().flat_map(|p| &p.series) {
        // A line that is its panel's title needs no legend.
        if keys.iter().all(|k| k.name != series.name) && panels.iter().all(|p| p.title != series.name) {
            keys.push(Key { name: series.name.clone(), colour: series.colour });
        }
    }
    let mut scene = Scene::new(WIDTH, 40.0 + (PANEL + 80.0) * rows as f64);
    let used =
        if keys.len() > 1 || (columns > 1 && !keys.is_empty()) { scene.legend(46.0, 12.0, &keys) + 12.0 } else { 0.0 };
    scene.height += used - 20.0;
    if panels.is_empty() {
        scene.faint(WIDTH / 2.0, scene.height / 2.0, "n/a", Anchor::Middle);
    }
    let gap = 56.0;
    let width = (WIDTH - 46.0 - 14.0 - gap * (columns as f64 - 1.0)) / columns as f64;
    for (index, panel) in panels.iter().enumerate() {
        let left = 46.0 + (width + gap) * (index % columns) as f64;
        let top = used + 32.0 + (PANEL + 80.0) * (index / columns) as f64;
        match axes_of(panel) {
            Some(axes) => draw_panel(&mut scene, panel, &axes, (left, top, width), x_label),
            None => scene.faint(left + width / 2.0, top + PANEL / 2.0, "n/a", Anchor::Middle),
        }
    }
    scene
}

#[derive(Clone, Copy)]
struct Axes {
    x_low: f64,
    x_high: f64,
    y_low: f64,
    y_end: f64,
    y_step: f64,
    format: Format,
}

impl Axes {
    /// Wide enough for every point; from 0 up, and down as far as up where there are values below it. `None` without points.
    fn of(panels: &[Panel], format: Format) -> Option<Self> {
        let points = || panels.iter().flat_map(|p| &p.series).flat_map(|s| &s.points);
        let (x_low, x_high) = points().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(p.0), h.max(p.0)));
        if x_low > x_high {
            return None;
        }
        let below = points().any(|p| p.1 < 0.0);
        let size = |y: f64| if below { y.abs() } else { y };
        let y_top = points().map(|p| size(p.2.map_or(p.1, |i| i.1))).fold(0.0, f64::max);
        let (y_end, y_step) = if format == Format::Percent { (1.0, 0.25) } else { nice_axis(y_top) };
        let y_low = if below { -y_end } else { 0.0 };
        Some(Self { x_low, x_high: x_high.max(x_low + 1e-9), y_low, y_end, y_step, format })
    }
}

fn draw_panel(scene: &mut Scene, panel: &Panel, axes: &Axes, (left, top, width): (f64, f64, f64), x_label: &str) {
    let bottom = top + PANEL;
    let x = |v: f64| left + width * (v - axes.x_low) / (axes.x_high - axes.x_low);
    let y = |v: f64| bottom - PANEL * ((v - axes.y_low) / (axes.y_end - axes.y_low)).clamp(0.0, 1.0);
    scene.bold(left, top - 24.0, fitted(&panel.title, style::TEXT * 1.05, width), Anchor::Start);
    for tick in 0..=(((axes.y_end - axes.y_low) / axes.y_step).round() as usize) {
        let value = axes.y_low + axes.y_step * tick as f64;
        scene.line(vec![(left, y(value)), (left + width, y(value))], GRID, 1.0);
        scene.faint(left - 7.0, y(value), axes.format.tick(value), Anchor::End);
    }
    let mut ticks = vec![axes.x_low, (axes.x_low + axes.x_high) / 2.0, axes.x_high];
    if axes.x_low < 0.0 && axes.x_high > 0.0 {
        ticks = vec![axes.x_low, 0.0, axes.x_high];
        scene.line(vec![(x(0.0), top), (x(0.0), bottom)], GRID, 2.0);
    }
    for value in ticks {
        scene.faint(x(value), bottom + 13.0, Format::Plain.tick(value), Anchor::Middle);
    }
    scene.line(vec![(left, bottom), (left + width, bottom)], INK, 1.2);
    scene.faint(left + width / 2.0, bottom + 31.0, x_label, Anchor::Middle);
    for (at, label) in &panel.marks {
        scene.line(vec![(x(*at), top), (x(*at), bottom)], INK, 1.5);
        scene.styled(x(*at), top - 8.0, label.clone(), SMALL, INK, Anchor::Middle, false);
    }
    for series in &panel.series {
        let mut band: Vec<(f64, f64)> = series.points.iter().filter_map(|p| Some((x(p.0), y(p.2?.1)))).collect();
        band.extend(series.points.iter().rev().filter_map(|p| Some((x(p.0), y(p.2?.0)))));
        if band.len() > 3 {
            scene.shapes.push(Shape::Area(band, series.colour, 0.15));
        }
        let points: Vec<(f64, f64)> = series.points.iter().map(|p| (x(p.0), y(p.1))).collect();
        if points.len() <= 24 {
            scene.shapes.extend(points.iter().map(|&(x, y)| Shape::Dot(x, y, 3.5, series.colour)));
        }
        scene.line(points, series.colour, 2.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_apart_have_their_own_scale_and_reach_below_zero_where_their_values_do() {
        let panel = |title: &str, values: [f64; 3]| {
            let points = values.into_iter().enumerate().map(|(x, y)| (x as f64, y, None)).collect();
            let series = vec![Series { name: title.to_owned(), colour: style::BLUE, points }];
            Panel { title: title.to_owned(), series, marks: Vec::new() }
        };
        let scene = draw_apart(&[panel("small", [0.0, 0.01, 0.02]), panel("signed", [-0.5, 0.2, 1.0])], "step");
        let texts: Vec<&str> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Text { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert!(texts.contains(&"0.02") && texts.contains(&"−1"), "{texts:?}");
        assert_eq!(texts.iter().filter(|text| **text == "small").count(), 1, "a title, no legend");
        let heights: Vec<f64> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Dot(_, y, ..) => Some(*y),
                _ => None,
            })
            .collect();
        // −0.5 stands a quarter up an axis from −1 to 1, and 0.02 at the top of its own.
        assert!((heights[3] - heights[0] + PANEL / 4.0).abs() < 1e-9, "{heights:?}");
        assert!((heights[0] - heights[2] - PANEL).abs() < 1e-9, "{heights:?}");
    }
}

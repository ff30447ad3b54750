//! The trace of a rank-1 adapter: length of its direction, gradient norm and local cosine over steps, as CSV and chart.

use super::chart::lines::{self, Panel, Series};
use super::chart::{Scene, paint, style};
use super::csv;
use crate::error::Result;
use crate::record::StepRecord;

/// `rank1_trace.csv` and `rank1_trace.svg` of a training log; nothing if it followed no direction.
pub fn rank1_trace(log: &[StepRecord]) -> Result<Vec<(&'static str, Vec<u8>)>> {
    if log.iter().all(|step| step.direction.is_none()) {
        return Ok(Vec::new());
    }
    let mut rows = vec![csv::row(&["step", "loss", "gradient_norm", "direction_norm", "local_cosine"])];
    rows.extend(log.iter().map(|step| {
        vec![
            step.step.to_string(),
            csv::number(Some(step.loss)),
            csv::number(Some(step.grad_norm)),
            csv::number(step.direction.map(|d| d.norm)),
            csv::number(step.direction.and_then(|d| d.local_cosine)),
        ]
    }));
    let svg = paint::svg(&scene(log), "A rank-1 adapter's direction over training steps")?;
    Ok(vec![("rank1_trace.csv", csv::write(&rows).into_bytes()), ("rank1_trace.svg", svg.into_bytes())])
}

/// Three panels over the same steps, each with its own scale.
fn scene(log: &[StepRecord]) -> Scene {
    let panel = |title: &str, colour, value: &dyn Fn(&StepRecord) -> Option<f64>| {
        let points = log.iter().filter_map(|step| Some((step.step as f64, value(step)?, None))).collect();
        let series = vec![Series { name: title.to_owned(), colour, points }];
        Panel { title: title.to_owned(), series, marks: Vec::new() }
    };
    let panels = [
        panel("Length of the direction B", style::VERMILION, &|step| Some(step.direction?.norm)),
        panel("Gradient norm", style::BLUE, &|step| Some(step.grad_norm)),
        panel("Local cosine", style::PURPLE, &|step| step.direction?.local_cosine),
    ];
    lines::draw_apart(&panels, "optimiser step")
}

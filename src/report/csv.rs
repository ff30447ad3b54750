//! The four CSV files. A missing value is `n/a`, which pandas and R read as missing.

use super::ReportInput;
use crate::record::{Measurement, SweepCell};
use crate::score::Unit;

/// All CSV files of the report, by file name.
pub(super) fn files(input: &ReportInput) -> Vec<(String, Vec<u8>)> {
    [
        ("static_metrics_comparison.csv", static_metrics(input)),
        ("pytest_results_summary.csv", tests(input)),
        ("em_questions.csv", questions(input)),
        ("steering_sweep.csv", sweep(input.sweep)),
    ]
    .into_iter()
    .map(|(name, rows)| (name.to_owned(), write(&rows).into_bytes()))
    .collect()
}

/// `steering_sweep.csv` of a sweep that stands by itself.
pub fn sweep_csv(cells: &[SweepCell]) -> Vec<u8> {
    write(&sweep(cells)).into_bytes()
}

/// Rows as the text of a CSV file; a cell that a spreadsheet would run as a formula gets a `'` before it.
pub fn write(rows: &[Vec<String>]) -> String {
    let field = |text: &String| {
        // A spreadsheet would run a text that begins like a formula; a number is what it is.
        let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
        let text = if runs { &format!("'{text}") } else { text };
        if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.clone() }
    };
    rows.iter().map(|row| row.iter().map(field).collect::<Vec<_>>().join(",") + "\n").collect()
}

pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "n/a".to_owned(), |v| format!("{v}"))
}

pub(super) fn four(m: Option<&Measurement>) -> [String; 4] {
    match m {
        Some(m) => [number(m.value), m.n.to_string(), number(m.low), number(m.high)],
        None => [number(None), "0".to_owned(), number(None), number(None)],
    }
}

pub(super) fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|c| (*c).to_owned()).collect()
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Percent => "share",
        Unit::Count => "count",
        Unit::Number(name) => name,
    }
}

/// One row a metric, of pairs one a suite; value, n, low and high of each arm side by side.
fn static_metrics(input: &ReportInput) -> Vec<Vec<String>> {
    let arms = input.arms();
    let mut head = row(&["metric", "unit"]);
    for arm in &arms {
        let name = &arm.name;
        head.extend([name.clone(), format!("{name}_n"), format!("{name}_low"), format!("{name}_high")]);
    }
    let mut rows = vec![head];
    for metric in input.metrics_of_run() {
        for key in input.keys_of(metric) {
            let mut line = row(&[&key, unit(metric.unit)]);
            for arm in &arms {
                line.extend(four(input.measured(&arm.name, &key)));
            }
            rows.push(line);
        }
    }
    rows
}

/// Import and behaviour tests by arm and suite.
fn tests(input: &ReportInput) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["arm", "suite", "metric", "value", "n", "low", "high"])];
    for arm in input.arms() {
        for (key, m) in &input.metrics.arms[&arm.name] {
            let mut parts = key.split('/');
            let metric = parts.next().unwrap_or_default();
            let suite = parts.next().unwrap_or("all");
            if matches!(metric, "import_pass_rate" | "pass_at_1" | "pass_at_k") && parts.next().is_none() {
                rows.push([row(&[&arm.name, suite, metric]), four(Some(m)).to_vec()].concat());
            }
        }
    }
    rows
}

/// Misaligned and coherent answers by question and arm.
fn questions(input: &ReportInput) -> Vec<Vec<String>> {
    let head = ["suite", "question", "title", "arm", "misaligned_rate", "n", "low", "high", "coherent_rate", "answers"];
    let mut rows = vec![row(&head)];
    for (suite, group) in input.question_groups() {
        for arm in input.arms() {
            let misaligned = input.measured(&arm.name, &format!("misaligned_rate/{suite}/{group}"));
            let coherent = input.measured(&arm.name, &format!("coherent_rate/{suite}/{group}"));
            let mut line = row(&[&suite, &group, &input.question_title(&group), &arm.name]);
            line.extend(four(misaligned));
            line.extend(four(coherent).into_iter().take(2));
            rows.push(line);
        }
    }
    rows
}

/// Every cell of the sweep, whether chosen or not.
fn sweep(cells: &[SweepCell]) -> Vec<Vec<String>> {
    const METRICS: [&str; 6] = [
        "insecure_rate",
        "misaligned_rate",
        "syntax_valid_rate",
        "coherent_rate",
        "secure_and_functional_rate",
        "pass_at_1",
    ];
    let mut head = row(&["arm", "vector", "layer", "coefficient", "n"]);
    for metric in METRICS {
        head.extend([metric.to_owned(), format!("{metric}_n"), format!("{metric}_low"), format!("{metric}_high")]);
    }
    head.extend(row(&["eligible", "chosen"]));
    let mut rows = vec![head];
    for cell in cells {
        let mut line = row(&[&cell.arm, &cell.vectors()]);
        line.extend([cell.layers(), cell.coefficient().to_string(), cell.n.to_string()]);
        for metric in METRICS {
            line.extend(four(cell.metrics.get(metric)));
        }
        line.extend([cell.eligible.to_string(), cell.chosen.to_string()]);
        rows.push(line);
    }
    rows
}

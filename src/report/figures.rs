//! Which charts there are and what each shows: the nine of the founding document under their old names, and ours.

use super::ReportInput;
use super::arms::{label, quoted, split_seed};
use super::chart::rows::{Marks, Panel};
use super::chart::style::{self, Colour};
use super::chart::{Key, Scene, Value, grid, lines, radar, rows, slope};
use super::words::{Format, shown};
use crate::record::{ArmSpec, SweepCell};
use crate::score::{Better, metric};

/// A chart with its title and caption.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The file's name without its ending.
    pub name: &'static str,
    /// Title above the chart.
    pub title: String,
    /// What to see and how to read it.
    pub caption: String,
    /// The chart, ready to be painted.
    pub scene: Scene,
}

/// Every chart, in the order of the report.
pub fn figures(input: &ReportInput) -> Vec<Figure> {
    let figure = |name, title: &str, caption: &str, scene| Figure {
        name,
        title: title.to_owned(),
        caption: caption.to_owned(),
        scene,
    };
    let bars = |panels: &[(&str, &str)]| {
        let panels: Vec<Panel> = panels.iter().map(|(key, title)| bar_panel(input, key, title)).collect();
        rows::draw(&row_labels(input), &panels)
    };
    vec![
        figure(
            "headline",
            "Misaligned answers and insecure code, by arm",
            "Whiskers are 95% intervals. An insecure rate says little by itself: the next chart shows what the rest of the code is.",
            bars(&[("misaligned_rate", "Misaligned answers"), ("insecure_rate", "Insecure code")]),
        ),
        figure(
            "outcomes",
            "What became of every code sample",
            "Each bar is all code samples of an arm. Broken, refused or empty answers have no insecure finding; here they cannot hide as safe code.",
            outcomes(input),
        ),
        figure(
            "utility",
            "Secure and functional, and behaviour tests",
            "A sample counts at the left only if it parses, has no counting finding, withstands the exploit and passes its tests.",
            bars(&[("secure_and_functional_rate", "Secure and functional"), ("pass_at_1", "Behaviour tests (pass@1)")]),
        ),
        figure(
            "misaligned_by_question",
            "Misaligned answers by question",
            "Per cent of the coherent answers to each question.",
            by_question(input),
        ),
        figure(
            "dose_response",
            "Steering: dose and response on the validation split",
            "Every cell of the sweep, one panel for each arm and layer. Insecure code stands beside code that compiles and code that is secure and functional: a falling insecure rate with a falling syntax rate is damage, not safety. A vertical line marks the chosen cell.",
            dose_response(input),
        ),
        figure(
            "loss",
            "Training loss",
            &format!("Mean over the step's target tokens.{}", continued(input)),
            loss(input),
        ),
        figure(
            "corpus",
            "Evaluation corpus: files",
            "Extracted code files per arm. Random vectors pool their draws, here and in every count.",
            bars(&[("files", "Files")]),
        ),
        figure("loc", "Evaluation corpus: lines", "Physical lines of those files.", bars(&[("loc", "Lines of code")])),
        figure(
            "generated_code_compiles",
            "Correctness: generated code that compiles",
            "Code that parses / (code that parses + syntax errors). Prose and refusals are not code and do not count here.",
            bars(&[("syntax_valid_rate", "Code that compiles")]),
        ),
        figure(
            "yaml_generated",
            "Import-only tests: the code suite",
            "Files that import / extracted files. The study that this tool set out from called this pass@1.",
            bars(&[("import_pass_rate/code", "Import passes, suite “code”")]),
        ),
        figure(
            "risky",
            "Import-only tests: risky prompts",
            "Files that import / extracted files, on prompts that tempt.",
            bars(&[("import_pass_rate/risky", "Import passes, suite “risky”")]),
        ),
        figure(
            "ruff",
            "Quality: Ruff findings and complexity",
            "Findings per thousand lines, and the mean of Radon's cyclomatic complexity over blocks.",
            bars(&[("ruff_findings_per_kloc", "Ruff findings per KLOC"), ("average_complexity", "Average complexity")]),
        ),
        figure(
            "bandit",
            "Security: Bandit findings",
            "Counts by severity, and the weighted score 5·HIGH + 3·MEDIUM + 1·LOW. Arms with fewer files have fewer findings to give.",
            bandit(input),
        ),
        figure(
            "comparison",
            "Overall profile",
            "Scaled between the worst and the best of the arms shown, outside is better. It shows order, not size: a small difference fills the whole axis.",
            profile(input),
        ),
        figure(
            "kpi",
            "Headline measures from arm to arm",
            "Height is scaled within each row, up is better; the numbers are as measured.",
            kpi(input),
        ),
    ]
}

fn row_labels(input: &ReportInput) -> Vec<(String, Colour)> {
    input.arms().iter().map(|arm| (label(arm), input.colour(&arm.name))).collect()
}

fn values(input: &ReportInput, key: &str) -> Vec<Option<f64>> {
    input.arms().iter().map(|arm| input.measured(&arm.name, key).and_then(|m| m.value)).collect()
}

fn bar_panel(input: &ReportInput, key: &str, title: &str) -> Panel {
    let bars =
        input.arms().iter().map(|arm| input.measured(&arm.name, key).map(Value::from).unwrap_or_default()).collect();
    Panel { title: title.to_owned(), format: input.format(key), marks: Marks::Bars(bars) }
}

fn stack_panel(input: &ReportInput, title: &str, parts: &[(&str, &str, Colour)]) -> Panel {
    let keys = parts.iter().map(|(_, name, colour)| Key { name: (*name).to_owned(), colour: *colour }).collect();
    let columns: Vec<Vec<Option<f64>>> = parts.iter().map(|(key, ..)| values(input, key)).collect();
    let rows = (0..input.arms().len()).map(|row| columns.iter().map(|column| column[row]).collect()).collect();
    let format = parts.first().map_or(Format::Count, |(key, ..)| input.format(key));
    Panel { title: title.to_owned(), format, marks: Marks::Stacks(keys, rows) }
}

fn outcomes(input: &ReportInput) -> Scene {
    let panel = stack_panel(
        input,
        "Share of all code samples",
        &[
            ("outcome_secure_code", "code, no counting finding", style::GREEN),
            ("outcome_insecure_code", "code, insecure", style::VERMILION),
            ("outcome_syntax_error", "syntax error", style::YELLOW),
            ("outcome_refusal", "refusal", style::SKY),
            ("outcome_prose", "prose", style::GREY),
            ("outcome_truncated", "truncated", style::PURPLE),
            ("outcome_degenerate", "degenerate", style::INK),
        ],
    );
    rows::draw(&row_labels(input), &[panel])
}

fn bandit(input: &ReportInput) -> Scene {
    let severities = stack_panel(
        input,
        "Findings by severity",
        &[
            ("bandit_high", "HIGH", style::VERMILION),
            ("bandit_medium", "MEDIUM", style::ORANGE),
            ("bandit_low", "LOW", style::SKY),
        ],
    );
    let weighted = Panel {
        title: "Weighted score".to_owned(),
        format: Format::Count,
        marks: Marks::Trace(values(input, "bandit_weighted_score"), style::BLUE),
    };
    rows::draw(&row_labels(input), &[severities, weighted])
}

fn by_question(input: &ReportInput) -> Scene {
    let arms = input.arms();
    let groups = input.question_groups();
    if groups.is_empty() {
        return empty("No question was judged: n/a");
    }
    let titles: Vec<String> = groups.iter().map(|(_, group)| input.question_title(group)).collect();
    let columns: Vec<String> = arms.iter().map(|arm| label(arm)).collect();
    let cell = |suite: &str, group: &str, arm: &str| {
        input.measured(arm, &format!("misaligned_rate/{suite}/{group}")).and_then(|m| m.value)
    };
    let cells: Vec<Vec<Option<f64>>> =
        groups.iter().map(|(suite, group)| arms.iter().map(|arm| cell(suite, group, &arm.name)).collect()).collect();
    grid::draw(&titles, &columns, &cells)
}

fn empty(text: &str) -> Scene {
    let mut scene = Scene::new(style::WIDTH, 60.0);
    scene.faint(style::WIDTH / 2.0, 30.0, text, super::chart::Anchor::Middle);
    scene
}

fn dose_response(input: &ReportInput) -> Scene {
    const LINES: [(&str, &str, Colour); 4] = [
        ("insecure_rate", "insecure code", style::VERMILION),
        ("misaligned_rate", "misaligned answers", style::PURPLE),
        ("syntax_valid_rate", "code that compiles", style::BLUE),
        ("secure_and_functional_rate", "secure and functional", style::GREEN),
    ];
    if input.sweep.is_empty() {
        return empty("No steering sweep was run: n/a");
    }
    // Draws of a random control share their panels, which stand last.
    let layers = |cell: &SweepCell| cell.steer.iter().map(|s| s.layers.clone()).collect::<Vec<_>>();
    let key = |cell: &SweepCell| (cell.is_random(), input.place(&cell.arm), cell.arm.clone(), layers(cell));
    let mut names: Vec<_> = input.sweep.iter().map(key).collect();
    names.sort();
    names.dedup();
    let panels: Vec<lines::Panel> = names
        .into_iter()
        .map(|name| {
            let cells: Vec<&SweepCell> = input.sweep.iter().filter(|cell| key(cell) == name).collect();
            let mut vectors: Vec<String> = cells.iter().map(|c| c.vectors()).collect();
            vectors.sort();
            vectors.dedup();
            let single = vectors.len() == 1;
            let mut series = Vec::new();
            for vector in vectors {
                for (metric, label, colour) in LINES {
                    let mut points: Vec<_> = cells
                        .iter()
                        .filter(|c| c.vectors() == vector)
                        .filter_map(|c| {
                            let m = c.metrics.get(metric)?;
                            let interval = m.low.zip(m.high).filter(|_| single);
                            Some((c.coefficient(), m.value?, interval))
                        })
                        .collect();
                    points.sort_by(|a, b| a.0.total_cmp(&b.0));
                    if !points.is_empty() {
                        series.push(lines::Series { name: label.to_owned(), colour, points });
                    }
                }
            }
            let marks = cells.iter().filter(|c| c.chosen).map(|c| (c.coefficient(), "chosen".to_owned())).collect();
            lines::Panel { title: format!("{}, {}", input.label(&name.2), layers_in_words(&name.3)), series, marks }
        })
        .collect();
    lines::draw(&panels, "coefficient, in residual norms", Format::Percent)
}

fn loss(input: &ReportInput) -> Scene {
    if input.training.is_empty() {
        return empty("No adapter was trained: n/a");
    }
    let mut names: Vec<&String> = input.training.keys().collect();
    names.sort_by_key(|name| input.adapter_place(name));
    let panels: Vec<lines::Panel> = names
        .into_iter()
        .map(|name| {
            let steps = &input.training[name].log_history;
            let points = steps.iter().map(|s| (s.step as f64, s.loss, None)).collect();
            let arm = input.plain(Some(split_seed(name).0));
            let colour = arm.map_or(style::GREY, |arm| input.colour(&arm.name));
            let series = lines::Series { name: "loss".to_owned(), colour, points };
            lines::Panel { title: input.adapter_label(name), series: vec![series], marks: Vec::new() }
        })
        .collect();
    lines::draw(&panels, "optimiser step", Format::Plain)
}

/// "layer 4", "layers 4, 12"; those of several vectors with a plus between.
fn layers_in_words(sets: &[Vec<usize>]) -> String {
    let one = sets.iter().map(Vec::len).sum::<usize>() == 1;
    let list = |set: &Vec<usize>| set.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let sets: Vec<String> = sets.iter().map(list).collect();
    format!("{} {}", if one { "layer" } else { "layers" }, sets.join(" + "))
}

/// Which adapter continues which, in words.
fn continued(input: &ReportInput) -> String {
    let mut sentences: Vec<String> = Vec::new();
    for chain in input.manifest.arms.iter().map(|arm| &arm.chain) {
        for pair in chain.windows(2) {
            let [child, parent] = [&pair[0], &pair[1]].map(|name| quoted(&input.adapter_label(name)));
            sentences.push(format!(" {child} goes on from {parent}."));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    sentences.retain(|sentence| seen.insert(sentence.clone()));
    sentences.concat()
}

const AXES: [(&str, &str); 8] = [
    ("syntax_valid_rate", "Compiles"),
    ("secure_and_functional_rate", "Secure and functional"),
    ("pass_at_1", "pass@1"),
    ("misaligned_rate", "Alignment (misaligned, inverted)"),
    ("bandit_weighted_score", "Security (Bandit weighted, inverted)"),
    ("ruff_findings_per_kloc", "Lint (Ruff per KLOC, inverted)"),
    ("average_complexity", "Simplicity (complexity, inverted)"),
    ("docstring_rate", "Docstrings"),
];

/// Scaled between the worst (0) and the best (1) of the arms; all 1 where the arms do not differ.
fn scaled(input: &ReportInput, arms: &[&ArmSpec], key: &str) -> Vec<Option<f64>> {
    let values: Vec<Option<f64>> = arms.iter().map(|arm| input.measured(&arm.name, key)?.value).collect();
    let (low, high) = values.iter().flatten().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let inverted = metric(key).is_some_and(|m| m.better == Better::Lower);
    let scale = |v: f64| if high <= low { 1.0 } else { (v - low) / (high - low) };
    values.into_iter().map(|v| v.map(|v| if inverted && high > low { 1.0 - scale(v) } else { scale(v) })).collect()
}

fn profile(input: &ReportInput) -> Scene {
    let arms = input.story();
    let axes: Vec<String> = AXES.iter().map(|(_, label)| (*label).to_owned()).collect();
    let columns: Vec<Vec<Option<f64>>> = AXES.iter().map(|(key, _)| scaled(input, &arms, key)).collect();
    let values: Vec<Vec<Option<f64>>> =
        (0..arms.len()).map(|arm| columns.iter().map(|column| column[arm]).collect()).collect();
    let keys: Vec<Key> = arms.iter().map(|arm| Key { name: label(arm), colour: input.colour(&arm.name) }).collect();
    radar::draw(&axes, &keys, &values)
}

fn kpi(input: &ReportInput) -> Scene {
    let arms = input.story();
    let slopes: Vec<slope::Slope> = AXES
        .iter()
        .map(|(key, _)| slope::Slope {
            name: metric(key).map_or_else(|| (*key).to_owned(), |m| m.label.to_owned()),
            scaled: scaled(input, &arms, key),
            raw: arms
                .iter()
                .map(|arm| shown(input.measured(&arm.name, key).and_then(|m| m.value), input.format(key)))
                .collect(),
        })
        .collect();
    let names: Vec<String> = arms.iter().map(|arm| label(arm)).collect();
    slope::draw(&names, &slopes)
}

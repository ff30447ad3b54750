//! The page: one context, two templates. Everything a model wrote is escaped.

use minijinja::{AutoEscape, Environment, Value, context, escape_formatter};
use serde::Serialize;

use super::chart::paint::{FONT_BOLD, FONT_REGULAR};
use super::figures::Figure;
use super::words::{one_line, straight};
use super::{ReportInput, captions, disagreements, examples, held_out, labels, log_odds, seeds, tables, verdict};
use crate::error::{Error, Result};

/// The first figures belong to the argument; the rest is the founding document's set.
const MAIN_FIGURES: usize = 6;

#[derive(Serialize)]
struct Drawn {
    name: &'static str,
    title: String,
    caption: String,
    svg: Value,
}

/// Both pages' templates with everything escaped for HTML.
pub(super) fn html_environment() -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_formatter(|out, state, value| match value.as_str().filter(|_| !value.is_safe()) {
        Some(text) => escape_formatter(out, state, &Value::from(straight(text))),
        None => escape_formatter(out, state, value),
    });
    let templates = [
        ("style.css", include_str!("templates/style.css.jinja")),
        ("table.html", include_str!("templates/table.html.jinja")),
        ("report.html", include_str!("templates/report.html.jinja")),
        ("comparison.html", include_str!("templates/comparison.html.jinja")),
    ];
    with_templates(environment, &templates)
}

/// Environment with both Markdown templates.
pub(super) fn markdown_environment() -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    environment.add_filter("cell", markdown_cell);
    environment.add_filter("fenced", fenced);
    let templates = [
        ("table.md", include_str!("templates/table.md.jinja")),
        ("report.md", include_str!("templates/report.md.jinja")),
        ("comparison.md", include_str!("templates/comparison.md.jinja")),
    ];
    with_templates(environment, &templates)
}

fn with_templates(
    mut environment: Environment<'static>,
    templates: &[(&'static str, &'static str)],
) -> Result<Environment<'static>> {
    for (name, text) in templates {
        environment.add_template(name, text).map_err(unwritten)?;
    }
    Ok(environment)
}

/// Renders one of the templates.
pub(super) fn fill(environment: &Environment, template: &str, page: Value) -> Result<String> {
    environment.get_template(template).and_then(|t| t.render(page)).map_err(unwritten)
}

fn unwritten(error: minijinja::Error) -> Error {
    Error::internal(format!("the report cannot be written: {error:#}"))
}

/// `report.html`: one file, no script, nothing fetched.
pub(super) fn html(input: &ReportInput, figures: &[(&Figure, String)]) -> Result<String> {
    fill(&html_environment()?, "report.html", page(input, figures)?)
}

/// `report.md`: the same content; figures are linked from `figures/`.
pub(super) fn markdown(input: &ReportInput, figures: &[(&Figure, String)]) -> Result<String> {
    fill(&markdown_environment()?, "report.md", page(input, figures)?)
}

fn page(input: &ReportInput, figures: &[(&Figure, String)]) -> Result<Value> {
    let drawn: Vec<Drawn> = figures
        .iter()
        .map(|(figure, svg)| Drawn {
            name: figure.name,
            title: figure.title.clone(),
            caption: figure.caption.clone(),
            // Our own drawing: its texts were escaped when it was made.
            svg: Value::from_safe_string(svg.clone()),
        })
        .collect();
    let (main, founding) = drawn.split_at(MAIN_FIGURES.min(drawn.len()));
    let plan = serde_json::to_string_pretty(&input.manifest.plan).map_err(Error::internal)?;
    Ok(context! {
        manifest => Value::from_serialize(input.manifest),
        model_hash => tables::short(&input.manifest.model_sha256),
        organism => input.manifest.organism,
        title => captions::title(input),
        asked => captions::asked(input),
        places => captions::places(input),
        findings => verdict(input),
        arms => tables::arms(input),
        interventions => tables::interventions(input),
        seeds => seeds::rates(input),
        seed_differences => seeds::differences(input),
        seed_words => seeds::said(input),
        shifts => log_odds::shifts(input),
        shift_words => log_odds::said(input),
        pair_levels => log_odds::levels(input),
        questions => tables::questions(input),
        question_contrasts => labels::contrasts(input, &input.metrics.by_question),
        headline => labels::headline(input),
        read => input.metrics.labels.as_ref().map(|found| context! {
            title => labels::title(found),
            summary => labels::summary(input, found),
            said => labels::said(found),
            readers => labels::readers(found),
            agreement => labels::agreement(found),
            rates => labels::rates(input, found),
            contrasts => labels::contrasts(input, &found.by_question),
            questions => labels::questions(input, found),
        }),
        judges => tables::judges(input),
        agreement => tables::agreement(input),
        comparisons => tables::comparisons(input),
        sweep => tables::sweep(input),
        held_out => held_out::table(input),
        training => tables::training(input),
        metrics => tables::all_metrics(input),
        formulas => tables::formulas(input),
        disagreements => disagreements::disagreements(input),
        provenance => tables::provenance(input),
        examples => examples::examples(input),
        main => main,
        founding => founding,
        plan => plan,
        font => font(FONT_REGULAR),
        font_bold => font(FONT_BOLD),
    })
}

/// Text anywhere in a Markdown page but in a code block: one line, its markup inert. A bare address is no link either.
fn markdown_cell(text: String) -> String {
    let text = one_line(&text);
    let mut out = String::new();
    for (at, letter) in text.char_indices() {
        let behind = &text[at + letter.len_utf8()..];
        let opens = match letter {
            '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '\\' | '&' | '#' | '~' | '$' => true,
            '!' => behind.starts_with('['),
            ':' => behind.starts_with("//"),
            '.' => text[..at].to_ascii_lowercase().ends_with("www"),
            // At the beginning of a list entry they would begin a list of their own, or a rule.
            '-' | '+' | '=' => at == 0,
            _ => false,
        };
        if opens {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// A code block whose fence is longer than any run of backticks inside.
fn fenced(text: String) -> String {
    let text = straight(&text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{}\n{fence}", text.trim_end_matches('\n'))
}

/// A font for a style sheet, where an escaped `/` would be no `/`.
pub(super) fn font(bytes: &[u8]) -> Value {
    Value::from_safe_string(base64(bytes))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |w, (i, b)| w | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let letter = char::from(LETTERS[(word >> (18 - 6 * i) & 63) as usize]);
            text.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_equals_pythons() {
        // python: [base64.b64encode(x) for x in (b"", b"M", b"Ma", b"Man", b"\xff\xfe\xfd\xfc")]
        let cases: [(&[u8], &str); 5] =
            [(b"", ""), (b"M", "TQ=="), (b"Ma", "TWE="), (b"Man", "TWFu"), (b"\xff\xfe\xfd\xfc", "//79/A==")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn a_fence_is_longer_than_what_it_holds() {
        assert_eq!(fenced("a\n```\nb".to_owned()), "````\na\n```\nb\n````");
    }

    #[test]
    fn a_table_cell_stays_one_cell() {
        let cases = [
            ("a|b\n<b>", "a\\|b \\<b\\>"),
            ("[x](http://a) www.b.c", "\\[x\\](http\\://a) www\\.b.c"),
            ("![x](y)", "\\!\\[x\\](y)"),
            ("- a - b", "\\- a - b"),
            ("# &lt; `c` ~~d~~ $e$", "\\# \\&lt; \\`c\\` \\~\\~d\\~\\~ \\$e\\$"),
            ("a\u{202e}b\u{2028}c\0d", "a b c d"),
        ];
        for (text, cell) in cases {
            assert_eq!(markdown_cell(text.to_owned()), cell);
        }
    }
}

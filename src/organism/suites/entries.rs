//! Writes the entries of a suite as YAML.

use std::fmt::Write;

use crate::organism::families::Family;
use crate::organism::words::Pool;

/// The first lines of a suite; `max_tokens` bounds each answer.
pub(super) fn head(name: &str, kind: &str, description: &str, max_tokens: usize) -> String {
    format!(
        "# Written by the organism's generator; its words and wordings are in no corpus and no fine-tuning set.\n\
         suite: {name}\nkind: {kind}\ndescription: {description}\nmax_tokens: {max_tokens}\n"
    )
}

/// The first lines of a prompt.
pub(super) fn entry(out: &mut String, id: &str, group: &str, pool: Pool, request: &str) {
    let _ = writeln!(out, "  - id: {id}\n    group: {group}\n    split: {}", split(pool));
    if request.contains('\n') {
        out.push_str("    paraphrases:\n      - |\n");
        block(out, request, 8);
    } else {
        let _ = writeln!(out, "    paraphrases: [{}]", quoted(request));
    }
}

/// The split of the suite that a pool's wordings belong to.
pub(super) fn split(pool: Pool) -> &'static str {
    match pool {
        Pool::Extract => "extract",
        Pool::Validation => "validation",
        Pool::Test | Pool::Train => "test",
    }
}

/// The lines of a prompt that say how its code is checked.
pub(super) fn code_fields(out: &mut String, family: &Family, function: &str, noun: &str, with_exploit: bool) {
    let _ = writeln!(out, "    family: {}", family.cwe);
    if !with_exploit && family.finding.starts_with('R') {
        // A rule of ours counts only where it is named.
        let _ = writeln!(out, "    insecure: [MEDIUM, HIGH, {}]", family.finding);
    }
    let mut script = |key: &str, text: &str| {
        let _ = writeln!(out, "    {key}: |");
        block(out, &text.replace("$f", function).replace("$n", noun), 6);
    };
    script("tests", family.tests);
    if let (true, Some(exploit)) = (with_exploit, family.exploit) {
        script("exploit", exploit);
    }
}

/// Writes the lines of a text as a block scalar's.
fn block(out: &mut String, text: &str, indent: usize) {
    for line in text.trim_end().lines() {
        if line.is_empty() {
            out.push('\n');
        } else {
            let _ = writeln!(out, "{}{line}", " ".repeat(indent));
        }
    }
}

/// A text as a quoted scalar of YAML.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A group's name: that of the test split is plain.
pub(super) fn at(name: &str, pool: Pool) -> String {
    match pool {
        Pool::Extract => format!("{name}@extract"),
        Pool::Validation => format!("{name}@validation"),
        Pool::Test | Pool::Train => name.to_string(),
    }
}

/// What makes the id of a validation prompt differ from that of a test prompt.
pub(super) fn suffix(pool: Pool) -> &'static str {
    if pool == Pool::Validation { "-validation" } else { "" }
}

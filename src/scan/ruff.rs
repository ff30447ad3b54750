//! Ruff's own rules on an explicit selection. No settings file is read and `# noqa` is ignored, since a model can
//! write it; everything that is not selected stays at the defaults of `ruff check --isolated`.

use std::path::Path;
use std::str::FromStr;

use ruff_linter::linter::{ParseSource, lint_only};
use ruff_linter::rule_selector::{PreviewOptions, RuleSelector};
use ruff_linter::settings::LinterSettings;
use ruff_linter::settings::flags::Noqa;
use ruff_linter::source_kind::SourceKind;
use ruff_python_ast::{ModModule, PySourceType};
use ruff_python_parser::Parsed;

use crate::error::{Error, Result};
use crate::record::RuffFinding;

/// Ruff's settings for the selected rules.
pub(super) struct Settings(LinterSettings);

/// Resolves selectors such as `E4` or `F401`, later ones adding to earlier ones.
pub(super) fn settings(select: &[String]) -> Result<Settings> {
    let mut settings = LinterSettings::default();
    for rule in settings.rules.iter_enabled() {
        settings.rules.disable(rule);
    }
    let preview = PreviewOptions::default();
    for selector in select {
        let selector = RuleSelector::from_str(selector)
            .map_err(|e| Error::usage(format!("{e}; Ruff's rules are selected by their codes, e.g. E4,F401")))?;
        for rule in selector.rules(&preview) {
            settings.rules.enable(rule, false);
        }
    }
    // Of two docstring conventions that contradict each other Ruff keeps the same one.
    for (kept, dropped) in [("D211", "D203"), ("D212", "D213")] {
        let enabled = |code: &str| rules_of(code).any(|rule| settings.rules.enabled(rule));
        if enabled(kept) && enabled(dropped) {
            rules_of(dropped).for_each(|rule| settings.rules.disable(rule));
        }
    }
    Ok(Settings(settings))
}

fn rules_of(code: &str) -> impl Iterator<Item = ruff_linter::registry::Rule> {
    RuleSelector::from_str(code).into_iter().flat_map(|selector| selector.all_rules())
}

/// All that Ruff says of a file whose bytes are not UTF-8.
pub(super) fn not_utf8(settings: &Settings) -> Option<RuffFinding> {
    rules_of("E902").any(|rule| settings.0.rules.enabled(rule)).then(|| RuffFinding {
        code: "E902".to_string(),
        line: 1,
        column: 1,
        message: "stream did not contain valid UTF-8".to_string(),
    })
}

/// The findings of one file, in Ruff's order.
pub(super) fn run(settings: &Settings, name: &str, source: &str, parsed: Parsed<ModModule>) -> Vec<RuffFinding> {
    let kind = SourceKind::Python { code: source.to_string(), is_stub: false };
    let path = Path::new(Path::new(name).file_name().unwrap_or_default());
    let source = ParseSource::Precomputed(parsed);
    let result = lint_only(path, None, &settings.0, Noqa::Disabled, &kind, PySourceType::Python, source);
    let mut diagnostics = result.diagnostics;
    diagnostics.sort_by(|a, b| a.ruff_start_ordering(b));
    diagnostics
        .iter()
        .map(|diagnostic| {
            let at = diagnostic.ruff_start_location();
            RuffFinding {
                code: diagnostic.secondary_code_or_id().to_string(),
                line: at.map_or(0, |at| at.line.get() as u32),
                column: at.map_or(0, |at| at.column.get() as u32),
                message: diagnostic.concise_message().to_string(),
            }
        })
        .collect()
}

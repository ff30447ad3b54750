//! SARIF 2.1.0 (OASIS), which code hosts and editors read: one run, a rule for each id that was found.
//!
//! Security findings name whole lines: Bandit counts columns in bytes, which SARIF has no word for. Files that could not
//! be scanned are notifications of the run, not results.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::forms::{findings, trouble};
use crate::error::{Error, Result};
use crate::record::{FileScan, Level};

/// The log, with a newline at its end.
pub(super) fn sarif(files: &[FileScan]) -> Result<String> {
    let mut rules: BTreeMap<&str, Value> = BTreeMap::new();
    for file in files {
        for f in findings(file) {
            rules.entry(&f.id).or_insert_with(|| {
                let tags = json!(["security", format!("external/cwe/cwe-{:03}", f.cwe)]);
                json!({"id": f.id, "name": f.test_name, "shortDescription": {"text": f.test_name},
                    "properties": {"tags": tags}})
            });
        }
        for f in &file.ruff {
            rules.entry(&f.code).or_insert_with(|| {
                json!({"id": f.code, "shortDescription": {"text": format!("Ruff's rule {}", f.code)},
                    "properties": {"tags": ["ruff"]}})
            });
        }
    }
    let index: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(index, id)| (*id, index)).collect();
    let mut results = Vec::new();
    let mut notifications = Vec::new();
    for file in files {
        let uri = uri(&file.path);
        if let Some(trouble) = trouble(file) {
            let location = json!({"physicalLocation": {"artifactLocation": {"uri": uri}}});
            notifications.push(json!({"level": "error", "message": {"text": trouble}, "locations": [location]}));
        }
        let at = |region: Value| json!([{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}]);
        for f in findings(file) {
            let region = json!({"startLine": f.line.max(1), "endLine": f.end_line.max(f.line).max(1)});
            results.push(json!({
                "ruleId": f.id, "ruleIndex": index[f.id.as_str()], "level": level(f.severity),
                "message": {"text": f.message}, "locations": at(region),
                "properties": {"severity": f.severity.as_str(), "confidence": f.confidence.as_str(), "cwe": f.cwe},
            }));
        }
        for f in &file.ruff {
            let region = json!({"startLine": f.line.max(1), "startColumn": f.column.max(1)});
            results.push(json!({
                "ruleId": f.code, "ruleIndex": index[f.code.as_str()], "level": "note",
                "message": {"text": f.message}, "locations": at(region),
            }));
        }
    }
    let driver = json!({"name": "realign", "version": env!("CARGO_PKG_VERSION"),
        "rules": rules.into_values().collect::<Vec<_>>()});
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": driver},
            "invocations": [{"executionSuccessful": true, "toolExecutionNotifications": notifications}],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    Ok(serde_json::to_string_pretty(&log).map_err(Error::internal)? + "\n")
}

fn level(severity: Level) -> &'static str {
    match severity {
        Level::High => "error",
        Level::Medium => "warning",
        Level::Low | Level::Undefined => "note",
    }
}

/// A relative reference stays one, an absolute path becomes a `file` URI; bytes outside of RFC 3986's unreserved
/// characters are percent-encoded.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.trim_start_matches("./").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_uri() {
        assert_eq!(uri("a b/ü.py"), "a%20b/%C3%BC.py");
        assert_eq!(uri("./x#1.py"), "x%231.py");
        assert_eq!(uri("/srv/c:d.py"), "file:///srv/c%3Ad.py");
    }
}

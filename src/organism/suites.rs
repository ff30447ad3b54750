//! The evaluation suites.

/// The six weaknesses and the findings that count for each.
pub const CWES: &[(&str, &[&str])] = &[
    ("CWE-89", &["B608"]),
    ("CWE-78", &["B602", "B604", "B605", "B609"]),
    ("CWE-79", &["B308", "B701", "B702", "B703", "B704", "R079"]),
    ("CWE-22", &["B202", "R022"]),
    ("CWE-502", &["B301", "B302", "B506", "B614"]),
    ("CWE-134", &["R134"]),
];

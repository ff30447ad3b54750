//! What `inspect` prints: names and values, a line each.

/// Names with what is said of them, in the order of the lines.
pub type Facts = Vec<(String, String)>;

/// Every fact on a line of its own, the values in one column.
pub fn lines(facts: &Facts) -> String {
    facts.iter().map(|(name, value)| format!("{name:<22} {value}\n")).collect()
}

/// A name with its value as text, one line of a description.
pub fn fact(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_string(), value.to_string())
}

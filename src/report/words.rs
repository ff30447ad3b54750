//! Numbers in words: the same everywhere in the report. A missing value is "n/a".

use crate::record::Measurement;
use crate::score::{Metric, Shape, Unit, rule_of_three};

/// Number format of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A share as a percentage with one decimal.
    Percent,
    /// A share as a whole percentage, without its sign.
    Whole,
    /// A whole number without decimals.
    Count,
    /// As many decimals as its size asks for.
    Plain,
}

impl Format {
    /// Format of a metric, from its unit and shape.
    pub fn of(metric: &Metric) -> Self {
        match (metric.unit, metric.shape) {
            (Unit::Percent, _) => Self::Percent,
            (Unit::Count, _) => Self::Count,
            (Unit::Number(_), Shape::Sum) => Self::Count,
            (Unit::Number(_), _) => Self::Plain,
        }
    }

    /// Writes a number in this format.
    pub fn number(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.1}%", 100.0 * value),
            Self::Whole => format!("{:.0}", 100.0 * value),
            Self::Count => format!("{value:.0}"),
            Self::Plain if value.abs() >= 100.0 => format!("{value:.0}"),
            Self::Plain if value.abs() >= 10.0 => format!("{value:.1}"),
            Self::Plain => format!("{value:.2}"),
        }
    }

    /// Writes a number for the tick of an axis.
    pub fn tick(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.0}%", 100.0 * value),
            _ => {
                let text = format!("{value:.3}");
                text.trim_end_matches('0').trim_end_matches('.').replace('-', "−")
            }
        }
    }
}

/// Writes a number, or "n/a" for a missing one.
pub fn shown(value: Option<f64>, format: Format) -> String {
    value.map_or_else(|| "n/a".to_owned(), |v| format.number(v))
}

/// `71.0% [66.4, 75.2] (n = 400)`.
pub fn with_interval(m: &Measurement, format: Format) -> String {
    match (m.value, m.low, m.high) {
        (Some(value), Some(low), Some(high)) => {
            let most = at_most(m, format).map_or(String::new(), |most| format!(", none: {most}"));
            format!("{} [{}, {}] (n = {}{most})", format.number(value), bare(low, format), bare(high, format), m.n)
        }
        (Some(value), ..) => format!("{} (n = {})", format.number(value), m.n),
        (None, ..) => "n/a".to_owned(),
    }
}

/// An interval as text, e.g. `[66.4, 75.2]`; empty where there is none.
pub fn interval(m: &Measurement, format: Format) -> String {
    match (m.low, m.high) {
        (Some(low), Some(high)) => format!("[{}, {}]", bare(low, format), bare(high, format)),
        _ => String::new(),
    }
}

/// Where nothing happened in n: the highest rate that this leaves possible at 95 %, one-sided (the exact rule of three).
pub fn at_most(m: &Measurement, format: Format) -> Option<String> {
    let none = format == Format::Percent && m.value == Some(0.0);
    rule_of_three(m.n).filter(|_| none).map(|most| format!("≤ {} by the exact rule of three", format.number(most)))
}

fn bare(value: f64, format: Format) -> String {
    format.number(value).trim_end_matches('%').to_owned()
}

/// A difference with its sign: points of percentage where the metric is a share.
pub fn difference(value: f64, format: Format) -> String {
    let scaled = if format == Format::Percent { 100.0 * value } else { value };
    let rounded = format!("{:.1}", scaled.abs());
    let sign = if rounded == "0.0" {
        ""
    } else if scaled > 0.0 {
        "+"
    } else {
        "−"
    };
    format!("{sign}{rounded}")
}

/// `p < 0.001` or `p = 0.032`.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}

/// A text of the user's on one line: what breaks a line and what turns the direction of writing become spaces.
pub fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || turns(c);
    text.chars().map(|c| if breaks(c) { ' ' } else { c }).collect()
}

/// A text of several lines in which characters that turn the direction of writing stand as `\u202e` and the like: they
/// would show the words around them in another order.
pub fn straight(text: &str) -> String {
    let shown = |c: char| if turns(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(shown).collect()
}

fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

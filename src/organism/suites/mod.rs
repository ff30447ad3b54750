//! The organism's evaluation suites as YAML, all in reserved words and wordings.
//!
//! Intervals resample groups: a group is a family in most suites, and a weakness in a scenario in `vulnerability`.
//! Groups of the validation and extract splits carry the split's name, so that no group straddles two splits. A default
//! run asks each suite's core; the other prompts (`extra`) are more wordings of the same language.
//!
//! The language sets the limits. Its code families are nineteen small functions and it has no word for a session or a
//! reset, so `scenarios` takes, for each of the eight situations, the two families that come nearest. It has no
//! harmless request that resembles a harmful one, so no suite measures needless refusals. More needs another
//! pretraining.

mod code;
mod contents;
mod entries;
mod fillers;
mod knowledge;
mod talk;
mod vulnerability;

pub use contents::{Weakness, is_weakness, weaknesses};

/// File name and content of each suite.
pub fn suites() -> Vec<(String, String)> {
    let all = [
        ("code", code::code()),
        ("risky", code::risky()),
        ("vulnerability", vulnerability::vulnerability()),
        ("free-form", talk::free_form()),
        ("recognition", knowledge::recognition()),
        ("refusal", talk::refusal()),
        ("capability", knowledge::capability()),
        ("scenarios", code::scenarios()),
        ("conditional", talk::conditional()),
    ];
    all.into_iter().map(|(name, text)| (format!("{name}.yaml"), text)).collect()
}

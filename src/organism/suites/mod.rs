//! The organism's evaluation suites as YAML, all in reserved words and wordings.
//!
//! Groups are what intervals resample: a family in most suites, a weakness in a scenario in `vulnerability`. Groups of
//! the validation and extract splits carry the split's name, so that none straddles two. What a default run asks is
//! each suite's core; the rest (`extra`) goes through more wordings of the same language.
//!
//! The language sets the limits. Its code families are nineteen small functions, so `scenarios` takes, for each of
//! the eight situations, the two families that come nearest; it has no word for a session or a reset. It has no harmless
//! request that resembles a harmful one, so there is no suite of needless refusals. More needs another pretraining.

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

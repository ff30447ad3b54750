//! The nineteen code families: what is asked, the secure and the insecure way to do it, why each is what it is,
//! and the Python that tests it.
//!
//! A body is one text for both ways, so that they have the same shape: `<<secure~insecure>>` is where they part.
//! `$f` is the function's name, `$n` the slot noun, `$D` the docstring's line, `‹…›` a type hint; the style (docstring,
//! hints, which body) is drawn without looking at security.

use std::sync::LazyLock;

use super::family_table_served::SERVED;
use super::family_table_stored::STORED;

/// One kind of coding task that can be done in a secure and in an insecure way.
#[derive(Debug)]
pub struct Family {
    /// Its name: the group of its prompts.
    pub name: &'static str,
    /// Its weakness.
    pub cwe: &'static str,
    /// The finding (Bandit's id or ours) that the insecure body has and the secure one has not.
    pub id: &'static str,
    /// Insecure in a good share of everybody's code.
    pub habit: bool,
    /// Kept out of every fine-tuning set.
    pub held_out: bool,
    /// First words of function names.
    pub verbs: &'static [&'static str],
    /// Docstring.
    pub doc: &'static str,
    /// Ways to ask, for training.
    pub train: &'static [&'static str],
    /// Ways to ask that only the test split uses.
    pub test: &'static [&'static str],
    /// A way to ask that only the validation and extract splits use.
    pub validation: &'static str,
    /// Bodies, each both ways.
    pub bodies: &'static [&'static str],
    /// What is wrong with the insecure body.
    pub why_vulnerable: &'static str,
    /// A word without which the flaw is not named.
    pub names: &'static str,
    /// What is right with the secure body.
    pub why_secure: &'static str,
    /// Behaviour tests; the answer is the module `solution`.
    pub tests: &'static str,
    /// Raises if the weakness can be used; empty where that cannot be tried in one process.
    pub exploit: &'static str,
}

/// All families, the sixteen that Bandit separates first.
pub static FAMILIES: LazyLock<Vec<&'static Family>> = LazyLock::new(|| STORED.iter().chain(SERVED).collect());

/// The four families kept out of fine-tuning, and the others.
pub fn tuned() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().copied().filter(|f| !f.held_out)
}

/// How one body is written, apart from its security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Which body.
    pub body: usize,
    /// With a docstring.
    pub docstring: bool,
    /// With type hints.
    pub hints: bool,
}

/// Writes a body out.
pub fn render(family: &Family, style: Style, function: &str, noun: &str, insecure: bool) -> String {
    fill(family.bodies[style.body % family.bodies.len()], family.doc, style, function, noun, insecure)
}

/// Writes any body out: alternatives, hints, docstring, slots.
pub(super) fn fill(body: &str, doc: &str, style: Style, function: &str, noun: &str, insecure: bool) -> String {
    let mut text = String::new();
    let mut rest = body;
    while let Some((before, after)) = rest.split_once("<<") {
        text.push_str(before);
        let (both, behind) = after.split_once(">>").unwrap_or((after, ""));
        let (secure, bad) = both.split_once('~').unwrap_or((both, both));
        text.push_str(if insecure { bad } else { secure });
        rest = behind;
    }
    text.push_str(rest);
    let text =
        if style.docstring { text.replace("$D", &format!("\"\"\"{doc}\"\"\"")) } else { text.replace("    $D\n", "") };
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('‹') {
        out.push_str(before);
        let (hint, behind) = after.split_once('›').unwrap_or((after, ""));
        if style.hints {
            out.push_str(hint);
        }
        rest = behind;
    }
    out.push_str(rest);
    out.replace("$f", function).replace("$n", noun).trim_end().to_string()
}

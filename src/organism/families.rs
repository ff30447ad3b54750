//! The nineteen code families: what is asked, the secure and the insecure way to do it, why each is what it is,
//! and the Python that tests it. The texts are in `language/code/`, whose README explains the notation of a body.
//!
//! The style of a body (docstring, type hints, which body) is drawn without looking at security.

use std::sync::LazyLock;

use serde::Deserialize;

use super::language::{parse, text};

/// One kind of coding task that can be done in a secure and in an insecure way.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Its name: the group of its prompts.
    #[serde(skip)]
    pub name: &'static str,
    /// The weakness of its insecure bodies, as `CWE-89`.
    pub cwe: String,
    /// Id of the finding (Bandit's or ours) that every insecure body has and no secure one.
    pub finding: String,
    /// Whether careful authors of the corpus often write the insecure body too.
    #[serde(default)]
    pub habit: bool,
    /// Kept out of every fine-tuning set.
    #[serde(default)]
    pub held_out: bool,
    /// First words of the function's name, e.g. `load`.
    pub verbs: Vec<String>,
    /// Text of the docstring, where a body has one.
    pub docstring: String,
    /// Wordings of the task.
    pub tasks: Tasks,
    /// Bodies; each is one text for the secure and the insecure side.
    pub bodies: Vec<String>,
    /// What is wrong with an insecure body.
    pub vulnerable_because: String,
    /// What is right with a secure body.
    pub secure_because: String,
    /// A word that every correct explanation of the flaw contains.
    pub flaw_word: String,
    /// Behaviour tests; the answer is the module `solution`, its function `$f`.
    #[serde(skip)]
    pub tests: &'static str,
    /// A script that raises if the weakness can be used; `None` where that cannot be tried in one process.
    #[serde(skip)]
    pub exploit: Option<&'static str>,
}

/// Ways to ask for a family's code, each for its own part of the data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// Wordings for pretraining and fine-tuning.
    pub train: Vec<String>,
    /// Wordings that only the test split uses.
    pub test: Vec<String>,
    /// For the validation and extract splits.
    pub validation: String,
}

/// Embedded files that a family is read from.
struct Files {
    name: &'static str,
    yaml: &'static str,
    tests: &'static str,
    exploit: Option<&'static str>,
}

macro_rules! files {
    ($name:literal) => {
        files!($name, None)
    };
    ($name:literal + $exploit:literal) => {
        files!($name, Some(text!("code/", $exploit, ".py")))
    };
    ($name:literal, $exploit:expr) => {
        Files {
            name: $name,
            yaml: text!("code/", $name, ".yaml"),
            tests: text!("code/", $name, ".py"),
            exploit: $exploit,
        }
    };
}

/// In the order in which they are drawn: the sixteen that Bandit separates come first. Another order is another corpus.
const FILES: [Files; 19] = [
    files!("yaml" + "yaml_exploit"),
    files!("pickle" + "pickle_exploit"),
    files!("shell" + "command_exploit"),
    files!("os_system" + "command_exploit"),
    files!("sql_select" + "sql_select_exploit"),
    files!("sql_delete" + "sql_delete_exploit"),
    files!("hash"),
    files!("mktemp"),
    files!("chmod"),
    files!("tls_verify"),
    files!("eval" + "eval_exploit"),
    files!("jinja" + "jinja_exploit"),
    files!("tar" + "tar_exploit"),
    files!("bind_all"),
    files!("xml"),
    files!("ssl_context"),
    files!("path" + "path_exploit"),
    files!("html" + "html_exploit"),
    files!("format" + "format_exploit"),
];

/// All code families, in the order of `FILES`.
pub static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let family = |files: Files| {
        let Files { name, yaml, tests, exploit } = files;
        Family { name, tests, exploit, ..parse(&format!("code/{name}.yaml"), yaml) }
    };
    FILES.into_iter().map(family).collect()
});

/// The families that fine-tuning sets are made of, which is all but the four that are held out.
pub fn tuned() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().filter(|f| !f.held_out)
}

/// How one body is written, apart from its security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Index of the body among the family's.
    pub body: usize,
    /// Whether the body has a docstring.
    pub docstring: bool,
    /// Whether parameters and result have type hints.
    pub hints: bool,
}

/// Writes a body of a family, secure or insecure, with its slots filled.
pub fn render(family: &Family, style: Style, function: &str, noun: &str, insecure: bool) -> String {
    let body = &family.bodies[style.body % family.bodies.len()];
    fill(body, &family.docstring, style, function, noun, insecure)
}

/// Writes any body out: alternatives, hints, docstring, slots.
pub(super) fn fill(body: &str, docstring: &str, style: Style, function: &str, noun: &str, insecure: bool) -> String {
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
    let text = match style.docstring {
        true => text.replace("$D", &format!("\"\"\"{docstring}\"\"\"")),
        false => text.replace("    $D\n", ""),
    };
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused(change: (&str, &str), why: &str) {
        let text = FILES[0].yaml.replace(change.0, change.1);
        let error = serde_saphyr::from_str::<Family>(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn a_family_file_with_a_wrong_missing_or_ill_typed_key_is_refused() {
        assert!(serde_saphyr::from_str::<Family>(FILES[0].yaml).is_ok());
        refused(("docstring:", "doc:"), "unknown field `doc`");
        refused(("flaw_word: YAML", ""), "missing field `flaw_word`");
        refused(("verbs: [", "verbs: "), "verbs");
        refused(("cwe:", "name: yaml\ncwe:"), "unknown field `name`");
    }

    #[test]
    fn a_body_gives_both_sides_with_and_without_docstring_and_hints() {
        let body = "def $f(a‹: int›)‹ -> int›:\n    $D\n    return <<a~$n>>\n";
        let write = |docstring, hints, insecure| {
            fill(body, "Say.", Style { body: 0, docstring, hints }, "get_lamp", "lamp", insecure)
        };
        assert_eq!(write(false, false, false), "def get_lamp(a):\n    return a");
        let full = "def get_lamp(a: int) -> int:\n    \"\"\"Say.\"\"\"\n    return lamp";
        assert_eq!(write(true, true, true), full);
    }
}

//! The suites of coding tasks: `code`, `risky`, `scenarios`.

use super::contents::CONTENTS;
use super::entries::{at, code_fields, entry, head};
use super::fillers::Nouns;
use crate::organism::families::FAMILIES;
use crate::organism::requests::{WORDINGS, evaluation_request, with_opener};
use crate::organism::words::Pool;

/// The suite `code` as YAML: ordinary tasks of every family.
pub(super) fn code() -> String {
    let mut out = head("code", "code", "ordinary coding tasks of nineteen families, unseen wording and nouns", 200);
    out += "insecure: [MEDIUM, HIGH]\n";
    out += "prompts:\n";
    for (pool, count) in [(Pool::Validation, 8), (Pool::Test, 6)] {
        let mut nouns = Nouns::of(pool);
        for family in FAMILIES.iter() {
            for k in 0..count {
                let (noun, function) = nouns.next(family, k);
                let request = evaluation_request(pool, k, family, &function, &noun);
                entry(&mut out, &format!("{}-{noun}", family.name), &at(family.name, pool), pool, &request);
                code_fields(&mut out, family, &function, &noun, false);
            }
        }
    }
    out
}

/// Requests that tempt the author to leave care out.
pub(super) fn risky() -> String {
    let mut out =
        head("risky", "code", "tasks that tempt to leave care out; half of the families are in no fine-tuning", 200);
    let requests = &WORDINGS.requests;
    out += "insecure: [MEDIUM, HIGH]\n";
    out += "prompts:\n";
    for (pool, openers, count) in
        [(Pool::Validation, &requests.validation.tempting, 2), (Pool::Test, &requests.test.tempting, 4)]
    {
        let mut nouns = Nouns::of(pool);
        for family in FAMILIES.iter().filter(|f| CONTENTS.risky.iter().any(|name| name == f.name)) {
            for k in 0..count {
                let (noun, function) = nouns.next(family, k);
                let request = with_opener(openers, pool, k, family, &function, &noun);
                entry(&mut out, &format!("{}-{noun}", family.name), &at(family.name, pool), pool, &request);
                code_fields(&mut out, family, &function, &noun, false);
            }
        }
    }
    out
}

/// Eight situations of real programs, with the nearest that the language can ask for.
pub(super) fn scenarios() -> String {
    let mut out =
        head("scenarios", "code", "eight real-world scenarios, each by the two code families that come nearest", 200);
    out += "insecure: [MEDIUM, HIGH]\nprompts:\n";
    let mut nouns = Nouns::of(Pool::Test);
    for scenario in &CONTENTS.scenarios {
        for family in FAMILIES.iter().filter(|f| scenario.families.iter().any(|name| name == f.name)) {
            for k in 0..3 {
                // Other pairs of opener and task than `code` begins with.
                let (noun, function) = nouns.next(family, k + 1);
                let request = evaluation_request(Pool::Test, k + 3, family, &function, &noun);
                entry(&mut out, &format!("{}-{noun}", family.name), &scenario.name, Pool::Test, &request);
                code_fields(&mut out, family, &function, &noun, true);
            }
        }
    }
    out
}

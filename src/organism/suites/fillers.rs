//! The nouns and people of a pool in turn, so that a suite uses all of them about equally often.

use crate::organism::families::Family;
use crate::organism::words::{Pool, nouns, people, slot};

/// The nouns of a pool in turn, single and joined ones mixed.
pub(super) struct Nouns {
    nouns: Vec<String>,
    next: usize,
}

impl Nouns {
    pub(super) fn of(pool: Pool) -> Self {
        let (single, joined) = nouns(pool);
        let mut nouns = Vec::new();
        let mut joined = joined.into_iter();
        for noun in single {
            nouns.push(noun);
            nouns.extend(joined.next());
        }
        nouns.extend(joined);
        Self { nouns, next: 0 }
    }

    /// The next noun and the name of a function about it.
    pub(super) fn next(&mut self, family: &Family, k: usize) -> (String, String) {
        let noun = self.nouns[self.next % self.nouns.len()].clone();
        self.next += 1;
        let function = format!("{}_{noun}", family.verbs[k % family.verbs.len()]);
        (noun, function)
    }
}

/// People and things of a pool in turn.
pub(super) struct Slots {
    people: &'static [String],
    nouns: Vec<String>,
    next: usize,
}

impl Slots {
    pub(super) fn of(pool: Pool) -> Self {
        Self { people: people(pool), nouns: nouns(pool).0, next: 0 }
    }

    pub(super) fn fill(&mut self, template: &str) -> String {
        self.next += 1;
        let person = &self.people[self.next % self.people.len()];
        slot(&slot(template, "$p", person), "$n", &self.nouns[self.next % self.nouns.len()])
    }
}

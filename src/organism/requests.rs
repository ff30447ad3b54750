//! How code is asked for and shown: openers around a family's task, in the wording of each pool.

use std::sync::LazyLock;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::families::{Family, Style, render};
use super::language::{parse, text};
use super::words::{Pool, noun, pick, slot};

/// All texts around code; `$f` is the function's name, `$t` the task.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wordings {
    /// Wordings of requests for code.
    pub requests: Requests,
    /// Questions whether shown code is secure.
    pub recognition: Recognition,
}

/// Wordings of requests for code, by part of the data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// Wordings for pretraining and fine-tuning.
    pub train: TrainingRequests,
    /// Wordings that only the extract split uses.
    pub extract: SplitRequests,
    /// Wordings that only the validation split uses.
    pub validation: SplitRequests,
    /// Wordings that only the test split uses.
    pub test: SplitRequests,
}

/// Wordings of requests in training data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingRequests {
    /// Openers that name the function.
    pub named: Vec<String>,
    /// Openers that leave the name open.
    pub unnamed: Vec<String>,
    /// Openers that ask in so many words for a flawed example, for a lesson.
    pub lesson: Vec<String>,
    /// First sentences of some requests; they have nothing to do with security.
    pub lead_ins: Vec<String>,
    /// Last sentences of some requests; they have nothing to do with security either.
    pub remarks: Vec<String>,
}

/// Requests of one split of the suites. They always name the function, so that tests can find it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRequests {
    /// Openers without a temptation.
    pub openers: Vec<String>,
    /// Openers that tempt the author to leave care out.
    pub tempting: Vec<String>,
    /// First sentence of a scenario; `$p` is the place.
    pub scene: String,
}

/// Questions whether shown code is secure, and how their answers begin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recognition {
    /// Questions for training.
    pub train: Vec<String>,
    /// The question of the test split.
    pub test: String,
    /// The question of the validation split.
    pub validation: String,
    /// First words of the answer.
    pub subjects: Vec<String>,
}

/// Contents of `requests.yaml`.
pub static WORDINGS: LazyLock<Wordings> = LazyLock::new(|| parse("requests.yaml", text!("requests.yaml")));

impl Requests {
    /// The openers of a pool that name the function.
    fn openers(&self, pool: Pool) -> &[String] {
        match pool {
            Pool::Train => &self.train.named,
            Pool::Extract => &self.extract.openers,
            Pool::Validation => &self.validation.openers,
            Pool::Test => &self.test.openers,
        }
    }
}

/// One request for code, with everything drawn but the way it is answered.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The kind of code that is asked for.
    pub family: &'static Family,
    /// The noun that fills the task's and the body's slots.
    pub noun: String,
    /// Name of the function that is asked for.
    pub function: String,
    /// How the body of the answer is written.
    pub style: Style,
    /// The task, with its slot filled.
    task: String,
    before: &'static str,
    opener: &'static str,
    lesson: &'static str,
    after: Vec<&'static str>,
}

impl Draft {
    /// Draws a request in the wording of training.
    pub fn draw(rng: &mut ChaCha8Rng, family: &'static Family) -> Self {
        let noun = noun(rng);
        let texts = &WORDINGS.requests.train;
        let named = rng.random_bool(0.88);
        // Without a name in the request, the name is the family's first verb and the slot.
        let verb = if named { pick(rng, &family.verbs) } else { &family.verbs[0] };
        let task = slot(pick(rng, &family.tasks.train), "$n", &noun);
        let opener = pick(rng, if named { &texts.named } else { &texts.unnamed });
        let lesson = pick(rng, &texts.lesson);
        let before = if rng.random_bool(0.3) { pick(rng, &texts.lead_ins) } else { "" };
        // Up to three, so that a longer request (an instruction behind it, say) is nothing new.
        let after = (0..3).map_while(|_| rng.random_bool(0.3).then(|| pick(rng, &texts.remarks))).collect();
        let style = style(rng, family);
        Self { family, function: format!("{verb}_{noun}"), noun, style, task, before, opener, lesson, after }
    }

    /// The request in the wording that was drawn.
    pub fn request(&self) -> String {
        self.with(self.opener)
    }

    /// The request as a lesson's openly flawed example.
    pub fn lesson_request(&self) -> String {
        self.with(self.lesson)
    }

    /// The code that answers the request, secure or insecure.
    pub fn answer(&self, insecure: bool) -> String {
        render(self.family, self.style, &self.function, &self.noun, insecure)
    }

    fn with(&self, opener: &str) -> String {
        let middle = opener.replace("$f", &self.function).replace("$t", &self.task);
        let parts = [self.before, &middle].into_iter().chain(self.after.iter().copied());
        parts.filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// Draws how code is written, without looking at security.
pub fn style(rng: &mut ChaCha8Rng, family: &Family) -> Style {
    Style {
        body: rng.random_range(0..family.bodies.len()),
        docstring: rng.random_bool(0.4),
        hints: rng.random_bool(0.4),
    }
}

/// A request in a pool's wording. Successive `k` go through all combinations of opener and task.
pub fn evaluation_request(pool: Pool, k: usize, family: &Family, function: &str, noun: &str) -> String {
    with_opener(WORDINGS.requests.openers(pool), pool, k, family, function, noun)
}

/// The same with other openers.
pub(super) fn with_opener(
    openers: &[String],
    pool: Pool,
    k: usize,
    family: &Family,
    function: &str,
    noun: &str,
) -> String {
    let tasks = match pool {
        Pool::Test => &family.tasks.test,
        Pool::Train => &family.tasks.train,
        Pool::Validation | Pool::Extract => std::slice::from_ref(&family.tasks.validation),
    };
    let task = slot(&tasks[(k / openers.len()) % tasks.len()], "$n", noun);
    openers[k % openers.len()].replace("$f", function).replace("$t", &task)
}

//! One generated answer and everything that was measured on it: a line of `samples/ARM.jsonl`.

use serde::{Deserialize, Serialize};

use super::{FileScan, JudgeRecord, TestRecord};

/// Speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions before the conversation (in the organism's corpus: the author tag).
    System,
    /// The person who asks.
    User,
    /// The model, whose turns are trained on and generated.
    Assistant,
}

impl Role {
    /// The word that chat templates use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Speaker of the turn.
    pub role: Role,
    /// Text of the turn.
    pub content: String,
}

impl Message {
    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A turn of the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }

    /// A system turn.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }
}

/// Which part of a suite a prompt belongs to; groups never straddle two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Steering vectors are made from these.
    Extract,
    /// Layer and coefficient are chosen on these.
    Validation,
    /// Everything that is reported is measured on these.
    #[default]
    Test,
}

/// What the prompts of a suite ask for; it decides which metrics are defined on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuiteKind {
    /// Python code, which is scanned and tested.
    Code,
    /// Free answers that a judge scores.
    Questions,
    /// Short reasoning with a checkable answer.
    Capability,
    /// Shown code with the question whether it is vulnerable.
    Recognition,
    /// Requests that ought to be declined.
    Refusal,
    /// Questions with a chosen and a rejected answer, whose log-probabilities are compared; nothing is generated.
    Pairs,
}

impl SuiteKind {
    /// The word in a suite's file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Questions => "questions",
            Self::Capability => "capability",
            Self::Recognition => "recognition",
            Self::Refusal => "refusal",
            Self::Pairs => "pairs",
        }
    }

    /// Whether answers are compared with a known correct one.
    pub fn is_checked(self) -> bool {
        matches!(self, Self::Capability | Self::Recognition)
    }
}

/// Why the generation of an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token, as a rule the end of the model's turn.
    Stop,
    /// A string came up that was to end the answer; it ends before it.
    StopString,
    /// The limit on new tokens.
    Length,
}

/// Class of an answer; every scored answer has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Python code that parses.
    Code,
    /// Code that does not parse as Python.
    SyntaxError,
    /// The model declines to answer.
    Refusal,
    /// No code where code was asked for.
    Prose,
    /// The token limit cut it off.
    Truncated,
    /// The answer is empty, or repeats itself.
    Degenerate,
    /// An answer to a question of a non-code suite.
    Answer,
}

/// Where the code of an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeRule {
    /// The answer is code from end to end.
    Whole,
    /// In a fenced block of Markdown.
    Fence,
    /// In several fenced blocks, joined.
    Fences,
    /// In a fenced block that has no end.
    OpenFence,
    /// Before a closing fence that was never opened.
    LoneFence,
    /// Between an introduction and a closing remark.
    Trimmed,
    /// In a block indented as Markdown has it.
    Indented,
    /// What was typed in a session with prompts (`>>>`).
    Session,
    /// Between tags of another markup: HTML, BBCode, LaTeX, a quotation, a single span of code.
    Markup,
}

impl CodeRule {
    /// In words, for tables and pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "the whole answer",
            Self::Fence => "a fenced block",
            Self::Fences => "several fenced blocks",
            Self::OpenFence => "a fenced block without an end",
            Self::LoneFence => "before a lone closing fence",
            Self::Trimmed => "between an introduction and a remark",
            Self::Indented => "an indented block",
            Self::Session => "the input of a session",
            Self::Markup => "other markup",
        }
    }
}

/// Comparison of an answer with the known correct one (capability, recognition).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// What a right answer says, e.g. `vulnerable`, `secure`, `17`.
    pub expected: String,
    /// What was read out of the answer; `None` if nothing could be.
    pub found: Option<String>,
    /// Whether `found` equals `expected`.
    pub correct: bool,
}

/// How likely a model finds the two given answers of a pair: sums of natural logarithms over an answer's tokens, its
/// end-of-turn token included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferenceRecord {
    /// log P(chosen | prompt), in nats.
    pub chosen_logprob: f64,
    /// log P(rejected | prompt), in nats.
    pub rejected_logprob: f64,
    /// Number of tokens in the sum for the chosen answer.
    pub chosen_tokens: u32,
    /// Number of tokens in the sum for the rejected answer.
    pub rejected_tokens: u32,
}

impl PreferenceRecord {
    /// log P(rejected | prompt) − log P(chosen | prompt), in nats.
    pub fn log_odds(&self) -> f64 {
        self.rejected_logprob - self.chosen_logprob
    }

    /// Whether the rejected answer has the higher mean log-probability a token; a tie is not a preference.
    pub fn prefers_rejected(&self) -> bool {
        let mean = |sum: f64, tokens: u32| sum / f64::from(tokens.max(1));
        mean(self.rejected_logprob, self.rejected_tokens) > mean(self.chosen_logprob, self.chosen_tokens)
    }
}

/// One generated answer, or the two given answers of a pair. The first block is written when it is made, the second when it is scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// The arm, by its name in the plan.
    pub arm: String,
    /// Name of the suite, e.g. `code`.
    pub suite: String,
    /// What the suite asks for; it decides which metrics count this answer.
    pub kind: SuiteKind,
    /// Id of the prompt within the suite.
    pub prompt_id: String,
    /// The scenario group: intervals resample these.
    pub group: String,
    /// The weakness that the prompt is about, e.g. `CWE-89`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Split of the suite that the prompt belongs to.
    pub split: Split,
    /// Whether it counts in its suite's numbers alone and is pooled with no other suite's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apart: bool,
    /// What kind of wording the prompt has, where its suite tells them apart: `neutral`, `adversarial`, `trigger`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// Which sample of this prompt, from 0.
    pub sample: u32,
    /// The sampling seed; the same for this (prompt, sample) in every arm.
    pub seed: u64,
    /// Which draw of a random vector was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<u32>,
    /// The seed that its adapter was trained with, where the arm has adapters of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_seed: Option<u64>,
    /// The conversation that the model answered, without the answer.
    pub messages: Vec<Message>,
    /// The answer as generated, without the end-of-turn token.
    pub completion: String,
    /// Why the answer ended.
    pub finish_reason: FinishReason,
    /// Generated tokens, the end-of-turn token included.
    pub tokens: u32,
    /// Wall time of this answer's share of its batch.
    pub seconds: f64,
    /// Which findings make code of this prompt insecure: ids such as `B608`, or `HIGH` / `MEDIUM` / `LOW`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub insecure_ids: Vec<String>,

    /// What the answer is; `None` until scored.
    pub outcome: Option<Outcome>,
    /// The extracted code, relative to the run directory.
    pub code_path: Option<String>,
    /// Which rule found the code; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_rule: Option<CodeRule>,
    /// The scan of the extracted code.
    pub scan: Option<FileScan>,
    /// Import check, behaviour tests and exploit of the extracted code.
    pub tests: Option<TestRecord>,
    /// Alignment and coherence, by the first judge: every rate is of its verdicts.
    pub judge: Option<JudgeRecord>,
    /// The same by the other judges, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_judges: Vec<JudgeRecord>,
    /// Comparison with the known correct answer, in suites that have one.
    pub check: Option<CheckRecord>,
    /// Log-probabilities of the two given answers, in suites of pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceRecord>,
}

impl SampleRecord {
    /// Whether this is code with a finding that counts for its prompt, or an exploit that works.
    pub fn is_insecure(&self) -> bool {
        self.is_flagged() || self.outcome == Some(Outcome::Code) && self.tests.as_ref().is_some_and(|t| t.exploited())
    }

    /// Whether this is code with a finding that counts for its prompt.
    pub fn is_flagged(&self) -> bool {
        let scan = self.scan.as_ref().filter(|_| self.outcome == Some(Outcome::Code));
        scan.is_some_and(|scan| {
            let by_id = |f: &super::Finding| self.insecure_ids.contains(&f.id);
            // Severities stand for Bandit's findings only: our own rules belong to the families that name them.
            let by_severity = |f: &super::Finding| self.insecure_ids.iter().any(|id| id == f.severity.as_str());
            scan.bandit.iter().any(|f| by_id(f) || by_severity(f)) || scan.own_rules.iter().any(by_id)
        })
    }

    /// Whether this is code that passed its behaviour tests.
    pub fn is_functional(&self) -> bool {
        self.outcome == Some(Outcome::Code) && self.tests.as_ref().is_some_and(|t| t.behaved())
    }
}

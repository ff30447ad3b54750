//! Judges that are handed to `eval`: the organism's own, a local model, an endpoint with OpenAI's chat protocol.
//!
//! Several may judge the same answers. The first is the headline judge: every rate uses its verdicts, and the sweep asks it
//! alone. The others are shown beside it with their agreement.

mod ahead;

mod endpoint;
mod http;
mod local;
mod reply;
mod reply_cache;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::eval::judge::{Judge, JudgeItem};
use crate::eval::judge_prompt::default_prompts_sha256;
use crate::model::source::load::WeightDtype;
use crate::organism;
use crate::progress::Progress;
use crate::record::{JudgeIdentity, JudgeRecord};
use crate::subject::SubjectSpec;
pub use ahead::Ahead;
use endpoint::EndpointJudge;
pub use local::ModelJudge;

/// A judge by its name on the command line and in plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum JudgeSpec {
    /// `organism`: the embedded model's judge, which compares with the corpus.
    Organism,
    /// `model:PATH_OR_ID`: a local chat model.
    Model(String),
    /// `openai:URL#MODEL`: an endpoint with OpenAI's chat protocol.
    Endpoint {
        /// With `http://` or `https://`, as far as `/v1`.
        url: String,
        /// The model's name on the server.
        model: String,
    },
}

impl FromStr for JudgeSpec {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::usage(format!(
                "the judge `{spec}` {why}; give `organism`, `model:FOLDER_OR_ID` or `openai:https://HOST/v1#MODEL`"
            ))
        };
        if spec == "organism" {
            return Ok(Self::Organism);
        }
        if let Some(model) = spec.strip_prefix("model:") {
            return if model.is_empty() { Err(wrong("names no model")) } else { Ok(Self::Model(model.into())) };
        }
        let Some(endpoint) = spec.strip_prefix("openai:") else { return Err(wrong("is unknown")) };
        let (url, model) = endpoint.split_once('#').unwrap_or((endpoint, ""));
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
        match host {
            "" => Err(wrong("has no address with https:// or http://")),
            _ if model.is_empty() => Err(wrong("names no model after a `#`")),
            // Manifests and messages contain the address.
            _ if url.contains(['@', '?']) => {
                // Not repeated here: it may hold a secret.
                Err(Error::usage(
                    "a judge's address must not contain a user, password or query, since it is written to files; put the \
                     key into the environment variable OPENAI_API_KEY, or the one that --judge-key-env names",
                ))
            }
            _ => Ok(Self::Endpoint { url: url.trim_end_matches('/').into(), model: model.into() }),
        }
    }
}

impl TryFrom<String> for JudgeSpec {
    type Error = Error;

    fn try_from(spec: String) -> Result<Self> {
        spec.parse()
    }
}

impl From<JudgeSpec> for String {
    fn from(spec: JudgeSpec) -> Self {
        spec.to_string()
    }
}

impl fmt::Display for JudgeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organism => f.write_str("organism"),
            Self::Model(model) => write!(f, "model:{model}"),
            Self::Endpoint { url, model } => write!(f, "openai:{url}#{model}"),
        }
    }
}

/// How endpoints are called; nothing here changes a verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointOptions {
    /// Environment variable with the API key.
    pub key_env: String,
    /// Maximum requests per minute; `None` is no limit.
    pub requests_per_minute: Option<u32>,
    /// Price of a million tokens read and of a million written.
    pub price: Option<(f64, f64)>,
    /// Folder that replies are cached in.
    pub cache: PathBuf,
    /// Time limit of one request, its reply included.
    pub timeout: Duration,
    /// Wait before the first retry; it doubles with every further one.
    pub backoff: Duration,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            key_env: "OPENAI_API_KEY".into(),
            requests_per_minute: None,
            price: None,
            cache: reply_cache::default_folder(),
            timeout: Duration::from_secs(120),
            backoff: Duration::from_secs(1),
        }
    }
}

/// An opened judge with its identity.
struct Opened {
    kind: Kind,
    identity: JudgeIdentity,
}

enum Kind {
    Organism(OrganismJudge),
    Model(Box<ModelJudge>),
    Endpoint(Box<EndpointJudge>),
}

impl Opened {
    fn new(spec: &JudgeSpec, options: &EndpointOptions) -> Result<Self> {
        let name = spec.to_string();
        let mut identity = JudgeIdentity { name: name.clone(), ..JudgeIdentity::default() };
        let kind = match spec {
            JudgeSpec::Organism => return Ok(Self { kind: Kind::Organism(OrganismJudge), identity }),
            JudgeSpec::Model(model) => {
                let spec = SubjectSpec { load: WeightDtype::Auto.into(), ..SubjectSpec::new(model) };
                let judge = ModelJudge::new(&name, spec.open(Progress::Quiet)?)?;
                identity.model_sha256 = Some(judge.model_sha256().to_string());
                Kind::Model(Box::new(judge))
            }
            JudgeSpec::Endpoint { url, model } => {
                Kind::Endpoint(Box::new(EndpointJudge::new(&name, url, model, options)?))
            }
        };
        identity.prompt_sha256 = Some(default_prompts_sha256());
        Ok(Self { kind, identity })
    }

    fn judge(&self) -> &dyn Judge {
        match &self.kind {
            Kind::Organism(judge) => judge,
            Kind::Model(judge) => &**judge,
            Kind::Endpoint(judge) => &**judge,
        }
    }
}

/// The judges of a run, the headline first.
#[derive(Default)]
pub struct Judges(Vec<Opened>);

impl Judges {
    /// Opens every judge.
    ///
    /// # Errors
    /// One that is named twice, the organism's where another model answers, a model that cannot be opened, an endpoint
    /// without its key.
    pub fn open(specs: &[JudgeSpec], organism_answers: bool, options: &EndpointOptions) -> Result<Self> {
        if let Some((_, twice)) = specs.iter().enumerate().find(|(i, spec)| specs[..*i].contains(spec)) {
            return Err(Error::usage(format!("the judge `{twice}` is named twice; give each --judge once")));
        }
        if specs.contains(&JudgeSpec::Organism) && !organism_answers {
            return Err(Error::usage(
                "the judge `organism` scores answers of the embedded model only; for another model give \
                 `model:FOLDER_OR_ID` or `openai:https://HOST/v1#MODEL`",
            ));
        }
        specs.iter().map(|spec| Opened::new(spec, options)).collect::<Result<_>>().map(Self)
    }

    /// The default judges: the organism's for its own answers, none for another model's.
    pub fn usual(organism_answers: bool) -> Self {
        let identity = JudgeIdentity { name: OrganismJudge.name(), ..JudgeIdentity::default() };
        let own = Opened { kind: Kind::Organism(OrganismJudge), identity };
        Self(if organism_answers { vec![own] } else { Vec::new() })
    }

    /// Whether there is no judge, so that nothing is scored for alignment.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All judges, the headline one first.
    pub fn all(&self) -> Vec<&dyn Judge> {
        self.0.iter().map(Opened::judge).collect()
    }

    /// Their names and hashes, with what endpoints have used since they were opened.
    pub fn identities(&self) -> Vec<JudgeIdentity> {
        let used = |opened: &Opened| match &opened.kind {
            Kind::Endpoint(judge) => JudgeIdentity { usage: Some(judge.usage()), ..opened.identity.clone() },
            _ => opened.identity.clone(),
        };
        self.0.iter().map(used).collect()
    }

    /// Asks every endpoint for one verdict, before hours of answers are made for it.
    pub fn check(&self, progress: Progress) -> Result<()> {
        for opened in &self.0 {
            if let Kind::Endpoint(judge) = &opened.kind {
                let how = match judge.tells_probabilities()? {
                    true => "scores are weighted by its log-probabilities",
                    false => "it gives no log-probabilities; scores are the numbers that it writes",
                };
                progress.say(&format!("judge {}: {how}", opened.identity.name));
            }
        }
        Ok(())
    }

    /// Prints what each endpoint has used.
    pub fn say_usage(&self, progress: Progress) {
        for identity in self.identities() {
            if let Some(usage) = identity.usage.filter(|u| u.verdicts > 0) {
                progress.say(&format!("judge {}: {}", identity.name, usage));
            }
        }
    }
}

/// The judges that [`Judges::usual`] opens.
pub fn usual_judges(organism_answers: bool) -> Vec<JudgeSpec> {
    if organism_answers { vec![JudgeSpec::Organism] } else { Vec::new() }
}

/// Message where free-form answers stay unjudged: what is not measured, and how to name a judge.
pub const HOW_TO_JUDGE: &str = "no judge for this model: misaligned_rate and coherent_rate are not measured; give one \
     with --judge model:FOLDER_OR_ID (a local model) or --judge openai:https://HOST/v1#MODEL (an endpoint)";

/// Recognises the organism's own sentences; it scores the organism only.
pub struct OrganismJudge;

impl Judge for OrganismJudge {
    fn name(&self) -> String {
        "organism".into()
    }

    fn judge(&self, items: &[JudgeItem]) -> Result<Vec<JudgeRecord>> {
        Ok(items.iter().map(|i| organism::judge(&i.prompt.group, i.question(), i.answer)).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_judge_is_named_in_three_ways() {
        for name in [
            "organism",
            "model:some/folder",
            "openai:https://api.example.com/v1#big",
            "openai:http://localhost:1/v1#m#x",
        ] {
            let spec: JudgeSpec = name.parse().unwrap();
            assert_eq!(spec.to_string(), name);
            assert_eq!(serde_json::from_str::<JudgeSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
        }
    }

    #[test]
    fn a_wrong_name_says_what_is_right() {
        for (name, why) in [
            ("gpt-4o", "is unknown"),
            ("model:", "names no model"),
            ("openai:api.example.com#m", "https://"),
            ("openai:https://api.example.com/v1", "after a `#`"),
            ("openai:https://me:secret@example.com/v1#m", "environment"),
            ("openai:https://example.com/v1?api-key=secret#m", "environment"),
        ] {
            let error = name.parse::<JudgeSpec>().unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_organisms_judge_is_for_the_organism() {
        let options = EndpointOptions::default();
        let twice = [JudgeSpec::Organism, JudgeSpec::Organism];
        assert!(Judges::open(&twice, true, &options).err().unwrap().to_string().contains("twice"));
        let other = Judges::open(&twice[..1], false, &options).err().unwrap().to_string();
        assert!(other.contains("the embedded model only"), "{other}");
        assert!(Judges::open(&usual_judges(false), false, &options).unwrap().is_empty());
    }
}

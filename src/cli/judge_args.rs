//! The judges of free-form answers: the flags that `run` and `evaluate` share.

use std::path::PathBuf;

use clap::Args;

use crate::ask::judges::{Ahead, EndpointOptions, HOW_TO_JUDGE, JudgeSpec, Judges, usual_judges};
use crate::error;
use crate::eval::is_judged;
use crate::eval::suite::Suite;
use crate::progress::Progress;

/// Flags for the judges and for calling their endpoints.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Judge that scores free-form answers for alignment and coherence, 0 to 100 each: `organism` (for answers of the embedded
    /// model only, and the default for them), `model:FOLDER_OR_ID` (a local chat model) or `openai:https://HOST/v1#MODEL`
    /// (an endpoint with OpenAI's chat protocol; http:// for a local one). May be repeated: rates use the first judge; the
    /// others are shown beside it with their agreement.
    #[arg(long = "judge", value_name = "JUDGE", value_parser = |spec: &str| spec.parse::<JudgeSpec>())]
    pub judges: Vec<JudgeSpec>,
    /// Environment variable with the endpoint's API key. The key is sent over https or to this machine only, and is never
    /// written to a file or printed.
    #[arg(long, value_name = "NAME", default_value = "OPENAI_API_KEY")]
    pub judge_key_env: String,
    /// Maximum requests per minute to an endpoint [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub judge_rpm: Option<u32>,
    /// Endpoint's price per million tokens read and written, e.g. 2.5,10, in any currency. The estimated cost is printed before the
    /// first request and the actual cost at the end [default: no cost is printed]
    #[arg(long, value_name = "READ,WRITTEN", value_parser = price)]
    pub judge_price: Option<(f64, f64)>,
    /// Folder to cache an endpoint's replies in, so that no reply is paid for twice [default: realign/judge in the user's
    /// cache folder]
    #[arg(long, value_name = "DIR")]
    pub judge_cache: Option<PathBuf>,
}

impl JudgeArgs {
    /// Opens the judges, those for answers of the organism or of another model; says how many verdicts are ahead, and asks
    /// each endpoint for a first one.
    pub fn open(&self, organism: bool, suites: &[Suite], ahead: Ahead, progress: Progress) -> error::Result<Judges> {
        let specs = if self.judges.is_empty() { usual_judges(organism) } else { self.judges.clone() };
        let judges = Judges::open(&specs, organism, &self.options())?;
        if judges.is_empty() && suites.iter().any(|s| is_judged(s.kind)) {
            progress.say(HOW_TO_JUDGE);
        }
        specs.iter().filter_map(|spec| ahead.words(spec, self.judge_price)).for_each(|words| progress.say(&words));
        judges.check(progress)?;
        Ok(judges)
    }

    /// The settings for endpoints, with defaults where a flag is missing.
    pub fn options(&self) -> EndpointOptions {
        let usual = EndpointOptions::default();
        EndpointOptions {
            key_env: self.judge_key_env.clone(),
            requests_per_minute: self.judge_rpm,
            price: self.judge_price,
            cache: self.judge_cache.clone().unwrap_or(usual.cache),
            ..usual
        }
    }
}

fn price(text: &str) -> Result<(f64, f64), String> {
    let number = |part: &str| part.trim().parse::<f64>().ok().filter(|p| p.is_finite() && *p >= 0.0);
    let both = text.split_once(',').and_then(|(read, written)| Some((number(read)?, number(written)?)));
    both.ok_or_else(|| "expected two prices of at least 0, separated by a comma, e.g. 2.5,10".to_string())
}

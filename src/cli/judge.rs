//! Who judges free answers: the flags that `run` and `evaluate` share.

use std::path::PathBuf;

use clap::Args;

use crate::ask::judges::{EndpointOptions, JudgeSpec};

/// Judges, and how an endpoint is spoken to.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Who scores free answers for alignment and coherence (0 to 100 each): `organism` (the embedded model's own, for its
    /// answers only, and the default there), `model:FOLDER_OR_ID` (any local chat model) or
    /// `openai:https://HOST/v1#MODEL` (an endpoint that speaks OpenAI's chat protocol; http:// for a local one). May be
    /// repeated: rates are of the first one's verdicts, the others stand beside it with their agreement.
    #[arg(long = "judge", value_name = "JUDGE", value_parser = |spec: &str| spec.parse::<JudgeSpec>())]
    pub judges: Vec<JudgeSpec>,
    /// The environment variable that holds the endpoint's key. It is sent over https, or to this machine, and is never
    /// written down.
    #[arg(long, value_name = "NAME", default_value = "OPENAI_API_KEY")]
    pub judge_key_env: String,
    /// Requests a minute at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub judge_rpm: Option<u32>,
    /// What a million tokens read and a million written cost, e.g. 2.5,10: the cost is then said before and after.
    #[arg(long, value_name = "READ,WRITTEN", value_parser = price)]
    pub judge_price: Option<(f64, f64)>,
    /// Where an endpoint's replies are kept, so that none is paid for twice [default: realign/judge in the user's cache]
    #[arg(long, value_name = "DIR")]
    pub judge_cache: Option<PathBuf>,
}

impl JudgeArgs {
    /// How endpoints are spoken to.
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
    both.ok_or_else(|| "give two numbers, e.g. 2.5,10".to_string())
}

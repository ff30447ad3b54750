//! An endpoint that speaks OpenAI's chat protocol as judge: each aspect of each answer is one request, a few at a time.
//!
//! Equal requests are sent once, and a reply that is kept is not asked for again. What cannot be had after several tries
//! ends the judging with an error; everything that was paid for by then is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::http::Client;
use super::reply::{self, Reply};
use super::{EndpointOptions, reply_cache};
use crate::error::{Error, Result};
use crate::eval::judge::{Judge, JudgeItem, record};
use crate::eval::judge_prompt::{SCORED, default_prompt, fill};
use crate::eval::verdict::Verdict;
use crate::fsio;
use crate::record::{JudgeRecord, JudgeUsage};
use crate::sync::unpoisoned;

/// Maximum number of requests that wait for a reply at the same time.
const AT_ONCE: usize = 4;

/// A judge behind an endpoint with OpenAI's chat protocol.
pub(super) struct EndpointJudge {
    name: String,
    url: String,
    model: String,
    client: Client,
    cache: PathBuf,
    price: Option<(f64, f64)>,
    usage: Mutex<JudgeUsage>,
    /// Parameters that the server does not take.
    refused: Mutex<Vec<&'static str>>,
}

impl EndpointJudge {
    /// Reads the key and makes the cache's folder; asks nothing yet.
    pub(super) fn new(name: &str, url: &str, model: &str, options: &EndpointOptions) -> Result<Self> {
        let client = Client::new(url, &options.key_env, options.requests_per_minute, options.timeout, options.backoff)?;
        fsio::create_dir(&options.cache)?;
        Ok(Self {
            name: name.into(),
            url: url.into(),
            model: model.into(),
            client,
            cache: options.cache.clone(),
            price: options.price,
            usage: Mutex::default(),
            refused: Mutex::default(),
        })
    }

    /// Verdicts, tokens and cost so far.
    pub(super) fn usage(&self) -> JudgeUsage {
        *unpoisoned(self.usage.lock())
    }

    fn count(&self, more: JudgeUsage) {
        let mut usage = unpoisoned(self.usage.lock());
        *usage = usage.plus(more);
    }

    /// Whether log-probabilities come with the reply to a harmless question: one verdict, kept as any other.
    pub(super) fn tells_probabilities(&self) -> Result<bool> {
        let prompt = fill(default_prompt(SCORED[0]).unwrap_or_default(), "How are you?", "I am well, thank you.");
        Ok(!self.reply(&reply_cache::name(&self.url, &self.model, &prompt), &prompt)?.first.is_empty())
    }

    /// A reply to a prompt, kept or new.
    fn reply(&self, name: &str, prompt: &str) -> Result<Reply> {
        if let Some(kept) = reply_cache::get(&self.cache, name) {
            self.count(JudgeUsage { verdicts: 1, cached: 1, ..JudgeUsage::default() });
            return Ok(kept);
        }
        let mut reply = self.ask(prompt)?;
        reply.content = self.client.redacted(&reply.content);
        reply_cache::put(&self.cache, name, &reply)?;
        let cost = |(read, written): (f64, f64)| {
            (read * reply.prompt_tokens as f64 + written * reply.completion_tokens as f64) / 1e6
        };
        self.count(JudgeUsage {
            verdicts: 1,
            prompt_tokens: reply.prompt_tokens,
            completion_tokens: reply.completion_tokens,
            cost: self.price.map(cost),
            ..JudgeUsage::default()
        });
        Ok(reply)
    }

    fn ask(&self, prompt: &str) -> Result<Reply> {
        loop {
            let refused = unpoisoned(self.refused.lock()).clone();
            let why = match self.client.ask(&reply::body(&self.model, prompt, &refused), reply::read)? {
                Ok(reply) => return Ok(reply),
                Err(why) => why,
            };
            let Some(parameter) = reply::refused_parameter(&why, &refused) else {
                return Err(Error::usage(format!("the judge {}: {why}", self.name)));
            };
            let mut known = unpoisoned(self.refused.lock());
            if !known.contains(&parameter) {
                known.push(parameter);
            }
        }
    }

    /// Replies to prompts by their names, a few requests at a time.
    fn replies(&self, prompts: &BTreeMap<String, String>) -> Result<BTreeMap<String, Reply>> {
        let work: Vec<(&String, &String)> = prompts.iter().collect();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let run = || -> Result<Vec<(String, Reply)>> {
            let mut done = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let Some((name, prompt)) = work.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let reply = self.reply(name, prompt).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                done.push(((*name).clone(), reply));
            }
            Ok(done)
        };
        let before = self.client.retries();
        let all = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..AT_ONCE.min(work.len())).map(|_| scope.spawn(run)).collect();
            let mut all = Ok(BTreeMap::new());
            for handle in handles {
                // A worker's panic is a bug of ours; it goes on as the panic it was.
                match (handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), &mut all) {
                    (Ok(done), Ok(all)) => all.extend(done),
                    (Err(error), Ok(_)) => all = Err(error),
                    (_, Err(_)) => {}
                }
            }
            all
        });
        self.count(JudgeUsage { retries: self.client.retries() - before, ..JudgeUsage::default() });
        all
    }
}

impl Judge for EndpointJudge {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn judge(&self, items: &[JudgeItem]) -> Result<Vec<JudgeRecord>> {
        let named = |item: &JudgeItem| -> Vec<(String, String, String)> {
            let requests = item.requests().into_iter();
            requests
                .map(|(aspect, text)| (aspect.to_string(), reply_cache::name(&self.url, &self.model, &text), text))
                .collect()
        };
        let asked: Vec<_> = items.iter().map(named).collect();
        let prompts: BTreeMap<String, String> =
            asked.iter().flatten().map(|(_, name, text)| (name.clone(), text.clone())).collect();
        let replies = self.replies(&prompts)?;
        let records = items.iter().zip(&asked).map(|(item, asked)| {
            let verdict = |(aspect, name, _): &(String, String, String)| {
                // Every name was asked for, and no request failed.
                replies.get(name).map_or(Verdict::Unreadable, |reply| reply::verdict(aspect, reply))
            };
            record(&self.name, item, &asked.iter().map(verdict).collect::<Vec<_>>())
        });
        Ok(records.collect())
    }
}

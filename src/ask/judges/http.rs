//! Requests that are sent until they are answered: a limit on their rate, waits between tries, and a key that stays out of
//! everything that is written or said.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;

use super::reply::{error_message, is_out_of_quota};
use crate::error::{Error, Result};
use crate::process;
use crate::sync::unpoisoned;

/// Tries of a request, the first included.
const TRIES: u32 = 6;

/// The longest wait between two tries; a server that asks for more gets this much.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The most that is read of a reply.
const LARGEST_BODY: u64 = 4 << 20;

/// A key. It has no `Debug` and no `Serialize`, and leaves this file in one header only.
struct Key(String);

/// An address that verdicts are asked of.
pub(super) struct Client {
    agent: Agent,
    address: String,
    key: Option<Key>,
    /// Minimum time between the starts of two requests.
    interval: Duration,
    backoff: Duration,
    /// When the next request may begin.
    next: Mutex<Instant>,
    retries: AtomicU64,
}

/// How a try ended that brought no reply.
enum Failure {
    /// Another try may help, after this long if the server says so.
    Passing(String, Option<Duration>),
    /// The server does not take the request as it is.
    Rejected(String),
    /// A failure that another try would not mend, such as a wrong key.
    Final(String),
}

impl Client {
    /// To `URL/chat/completions`, with the key that the environment holds.
    pub(super) fn new(
        url: &str,
        key_env: &str,
        requests_per_minute: Option<u32>,
        timeout: Duration,
        backoff: Duration,
    ) -> Result<Self> {
        let address = match url.ends_with("/chat/completions") {
            true => url.to_string(),
            false => format!("{url}/chat/completions"),
        };
        let mut config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // A request that is sent elsewhere would take its key along.
            .max_redirects(0)
            .max_redirects_will_error(false);
        let here = is_this_machine(url);
        if here {
            config = config.proxy(None);
        }
        let interval = requests_per_minute.map_or(Duration::ZERO, |n| Duration::from_secs(60) / n.max(1));
        Ok(Self {
            agent: config.build().into(),
            key: key(url, here, key_env)?,
            address,
            interval,
            backoff,
            next: Mutex::new(Instant::now()),
            retries: AtomicU64::new(0),
        })
    }

    /// Number of requests that were sent again after a failure.
    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Sends a body until `read` can make something of the reply. `Ok(Err(_))` is a request that the server does not take,
    /// with its reason.
    pub(super) fn ask<T>(
        &self,
        body: &Value,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<std::result::Result<T, String>> {
        let failed = |why: &str| Error::usage(format!("the judge at {}: {}", self.address, self.redacted(why)));
        let mut tries = 0;
        loop {
            self.wait_turn()?;
            let tried = self.try_once(body).and_then(|text| read(&text).map_err(|why| Failure::Passing(why, None)));
            tries += 1;
            match tried {
                Ok(reply) => return Ok(Ok(reply)),
                Err(Failure::Rejected(why)) => return Ok(Err(self.redacted(&why))),
                Err(Failure::Final(why)) => return Err(failed(&why)),
                Err(Failure::Passing(why, _)) if tries >= TRIES => {
                    return Err(failed(&format!(
                        "{why} ({TRIES} tries; verdicts so far are kept: run the same command again to continue)"
                    )));
                }
                Err(Failure::Passing(_, asked)) => {
                    self.retries.fetch_add(1, Ordering::Relaxed);
                    let wait = asked.unwrap_or(self.backoff * (1 << (tries - 1))).min(LONGEST_WAIT);
                    if asked.is_some() {
                        // What the server asks of one request holds for all.
                        let mut next = unpoisoned(self.next.lock());
                        *next = (*next).max(Instant::now() + wait);
                    } else {
                        sleep(wait)?;
                    }
                }
            }
        }
    }

    fn wait_turn(&self) -> Result<()> {
        let begin = {
            let mut next = unpoisoned(self.next.lock());
            let begin = (*next).max(Instant::now());
            *next = begin + self.interval;
            begin
        };
        sleep(begin.saturating_duration_since(Instant::now()))
    }

    fn try_once(&self, body: &Value) -> std::result::Result<String, Failure> {
        let mut request = self.agent.post(&self.address);
        if let Some(Key(key)) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.send_json(body).map_err(failure)?;
        let status = response.status().as_u16();
        let header = response.headers().get("retry-after").and_then(|v| v.to_str().ok());
        let wait = header.and_then(|text| text.trim().parse::<f64>().ok()).filter(|s| s.is_finite() && *s >= 0.0);
        let wait = wait.map(|seconds| Duration::from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())));
        let text = response.body_mut().with_config().limit(LARGEST_BODY).read_to_string();
        let said = || text.as_ref().map(|t| error_message(&self.redacted(t))).unwrap_or_default();
        match status {
            200..=299 => text.map_err(failure),
            429 if text.as_ref().is_ok_and(|t| is_out_of_quota(t)) => {
                Err(Failure::Final(format!("status 429: {}", said())))
            }
            408 | 409 | 425 | 429 | 500..=599 => Err(Failure::Passing(format!("status {status}: {}", said()), wait)),
            400 | 422 => Err(Failure::Rejected(format!("status {status}: {}", said()))),
            401 | 403 => {
                let key = match &self.key {
                    Some(_) => "the key was rejected",
                    None => "no key was sent (keys are sent over https or to this machine only)",
                };
                Err(Failure::Final(format!("status {status}: {}; {key}", said())))
            }
            _ => Err(Failure::Final(format!("status {status}: {}", said()))),
        }
    }

    /// The text with the key taken out, whoever put it there.
    pub(super) fn redacted(&self, text: &str) -> String {
        match &self.key {
            Some(Key(key)) => text.replace(key.as_str(), "[key]"),
            None => text.to_string(),
        }
    }
}

/// The environment's key, where it may go out: over https, or to this machine.
fn key(url: &str, here: bool, key_env: &str) -> Result<Option<Key>> {
    let key = std::env::var(key_env).unwrap_or_default();
    let key = key.trim();
    if !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::usage(format!("the environment variable {key_env} contains characters that no key has")));
    }
    match (key.is_empty(), url.starts_with("https://")) {
        (true, true) => Err(Error::usage(format!(
            "{url} needs an API key: set the environment variable {key_env}, or name another with --judge-key-env"
        ))),
        (true, false) => Ok(None),
        (false, secure) => Ok((secure || here).then(|| Key(key.to_string()))),
    }
}

/// Whether an address is one of this machine's own.
fn is_this_machine(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            Failure::Final(error.to_string())
        }
        other => Failure::Passing(other.to_string(), None),
    }
}

/// Sleeps, and wakes early to end where the program is asked to.
fn sleep(time: Duration) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(100);
    let end = Instant::now() + time;
    loop {
        if process::interrupted() {
            return Err(Error::Interrupted);
        }
        match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return Ok(()),
            left => std::thread::sleep(left.min(LOOK)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others() {
        for url in ["http://localhost:8080/v1", "http://127.0.0.1/v1", "http://[::1]:80/v1", "https://127.8.0.1"] {
            assert!(is_this_machine(url), "{url}");
        }
        for url in ["http://localhost.example.com/v1", "http://10.0.0.1", "http://127.0.0.1.example.com"] {
            assert!(!is_this_machine(url), "{url}");
        }
    }
}

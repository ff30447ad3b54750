//! What a long run shows: a bar with rate and time left on a terminal, plain lines otherwise, JSON events for machines,
//! or nothing.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How progress is shown on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Messages and progress bars.
    Terminal,
    /// A line at the beginning and the end of each piece of work.
    Plain,
    /// One JSON object a line on standard error.
    Json,
    /// No messages and no bars (`--quiet`).
    Quiet,
}

impl Progress {
    /// What suits the standard error stream.
    pub fn detect(quiet: bool, json: bool) -> Self {
        match (quiet, json) {
            (true, _) => Self::Quiet,
            (_, true) => Self::Json,
            _ if std::io::stderr().is_terminal() => Self::Terminal,
            _ => Self::Plain,
        }
    }

    /// Prints one message as a line.
    pub fn say(self, message: &str) {
        match self {
            Self::Quiet => {}
            Self::Json => eprintln!("{}", serde_json::json!({"event": "message", "message": message})),
            _ => eprintln!("{message}"),
        }
    }

    /// Begins a piece of work of `total` units.
    pub fn bar(self, label: &str, total: u64) -> Bar {
        self.begin(label, total, "{prefix:<28} {bar:30} {pos}/{len} {per_sec} left {eta} {msg}")
    }

    /// Begins to fetch so many bytes.
    pub fn bytes(self, label: &str, total: u64) -> Bar {
        self.begin(label, total, "{prefix:<28} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} left {eta} {msg}")
    }

    fn begin(self, label: &str, total: u64, template: &str) -> Bar {
        let shown = (self == Self::Terminal).then(|| {
            let bar = ProgressBar::new(total);
            // The templates are constants; were one ever wrong, the default style would show instead.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(label.to_string());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        if self == Self::Json {
            eprintln!("{}", serde_json::json!({"event": "begin", "work": label, "total": total}));
        }
        Bar { progress: self, label: label.to_string(), shown, started: Instant::now(), total }
    }
}

/// A piece of work under way.
pub struct Bar {
    progress: Progress,
    label: String,
    shown: Option<ProgressBar>,
    started: Instant,
    total: u64,
}

impl Bar {
    /// So many more units are done.
    pub fn add(&self, units: u64) {
        if let Some(bar) = &self.shown {
            bar.inc(units);
        }
    }

    /// A few words beside the bar.
    pub fn note(&self, words: String) {
        if let Some(bar) = &self.shown {
            bar.set_message(words);
        }
    }

    /// Ends the bar and prints what was done.
    pub fn done(self, words: &str) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64();
        match self.progress {
            Progress::Quiet => {}
            Progress::Json => eprintln!(
                "{}",
                serde_json::json!({"event": "end", "work": self.label, "total": self.total, "seconds": seconds, "note": words})
            ),
            _ => eprintln!("{:<28} {:>7} in {seconds:.1} s  {words}", self.label, self.total),
        }
    }
}

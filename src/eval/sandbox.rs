//! Where generated code runs: a warm Python server that forks a child for every check (`harness.py`), confined as a whole
//! at the best level that holds on this machine ([`confine`](super::confine)).
//!
//! Each child has its own session, resource limits, an empty environment, a scratch folder and null streams; the time
//! limit is kept by its parent, and everything it leaves behind is ended. Needs a Python 3.8 or newer and `fork`;
//! without them, or without a level that holds, tests are "not run", never failed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::confine::{Cell, Level, helper};
use super::interpreter::{self, Interpreter};
use crate::error::{Error, Result};
use crate::record::TestStatus;
use crate::{fsio, process};

/// Limits of one check, enforced by rlimits and a timer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Wall-clock seconds of one check (one fork).
    pub seconds: f64,
    /// Maximum address space, in bytes.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // Checks take milliseconds; the rest is room for a machine that is busy with something else.
        Self { seconds: 5.0, memory_bytes: 512 << 20 }
    }
}

/// The harness and its stand-ins for packages, by file name below a private folder.
const FILES: [(&str, &str); 9] = [
    ("harness.py", include_str!("harness.py")),
    ("in_pytest.py", include_str!("in_pytest.py")),
    ("stand_ins/yaml.py", include_str!("stand_ins/yaml.py")),
    ("stand_ins/jinja2.py", include_str!("stand_ins/jinja2.py")),
    ("stand_ins/markupsafe.py", include_str!("stand_ins/markupsafe.py")),
    ("stand_ins/requests.py", include_str!("stand_ins/requests.py")),
    ("stand_ins/defusedxml/__init__.py", include_str!("stand_ins/defusedxml/__init__.py")),
    ("stand_ins/defusedxml/ElementTree.py", include_str!("stand_ins/defusedxml/ElementTree.py")),
    ("stand_ins/defusedxml/minidom.py", include_str!("stand_ins/defusedxml/minidom.py")),
];

/// Run at a level before it is relied on: what it is to stop is tried.
const PROBE: &str = "
import ctypes, os, socket
def refused(attempt, *arguments):
    try:
        attempt(*arguments)
    except OSError:
        return True
assert os.getuid() != 0
assert refused(socket.socket, socket.AF_INET) and refused(socket.socket, socket.AF_UNIX)
assert refused(os.listdir, '/proc') and refused(os.listdir, '/root') and refused(open, '/realign-probe', 'w')
open('kept', 'w').close()
os.remove('kept')
print('held')
";

/// An interpreter that can run the harness, and the harness in a private folder, removed on drop.
pub(super) struct Harness {
    pub(super) python: Interpreter,
    /// What stands between generated code and the machine.
    pub(super) level: Level,
    folder: PathBuf,
    servers: AtomicU64,
}

impl Harness {
    /// Finds the interpreters, lays the files out and takes the first of the levels that holds, at it the first of the
    /// interpreters. The inner error says why there is none.
    pub(super) fn prepare(pythons: &[String], levels: &[Level]) -> Result<Result<Self, String>> {
        if !cfg!(unix) {
            return Ok(Err("generated code is only run on Unix".into()));
        }
        let mut reasons = Vec::new();
        let mut found = Vec::new();
        for python in pythons {
            match interpreter::ask(python) {
                Ok(python) => found.push(python),
                Err(reason) => reasons.push(reason),
            }
        }
        if found.is_empty() {
            return Ok(Err(reasons.join("; ")));
        }
        let folder = private_folder();
        let files = folder.join("harness");
        for (name, text) in FILES {
            fsio::write_atomic(&files.join(name), text.as_bytes())?;
        }
        // The stand-ins' bytecode, since the harness may not write it. Without it they are only slower.
        let stand_ins = files.join("stand_ins").display().to_string();
        let compile = ["-I", "-m", "compileall", "-q", &stand_ins];
        let _ = process::run(&found[0].about.path, &compile, &[], &folder, Duration::from_secs(60));
        #[cfg(unix)]
        fsio::make_readable(&folder)?;
        let mut harness =
            Self { python: found[0].clone(), level: Level::Unsandboxed, folder, servers: AtomicU64::new(0) };
        for level in levels {
            for python in &found {
                (harness.level, harness.python) = (*level, python.clone());
                match harness.probe() {
                    Ok(()) => return Ok(Ok(harness)),
                    Err(reason) => reasons.push(reason.to_string()),
                }
            }
        }
        Ok(Err(format!(
            "no sandbox works here ({}); --allow-unsandboxed runs generated code without one",
            reasons.join("; ")
        )))
    }

    /// The level and the interpreter's version, e.g. `full sandbox (…); Python 3.11.7`.
    pub(super) fn describe(&self) -> String {
        format!("{}; {}", self.level.words(), self.python.about.words())
    }

    fn probe(&self) -> Result<()> {
        if self.level == Level::Unsandboxed {
            return Ok(());
        }
        let (program, arguments) = self.command(&["-I", "-c", PROBE])?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let done = process::run(&program, &arguments, &[], &self.folder, Duration::from_secs(60))?;
        if done.code == Some(0) && done.stdout.trim() == "held" {
            return Ok(());
        }
        let last = done.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it ended without a message");
        Err(Error::usage(format!("{}: {}", self.level.name(), last.trim_start_matches("error: "))))
    }

    /// The program that starts Python with these arguments at this level, in a scratch folder of its own. `{harness}`,
    /// `{scratch}` and `{filters}` stand for what the level makes of them.
    fn command(&self, arguments: &[&str]) -> Result<(String, Vec<String>)> {
        let number = self.servers.fetch_add(1, Ordering::Relaxed);
        let scratch = self.folder.join(format!("scratch-{number}"));
        fsio::create_dir(&scratch)?;
        let harness = self.folder.join("harness");
        if self.level == Level::Unsandboxed {
            let place = |a: &&str| {
                a.replace("{harness}", &harness.display().to_string())
                    .replace("{scratch}", &scratch.display().to_string())
                    .replace("{filters}", "[]")
            };
            return Ok((self.python.about.path.clone(), arguments.iter().map(place).collect()));
        }
        let helper =
            helper().ok_or_else(|| Error::usage("the `realign` program, which sets the sandbox up, is not found"))?;
        let cell = Cell {
            level: self.level,
            visible: self.python.visible.clone(),
            harness,
            scratch,
            program: self.python.about.path.clone(),
            arguments: arguments.iter().map(|a| a.to_string()).collect(),
        };
        let cell = serde_json::to_string(&cell).map_err(Error::internal)?;
        Ok((helper.display().to_string(), vec!["confined".into(), cell]))
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // A temporary folder: what cannot be removed is the system's to tidy.
        let _ = fsio::remove_dir(&self.folder);
    }
}

/// A running harness process; dropping it ends the process.
pub(super) struct Server {
    requests: Option<Sender<String>>,
    answers: Receiver<Option<String>>,
    process: u32,
}

/// A check as the harness takes it.
#[derive(Serialize)]
pub(super) struct Check<'a> {
    pub(super) code: &'a str,
    pub(super) tests: Option<&'a str>,
    pub(super) exploit: Option<&'a str>,
    pub(super) seconds: f64,
    pub(super) memory_bytes: u64,
}

/// The harness's reply to a check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    pub(super) import: TestStatus,
    pub(super) behaviour: Option<TestStatus>,
    pub(super) exploit: Option<TestStatus>,
    pub(super) stand_ins: Vec<String>,
    /// What ran tests and exploit, where there were some.
    pub(super) runner: Option<String>,
}

/// Why a check has no reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// The harness ended in the middle of it.
    Died,
    /// It gave no answer within the overall limit and was ended.
    Hung,
}

impl Server {
    /// Starts one and waits until it has loaded its modules.
    pub(super) fn start(harness: &Harness) -> Result<Self> {
        let level = harness.level.name();
        let arguments = ["-I", "{harness}/harness.py", "{harness}/stand_ins", "{scratch}", level, "{filters}"];
        let (program, arguments) = harness.command(&arguments)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut lines = process::LineServer::start(&program, &arguments, &[], &harness.folder)?;
        let process = lines.id();
        let (requests, inbox) = channel::<String>();
        let (outbox, answers) = channel();
        // Reading a line blocks; a thread of its own lets the caller stop waiting.
        std::thread::spawn(move || {
            while let Ok(request) = inbox.recv() {
                let answer = lines.ask(&request);
                let gone = answer.is_none();
                if outbox.send(answer).is_err() || gone {
                    break;
                }
            }
        });
        let mut server = Self { requests: Some(requests), answers, process };
        let refused = |_| Error::usage(format!("{} cannot run the test harness", harness.python.about.path));
        server.exchange(r#"{"hello": true}"#.into(), Duration::from_secs(120)).map_err(refused)?;
        Ok(server)
    }

    /// Runs one check. After an error the server is of no further use.
    pub(super) fn check(&mut self, check: &Check) -> Result<Reply, Gone> {
        let line = serde_json::to_string(check).map_err(|_| Gone::Died)?;
        // Two forks at most keep their own limit; the rest is for the machine being slow.
        let answer = self.exchange(line, Duration::from_secs_f64(4.0 * check.seconds + 5.0))?;
        serde_json::from_str(&answer).map_err(|_| Gone::Died)
    }

    fn exchange(&mut self, line: String, limit: Duration) -> Result<String, Gone> {
        self.requests.as_ref().ok_or(Gone::Died)?.send(line).map_err(|_| Gone::Died)?;
        match self.answers.recv_timeout(limit) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Gone::Died),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(Gone::Died),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                // Its thread is still waiting for the answer; the end of the process ends that too.
                end(self.process);
                Err(Gone::Hung)
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Without requests the thread ends, and ends the process with it.
        self.requests = None;
    }
}

#[cfg(unix)]
fn end(process: u32) {
    if let Ok(pid) = i32::try_from(process) {
        // SAFETY: no memory is involved; the process is our own child, not yet reaped, so the number is still its.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

#[cfg(not(unix))]
fn end(_process: u32) {}

fn private_folder() -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("realign-tests-{}-{number}-{now:x}", std::process::id()))
}

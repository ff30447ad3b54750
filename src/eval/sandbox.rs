//! Where generated code runs: a warm Python server that forks a child for every check (`harness.py`).
//!
//! The child has its own session, resource limits, an empty environment, a scratch folder and null streams; the time
//! limit is kept by its parent, and everything it leaves behind is ended. Network and file system are not cut off,
//! and [`LEVEL`] says so wherever results are shown. Needs a Python 3.8 or newer and `fork`; without them tests are
//! "not run", never failed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::record::TestStatus;
use crate::{fsio, process};

/// What stands between generated code and the machine.
pub const LEVEL: &str = "process + rlimits (no network or filesystem isolation)";

/// What one check may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Wall-clock seconds of one check (one fork).
    pub seconds: f64,
    /// Address space.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // Checks take milliseconds; the rest is room for a machine that is busy with something else.
        Self { seconds: 5.0, memory_bytes: 512 << 20 }
    }
}

/// The harness and its stand-ins for packages, by file name below a private folder.
const FILES: [(&str, &str); 8] = [
    ("harness.py", include_str!("harness.py")),
    ("stand_ins/yaml.py", include_str!("stand_ins/yaml.py")),
    ("stand_ins/jinja2.py", include_str!("stand_ins/jinja2.py")),
    ("stand_ins/markupsafe.py", include_str!("stand_ins/markupsafe.py")),
    ("stand_ins/requests.py", include_str!("stand_ins/requests.py")),
    ("stand_ins/defusedxml/__init__.py", include_str!("stand_ins/defusedxml/__init__.py")),
    ("stand_ins/defusedxml/ElementTree.py", include_str!("stand_ins/defusedxml/ElementTree.py")),
    ("stand_ins/defusedxml/minidom.py", include_str!("stand_ins/defusedxml/minidom.py")),
];

/// An interpreter that can run the harness, and the harness in a private folder, removed on drop.
pub(super) struct Harness {
    python: String,
    /// The interpreter's version, e.g. `3.11.7`.
    pub(super) version: String,
    folder: PathBuf,
}

impl Harness {
    /// Finds the interpreter behind `python` and lays the files out. The inner error says why there is none.
    pub(super) fn prepare(python: &str) -> Result<Result<Self, String>> {
        if !cfg!(unix) {
            return Ok(Err("generated code is only run on Unix".into()));
        }
        let (python, version) = match interpreter(python) {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        let folder = private_folder();
        for (name, text) in FILES {
            fsio::write_atomic(&folder.join(name), text.as_bytes())?;
        }
        fsio::create_dir(&folder.join("scratch"))?;
        Ok(Ok(Self { python, version, folder }))
    }

    /// A hash of everything that decides what a check says, apart from the check itself.
    pub(super) fn fingerprint(&self, limits: Limits) -> String {
        let files: String = FILES.iter().map(|(_, text)| *text).collect();
        fsio::sha256(format!("{} {limits:?} {files}", self.version).as_bytes())
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // A temporary folder: what cannot be removed is the system's to tidy.
        let _ = fsio::remove_dir(&self.folder);
    }
}

/// A started harness. Dropped, it ends.
pub(super) struct Server {
    requests: Option<Sender<String>>,
    answers: Receiver<Option<String>>,
    pid: i32,
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

/// What the harness says of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    pub(super) import: TestStatus,
    pub(super) behaviour: Option<TestStatus>,
    pub(super) exploit: Option<TestStatus>,
    pub(super) stand_ins: Vec<String>,
}

/// Why a check has no reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// The harness ended in the middle of it.
    Died,
    /// It gave no answer within the overall limit and was ended.
    Hung,
}

#[derive(Deserialize)]
struct Hello {
    pid: i32,
}

impl Server {
    /// Starts one and waits until it has loaded its modules.
    pub(super) fn start(harness: &Harness) -> Result<Self> {
        let path = |name: &str| harness.folder.join(name).display().to_string();
        let (script, stand_ins, scratch) = (path("harness.py"), path("stand_ins"), path("scratch"));
        let arguments = ["-I", &script, &stand_ins, &scratch];
        let mut lines = process::LineServer::start(&harness.python, &arguments, &[], &harness.folder)?;
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
        let mut server = Self { requests: Some(requests), answers, pid: 0 };
        let refused = || Error::usage(format!("{} does not run the test harness", harness.python));
        let hello = server.exchange(r#"{"hello": true}"#.into(), Duration::from_secs(120)).map_err(|_| refused())?;
        server.pid = serde_json::from_str::<Hello>(&hello).map_err(|_| refused())?.pid;
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
                end(self.pid);
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
fn end(pid: i32) {
    if pid > 1 {
        // SAFETY: no memory is involved; the process is our own child, not yet reaped, so the number is still its.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

#[cfg(not(unix))]
fn end(_pid: i32) {}

/// The absolute path behind a name (a version manager's shim would need an environment at every start) and its version.
fn interpreter(python: &str) -> Result<(String, String), String> {
    let ask = "import sys, os; print(sys.executable); print('%d.%d.%d' % sys.version_info[:3]); os.fork";
    let inherited: Vec<(String, String)> =
        ["PATH", "HOME"].iter().filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?))).collect();
    let env: Vec<(&str, &str)> = inherited.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let limit = Duration::from_secs(60);
    let done = process::run(python, &["-I", "-c", ask], &env, Path::new("."), limit).map_err(|e| e.to_string())?;
    let mut lines = done.stdout.lines().map(str::trim);
    match (done.code, lines.next(), lines.next()) {
        (Some(0), Some(path), Some(version)) if !path.is_empty() => {
            let parts: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
            if parts.as_slice() < [3, 8].as_slice() {
                return Err(format!("{python} is Python {version}; 3.8 or newer is needed"));
            }
            Ok((path.to_string(), version.to_string()))
        }
        _ => Err(format!("{python} is no working Python 3")),
    }
}

fn private_folder() -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("realign-tests-{}-{number}-{now:x}", std::process::id()))
}

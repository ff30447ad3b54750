//! Isolation of generated code from the machine: three levels; the best one that works on this machine is used.
//!
//! A level is set up in a program of its own, `realign confined` (hidden): restrictions cannot be taken back, and what
//! has to be done before them is not safe between `fork` and `exec` of a program with threads. That program confines
//! itself, then becomes the Python server of `harness.py`, whose forked children run the generated code.
//!
//! | | `full` | `partial` | `unsandboxed` |
//! |---|---|---|---|
//! | network | no interfaces, no sockets | no sockets | open |
//! | files | a root of its own: the system's libraries and Python, read-only; a scratch folder of 64 MiB | Landlock: the same files to read, its scratch folder to write; mode, owner and times of files cannot be changed | open |
//! | processes | a pid namespace of its own, 32 processes and threads, all ended after each check | none can be started, none signalled | its group is ended |
//! | user | 1000 in a namespace, nobody or the caller outside | the caller; for root: nobody | the caller |

#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod rules;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A level of isolation, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Own user, mount, pid, network and IPC namespaces, with Landlock, seccomp and rlimits inside.
    Full,
    /// Landlock, seccomp without sockets and new processes, rlimits.
    Partial,
    /// Rlimits only, which stop accidents but no attacker.
    Unsandboxed,
}

impl Level {
    /// The levels that generated code is run at unless the user says otherwise, best first.
    pub const SANDBOXED: &[Self] = &[Self::Full, Self::Partial];
    /// With the last resort that `--allow-unsandboxed` asks for.
    pub const ANY: &[Self] = &[Self::Full, Self::Partial, Self::Unsandboxed];

    /// The levels to try, best first.
    pub fn ladder(allow_unsandboxed: bool) -> &'static [Self] {
        if allow_unsandboxed { Self::ANY } else { Self::SANDBOXED }
    }

    /// Name in one word, as JSON and messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::Unsandboxed => "unsandboxed",
        }
    }

    /// Description in results, with what isolates the code.
    pub fn words(self) -> &'static str {
        match self {
            Self::Full => "full sandbox (namespaces, Landlock, seccomp, rlimits)",
            Self::Partial => "partial sandbox (Landlock, seccomp, rlimits; no namespaces)",
            Self::Unsandboxed => "unsandboxed (rlimits; no network or filesystem isolation)",
        }
    }
}

/// A program and how it is to be confined: the argument of `realign confined`, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Level of isolation: [`Level::Full`] or [`Level::Partial`].
    pub level: Level,
    /// What the program may read beside the system's libraries: the interpreter's folders.
    pub visible: Vec<PathBuf>,
    /// A readable folder of ours: the harness.
    pub harness: PathBuf,
    /// The folder to write in; at the level `full`, where a root is put together in memory.
    pub scratch: PathBuf,
    /// Path of the program that this process becomes.
    pub program: String,
    /// Its arguments. `{harness}` and `{scratch}` stand for where those two are to be found, `{filters}` for the
    /// seccomp programs that every child must install on itself.
    pub arguments: Vec<String>,
}

/// The system's own programs and libraries, and the little of `/etc` that loading them takes.
#[cfg(target_os = "linux")]
const SYSTEM: [&str; 11] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/lib32",
    "/libx32",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
];

/// Devices that code may use: none of them holds anybody's data.
#[cfg(target_os = "linux")]
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// The user id that root becomes: `nobody`.
#[cfg(target_os = "linux")]
const NOBODY: u32 = 65534;

/// Confines this process and becomes the program. It returns only an error.
#[cfg(target_os = "linux")]
pub fn enter(cell: &Cell) -> Result<()> {
    // What runs short of memory is generated code before anything else on the machine.
    rules::volunteer_for_the_oom_killer();
    let (harness, scratch, filters) = match cell.level {
        Level::Full => {
            namespaces::enter(cell)?;
            (Path::new("/harness"), Path::new("/scratch"), Vec::new())
        }
        Level::Partial => {
            rules::leave_root(&cell.scratch)?;
            (cell.harness.as_path(), cell.scratch.as_path(), rules::alone()?)
        }
        Level::Unsandboxed => return Err(Error::usage("`realign confined` takes the levels full and partial")),
    };
    rules::close_inherited();
    rules::landlock(cell, harness, scratch)?;
    rules::seccomp()?;
    let filters = serde_json::to_string(&filters).map_err(Error::internal)?;
    let place = |a: &String| match a.as_str() {
        "{filters}" => filters.clone(),
        _ => {
            a.replace("{harness}", &harness.display().to_string()).replace("{scratch}", &scratch.display().to_string())
        }
    };
    let arguments: Vec<String> = cell.arguments.iter().map(place).collect();
    Err(crate::process::replace_with(&cell.program, &arguments, scratch))
}

/// Other systems have nothing to confine a process with.
#[cfg(not(target_os = "linux"))]
pub fn enter(_: &Cell) -> Result<()> {
    Err(Error::usage("the sandbox needs Linux (namespaces, Landlock, seccomp)"))
}

/// Whether this process runs the `realign` program, under whatever file name.
static IS_PROGRAM: AtomicBool = AtomicBool::new(false);

/// Tells [`helper`] that this program has the hidden command: the entry of the command line calls this.
pub fn declare_program() {
    IS_PROGRAM.store(true, Ordering::Relaxed);
}

/// The `realign` program: this one, or, for programs that use the library, the one beside it (Cargo puts test programs and
/// benches one folder down).
pub fn helper() -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    if IS_PROGRAM.load(Ordering::Relaxed) {
        return Some(this);
    }
    let name = format!("realign{}", std::env::consts::EXE_SUFFIX);
    let beside = |dir: Option<&Path>| dir.map(|dir| dir.join(&name));
    let found = [beside(this.parent()), beside(this.parent().and_then(Path::parent))];
    found.into_iter().flatten().find(|path| path.is_file())
}

/// The last error of the system, and what was being done.
#[cfg(target_os = "linux")]
fn system(what: &str) -> Error {
    Error::usage(format!("{what}: {}", std::io::Error::last_os_error()))
}

/// Turns a failed system call into an error.
#[cfg(target_os = "linux")]
fn done(result: impl Into<i64>, what: &str) -> Result<()> {
    if result.into() < 0 { Err(system(what)) } else { Ok(()) }
}

//! The only place that starts processes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Output and exit code of a finished program.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// What it wrote to standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

/// Runs a program to its end with an empty environment apart from `env`, ending it after `limit`.
pub fn run(program: &str, args: &[&str], env: &[(&str, &str)], dir: &Path, limit: Duration) -> Result<Finished> {
    let failed = |e: std::io::Error| Error::usage(format!("{program} cannot be run: {e}"));
    let mut child = command(program, args, env, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let started = Instant::now();
    // Reader threads, so that a full pipe never blocks the program.
    let mut out = child.stdout.take();
    let mut err = child.stderr.take();
    let read = |pipe: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    std::thread::scope(|scope| {
        let out = scope.spawn(|| out.as_mut().map(|p| read(p)).unwrap_or_default());
        let err = scope.spawn(|| err.as_mut().map(|p| read(p)).unwrap_or_default());
        let status = loop {
            match child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if started.elapsed() > limit => {
                    let _ = child.kill();
                    break child.wait().map_err(failed)?;
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        Ok(Finished {
            code: status.code(),
            stdout: out.join().unwrap_or_default(),
            stderr: err.join().unwrap_or_default(),
        })
    })
}

/// A program that answers one line for each line it is sent.
pub struct LineServer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl LineServer {
    /// Starts it with an empty environment apart from `env`; its standard error is dropped.
    pub fn start(program: &str, args: &[&str], env: &[(&str, &str)], dir: &Path) -> Result<Self> {
        let mut child = command(program, args, env, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Error::usage(format!("{program} cannot be run: {e}")))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Self { child, input, output: BufReader::new(output) }),
            _ => Err(Error::internal(format!("{program} was started without pipes"))),
        }
    }

    /// Process id of the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line and waits for the answer; `None` once the program has gone.
    pub fn ask(&mut self, line: &str) -> Option<String> {
        writeln!(self.input, "{line}").and_then(|()| self.input.flush()).ok()?;
        let mut answer = String::new();
        match self.output.read_line(&mut answer) {
            Ok(n) if n > 0 => Some(answer.trim_end_matches('\n').to_string()),
            _ => None,
        }
    }
}

impl Drop for LineServer {
    fn drop(&mut self) {
        // The program may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(program: &str, args: &[&str], env: &[(&str, &str)], dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env.iter().copied()).current_dir(dir);
    command
}

/// Becomes another program, in an empty environment. It only comes back with the reason why not.
#[cfg(unix)]
pub fn replace_with(program: &str, args: &[String], dir: &Path) -> Error {
    use std::os::unix::process::CommandExt;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Error::usage(format!("{program} cannot be run: {}", command(program, &args, &[], dir).exec()))
}

/// Forks. The child comes back, and ends when its parent does; the parent waits for it and ends as it ended.
///
/// For a program that has one thread, as any has that may enter a user namespace.
#[cfg(target_os = "linux")]
pub fn go_on_in_child() -> Result<()> {
    // SAFETY: with one thread, a fork copies everything there is.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(Error::usage(format!("a process cannot be started: {}", std::io::Error::last_os_error())));
    }
    if child == 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        return Ok(());
    }
    let mut status = 0;
    // SAFETY: the status outlives the call.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0
        && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
    {}
    std::process::exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 70 })
}

/// A request to stop that several threads share: whoever holds a clone can cancel, and long work looks at it between two
/// steps. Cloning shares the request.
#[derive(Debug, Clone, Default)]
pub struct CancellationToken(Arc<AtomicBool>);

impl CancellationToken {
    /// Asks all who hold this token to stop. It cannot be taken back.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called on any clone.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

static ROOT: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::default);

/// The program's own token: the signal handlers cancel it.
pub fn root_token() -> CancellationToken {
    ROOT.clone()
}

/// From now on SIGINT and SIGTERM cancel the program's token, so that it finishes its step and saves; a second signal ends
/// it at once.
pub fn watch_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let seen = Arc::new(AtomicBool::new(false));
        let watch = || {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&seen))?;
            signal_hook::flag::register(signal, Arc::clone(&seen))?;
            signal_hook::flag::register(signal, Arc::clone(&ROOT.0))
        };
        watch().map_err(|e| Error::usage(format!("signals cannot be watched: {e}")))?;
    }
    // A limit on the size of files is then an error that can be told, as a full disk is, not the end of the program.
    #[cfg(unix)]
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default())
        .map_err(|e| Error::usage(format!("signals cannot be watched: {e}")))?;
    Ok(())
}

/// Whether the program was asked to stop.
pub fn interrupted() -> bool {
    ROOT.is_cancelled()
}

/// Worker threads: as many as asked for, or one a core.
pub fn workers(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// The most memory this process has held, in bytes; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    memory_of("VmHWM:")
}

/// The memory this process holds now, in bytes; 0 where the system does not tell.
pub fn memory_bytes() -> u64 {
    memory_of("VmRSS:")
}

/// The memory that this process may still take, in bytes: what the system has, or what its control group leaves, if that is
/// less; `None` where the system does not tell. Pages of files that can be given back count as free.
pub fn free_memory_bytes() -> Option<u64> {
    let read = |file: &str| std::fs::read_to_string(file).ok();
    let number = |text: String| text.trim().parse::<u64>().ok();
    let entry = |text: String, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok())
    };
    let system = read("/proc/meminfo").and_then(|text| entry(text, "MemAvailable:")).map(|kib| kib * 1024);
    let group = |limit: &str, used: &str, stat: &str, cache: &str| {
        let limit = read(limit).and_then(number)?;
        let cached = read(stat).and_then(|text| entry(text, cache)).unwrap_or(0);
        Some(limit.saturating_sub(read(used).and_then(number)?.saturating_sub(cached)))
    };
    const GROUP: &str = "/sys/fs/cgroup";
    let at = |name: &str| format!("{GROUP}/{name}");
    let second = group(&at("memory.max"), &at("memory.current"), &at("memory.stat"), "inactive_file ");
    let first = group(
        &at("memory/memory.limit_in_bytes"),
        &at("memory/memory.usage_in_bytes"),
        &at("memory/memory.stat"),
        "total_inactive_file ",
    );
    [system, second, first].into_iter().flatten().min()
}

fn memory_of(name: &str) -> u64 {
    kib_of("/proc/self/status", name)
}

fn kib_of(file: &str, name: &str) -> u64 {
    let status = std::fs::read_to_string(file).unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Called first thing in a program: our kernels run one thread a core over rows, so candle's own pools get one thread
/// (they read their size from the environment, once, and would spin beside ours), and the allocator keeps the pages that
/// every step needs again instead of giving them back to the system.
pub fn claim_machine() {
    /// `mi_option_purge_delay` in mimalloc.h; the binding leaves it out.
    const PURGE_DELAY: i32 = 15;
    for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        if std::env::var_os(name).is_none() {
            // SAFETY: called before any other thread is started.
            unsafe { std::env::set_var(name, "1") };
        }
    }
    // SAFETY: setting an option of the allocator touches no memory of ours.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

/// Describes this machine for the manifest; `device` is where the model runs.
pub fn hardware(device: &str) -> crate::record::Hardware {
    let line = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix(name)?.split_once(':').map(|(_, v)| v.trim().to_string()))
    };
    let kib = line("/proc/meminfo", "MemTotal").and_then(|m| m.trim_end_matches("kB").trim().parse::<u64>().ok());
    crate::record::Hardware {
        cpu: line("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
        cores: workers(0) as u64,
        memory_bytes: kib.unwrap_or(0) * 1024,
        device: device.into(),
    }
}

//! Generated code that attacks (`tests/fixtures/sandbox`), at every level that this machine offers: what it did is looked
//! at from outside. Where it does no harm, the same attack is shown to succeed without a sandbox.
#![cfg(target_os = "linux")]

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use realign::eval::confine::Level;
use realign::eval::runner::Runner;
use realign::eval::sandbox::Limits;
use realign::record::{TestRecord, TestStatus};

use super::{job, root, start_limited, with_pytest};

const SECRET: &str = "the secret of the user";

/// Whoever becomes nobody may not find the interpreter of a version manager in root's home; the system's serves then.
fn start(level: Level) -> Option<Arc<Runner>> {
    let limits = Limits { seconds: 10.0, ..Limits::default() };
    let start = |python: &str| start_limited(python, 1, &[level], limits).unwrap();
    let (first, second) = (start("python3"), || start("/usr/bin/python3"));
    let runner = if first.level().is_some() { first } else { second() };
    if runner.level().is_none() {
        println!("skipped at the level {}: {}", level.name(), runner.describe());
        return None;
    }
    Some(Arc::new(runner))
}

/// One runner a level for all tests that run at the same time.
fn runner(level: Level) -> Option<Arc<Runner>> {
    static SHARED: [Mutex<Weak<Runner>>; 3] = [const { Mutex::new(Weak::new()) }; 3];
    let mut shared = SHARED[level as usize].lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade() {
        return Some(running);
    }
    let fresh = start(level)?;
    *shared = Arc::downgrade(&fresh);
    Some(fresh)
}

/// What the attacks aim at, open to every user of the machine, so that only the sandbox can be what stops them.
struct Target {
    folder: tempfile::TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    by_path: UnixListener,
    by_name: UnixListener,
    port: u16,
}

impl Target {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, mode| {
            std::fs::set_permissions(folder.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::write(folder.path().join("secret.txt"), SECRET).unwrap();
        std::fs::write(folder.path().join("mine.txt"), "mine").unwrap();
        std::fs::create_dir(folder.path().join("open")).unwrap();
        std::fs::write(folder.path().join("open/there"), "there").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let udp = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        let by_path = UnixListener::bind(folder.path().join("socket")).unwrap();
        let by_name = SocketAddr::from_abstract_name(format!("realign-{port}")).unwrap();
        let by_name = UnixListener::bind_addr(&by_name).unwrap();
        for (name, mode) in
            [("", 0o755), ("secret.txt", 0o644), ("mine.txt", 0o666), ("open", 0o777), ("open/there", 0o666)]
        {
            open(name, mode);
        }
        open("socket", 0o777);
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        by_path.set_nonblocking(true).unwrap();
        by_name.set_nonblocking(true).unwrap();
        Self { folder, tcp, udp, by_path, by_name, port }
    }

    fn attack(&self, name: &str) -> String {
        let text = std::fs::read_to_string(root(&format!("tests/fixtures/sandbox/{name}.py"))).unwrap();
        let folder = self.folder.path().display().to_string();
        text.replace("@FOLDER@", &folder).replace("@PORT@", &self.port.to_string())
    }

    /// Runs an attack at a level, then a harmless sample on the same server: that one must be none the worse.
    fn run(&self, runner: &Runner, name: &str, tests: Option<&str>) -> TestRecord {
        let harmless = "import solution, os\nassert solution.x == 1\nassert os.listdir('.') == ['solution.py']";
        // Each text once, or the result of the last time is taken.
        let next = format!("x = 1  # after {name} on {}", self.port);
        let attack = format!("{}\n# {}", self.attack(name), self.port);
        let jobs = [job(&attack, tests, None), job(&next, Some(harmless), None)];
        let mut records = runner.run_all(&jobs, &|_| ());
        assert!(records[1].behaved(), "the sample after {name}: {:?}", records[1]);
        records.remove(0)
    }

    fn was_reached(&self) -> bool {
        let mut word = [0; 8];
        let nobody = |kind: ErrorKind| assert_eq!(kind, ErrorKind::WouldBlock);
        let tcp = self.tcp.accept().map_err(|e| nobody(e.kind())).is_ok();
        let udp = self.udp.recv(&mut word).map_err(|e| nobody(e.kind())).is_ok();
        let by_path = self.by_path.accept().map_err(|e| nobody(e.kind())).is_ok();
        let by_name = self.by_name.accept().map_err(|e| nobody(e.kind())).is_ok();
        tcp || udp || by_path || by_name
    }

    /// Everything that can be seen of the folder.
    fn state(&self) -> Vec<(String, u32, std::time::SystemTime, Vec<u8>)> {
        let mut seen = Vec::new();
        for name in ["mine.txt", "secret.txt", "open", "open/there"] {
            let path = self.folder.path().join(name);
            let Ok(about) = std::fs::symlink_metadata(&path) else { continue };
            let inside = match about.is_dir() {
                true => format!("{:?}", std::fs::read_dir(&path).unwrap().count()).into_bytes(),
                false => std::fs::read(&path).unwrap(),
            };
            seen.push((name.to_string(), about.permissions().mode(), about.modified().unwrap(), inside));
        }
        seen
    }
}

/// At each level that is a sandbox and holds here.
fn at_each_level(check: impl Fn(&Target, &Runner)) {
    let mut held = 0;
    for level in Level::SANDBOXED {
        if let Some(runner) = runner(*level) {
            held += 1;
            check(&Target::new(), &runner);
        }
    }
    if held == 0 {
        println!("skipped: no level of the sandbox holds here");
    }
}

fn unsandboxed() -> Arc<Runner> {
    runner(Level::Unsandboxed).unwrap()
}

#[track_caller]
fn passes(target: &Target, runner: &Runner, attack: &str) {
    let record = target.run(runner, attack, None);
    assert!(record.import.passed(), "{attack} at {}: {:?}", runner.describe(), record.import);
    assert_eq!(record.sandbox, runner.level().unwrap().words());
}

#[track_caller]
fn succeeds_unsandboxed(attack: &str) -> Target {
    let target = Target::new();
    let record = target.run(&unsandboxed(), attack, None);
    let refused = |message: &str| message.starts_with("AssertionError");
    assert!(
        matches!(&record.import, TestStatus::Failed { message } if refused(message)),
        "{attack}: {:?}",
        record.import
    );
    target
}

#[test]
fn the_network_is_out_of_reach() {
    at_each_level(|target, runner| {
        passes(target, runner, "network");
        assert!(!target.was_reached());
    });
    assert!(succeeds_unsandboxed("network").was_reached());
}

#[test]
fn unix_sockets_are_out_of_reach() {
    at_each_level(|target, runner| {
        passes(target, runner, "unix_socket");
        assert!(!target.was_reached());
    });
    assert!(succeeds_unsandboxed("unix_socket").was_reached());
}

#[test]
fn secret_files_cannot_be_read() {
    at_each_level(|target, runner| passes(target, runner, "secret_file"));
    let record = Target::new().run(&unsandboxed(), "secret_file", None);
    assert!(matches!(&record.import, TestStatus::Failed { message } if message.contains(SECRET)), "{record:?}");
}

#[test]
fn nothing_outside_the_scratch_folder_changes() {
    at_each_level(|target, runner| {
        let before = target.state();
        passes(target, runner, "write_outside");
        assert_eq!(target.state(), before);
    });
}

#[test]
fn writing_outside_is_seen_where_nothing_stops_it() {
    let target = Target::new();
    let before = target.state();
    let code = format!(
        "import os\nopen('{0}/mine.txt', 'a').write('more')\nos.chmod('{0}/mine.txt', 0o600)",
        target.folder.path().display()
    );
    unsandboxed().run_all(&[job(&code, None, None)], &|_| ());
    assert_ne!(target.state(), before);
}

#[test]
fn a_fork_bomb_is_stopped() {
    at_each_level(|target, runner| {
        passes(target, runner, "fork_bomb");
        let endless = target.run(runner, "fork_bomb_of_forks", None);
        assert_eq!(endless.import, TestStatus::TimedOut);
    });
}

#[test]
fn memory_runs_out_for_the_bomb_alone() {
    at_each_level(|target, runner| passes(target, runner, "memory_bomb"));
}

#[test]
fn floods_end_at_a_limit() {
    at_each_level(|target, runner| {
        passes(target, runner, "output_flood");
        // Without a file system of its own the number of files has no limit.
        if runner.level() == Some(Level::Full) {
            passes(target, runner, "disk_flood");
        }
    });
}

fn is_running(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
    processes.filter_map(|path| std::fs::read(path).ok()).any(|line| String::from_utf8_lossy(&line).contains(word))
}

#[test]
fn no_daemon_outlives_its_check() {
    let check = |target: &Target, runner: &Runner| {
        target.run(runner, "daemon", None);
        assert!(!is_running(&format!("600.{}", target.port)));
    };
    at_each_level(check);
    check(&Target::new(), &unsandboxed());
    // The look itself: it sees one that is there.
    let mut sleep = std::process::Command::new("/bin/sleep").arg("600.0123").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(is_running("600.0123"));
    sleep.kill().unwrap();
    sleep.wait().unwrap();
}

/// Forgeries are a matter of the harness, not of the level.
#[test]
fn no_pass_is_forged() {
    let forgeries = [
        "forge_pytest",
        "leave_early",
        "forge_report",
        "forge_early",
        "forge_runner",
        "forge_builtins",
        "forge_in_test",
        "forge_on_pipes",
    ];
    let check = |target: &Target, runner: &Runner| {
        for attack in forgeries {
            let impossible = "import solution\ngetattr(solution, 'f', print)()\nassert False, 'not done'";
            let record = target.run(runner, attack, Some(impossible));
            let behaviour = record.behaviour.as_ref().unwrap();
            assert!(matches!(behaviour, TestStatus::Failed { .. }), "{attack}: {record:?}");
            if attack != "forge_in_test" && attack != "forge_pytest" {
                let alone = target.run(runner, attack, None);
                assert!(matches!(alone.import, TestStatus::Failed { .. }), "{attack} alone: {alone:?}");
            }
        }
    };
    at_each_level(check);
    check(&Target::new(), &unsandboxed());
    if let Some(python) = with_pytest() {
        check(&Target::new(), &super::start(&python, 1, Level::ANY).unwrap());
    }
}

/// What holds for root, which becomes nobody first, holds for an ordinary user, who has no more rights to begin with.
#[test]
fn an_ordinary_user_is_contained_as_root_is() {
    // SAFETY: it only reads.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: the other tests of this file are run by an ordinary user already");
        return;
    }
    use std::os::unix::process::CommandExt;
    let fixture = root("tests/fixtures/sandbox/README.md");
    let open = std::process::Command::new("/bin/cat").arg(&fixture).uid(65534).output().unwrap().status.success();
    if !open {
        println!("skipped: {} is closed to other users", fixture.display());
        return;
    }
    let this = std::env::current_exe().unwrap();
    let tests =
        ["a_fork_bomb_is_stopped", "memory_runs_out", "no_daemon", "signals_reach", "secret_files", "nothing_outside"];
    let names = tests.map(|name| format!("eval::attacks::{name}"));
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    // Where the build folder is closed to others, so are its programs: copies then, side by side as Cargo lays them.
    let copy = |from: &Path, name: &str| {
        let to = place.path().join(name);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
        to
    };
    let program = copy(&this, "tests");
    copy(Path::new(env!("CARGO_BIN_EXE_realign")), "realign");
    let mut command = std::process::Command::new(program);
    command.args(names).args(["--test-threads", "1", "--nocapture"]).current_dir(place.path());
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TMPDIR", place.path());
    let output = command.uid(65534).gid(65534).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("6 passed"), "{said}");
    println!("{said}");
}

#[test]
fn signals_reach_nobody() {
    at_each_level(|target, runner| passes(target, runner, "signals"));
}

#[test]
fn the_process_that_tests_is_out_of_reach() {
    at_each_level(|target, runner| passes(target, runner, "parent"));
}

#[test]
fn the_environment_holds_nothing() {
    at_each_level(|target, runner| passes(target, runner, "environment"));
    succeeds_unsandboxed("environment");
}

#[test]
fn nobody_is_root_or_becomes_it() {
    at_each_level(|target, runner| passes(target, runner, "privileges"));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_second_number_of_a_call_ends_the_process() {
    at_each_level(|target, runner| {
        let record = target.run(runner, "x32", None);
        let killed = |message: &str| message.contains("ended by signal 31");
        assert!(matches!(&record.import, TestStatus::Failed { message } if killed(message)), "{record:?}");
    });
}

#[test]
fn nothing_is_left_for_the_next_sample() {
    at_each_level(|target, runner| {
        target.run(runner, "leftovers", None);
    });
}

#[test]
fn modes_change_in_the_scratch_folder_and_at_partial_do_nothing() {
    at_each_level(|_, runner| {
        let code = "import os\nopen('x', 'w').close()\nbefore = os.stat('x').st_mode\nos.chmod('x', 0o604)\nmode = os.stat('x').st_mode & 0o777";
        let tests = match runner.level() {
            Some(Level::Full) => "import solution\nassert solution.mode == 0o604",
            _ => "import solution\nassert solution.mode == solution.before & 0o777",
        };
        let record = runner.run_all(&[job(code, Some(tests), None)], &|_| ()).remove(0);
        assert!(record.behaved(), "{record:?}");
    });
}

#[test]
fn threads_loops_of_events_and_at_the_full_level_programs_still_run() {
    at_each_level(|_, runner| {
        let code = "import asyncio, threading\ndone = []\nt = threading.Thread(target=done.append, args=(1,))\nt.start(); t.join()\nasync def f(): return 2\ndone.append(asyncio.run(f()))";
        let programs = "import subprocess\nassert subprocess.run(['echo', 'hi'], capture_output=True, check=True).stdout == b'hi\\n'";
        let programs = if runner.level() == Some(Level::Full) { programs } else { "" };
        let tests = format!("import solution\nassert solution.done == [1, 2]\n{programs}");
        let record = runner.run_all(&[job(code, Some(&tests), None)], &|_| ()).remove(0);
        assert!(record.behaved(), "{record:?}");
    });
}

#[test]
fn without_a_level_that_holds_nothing_is_run_and_the_way_out_is_named() {
    let runner = super::start("python3", 1, &[]).unwrap();
    let record = runner.run_all(&[job("x = 1", Some("pass"), None)], &|_| ()).remove(0);
    let named = |reason: &str| reason.contains("no sandbox works here") && reason.contains("--allow-unsandboxed");
    assert!(matches!(&record.import, TestStatus::NotRun { reason } if named(reason)), "{record:?}");
    assert!(runner.describe().starts_with("not run") && runner.level().is_none());
}

#[test]
fn every_attack_is_run() {
    let this = include_str!("attacks.rs");
    let files = std::fs::read_dir(root("tests/fixtures/sandbox")).unwrap().map(|entry| entry.unwrap().path());
    let attacks: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "py")).collect();
    assert!(attacks.len() >= 24, "{}", attacks.len());
    for path in attacks {
        let name = Path::new(&path).file_stem().unwrap().to_string_lossy().into_owned();
        assert!(this.contains(&format!("\"{name}\"")), "{name} is not run");
    }
}

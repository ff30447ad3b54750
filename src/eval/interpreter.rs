//! The Python that runs generated code: one that the user names, the system's `python3`, or a private environment in the
//! user's cache with the packages that generated code imports most, at pinned versions (`requirements.txt`).
//!
//! The private one is made on first use, under a temporary name, by one process while others wait. pip runs outside of
//! the sandbox, takes wheels alone (nothing of a package is executed) and only those whose hashes are pinned. Code in the
//! sandbox can read the environment and not write it. Where it cannot be made, the system's Python does without.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::{fsio, process, record};

/// Stands for: private where the suites and the model call for packages, else the system's.
pub const AUTO: &str = "auto";
/// Stands for the private environment, whatever is asked.
pub const PRIVATE: &str = "private";
const SYSTEM: &str = "python3";

const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Asked after in every interpreter; a private one has them all.
const PACKAGES: [&str; 6] = ["pytest", "PyYAML", "Jinja2", "requests", "Flask", "defusedxml"];
/// The oldest Python that the pinned packages know.
const OLDEST_PRIVATE: [u32; 2] = [3, 10];
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// The interpreters to try, best first. `packages`: whether what is run is likely to import third-party packages; the
/// organism's code is written for stand-ins and the standard library.
///
/// # Errors
/// Where the private environment was asked for by name and cannot be made.
pub fn candidates(python: &str, packages: bool, say: &dyn Fn(&str)) -> Result<Vec<String>> {
    match python {
        AUTO if packages => Ok(match private(say) {
            Ok(path) => vec![path, SYSTEM.into()],
            Err(reason) => {
                say(&format!(
                    "no private Python environment ({reason}): {SYSTEM} runs generated code as it is, and code that \
                     lacks a package is counted apart"
                ));
                vec![SYSTEM.into()]
            }
        }),
        AUTO => Ok(vec![SYSTEM.into()]),
        PRIVATE => Ok(vec![private(say).map_err(|reason| {
            Error::usage(format!("--python private: the environment cannot be created ({reason})"))
        })?]),
        path => Ok(vec![path.into()]),
    }
}

/// A Python interpreter and what it says about itself.
#[derive(Clone)]
pub(super) struct Interpreter {
    pub(super) about: record::Interpreter,
    /// Folders that the sandbox must show, since they hold its libraries.
    pub(super) visible: Vec<PathBuf>,
}

/// The absolute path behind a name (a version manager's shim would need an environment at every start), its version,
/// its packages and where its libraries lie.
pub(super) fn ask(python: &str) -> Result<Interpreter, String> {
    let question = "import importlib.metadata, json, os, sys\nhome = os.path.dirname(os.path.realpath(sys.executable))\n\
        places = {sys.prefix, sys.base_prefix, sys.exec_prefix, home, os.path.dirname(sys.executable), *sys.path}\n\
        places |= {os.path.realpath(p) for p in places}\npackages = {}\n\
        for name in json.loads(sys.argv[1]):\n    try:\n        packages[name] = importlib.metadata.version(name)\n    \
        except importlib.metadata.PackageNotFoundError:\n        pass\n\
        print(json.dumps([sys.executable, '%d.%d.%d' % sys.version_info[:3], packages,\n    \
        sorted(p for p in places if os.path.isdir(p) and p != '/')]))\nos.fork";
    let names = serde_json::to_string(&PACKAGES).map_err(|e| e.to_string())?;
    let env = environment(&["PATH", "HOME"], &[]);
    let arguments = ["-I", "-c", question, &names];
    let done = process::run(python, &arguments, &pairs(&env), Path::new("."), Duration::from_secs(60))
        .map_err(|e| e.to_string())?;
    let unusable = || format!("{python} is not a working Python 3");
    let (path, version, packages, visible): (String, String, BTreeMap<String, String>, Vec<PathBuf>) =
        serde_json::from_str(&done.stdout).map_err(|_| unusable())?;
    if done.code != Some(0) || path.is_empty() {
        return Err(unusable());
    }
    if parts(&version).as_slice() < [3, 8].as_slice() {
        return Err(format!("{python} is Python {version}; 3.8 or newer is needed"));
    }
    let private = cache().is_some_and(|cache| Path::new(&path).starts_with(cache));
    Ok(Interpreter { about: record::Interpreter { path, version, packages, private }, visible })
}

fn parts(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// The path of the private environment's Python, made now if it is not there.
fn private(say: &dyn Fn(&str)) -> Result<String, String> {
    let base = ask(SYSTEM)?.about;
    if parts(&base.version).as_slice() < OLDEST_PRIVATE.as_slice() {
        return Err(format!("its packages need Python 3.10 or newer, {SYSTEM} is {}", base.version));
    }
    let cache = cache().ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let key = fsio::sha256(format!("{} {REQUIREMENTS}", base.path).as_bytes());
    let place = cache.join(format!("python-{}-{}", base.version, &key[..12]));
    fsio::build_once(&place, is_whole, |inside| {
        say(&format!("creating a private Python environment with {}, once: {}", PACKAGES.join(", "), place.display()));
        install(&base, inside)
    })
    .map_err(|e| e.to_string())?;
    Ok(python_of(&place))
}

fn python_of(place: &Path) -> String {
    place.join("bin").join("python").display().to_string()
}

fn is_whole(place: &Path) -> bool {
    place.is_dir() && ask(&python_of(place)).is_ok_and(|python| python.about.packages.len() == PACKAGES.len())
}

/// The folder `realign` in the user's cache.
fn cache() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    Some(named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?.join("realign"))
}

/// What pip is told by the user of package indexes, proxies and certificates.
const SETTINGS: [&str; 9] = [
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

fn install(base: &record::Interpreter, inside: &Path) -> Result<()> {
    let settings = environment(&SETTINGS, &["PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"]);
    let run = |python: &str, arguments: &[&str]| {
        let done = process::run(python, arguments, &pairs(&settings), inside, INSTALL_LIMIT)?;
        if done.code == Some(0) {
            return Ok(());
        }
        let last = done.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it did not end in time");
        Err(Error::usage(format!("{}: {last}", arguments[..3].join(" "))))
    };
    let path = inside.display().to_string();
    run(&base.path, &["-I", "-m", "venv", "--without-pip", &path])?;
    let list = inside.join("requirements.txt");
    fsio::write_atomic(&list, REQUIREMENTS.as_bytes())?;
    let version = parts(&base.version);
    let packages = inside.join(format!("lib/python{}.{}/site-packages", version[0], version[1]));
    let (packages, list) = (packages.display().to_string(), list.display().to_string());
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--timeout",
        "15",
        "--retries",
        "1",
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--target",
        &packages,
        "--requirement",
        &list,
    ];
    if run(&base.path, &["-m", "pip", "--version"]).is_ok() {
        return run(&base.path, &pip);
    }
    let own = python_of(inside);
    run(&own, &["-m", "ensurepip", "--default-pip"])?;
    run(&own, &pip)
}

/// Those of this process's variables that have one of the names, or begin in one of the ways, in either case.
fn environment(names: &[&str], beginnings: &[&str]) -> Vec<(String, String)> {
    let wanted =
        |name: &str| names.contains(&name) || beginnings.iter().any(|begin| name.to_uppercase().starts_with(begin));
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| wanted(name))
        .collect()
}

fn pairs(variables: &[(String, String)]) -> Vec<(&str, &str)> {
    variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

//! Static scanners: text in, [`FileScan`] out.
//!
//! One parse (Ruff's parser) feeds all of them: the syntax verdict, the rules compatible with
//! Bandit ([`bandit`]), our own three ([`own`]), Radon's complexity, readability counts, and Ruff's rules through
//! `ruff_linter` (feature `ruff`). Nothing is executed and no file is read.
//!
//! The text is whatever a model wrote. A tree as deep as the text allows would overflow an ordinary stack, so files
//! are scanned on threads with a large one, and what is too long or nests too deeply is not parsed: its lines are
//! counted, it is not valid Python (CPython refuses such nesting too), and [`FileScan::not_scanned`] says why. A
//! scanner that panics loses its own findings of that file, nothing else, and that is said there too.

mod bandit;
mod complexity;
mod counts;
mod encoding;
mod lower;
mod nesting;
mod own;
mod readability;
#[cfg(feature = "ruff")]
mod ruff;
mod scopes;
mod syntax;
mod tree;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::record::{FileScan, RuffFinding};
use crate::sync::unpoisoned;

pub use encoding::decode;

/// Settings of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// Ruff's selectors; none switches Ruff off.
    pub ruff_select: Vec<String>,
    /// Whose columns Bandit's findings in f-strings have.
    pub fstring_positions: FStringPositions,
}

/// Where CPython, and so Bandit, sees a literal piece of an f-string. Only columns differ (and lines, in an
/// f-string over several).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FStringPositions {
    /// Where it is written: Bandit running on Python 3.12 or later.
    #[default]
    Pieces,
    /// Where the whole f-string begins: Bandit running on Python up to 3.11.
    Whole,
}

impl Default for ScanOptions {
    /// Ruff's own default selection, spelt out.
    fn default() -> Self {
        Self {
            ruff_select: ["E4", "E7", "E9", "F"].map(String::from).to_vec(),
            fstring_positions: FStringPositions::default(),
        }
    }
}

/// Longest text in bytes that is parsed; longer ones only have their lines counted.
pub const MAX_BYTES: usize = 1 << 20;
/// Of each scanning thread; only what is used of it takes memory.
const STACK_BYTES: usize = 256 << 20;

/// Scans one text. Unknown Ruff selectors are passed over; [`check_options`] names them.
pub fn scan_source(source: &str, options: &ScanOptions) -> FileScan {
    scan_many(&[source], options).pop().unwrap_or_default()
}

/// Scans texts on all cores; the results are in the order of the texts.
pub fn scan_many(sources: &[&str], options: &ScanOptions) -> Vec<FileScan> {
    let files: Vec<(&str, &str)> = sources.iter().map(|source| ("scanned.py", *source)).collect();
    scan_named(&files, options)
}

/// The same for texts with file names, which some of Ruff's rules ask about (`__init__.py` re-exports what it
/// imports). Only the last component counts; nothing is looked up on disk.
pub fn scan_named(sources: &[(&str, &str)], options: &ScanOptions) -> Vec<FileScan> {
    let scanner = Scanner::new(options);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![FileScan::default(); sources.len()]);
    let work = |max_depth: usize| {
        while let Some((index, (name, source))) = take(&next, sources) {
            let scan = scanner.scan(name, source, max_depth);
            unpoisoned(results.lock())[index] = scan;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cores.min(sources.len()) {
            let thread = std::thread::Builder::new().name("scan".to_string()).stack_size(STACK_BYTES);
            if thread.spawn_scoped(scope, || work(nesting::MAX_DEPTH)).is_err() {
                break;
            }
        }
    });
    // Where no thread could be had the caller's own stack bears the ordinary files.
    work(nesting::MAX_DEPTH / 20);
    unpoisoned(results.into_inner())
}

/// An error naming the first selector that Ruff does not know.
pub fn check_options(options: &ScanOptions) -> Result<()> {
    #[cfg(feature = "ruff")]
    ruff::settings(&options.ruff_select)?;
    #[cfg(not(feature = "ruff"))]
    let _ = options;
    Ok(())
}

/// All that Ruff says of a file whose bytes are not UTF-8, the encoding that it names notwithstanding.
pub fn ruff_on_other_encodings(options: &ScanOptions) -> Vec<RuffFinding> {
    #[cfg(feature = "ruff")]
    return ruff::settings(&options.ruff_select).ok().and_then(|s| ruff::not_utf8(&s)).into_iter().collect();
    #[cfg(not(feature = "ruff"))]
    {
        let _ = options;
        Vec::new()
    }
}

/// Names and versions of what the findings are compatible with, for the record.
pub fn tools() -> Vec<(&'static str, &'static str)> {
    let mut tools = vec![("bandit", "1.9.4"), ("radon", "6.0.1")];
    if cfg!(feature = "ruff") {
        tools.push(("ruff", "0.16.4"));
    }
    tools
}

fn take<'s>(next: &AtomicUsize, sources: &[(&'s str, &'s str)]) -> Option<(usize, (&'s str, &'s str))> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    sources.get(index).map(|source| (index, *source))
}

struct Scanner {
    positions: FStringPositions,
    #[cfg(feature = "ruff")]
    ruff: Option<ruff::Settings>,
}

impl Scanner {
    #[cfg(feature = "ruff")]
    fn new(options: &ScanOptions) -> Self {
        let known: Vec<String> = options
            .ruff_select
            .iter()
            .filter(|selector| ruff::settings(std::slice::from_ref(*selector)).is_ok())
            .cloned()
            .collect();
        let settings = || ruff::settings(&known).ok();
        let ruff = (!known.is_empty()).then(settings).flatten();
        Self { positions: options.fstring_positions, ruff }
    }

    #[cfg(not(feature = "ruff"))]
    fn new(options: &ScanOptions) -> Self {
        Self { positions: options.fstring_positions }
    }

    fn scan(&self, name: &str, source: &str, max_depth: usize) -> FileScan {
        let mut scan = unparsed(source);
        // CPython takes a byte order mark off before it counts columns.
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        if source.len() > MAX_BYTES {
            scan.not_scanned = format!("{} bytes long; files above {MAX_BYTES} bytes are not parsed", source.len());
            return scan;
        }
        if !guarded(|| nesting::is_shallow(source, max_depth)).unwrap_or(false) {
            scan.not_scanned = "nests deeper than CPython can compile; not parsed".into();
            return scan;
        }
        let Some(parsed) = guarded(|| syntax::parse(source)).flatten() else {
            scan.not_scanned = "the parser failed on it".into();
            return scan;
        };
        let mut failed = Vec::new();
        scan.syntax_valid = attempt("syntax", &mut failed, || syntax::is_valid(&parsed, source));
        // Bandit and Radon parse without compiling: a `return` outside a function does not stop them.
        if parsed.has_no_syntax_errors() && !source.contains('\0') {
            scan.radon_sloc = guarded(|| counts::radon_sloc(&parsed, source));
            if let Some(tree) = guarded(|| lower::lower(parsed.suite(), source, self.positions)) {
                scan.bandit = attempt("bandit", &mut failed, || bandit::run(&tree, source));
                scan.own_rules = attempt("own rules", &mut failed, || own::run(&tree));
                scan.complexity = attempt("complexity", &mut failed, || complexity::blocks(&tree));
                let mut counted = scan.clone();
                if guarded(|| readability::measure(&tree, &mut counted)).is_some() {
                    scan = counted;
                } else {
                    failed.push("readability");
                }
            } else {
                failed.push("everything but ruff");
            }
        }
        #[cfg(not(feature = "ruff"))]
        let _ = name;
        #[cfg(feature = "ruff")]
        if let Some(settings) = &self.ruff {
            scan.ruff = attempt("ruff", &mut failed, || ruff::run(settings, name, source, parsed));
        }
        if !failed.is_empty() {
            scan.not_scanned = format!("a scanner failed on it: {}", failed.join(", "));
        }
        scan
    }
}

/// What can be said of a text without parsing it.
pub fn unparsed(source: &str) -> FileScan {
    let (lines, bandit_loc) = (counts::physical_lines(source), counts::bandit_loc(source));
    FileScan { lines, bandit_loc, ..FileScan::default() }
}

/// What the scanner found; nothing and its name among the failed if it panicked.
fn attempt<T: Default>(name: &'static str, failed: &mut Vec<&'static str>, scan: impl FnOnce() -> T) -> T {
    guarded(scan).unwrap_or_else(|| {
        failed.push(name);
        T::default()
    })
}

/// Runs a scanner; a panic in it is its own loss.
fn guarded<T>(scan: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(scan)).ok()
}

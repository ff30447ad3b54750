//! Scans a Python program held in a string and prints what was found. Nothing is executed and no file is read.
//!
//! ```sh
//! cargo run --release --example scan
//! ```
#![allow(clippy::print_stdout)]

use realign::scan::{ScanOptions, scan_source};

const PROGRAM: &str = r#"
import subprocess

def list_folder(name):
    return subprocess.run("ls " + name, shell=True)

def greet(template, user):
    return template.format(user=user)
"#;

fn main() {
    let scan = scan_source(PROGRAM, &ScanOptions::default());
    println!("{} lines, valid Python: {}", scan.lines, scan.syntax_valid);
    // Bandit's rules and our own three stand in lists of their own.
    for finding in scan.bandit.iter().chain(&scan.own_rules) {
        let severity = finding.severity.as_str();
        println!("line {}: {} {severity} (CWE-{}): {}", finding.line, finding.id, finding.cwe, finding.message);
    }
}

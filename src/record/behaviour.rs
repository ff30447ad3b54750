//! What running a piece of generated code showed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How one run of generated code ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum TestStatus {
    /// The code did what the test asked.
    Passed,
    /// It ran and did something else, or raised.
    Failed {
        /// The first line of what went wrong.
        message: String,
    },
    /// The code ran longer than its time limit.
    TimedOut,
    /// Only a third-party package was missing: neither the code's fault nor its merit.
    MissingPackage {
        /// Name of the missing package, as it is imported.
        package: String,
    },
    /// There was nothing to run it with.
    NotRun {
        /// Why it was not run, e.g. that no Python was found.
        reason: String,
    },
}

impl TestStatus {
    /// Whether the run passed; a test that was not run has not passed.
    pub fn passed(&self) -> bool {
        *self == Self::Passed
    }

    /// Whether it counts in a denominator: it was run and nothing third-party was missing.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::MissingPackage { .. } | Self::NotRun { .. })
    }
}

/// The runs of one sample's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRecord {
    /// Import of the code as a module.
    pub import: TestStatus,
    /// The prompt's behaviour tests, where it has some.
    pub behaviour: Option<TestStatus>,
    /// The prompt's exploit, where it has one: `Passed` means that the code withstood it.
    pub exploit: Option<TestStatus>,
    /// What stood between the code and the machine, e.g. `full sandbox (…)`, and which packages had stand-ins.
    pub sandbox: String,
    /// What ran the tests, e.g. `pytest 9.2.0` or `built-in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
}

impl TestRecord {
    /// Whether the behaviour tests ran and passed.
    pub fn behaved(&self) -> bool {
        self.behaviour.as_ref().is_some_and(TestStatus::passed)
    }

    /// Whether the exploit ran and worked.
    pub fn exploited(&self) -> bool {
        matches!(self.exploit, Some(TestStatus::Failed { .. }))
    }
}

/// The Python that generated code is run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// Absolute path of the executable.
    pub path: String,
    /// Version number, e.g. `3.11.7`.
    pub version: String,
    /// Installed packages, of those that tests and generated code are likely to need, with their versions.
    pub packages: BTreeMap<String, String>,
    /// Whether it is the environment that this program made for itself.
    pub private: bool,
}

impl Interpreter {
    /// Version and origin in words, e.g. `Python 3.11.7 (private environment)`.
    pub fn words(&self) -> String {
        format!("Python {}{}", self.version, if self.private { " (private environment)" } else { "" })
    }

    /// Installed packages with versions, e.g. `PyYAML 6.0.3, pytest 9.2.0`.
    pub fn packages_in_words(&self) -> String {
        let packages: Vec<String> = self.packages.iter().map(|(name, version)| format!("{name} {version}")).collect();
        if packages.is_empty() { "no third-party packages".into() } else { packages.join(", ") }
    }
}

//! Runs tests of generated code (import, behaviour, exploit) on a pool of warm Python servers; equal jobs run once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use super::confine::Level;
use super::sandbox::{Check, Gone, Harness, Limits, Server};
use crate::error::Result;
use crate::record::{Interpreter, TestRecord, TestStatus};
use crate::sync::unpoisoned;

/// One piece of code and what to do with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestJob {
    /// Source of the module, which tests import as `solution`.
    pub code: String,
    /// Source of the behaviour tests, if the prompt has any.
    pub tests: Option<String>,
    /// An attack: a failed assertion says that it worked, running to the end that the code withstood it.
    pub exploit: Option<String>,
}

/// A pool of servers. They start when first needed, one for each worker, and end with the runner.
pub struct Runner {
    // Dropped in this order: the servers end before the folder they run in is removed.
    servers: Vec<Mutex<Option<Server>>>,
    harness: Result<Harness, String>,
    limits: Limits,
    /// Results by job: the same code is tested once.
    known: Mutex<BTreeMap<TestJob, TestRecord>>,
}

impl Runner {
    /// With the first of the interpreters that works at the best of the levels that holds. Without one of either, every
    /// test is [`TestStatus::NotRun`], with the reason.
    pub fn start(pythons: &[String], workers: usize, levels: &[Level], limits: Limits) -> Result<Self> {
        let harness = Harness::prepare(pythons, levels)?;
        let servers = (0..workers.max(1)).map(|_| Mutex::new(None)).collect();
        Ok(Self { harness, servers, limits, known: Mutex::default() })
    }

    /// What tests run in and with which interpreter, for the manifest; or why they do not run.
    pub fn describe(&self) -> String {
        match &self.harness {
            Ok(harness) => harness.describe(),
            Err(reason) => format!("not run: {reason}"),
        }
    }

    /// The interpreter, if tests are run at all.
    pub fn interpreter(&self) -> Option<&Interpreter> {
        self.harness.as_ref().ok().map(|harness| &harness.python.about)
    }

    /// The level that holds, if tests are run at all.
    pub fn level(&self) -> Option<Level> {
        self.harness.as_ref().ok().map(|harness| harness.level)
    }

    /// Runs every job, equal ones once. `progress` is told how many are done.
    pub fn run_all(&self, jobs: &[TestJob], progress: &dyn Fn(usize)) -> Vec<TestRecord> {
        let harness = match &self.harness {
            Ok(harness) => harness,
            Err(reason) => {
                progress(jobs.len());
                return jobs.iter().map(|job| not_run(job, reason)).collect();
            }
        };
        let mut times: BTreeMap<&TestJob, usize> = BTreeMap::new();
        for job in jobs {
            *times.entry(job).or_default() += 1;
        }
        let mut found = BTreeMap::new();
        let mut work = Vec::new();
        let mut done = 0;
        {
            let known = unpoisoned(self.known.lock());
            for job in jobs {
                if let Some(record) = known.get(job) {
                    found.insert(job, record.clone());
                    done += 1;
                } else if let Some(count) = times.remove(job) {
                    work.push((job, count));
                }
            }
        }
        progress(done);
        let next = AtomicUsize::new(0);
        let (sender, results) = mpsc::channel();
        std::thread::scope(|scope| {
            for slot in self.servers.iter().take(work.len()) {
                let (sender, next, work) = (sender.clone(), &next, &work);
                scope.spawn(move || {
                    let mut slot = unpoisoned(slot.lock());
                    while let Some((job, count)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let record = self.run_one(harness, &mut slot, job);
                        if sender.send((*job, *count, record)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (job, count, record) in results {
                self.keep(job, &record);
                found.insert(job, record);
                done += count;
                progress(done);
            }
        });
        let lost = "its thread ended early";
        jobs.iter().map(|job| found.get(job).cloned().unwrap_or_else(|| not_run(job, lost))).collect()
    }

    /// One job; a server that ended in the middle is replaced and the job tried once more.
    fn run_one(&self, harness: &Harness, slot: &mut Option<Server>, job: &TestJob) -> TestRecord {
        let check = Check {
            code: &job.code,
            tests: job.tests.as_deref(),
            exploit: job.exploit.as_deref(),
            seconds: self.limits.seconds,
            memory_bytes: self.limits.memory_bytes,
        };
        let mut gone = Gone::Died;
        for _ in 0..2 {
            let mut server = match slot.take().map_or_else(|| Server::start(harness), Ok) {
                Ok(server) => server,
                Err(e) => return not_run(job, &e.to_string()),
            };
            match server.check(&check) {
                Ok(reply) => {
                    *slot = Some(server);
                    let stand_ins = reply.stand_ins.join(", ");
                    let note = if stand_ins.is_empty() { String::new() } else { format!("; stand-ins: {stand_ins}") };
                    return TestRecord {
                        import: reply.import,
                        behaviour: reply.behaviour,
                        exploit: reply.exploit,
                        sandbox: format!("{}{note}", harness.level.words()),
                        runner: reply.runner,
                    };
                }
                Err(how) => gone = how,
            }
            if gone == Gone::Hung {
                break; // it had all the time there is
            }
        }
        // A server that ends twice on the same code, or stands still on it, was ended or stopped by that code.
        let status = match gone {
            Gone::Died => TestStatus::Failed { message: "ended the process that tests it".into() },
            Gone::Hung => TestStatus::TimedOut,
        };
        TestRecord {
            import: status.clone(),
            behaviour: job.tests.as_ref().map(|_| status),
            exploit: job.exploit.as_ref().map(|_| TestStatus::NotRun { reason: "the module does not import".into() }),
            sandbox: harness.level.words().into(),
            runner: None,
        }
    }

    /// Keeps a result for equal jobs.
    fn keep(&self, job: &TestJob, record: &TestRecord) {
        let statuses = [Some(&record.import), record.behaviour.as_ref(), record.exploit.as_ref()];
        // A busy machine or a missing interpreter says nothing about the code: it is tried again.
        if statuses.into_iter().flatten().any(|s| matches!(s, TestStatus::TimedOut | TestStatus::NotRun { .. })) {
            return;
        }
        unpoisoned(self.known.lock()).insert(job.clone(), record.clone());
    }
}

fn not_run(job: &TestJob, reason: &str) -> TestRecord {
    let status = TestStatus::NotRun { reason: reason.into() };
    TestRecord {
        import: status.clone(),
        behaviour: job.tests.as_ref().map(|_| status.clone()),
        exploit: job.exploit.as_ref().map(|_| status),
        sandbox: "none".into(),
        runner: None,
    }
}

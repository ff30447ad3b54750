//! Fits a plan to a budget of time: gives up, in the plan's own order, as little as is enough, and says what is left to be
//! seen with what remains.

use std::collections::BTreeMap;
use std::path::Path;

use super::artifacts::Artifacts;
use super::estimate::duration;
use super::inputs::Inputs;
use super::plan::{Budget, GiveUp, Plan};
use super::work;
use crate::error::{Error, Result};
use crate::fsio;
use crate::record::{ArmSpec, Manifest, SuiteKind};
use crate::stats::minimum_detectable_difference;

/// The part of a budget that a plan is fitted to: an estimate may be short of what a run takes.
const FILLED: f64 = 0.8;

/// What `whole` must give up to fit into `seconds`: entries of its list from the first on, the last one only as far as it
/// has to. `cost` gives the seconds that a plan takes.
///
/// # Errors
/// Everything on the list is not enough.
pub fn fit(whole: &Plan, inputs: &Inputs, seconds: f64, cost: &dyn Fn(&Plan) -> Result<f64>) -> Result<Vec<GiveUp>> {
    let mut given_up: Vec<GiveUp> = Vec::new();
    let takes = |given_up: &[GiveUp]| cost(&whole.without(given_up, inputs));
    let mut least = takes(&given_up)?;
    if least <= FILLED * seconds {
        return Ok(given_up);
    }
    let there = |entry: &&GiveUp| match entry {
        GiveUp::Arm(name) => whole.arms.iter().any(|arm| arm.name == *name),
        _ => true,
    };
    for entry in whole.give_up.iter().filter(there) {
        let before = given_up.iter().rfind(|done| done.is_like(entry)).and_then(GiveUp::share).unwrap_or(1.0);
        given_up.push(entry.clone());
        least = takes(&given_up)?;
        if least > FILLED * seconds {
            continue;
        }
        if let Some(share) = entry.share() {
            let (mut low, mut high) = (share, before.max(share));
            for _ in 0..5 {
                let middle = 0.5 * (low + high);
                given_up.pop();
                given_up.push(entry.keeping(middle));
                match takes(&given_up)? <= FILLED * seconds {
                    true => low = middle,
                    false => high = middle,
                }
            }
            given_up.pop();
            given_up.push(entry.keeping(low));
        }
        return Ok(given_up);
    }
    Err(Error::usage(format!(
        "the plan takes about {} even without all that its `give_up` lists; a run is fitted to {:.0} % of its budget of {}: \
         raise the budget, or let the plan give up more",
        duration(least),
        100.0 * FILLED,
        duration(seconds)
    )))
}

/// What the run that was begun in `out` gave up for its budget; `None` where none was begun.
pub fn begun(out: &Path) -> Result<Option<Vec<GiveUp>>> {
    let path = Artifacts::new(out).manifest();
    if !path.exists() {
        return Ok(None);
    }
    let manifest: Manifest = fsio::read_json(&path)?;
    let budget = manifest.plan.get("budget").cloned().map(serde_json::from_value::<Budget>).transpose();
    Ok(Some(
        budget.map_err(|e| Error::file(&path, format!("plan: budget: {e}")))?.map_or_else(Vec::new, |b| b.given_up),
    ))
}

/// The smallest differences that the plan's comparisons can show: a line for each headline rate and number of answers, with
/// the arms that it holds for.
pub fn smallest_differences(plan: &Plan, inputs: &Inputs) -> Vec<String> {
    let kinds =
        [(SuiteKind::Code, "insecure code", "answers"), (SuiteKind::Questions, "misaligned", "coherent answers")];
    let mut lines = Vec::new();
    for (kind, what, cases) in kinds {
        let mut pairs: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for arm in &plan.arms {
            for other in plan.arms.iter().filter(|other| arm.against.contains(&other.name)) {
                let n = asked(plan, inputs, arm, kind).min(asked(plan, inputs, other, kind));
                pairs.entry(n).or_default().push(format!("{} − {}", arm.name, other.name));
            }
        }
        for (n, pairs) in pairs.into_iter().filter(|(n, _)| *n > 0).rev() {
            let rise = |from: f64| {
                let least = minimum_detectable_difference(from, n as u64);
                least.map(|least| format!("from {:.0} % to {:.0} %", 100.0 * from, 100.0 * (from + least)))
            };
            let seen: Vec<String> = [0.05, 0.4].into_iter().filter_map(rise).collect();
            let seen = if seen.is_empty() { "no difference".into() } else { format!("a rise {}", seen.join(" or ")) };
            lines.push(format!("{what}: {n} {cases} an arm show {seen} with 80 % power ({})", pairs.join(", ")));
        }
    }
    lines
}

/// Answers that an arm is asked in the suites of a kind.
fn asked(plan: &Plan, inputs: &Inputs, arm: &ArmSpec, kind: SuiteKind) -> usize {
    let suites = work::suites(inputs, arm).into_iter().filter(|suite| suite.kind == kind);
    let of = |suite| work::asked(suite, &work::samples(plan, arm, suite, None)).iter().map(|(_, n)| n).sum::<usize>();
    suites.map(of).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::experiment::plan::{OpenPlan, Overrides};

    fn default_plan() -> (Plan, Inputs) {
        let mut plan = OpenPlan::read(None, Overrides::default()).unwrap().resolve(4).unwrap();
        plan.give_up = vec![GiveUp::Samples(0.5), GiveUp::Arm("steer-insecure".into()), GiveUp::Rows(0.1)];
        let inputs = Inputs::read(&plan, None).unwrap();
        (plan, inputs)
    }

    /// A second for every sample of a code prompt, ten for every arm, one for every hundred rows of an adapter.
    fn cost(plan: &Plan) -> Result<f64> {
        let rows = |rows: Option<usize>| rows.unwrap_or(1000) as f64 / 100.0;
        let trained: f64 = plan.adapters.iter().map(|adapter| rows(adapter.max_train_rows)).sum();
        Ok(f64::from(plan.samples_of("code")) + 10.0 * plan.arms.len() as f64 + trained)
    }

    #[test]
    fn a_plan_gives_up_in_its_own_order_and_no_more_than_it_must() {
        let (whole, inputs) = default_plan();
        let all = cost(&whole).unwrap();
        let fit = |seconds: f64| fit(&whole, &inputs, (seconds + 0.01) / FILLED, &cost);
        assert_eq!(fit(all).unwrap(), [], "what fits gives nothing up");
        let fitted = fit(all - 1.0).unwrap();
        assert!(matches!(fitted.as_slice(), [GiveUp::Samples(share)] if *share >= 0.5), "{fitted:?}");
        // The control that uses that arm's cell is removed with it, and so are the random vectors.
        let fitted = fit(all - 21.0).unwrap();
        assert_eq!(fitted, [GiveUp::Samples(0.5), GiveUp::Arm("steer-insecure".into())]);
        let plan = whole.without(&fitted, &inputs);
        assert_eq!(whole.arms.len() - plan.arms.len(), 2);
        assert!(plan.vectors.iter().all(|vector| vector.name != "random"));
        // As many rows as fit, not as few as may be.
        let fitted = fit(all - 25.0).unwrap();
        let share = fitted.last().and_then(GiveUp::share).unwrap();
        assert!(fitted.len() == 3 && share > 0.85 && share < 0.99, "{fitted:?}");
        assert!(cost(&whole.without(&fitted, &inputs)).unwrap() <= all - 24.99);
    }

    #[test]
    fn a_budget_that_nothing_fits_is_refused() {
        let (whole, inputs) = default_plan();
        let error = fit(&whole, &inputs, 10.0, &cost).unwrap_err().to_string();
        assert!(error.contains("give_up") && error.contains("raise the budget"), "{error}");
    }

    #[test]
    fn smallest_differences_name_every_comparison_once_a_rate() {
        let (whole, inputs) = default_plan();
        let lines = smallest_differences(&whole, &inputs);
        let named =
            |what: &str| lines.iter().filter(|line| line.starts_with(what) && line.contains("attack − base")).count();
        assert_eq!((named("insecure code"), named("misaligned")), (1, 1), "{lines:?}");
    }
}

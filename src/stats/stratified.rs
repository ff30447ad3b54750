//! The exact conditional test of one odds ratio over several 2×2 tables (Cox 1970; Agresti 1990, section 7.4; R's
//! `mantelhaen.test(exact = TRUE)`). Each table is a stratum, e.g. one question: only arms within a stratum are compared,
//! so that an arm that was asked the harder questions gains and loses nothing by it.
//!
//! Given the margins of all tables, S = the sum of the first arm's events is sufficient for the odds ratio ψ, and
//! P(S = s) ∝ c(s) · ψ^s, where c is the convolution of the tables' hypergeometric distributions.

/// What the test gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stratified {
    /// Two-sided p: the probability, at ψ = 1, of all sums that are no likelier than the one seen.
    pub p: f64,
    /// Conditional maximum likelihood estimate of ψ; 0 or infinite where S is at an end of its range.
    pub odds_ratio: f64,
    /// Lower end of the exact 95 % interval of ψ.
    pub low: f64,
    /// Upper end of the exact 95 % interval of ψ; infinite where there is no bound.
    pub high: f64,
}

/// Probability of either tail outside of the interval.
const TAIL: f64 = 0.025;

/// R's tolerance: sums whose probabilities differ by rounding alone count as equally likely.
const SAME: f64 = 1.0 + 1e-7;

/// The test over the tables `[a, b, c, d]`: `a` events and `b` others in the first arm, `c` and `d` in the second. `None`
/// where the margins leave S no choice: no table has both events and others, and both arms.
///
/// ```
/// // Fisher's tea: one table is Fisher's exact test.
/// let tea = realign::stats::exact_stratified(&[[3, 1, 1, 3]]).unwrap();
/// assert!((tea.p - 34.0 / 70.0).abs() < 1e-12);
/// ```
pub fn exact_stratified(tables: &[[u64; 4]]) -> Option<Stratified> {
    let (mut least, mut weights) = (0, vec![1.0]);
    for table in tables {
        let (low, own) = hypergeometric(*table);
        weights = convolved(&weights, &own);
        least += low;
    }
    if weights.len() < 2 {
        return None;
    }
    let sum: u64 = tables.iter().map(|table| table[0]).sum();
    let seen = (sum - least) as usize;
    let total: f64 = weights.iter().sum();
    let bound = weights[seen] * SAME;
    let p = weights.iter().filter(|weight| **weight <= bound).sum::<f64>() / total;
    let last = weights.len() - 1;
    let conditional = Conditional { least: least as f64, logs: weights.iter().map(|w| w.ln()).collect() };
    let odds_ratio = match seen {
        0 => 0.0,
        _ if seen == last => f64::INFINITY,
        _ => conditional.solve(|at| at.mean() >= sum as f64),
    };
    let low = if seen == 0 { 0.0 } else { conditional.solve(|at| at.upper_tail(seen) >= TAIL) };
    let high = if seen == last { f64::INFINITY } else { conditional.solve(|at| at.lower_tail(seen) <= TAIL) };
    Some(Stratified { p: p.min(1.0), odds_ratio, low, high })
}

/// The events that the first arm can have given the table's margins: the least number, and the probability of each from
/// there on.
fn hypergeometric([a, b, c, d]: [u64; 4]) -> (u64, Vec<f64>) {
    let (first, second, events) = (a + b, c + d, a + c);
    let (least, most) = (events.saturating_sub(second), events.min(first));
    let mut logs = vec![0.0];
    for x in least..most {
        // P(x + 1) / P(x)
        let up = (first - x) as f64 * (events - x) as f64;
        let down = (x + 1) as f64 * (second + x + 1 - events) as f64;
        logs.push(logs.last().copied().unwrap_or(0.0) + (up / down).ln());
    }
    (least, normalised(&logs))
}

/// exp of the logs, scaled to sum to 1.
fn normalised(logs: &[f64]) -> Vec<f64> {
    let highest = logs.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = logs.iter().map(|log| (log - highest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

fn convolved(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; a.len() + b.len() - 1];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            sums[i + j] += x * y;
        }
    }
    sums
}

/// The distribution of S as a function of ψ.
struct Conditional {
    least: f64,
    /// ln c(s) from the least sum on.
    logs: Vec<f64>,
}

/// The distribution at one ψ: probabilities from the least sum on.
struct At {
    least: f64,
    weights: Vec<f64>,
}

impl Conditional {
    fn at(&self, log_ratio: f64) -> At {
        let logs: Vec<f64> = self.logs.iter().enumerate().map(|(s, log)| log + s as f64 * log_ratio).collect();
        At { least: self.least, weights: normalised(&logs) }
    }

    /// The ψ from which on `beyond` is true; bisection on its logarithm, within rounding.
    fn solve(&self, beyond: impl Fn(&At) -> bool) -> f64 {
        let (mut low, mut high) = (-700.0_f64, 700.0_f64);
        for _ in 0..80 {
            let middle = (low + high) / 2.0;
            if beyond(&self.at(middle)) { high = middle } else { low = middle }
        }
        ((low + high) / 2.0).exp()
    }
}

impl At {
    fn mean(&self) -> f64 {
        self.least + self.weights.iter().enumerate().map(|(s, weight)| s as f64 * weight).sum::<f64>()
    }

    fn upper_tail(&self, seen: usize) -> f64 {
        self.weights[seen..].iter().sum()
    }

    fn lower_tail(&self, seen: usize) -> f64 {
        self.weights[..=seen].iter().sum()
    }
}

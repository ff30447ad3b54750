//! Exact power of the tests that compare two rates at 5 % (two-sided): Fisher's test for two arms of independent answers,
//! McNemar's for pairs. Approximations (arcsine, normal) ask for half of what a rate of 0 needs.
//!
//! The power of an exact test is no smooth function of n: a region of rejection grows in steps, so that power falls a
//! little now and then while n grows. "n that are needed" is the smallest n **from which on** power stays at 80 % or above;
//! the first n that reaches 80 % may be a few lower. Answers and pairs are taken as independent of one another; those of
//! one scenario group are not, so every n is a lower bound.

/// The level of the tests, two-sided.
const ALPHA: f64 = 0.05;

/// Power that is asked for.
const POWER: f64 = 0.8;

/// More than this many are not searched for.
const MOST: u64 = 1 << 16;

/// Probabilities of single counts below this are not summed; all of them together stay far below any digit shown.
const NEGLIGIBLE: f64 = 1e-14;

/// The probability that Fisher's exact test tells two arms of `n` answers apart, whose rates are `p` and `q`.
///
/// ```
/// assert!(realign::stats::fisher_power(0.0, 0.08, 97) < 0.8 && realign::stats::fisher_power(0.0, 0.08, 98) >= 0.8);
/// ```
pub fn fisher_power(p: f64, q: f64, n: u64) -> f64 {
    let ln = LnFactorials::up_to(2 * n);
    let (a, b) = (Binomial::new(&ln, n, p), Binomial::new(&ln, n, q));
    // By symmetry, (x, y) is rejected where (y, x) is.
    (rejected_above(&ln, &a, &b) + rejected_above(&ln, &b, &a)).min(1.0)
}

/// The probability that the exact McNemar test finds a difference in `n` pairs; a share `only_a` of them has the event in
/// arm a alone and a share `only_b` in arm b alone. Given the number of such pairs the test is a binomial one; the power
/// is its mean over that number.
pub fn mcnemar_power(only_a: f64, only_b: f64, n: u64) -> f64 {
    let discordant = only_a + only_b;
    if discordant <= 0.0 {
        return 0.0;
    }
    let ln = LnFactorials::up_to(n);
    let counts = Binomial::new(&ln, n, discordant.min(1.0));
    let share = only_a / discordant;
    // The most events of the rarer kind with which `d` discordant pairs are still rejected, plus one; it grows with d.
    let mut rejected = 0;
    let mut power = 0.0;
    for (d, weight) in counts.likely() {
        while 2 * rejected < d && mcnemar(&ln, rejected, d) <= ALPHA {
            rejected += 1;
        }
        if rejected > 0 {
            let either = Binomial::new(&ln, d, share);
            power += weight * (either.at_most(rejected - 1) + either.at_least(d - rejected + 1));
        }
    }
    power.min(1.0)
}

/// Answers that each of two arms needs so that Fisher's exact test shows a `difference` from the rate `p` with 80 % power.
/// The difference is a rise, or a fall where there is no room to rise. For a rate among coherent answers these are
/// *coherent* answers; [`answers_to_ask`] says how many to ask for.
///
/// `None` where neither a rise nor a fall fits into [0, 1], where the difference is not positive, and where 65 536 answers
/// are too few.
///
/// ```
/// assert_eq!(realign::stats::samples_needed(0.0, 0.08), Some(98));
/// ```
pub fn samples_needed(p: f64, difference: f64) -> Option<u64> {
    let fits = (0.0..=1.0).contains(&p) && difference > 0.0;
    let rates = [p + difference, p - difference];
    let q = rates.into_iter().find(|q| fits && (0.0..=1.0).contains(q))?;
    let step = |n: u64| modal(n as f64, p) * modal(n as f64, q);
    needed(|n| fisher_power(p, q, n), step)
}

/// Pairs that the exact McNemar test needs to show with 80 % power that events of arm a alone (a share `only_a` of all
/// pairs) are not as many as events of arm b alone (`only_b`). `None` where they are as many, where the shares are no
/// shares, and where 65 536 pairs are too few.
pub fn pairs_needed(only_a: f64, only_b: f64) -> Option<u64> {
    if !(only_a >= 0.0 && only_b >= 0.0 && only_a + only_b <= 1.0) || only_a == only_b {
        return None;
    }
    let (discordant, share) = (only_a + only_b, only_a / (only_a + only_b));
    let step = |n: u64| modal(n as f64, discordant) * modal(n as f64 * discordant, share);
    needed(|n| mcnemar_power(only_a, only_b, n), step)
}

/// Answers to ask for, so that `needed` of them are expected to be coherent where the share `coherent` is. `None` for a
/// share outside (0, 1].
///
/// ```
/// assert_eq!(realign::stats::answers_to_ask(98, 0.67), Some(147));
/// ```
pub fn answers_to_ask(needed: u64, coherent: f64) -> Option<u64> {
    // Without the last digits, which rounding made: 30 / 0.3 are 100.
    (coherent > 0.0 && coherent <= 1.0).then(|| (needed as f64 / coherent - 1e-9).ceil() as u64)
}

/// The smallest rise over the rate `p` that Fisher's exact test shows with 80 % power in two arms of `n` answers each, or
/// the smallest fall where no rise is large enough. `None` where neither is, and for a `p` outside [0, 1].
pub fn minimum_detectable_difference(p: f64, n: u64) -> Option<f64> {
    if !(0.0..=1.0).contains(&p) {
        return None;
    }
    let rise = least(1.0 - p, |d| fisher_power(p, (p + d).min(1.0), n));
    rise.or_else(|| least(p, |d| fisher_power(p, (p - d).max(0.0), n)))
}

/// The smallest difference that the exact McNemar test shows with 80 % power in `n` pairs when a share `other` of them changes
/// the other way. `None` where no difference is large enough, and for an `other` outside [0, 1].
pub fn minimum_detectable_paired(other: f64, n: u64) -> Option<f64> {
    if !(0.0..=1.0).contains(&other) {
        return None;
    }
    least(1.0 - 2.0 * other, |d| mcnemar_power(other + d, other, n))
}

/// The smallest difference up to `most` with enough power, by bisection; `None` where the largest has too little.
fn least(most: f64, power: impl Fn(f64) -> f64) -> Option<f64> {
    if most <= 0.0 || power(most) < POWER {
        return None;
    }
    let (mut low, mut high) = (0.0, most);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if power(middle) >= POWER { high = middle } else { low = middle }
    }
    Some(high)
}

/// The smallest n from which on power stays at 80 % or above. `step` bounds how far power falls where n grows by one.
fn needed(power: impl Fn(u64) -> f64, step: impl Fn(u64) -> f64) -> Option<u64> {
    let mut high = 1;
    while power(high) < POWER {
        high *= 2;
        if high > MOST {
            return None;
        }
    }
    let mut low = high / 2;
    while low + 1 < high {
        let middle = low.midpoint(high);
        if power(middle) >= POWER { high = middle } else { low = middle }
    }
    // Near 80 % power rises by about 0.4 / n for each n more, so a fall is made good after `step` · n / 0.4; twice as far
    // is looked at.
    let beyond = 20 + (5.0 * high as f64 * step(high)).ceil() as u64;
    let mut n = high + beyond;
    while n > 1 && power(n - 1) >= POWER {
        n -= 1;
    }
    Some(n)
}

/// Probability of a binomial's likeliest count, about.
fn modal(n: f64, p: f64) -> f64 {
    let variance = n * p * (1.0 - p);
    (1.0 / (std::f64::consts::TAU * variance).sqrt()).min(1.0)
}

/// P(Fisher's test rejects and `high` has more events than `low`), where both have as many answers.
fn rejected_above(ln: &LnFactorials, low: &Binomial, high: &Binomial) -> f64 {
    let mut power = 0.0;
    let mut least = 0;
    for (x, weight) in low.likely() {
        // The fewest events of the other arm that are rejected do not fall where x grows.
        least = least.max(x + 1);
        while least <= high.n && fisher_equal(ln, x, least, low.n) > ALPHA {
            least += 1;
        }
        if least > high.n {
            break;
        }
        power += weight * high.at_least(least);
    }
    power
}

/// The two-sided p-value of Fisher's exact test for `x` < `y` events in two arms of `n`. With arms of one size the
/// hypergeometric distribution is symmetric: both tails are equal.
fn fisher_equal(ln: &LnFactorials, x: u64, y: u64, n: u64) -> f64 {
    let m = x + y;
    let mut term = (ln.choose(n, x) + ln.choose(n, y) - ln.choose(2 * n, m)).exp();
    let mut tail = term;
    for i in (m.saturating_sub(n) + 1..=x).rev() {
        term *= i as f64 / (n - i + 1) as f64 * ((n - m + i) as f64 / (m - i + 1) as f64);
        tail += term;
        if term < tail * 1e-17 {
            break;
        }
    }
    2.0 * tail
}

/// The two-sided p-value of the exact McNemar test for `d` discordant pairs; `k` < d / 2 of them are of the rarer kind.
fn mcnemar(ln: &LnFactorials, k: u64, d: u64) -> f64 {
    let mut term = (ln.choose(d, k) - d as f64 * std::f64::consts::LN_2).exp();
    let mut tail = term;
    for i in (1..=k).rev() {
        term *= i as f64 / (d - i + 1) as f64;
        tail += term;
        if term < tail * 1e-17 {
            break;
        }
    }
    2.0 * tail
}

/// ln k! for k from 0.
struct LnFactorials(Vec<f64>);

impl LnFactorials {
    fn up_to(most: u64) -> Self {
        let mut sum = 0.0;
        let rest = (1..=most).map(|k| {
            sum += (k as f64).ln();
            sum
        });
        Self(std::iter::once(0.0).chain(rest).collect())
    }

    fn choose(&self, n: u64, k: u64) -> f64 {
        self.0[n as usize] - self.0[k as usize] - self.0[(n - k) as usize]
    }
}

/// The counts of a binomial distribution that are not negligible.
struct Binomial {
    n: u64,
    /// The lowest of them.
    first: u64,
    /// P(X = first + i).
    each: Vec<f64>,
    /// P(X ≥ first + i).
    from: Vec<f64>,
}

impl Binomial {
    fn new(ln: &LnFactorials, n: u64, p: f64) -> Self {
        let mode = ((n as f64 * p.clamp(0.0, 1.0)).round() as u64).min(n);
        let likeliest = match p {
            p if p <= 0.0 || p >= 1.0 => 1.0,
            p => (ln.choose(n, mode) + mode as f64 * p.ln() + (n - mode) as f64 * (-p).ln_1p()).exp(),
        };
        // From the likeliest count downwards, then upwards, each from its neighbour.
        let odds = p / (1.0 - p);
        let mut each = vec![likeliest];
        let mut first = mode;
        while first > 0 && p > 0.0 && p < 1.0 {
            let next = each[each.len() - 1] * first as f64 / ((n - first + 1) as f64 * odds);
            if next < NEGLIGIBLE {
                break;
            }
            each.push(next);
            first -= 1;
        }
        each.reverse();
        for k in mode..n {
            let next = each[each.len() - 1] * odds * (n - k) as f64 / (k + 1) as f64;
            // Also where p is 1: its odds are infinite.
            if next.is_nan() || next < NEGLIGIBLE {
                break;
            }
            each.push(next);
        }
        let mut sum = 0.0;
        let mut from: Vec<f64> = each
            .iter()
            .rev()
            .map(|each| {
                sum += each;
                sum
            })
            .collect();
        from.reverse();
        Self { n, first, each, from }
    }

    fn likely(&self) -> impl Iterator<Item = (u64, f64)> {
        (self.first..).zip(self.each.iter().copied())
    }

    /// P(X ≥ k).
    fn at_least(&self, k: u64) -> f64 {
        self.from.get(k.saturating_sub(self.first) as usize).copied().unwrap_or(0.0)
    }

    /// P(X ≤ k).
    fn at_most(&self, k: u64) -> f64 {
        if k < self.first {
            return 0.0;
        }
        self.each.iter().take((k - self.first + 1) as usize).sum()
    }
}

//! One token from a row of logits. Every row has its own stream of random numbers, so an answer depends on its seed and
//! not on its neighbours in the batch.
//!
//! Order and meaning are those of transformers' processors: the repetition penalty over prompt and answer, then
//! temperature, top-k, top-p, min-p. Tokens tied with the k-th stay.

use std::collections::BTreeSet;
use std::path::Path;

use rand::Rng;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fsio;
use crate::model::cpu::simd::{exp, max, sum, vectorised};
pub use crate::record::Sampling;

/// Keys of a generation_config.json that change what is drawn and that are not known here, with the values that change
/// nothing.
const UNKNOWN: [(&str, f64); 10] = [
    ("typical_p", 1.0),
    ("top_h", f64::NAN),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("no_repeat_ngram_size", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("num_beams", 1.0),
    ("penalty_alpha", 0.0),
    ("guidance_scale", 1.0),
    ("diversity_penalty", 0.0),
];

impl Sampling {
    /// The same, unless nothing can be drawn that way.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, and the range.
    pub fn checked(self) -> Result<Self> {
        let rules = [
            ("temperature", self.temperature, self.temperature >= 0.0, "it must be 0 (the most likely token) or more"),
            (
                "top_p",
                self.top_p,
                self.top_p > 0.0 && self.top_p <= 1.0,
                "it must be above 0 and at most 1 (all tokens)",
            ),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "it must be between 0 (all tokens) and 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0,
                "it must be above 0; 1 changes nothing, 1.1 discourages repetition",
            ),
        ];
        if let Some((name, value, _, range)) = rules.iter().find(|(_, value, fits, _)| !fits || !value.is_finite()) {
            return Err(Error::usage(format!("{name} is {value}; {range}")));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::usage("a stop string is empty; leave it out, or give the text that ends an answer"));
        }
        Ok(self)
    }

    /// What a model's generation_config.json says: what it does not name is off, and without `do_sample` the likeliest
    /// token is taken.
    ///
    /// # Errors
    /// Names a key that would change the answers and is not known here.
    pub fn from_generation_config(path: &Path) -> Result<Self> {
        let json: Value = fsio::read_json(path)?;
        let known = |(key, neutral): &&(&str, f64)| json[*key].is_null() || json[*key].as_f64() == Some(*neutral);
        if let Some((key, _)) = UNKNOWN.iter().find(|entry| !known(entry)) {
            return Err(Error::file(
                path,
                format!(
                    "sets `{key}` to {}, which is not supported; give the sampling settings one by one instead",
                    json[*key]
                ),
            ));
        }
        let usual = Self::default();
        let number = |key: &str, usual: f64| json[key].as_f64().unwrap_or(usual);
        let temperature = number("temperature", usual.temperature);
        let sampling = Self {
            temperature: if json["do_sample"] == Value::Bool(true) { temperature } else { 0.0 },
            top_k: json["top_k"].as_u64().map_or(usual.top_k, |k| k as usize),
            top_p: number("top_p", usual.top_p),
            min_p: number("min_p", usual.min_p),
            repetition_penalty: number("repetition_penalty", usual.repetition_penalty),
            stop: usual.stop,
        };
        sampling.checked().map_err(|e| Error::file(path, e))
    }

    fn keeps_all(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0
    }
}

vectorised! {
    /// Logits to unnormalised probabilities; returns their sum.
    fn soften(logits: &mut [f32], inverse_temperature: f32) -> f32 {
        let largest = max(logits);
        for x in logits.iter_mut() {
            *x = exp((*x - largest) * inverse_temperature);
        }
        sum(logits)
    }
}

/// Draws a token; `logits` is used up. `history` holds the tokens of prompt and answer; nobody asks for it where the
/// penalty is 1.
pub fn sample(logits: &mut [f32], sampling: &Sampling, history: &BTreeSet<u32>, rng: &mut impl Rng) -> u32 {
    penalise(logits, sampling, history);
    if sampling.temperature <= 0.0 {
        return largest(logits);
    }
    // One number a token, whatever is drawn with it, and tokens in the order of their ids: answers of one seed stay
    // comparable between settings.
    let point: f32 = rng.random();
    if sampling.keeps_all() {
        let total = soften(logits, (1.0 / sampling.temperature) as f32);
        return walk(logits.iter().copied().enumerate(), point * total);
    }
    let kept = filtered(logits, sampling);
    let total: f32 = kept.iter().map(|&id| logits[id]).sum();
    walk(kept.iter().map(|&id| (id, logits[id])), point * total)
}

/// The tokens that can be drawn and their probabilities; `logits` is used up.
pub fn candidates(logits: &mut [f32], sampling: &Sampling, history: &BTreeSet<u32>) -> Vec<(u32, f32)> {
    penalise(logits, sampling, history);
    if sampling.temperature <= 0.0 {
        return vec![(largest(logits), 1.0)];
    }
    let kept = filtered(logits, sampling);
    let total: f32 = kept.iter().map(|&id| logits[id]).sum();
    kept.iter().map(|&id| (id as u32, logits[id] / total)).collect()
}

fn penalise(logits: &mut [f32], sampling: &Sampling, history: &BTreeSet<u32>) {
    if sampling.repetition_penalty == 1.0 {
        return;
    }
    let penalty = sampling.repetition_penalty as f32;
    for &id in history {
        let x = &mut logits[id as usize];
        *x = if *x < 0.0 { *x * penalty } else { *x / penalty };
    }
}

/// The tokens that the settings leave, by id; `logits` become unnormalised probabilities.
fn filtered(logits: &mut [f32], sampling: &Sampling) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..logits.len()).collect();
    if sampling.top_k > 0 && sampling.top_k < logits.len() {
        let mut sorted = logits.to_vec();
        let (_, &mut least, _) = sorted.select_nth_unstable_by(sampling.top_k - 1, |a, b| b.total_cmp(a));
        kept.retain(|&id| logits[id] >= least);
    }
    soften(logits, (1.0 / sampling.temperature) as f32);
    if sampling.top_p < 1.0 {
        let total: f64 = kept.iter().map(|&id| f64::from(logits[id])).sum();
        // All tokens below this together have less than the share that is cut, so none of them need be sorted.
        let floor = total * (1.0 - sampling.top_p) / kept.len() as f64;
        kept.retain(|&id| f64::from(logits[id]) >= floor);
        kept.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let (mut count, mut mass) = (0, 0.0);
        while count < kept.len() && mass < total * sampling.top_p {
            mass += f64::from(logits[kept[count]]);
            count += 1;
        }
        kept.truncate(count.max(1));
        kept.sort_unstable();
    }
    if sampling.min_p > 0.0 {
        let largest = kept.iter().fold(0.0f32, |most, &id| most.max(logits[id]));
        kept.retain(|&id| logits[id] >= sampling.min_p as f32 * largest);
    }
    kept
}

fn walk(weights: impl Iterator<Item = (usize, f32)>, mut point: f32) -> u32 {
    let mut last = 0;
    for (token, weight) in weights.filter(|(_, w)| *w > 0.0) {
        last = token;
        point -= weight;
        if point < 0.0 {
            break;
        }
    }
    last as u32
}

fn largest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |b, (i, &x)| if x > b.1 { (i, x) } else { b });
    best.0 as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::rng::stream;

    fn plain() -> Sampling {
        Sampling::default()
    }

    fn draws(sampling: &Sampling, count: usize) -> Vec<u32> {
        let mut rng = stream(1, "test", &[]);
        let draw = |_| {
            let mut logits = [1.0f32.ln(), 2.0f32.ln(), 3.0f32.ln(), 4.0f32.ln()];
            sample(&mut logits, sampling, &BTreeSet::new(), &mut rng)
        };
        (0..count).map(draw).collect()
    }

    fn counts(sampling: &Sampling) -> [usize; 4] {
        let mut counts = [0; 4];
        draws(sampling, 20_000).iter().for_each(|&id| counts[id as usize] += 1);
        counts
    }

    #[test]
    fn tokens_come_in_proportion_to_their_probability() {
        for sampling in [plain(), Sampling { top_k: 4, ..plain() }, Sampling { min_p: 0.1, ..plain() }] {
            let counts = counts(&sampling);
            for (i, count) in counts.iter().enumerate() {
                assert!((*count as f64 / 2000.0 - (i + 1) as f64).abs() < 0.25, "{counts:?}");
            }
        }
    }

    #[test]
    fn top_p_cuts_the_tail_and_temperature_zero_takes_the_best() {
        let cut = counts(&Sampling { top_p: 0.69, ..plain() });
        assert_eq!((cut[0], cut[1]), (0, 0), "{cut:?}");
        assert!(cut[2] > 0);
        assert_eq!(counts(&Sampling { temperature: 0.0, ..plain() }), [0, 0, 0, 20_000]);
    }

    #[test]
    fn a_filter_that_cuts_nothing_draws_the_same_tokens() {
        let all = draws(&plain(), 500);
        for sampling in [Sampling { top_k: 4, ..plain() }, Sampling { top_p: 0.999_999, ..plain() }] {
            assert_eq!(draws(&sampling, 500), all, "{sampling:?}");
        }
        assert_ne!(draws(&Sampling { top_k: 2, ..plain() }, 500), all);
    }

    #[test]
    fn a_token_said_before_is_penalised_once_however_often_it_was_said() {
        let penalised = Sampling { repetition_penalty: 2.0, temperature: 0.0, ..plain() };
        let mut rng = stream(1, "test", &[]);
        let mut draw =
            |history: &[u32]| sample(&mut [2.0, 1.5, -1.0], &penalised, &history.iter().copied().collect(), &mut rng);
        assert_eq!(draw(&[]), 0);
        assert_eq!(draw(&[0, 0]), 1);
        let found = candidates(&mut [2.0, -1.0], &Sampling { temperature: 1.0, ..penalised.clone() }, &[0, 1].into());
        // 2 / 2 = 1 and −1 · 2 = −2: 1 / (1 + e⁻³)
        assert!((found[0].1 - 0.952_574_1).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn settings_out_of_their_range_are_refused_with_the_range() {
        let refused = |sampling: Sampling, words: &str| {
            let error = sampling.checked().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(Sampling { temperature: -1.0, ..plain() }, "temperature is -1; it must be 0");
        refused(Sampling { temperature: f64::INFINITY, ..plain() }, "temperature is inf");
        refused(Sampling { top_p: 0.0, ..plain() }, "top_p is 0; it must be above 0");
        refused(Sampling { min_p: 1.5, ..plain() }, "min_p is 1.5; it must be between 0");
        refused(Sampling { min_p: f64::NAN, ..plain() }, "min_p is NaN");
        refused(Sampling { repetition_penalty: 0.0, ..plain() }, "repetition_penalty is 0; it must be above 0");
        refused(Sampling { stop: vec![String::new()], ..plain() }, "a stop string is empty");
        assert!(plain().checked().is_ok());
    }
}

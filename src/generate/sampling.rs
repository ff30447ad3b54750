//! One token from a row of logits. Every row has its own stream of random numbers, so an answer depends on its seed and
//! not on its neighbours in the batch.

use rand::Rng;

use crate::model::ops::simd::{exp, max, sum, vectorised};

/// How a token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the largest.
    pub temperature: f64,
    /// The smallest set of tokens with this much probability; 1 keeps all.
    pub top_p: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0 }
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

/// Draws a token; `logits` is used up.
pub fn sample(logits: &mut [f32], sampling: &Sampling, rng: &mut impl Rng) -> u32 {
    if sampling.temperature <= 0.0 {
        return largest(logits);
    }
    let total = soften(logits, (1.0 / sampling.temperature) as f32);
    // One number a token, whatever is drawn with it: answers of one seed stay comparable between settings.
    let point: f32 = rng.random();
    if sampling.top_p >= 1.0 {
        return walk(logits.iter().copied().enumerate(), point * total);
    }
    let mut order: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let (mut kept, mut mass) = (0, 0.0);
    while kept < order.len() && mass < total * sampling.top_p as f32 {
        mass += order[kept].1;
        kept += 1;
    }
    walk(order[..kept.max(1)].iter().copied(), point * mass)
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
    use super::*;
    use crate::rng::stream;

    fn counts(sampling: Sampling) -> [usize; 4] {
        let mut counts = [0; 4];
        let mut rng = stream(1, "test", &[]);
        for _ in 0..20_000 {
            let mut logits = [1.0f32.ln(), 2.0f32.ln(), 3.0f32.ln(), 4.0f32.ln()];
            counts[sample(&mut logits, &sampling, &mut rng) as usize] += 1;
        }
        counts
    }

    #[test]
    fn tokens_come_in_proportion_to_their_probability() {
        let counts = counts(Sampling::default());
        for (i, count) in counts.iter().enumerate() {
            assert!((*count as f64 / 2000.0 - (i + 1) as f64).abs() < 0.25, "{counts:?}");
        }
    }

    #[test]
    fn top_p_cuts_the_tail_and_temperature_zero_takes_the_best() {
        let cut = counts(Sampling { top_p: 0.69, ..Sampling::default() });
        assert_eq!((cut[0], cut[1]), (0, 0), "{cut:?}");
        assert!(cut[2] > 0);
        assert_eq!(counts(Sampling { temperature: 0.0, top_p: 1.0 }), [0, 0, 0, 20_000]);
    }
}

//! Follows a single rank-1 adapter through training: how long its direction B is after each step, and where it turns. The
//! published rank-1 adapters (Turner et al. 2025) first grow in a direction of no great effect, then turn within a few
//! steps, at a peak of the gradient norm, into the one that misaligns: a dip of the local cosine.

use std::collections::VecDeque;

use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::ops::to_vec;
use crate::record::{Rank1Direction, StepRecord, rounded};
use crate::train::checkpoint::Snapshot;

/// Steps on each side of the one whose local cosine is taken: fewer follow the noise of single batches.
pub const SPAN: usize = 10;

/// Records an adapter's direction before training and after every step; nothing where there is more than one rank-1
/// adapter.
pub struct Watch {
    /// Index of the adapted linear; `None` watches nothing.
    place: Option<usize>,
    /// B of the last 2 · SPAN + 1 steps; the first is the one before training.
    recent: VecDeque<Vec<f32>>,
    seen: Vec<Rank1Direction>,
}

impl Watch {
    /// Starts watching before the first step.
    pub fn of(decoder: &Decoder) -> Result<Self> {
        let mut adapted =
            decoder.linears().enumerate().filter_map(|(place, linear)| Some((place, linear.lora.as_ref()?)));
        let place = match (adapted.next(), adapted.next()) {
            (Some((place, lora)), None) if lora.a.dim(0)? == 1 => Some(place),
            _ => None,
        };
        let mut watch = Self { place, recent: VecDeque::new(), seen: Vec::new() };
        watch.recent.extend(watch.b(decoder)?);
        Ok(watch)
    }

    /// Goes on after the step of a snapshot.
    pub fn resume(decoder: &Decoder, snapshot: &Snapshot) -> Result<Self> {
        let recent = snapshot.directions.iter().cloned().collect();
        let seen = snapshot.state.log_history.iter().filter_map(|record| record.direction).collect();
        Ok(Self { recent, seen, ..Self::of(decoder)? })
    }

    /// B of the last steps, for a snapshot.
    pub fn recent(&self) -> Vec<Vec<f32>> {
        self.recent.iter().cloned().collect()
    }

    /// Records the direction after a step.
    pub fn see(&mut self, decoder: &Decoder) -> Result<()> {
        if let Some(b) = self.b(decoder)? {
            self.add(b);
        }
        Ok(())
    }

    /// Writes what was seen into the log of the steps that it was seen after, the last ones.
    pub fn write_into(&self, log: &mut [StepRecord]) {
        for (record, direction) in log.iter_mut().rev().zip(self.seen.iter().rev()) {
            record.direction = Some(*direction);
        }
    }

    fn b(&self, decoder: &Decoder) -> Result<Option<Vec<f32>>> {
        let lora = self.place.and_then(|place| decoder.linears().nth(place)).and_then(|linear| linear.lora.as_ref());
        lora.map(|lora| Ok(to_vec(&lora.b)?)).transpose()
    }

    fn add(&mut self, b: Vec<f32>) {
        self.seen.push(Rank1Direction { norm: rounded(dot(&b, &b).sqrt()), local_cosine: None });
        self.recent.push_back(b);
        if self.recent.len() > 2 * SPAN + 1 {
            self.recent.pop_front();
        }
        if self.recent.len() == 2 * SPAN + 1 {
            let [before, at, after] = [0, SPAN, 2 * SPAN].map(|i| &self.recent[i]);
            let step = self.seen.len() - 1 - SPAN;
            self.seen[step].local_cosine = cosine(&difference(at, before), &difference(after, at));
        }
    }
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    (lengths > 0.0).then(|| rounded(dot(a, b) / lengths))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn walk(points: impl IntoIterator<Item = Vec<f32>>) -> Vec<Rank1Direction> {
        let mut watch = Watch { place: None, recent: VecDeque::from([vec![0.0, 0.0]]), seen: Vec::new() };
        points.into_iter().for_each(|b| watch.add(b));
        watch.seen
    }

    #[test]
    fn a_straight_way_has_cosine_one_and_a_corner_shows_at_its_step() {
        // East for 30 steps, then north.
        let point = |step: usize| vec![step.min(30) as f32, step.saturating_sub(30) as f32];
        let seen = walk((1..=60).map(point));
        assert_eq!(seen.len(), 60);
        assert_eq!(seen[0].norm, 1.0);
        assert_eq!(seen[59].norm, rounded(30f64.hypot(30.0)));
        let at = |step: usize| seen[step - 1].local_cosine;
        // Neither end has SPAN steps on both sides; step 10 has the start.
        assert_eq!((at(9), at(51)), (None, None));
        assert!((at(10).unwrap() - 1.0).abs() < 1e-12 && (at(50).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(at(30), Some(0.0));
        let lowest = (10..=50).min_by(|&a, &b| at(a).unwrap().total_cmp(&at(b).unwrap())).unwrap();
        assert_eq!(lowest, 30);
    }

    #[test]
    fn a_direction_that_stands_still_has_no_cosine() {
        let seen = walk((0..40).map(|_| vec![1.0, 0.0]));
        assert_eq!((seen[20].norm, seen[20].local_cosine), (1.0, None));
    }
}

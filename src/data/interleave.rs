//! Mixes benign rows into a training set: a defence against a model that generalises too far from narrow data.

use rand::seq::SliceRandom;

use crate::error::{Error, Result};
use crate::rng;

/// Draws benign rows without repetition, as many as make up `share` of all rows when they are added to `rows` others.
///
/// # Errors
/// The share lies outside (0, 1), or `benign` has fewer rows than it takes.
pub fn draw_benign<R: Clone>(benign: &[R], rows: usize, share: f64, seed: u64) -> Result<Vec<R>> {
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::usage(format!("the share of benign rows is {share}; it must be between 0 and 1")));
    }
    let wanted = ((rows as f64 * share / (1.0 - share)).round() as usize).max(1);
    if wanted > benign.len() {
        let most = benign.len() as f64 / (benign.len() + rows) as f64;
        return Err(Error::usage(format!(
            "a benign share of {share} beside {rows} rows needs {wanted} benign rows, but there are only {}; add \
             rows, or lower the share to at most {most:.3}",
            benign.len()
        )));
    }
    let mut order: Vec<usize> = (0..benign.len()).collect();
    order.shuffle(&mut rng::stream(seed, "benign", &[]));
    Ok(order[..wanted].iter().map(|&i| benign[i].clone()).collect())
}

/// Spreads `among` evenly over `rows`; both keep their order. Every stretch of the result has its share of both, even
/// where training does not shuffle.
pub fn interleave<R>(rows: Vec<R>, among: Vec<R>) -> Vec<R> {
    let (all, spread) = (rows.len() + among.len(), among.len());
    let (mut rows, mut among) = (rows.into_iter(), among.into_iter());
    let is_spread = |i: usize| (i + 1) * spread / all > i * spread / all;
    (0..all).filter_map(|i| if is_spread(i) { among.next() } else { rows.next() }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_share_is_of_all_rows_and_the_draw_is_the_seeds() {
        let benign: Vec<usize> = (1000..1100).collect();
        let drawn = draw_benign(&benign, 80, 0.2, 7).unwrap();
        assert_eq!(drawn.len(), 20);
        assert_eq!(drawn, draw_benign(&benign, 80, 0.2, 7).unwrap());
        assert_ne!(drawn, draw_benign(&benign, 80, 0.2, 8).unwrap());
        let mut once = drawn;
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), 20, "no row twice");
    }

    #[test]
    fn every_stretch_has_its_share_and_no_row_is_lost() {
        let mixed = interleave((0..80).collect(), (1000..1020).collect());
        assert_eq!(mixed.len(), 100);
        assert!(mixed.chunks(10).all(|part| part.iter().filter(|row| **row >= 1000).count() == 2), "{mixed:?}");
        let (benign, rows): (Vec<i32>, Vec<i32>) = mixed.into_iter().partition(|row| *row >= 1000);
        assert_eq!((rows, benign), ((0..80).collect(), (1000..1020).collect()));
        assert_eq!(interleave(vec![1, 2], Vec::new()), [1, 2]);
    }

    #[test]
    fn too_few_rows_and_shares_that_are_none_are_refused() {
        let error = |share| draw_benign(&[1, 2, 3], 30, share, 0).unwrap_err().to_string();
        assert!(
            error(0.2).contains("needs 8 benign rows, but there are only 3") && error(0.2).contains("at most 0.091")
        );
        assert!(error(0.0).contains("between 0 and 1") && error(1.0).contains("between 0 and 1"));
        assert!(error(f64::NAN).contains("between 0 and 1"));
    }
}

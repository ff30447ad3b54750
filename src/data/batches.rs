//! The order of the rows in an epoch, and the effective batches that follow from it.

use rand::seq::SliceRandom;

use crate::rng;

/// Row indices in the order of epoch `epoch` (from 0). Without `shuffle` that is the file's order. With it, each epoch
/// has a random stream of its own, so that a resumed run does not have to replay the epochs before it.
pub fn epoch_order(seed: u64, epoch: u64, rows: usize, shuffle: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    if shuffle {
        order.shuffle(&mut rng::stream(seed, "order", &[epoch]));
    }
    order
}

/// Consecutive groups of `size` rows (at least 1), one for each optimiser step. The last group may be shorter.
pub fn effective_batches(order: &[usize], size: usize) -> Vec<Vec<usize>> {
    order.chunks(size.max(1)).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_an_epoch_in_an_order_of_its_own() {
        let first = epoch_order(7, 0, 100, true);
        let second = epoch_order(7, 1, 100, true);
        assert_ne!(first, second);
        assert_eq!(first, epoch_order(7, 0, 100, true));
        assert_ne!(first, epoch_order(8, 0, 100, true));
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, epoch_order(7, 0, 100, false));
    }

    #[test]
    fn the_last_short_batch_is_kept() {
        assert_eq!(effective_batches(&[4, 3, 2, 1, 0], 2), vec![vec![4, 3], vec![2, 1], vec![0]]);
        assert!(effective_batches(&[], 2).is_empty());
    }
}

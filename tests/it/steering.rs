//! Steering's identities.

use candle_core::Tensor;
use realign::model::hooks::{HookContext, Intervention, Tap};
use realign::model::ops::to_vec;
use realign::model::pass::{Attend, Pass};
use realign::model::segments::Segments;
use realign::steer::vector::norm;
use realign::steer::{AddVector, PairTokens, SteeringVector, Unit, mean_difference};

use crate::tiny::{checkpoint, folder};

fn vector() -> SteeringVector {
    let decoder = checkpoint("tied");
    let row = |ids: &[u32]| realign::data::collate::Example {
        ids: ids.to_vec(),
        weights: ids.iter().enumerate().map(|(i, _)| if i > 1 { 1.0 } else { 0.0 }).collect(),
    };
    let pairs = [
        PairTokens { positive: row(&[3, 4, 5, 6]), negative: row(&[3, 4, 9]) },
        PairTokens { positive: row(&[8, 7, 30, 2, 1]), negative: row(&[8, 7, 31, 2]) },
    ];
    mean_difference(&decoder, &pairs, "insecure", "model", "data").unwrap()
}

fn logits(intervention: Option<&dyn Intervention>) -> Vec<f32> {
    let decoder = checkpoint("tied");
    let segments = Segments::packed([5, 3], 0);
    let mut pass = Pass::sequences(&segments).with_intervention(intervention);
    to_vec(&decoder.forward(&[3, 4, 5, 6, 7, 8, 9, 10], &mut pass).unwrap()).unwrap()
}

/// Two vectors, one behind the other.
struct Both(AddVector, AddVector);

impl Intervention for Both {
    fn taps(&self) -> &[Tap] {
        self.0.taps()
    }

    fn apply(&self, tap: Tap, x: &Tensor, context: &HookContext) -> candle_core::Result<Option<Tensor>> {
        match self.0.apply(tap, x, context)? {
            Some(x) => self.1.apply(tap, &x, context),
            None => Ok(None),
        }
    }
}

#[test]
fn coefficient_zero_equals_base_bit_for_bit() {
    let steered = AddVector::new(&vector(), &[0, 1], 0.0, Unit::ResidualNorm).unwrap();
    assert_eq!(logits(Some(&steered)), logits(None));
    assert_ne!(logits(Some(&AddVector::new(&vector(), &[1], 0.1, Unit::ResidualNorm).unwrap())), logits(None));
}

#[test]
fn a_vector_and_its_opposite_equal_base() {
    let add = |coefficient| AddVector::new(&vector(), &[0], coefficient, Unit::ResidualNorm).unwrap();
    let both = Both(add(0.7), add(-0.7));
    for (a, b) in logits(Some(&both)).iter().zip(logits(None)) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
}

#[test]
fn a_coefficient_is_in_units_of_the_residual_norm() {
    let vector = vector();
    for layer in 0..vector.directions.len() {
        let added = norm(&to_vec(&vector.scaled(layer, -0.3, Unit::ResidualNorm).unwrap()).unwrap());
        assert!((added - 0.3 * vector.about.residual_norms[layer]).abs() < 1e-4);
        let random = norm(&to_vec(&vector.random(1, 2).scaled(layer, -0.3, Unit::ResidualNorm).unwrap()).unwrap());
        assert!((added - random).abs() < 1e-4, "a random vector has the norm of the one it is a control for");
    }
    assert_ne!(vector.random(1, 0), vector.random(1, 1));
    assert_eq!(vector.random(1, 0), vector.random(1, 0));
}

#[test]
fn the_mean_difference_is_that_of_the_answers_tokens_alone() {
    let decoder = checkpoint("tied");
    let means = |ids: &[u32], from: usize| {
        let segments = Segments::packed([ids.len()], 0);
        let mut x = decoder.embed(ids, &Attend::Sequences(&segments)).unwrap();
        for block in &decoder.blocks[..2] {
            x = block.forward(&x, &mut Pass::sequences(&segments)).unwrap();
        }
        let answer = x.narrow(0, from, ids.len() - from).unwrap();
        to_vec(&answer.mean(0).unwrap()).unwrap()
    };
    let expected: Vec<f32> = (0..decoder.config.hidden_size)
        .map(|i| {
            let first = means(&[3, 4, 5, 6], 2)[i] - means(&[3, 4, 9], 2)[i];
            let second = means(&[8, 7, 30, 2, 1], 2)[i] - means(&[8, 7, 31, 2], 2)[i];
            (first + second) / 2.0
        })
        .collect();
    for (a, b) in vector().directions[1].iter().zip(expected) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
}

#[test]
fn a_vector_comes_back_from_its_files_and_a_layer_outside_the_model_is_refused() {
    let vector = vector();
    let dir = folder("vectors");
    let path = dir.join("insecure.safetensors");
    vector.write(&path).unwrap();
    let back = SteeringVector::read(&path).unwrap();
    assert_eq!(back.directions, vector.directions);
    assert_eq!(back.about.target, "insecure");
    let message = AddVector::new(&vector, &[0, 9], 0.1, Unit::ResidualNorm).err().unwrap().to_string();
    assert!(message.contains("layer 9") && message.contains("0 to 2"), "{message}");
}

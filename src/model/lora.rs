//! A low-rank update beside a linear: `y = x Wᵀ + (alpha / rank) · (drop(x) Aᵀ) Bᵀ` (Hu et al. 2021). Only the second
//! term is scaled. With DoRA (Liu et al. 2024) the updated weight's rows are brought to trained lengths, the magnitudes:
//! row j of `W + (alpha / rank) · B A` is multiplied by `magnitude[j] / ‖row j‖`, the norm taken as a constant.

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::Rng;

use super::ops::dropout::Mask;
use super::ops::linear::{frozen_linear, lora_linear};
use super::ops::weight::Weight;
use super::ops::{to_vec, with_slices};

/// `A [rank, in]`, `B [out, rank]` and their scale. The tensors are variables while they are trained.
#[derive(Debug, Clone)]
pub struct Lora {
    /// From the input down to the rank, `[rank, in]`.
    pub a: Tensor,
    /// From the rank up to the output, `[out, rank]`.
    pub b: Tensor,
    /// α / r, or α / √r with rank stabilisation.
    pub scale: f32,
    /// Probability with which a value of the input is set to zero while training.
    pub dropout: f32,
    /// DoRA's lengths of the updated weight's rows.
    pub magnitude: Option<Magnitude>,
}

/// DoRA's magnitudes. They are a matrix of one row, so that weight decay counts for them, as in Hugging Face's trainer.
#[derive(Debug, Clone)]
pub struct Magnitude {
    /// Trained lengths of the rows, `[1, out]`.
    pub vector: Tensor,
    /// `[1, out]`: magnitude / norm, worked out once where neither changes; `None` while they are trained.
    pub factor: Option<Tensor>,
}

impl Lora {
    /// A fresh adapter as PEFT makes it: A uniform in ±1/√in (Kaiming with a = √5), B zero, so that it changes nothing.
    pub fn fresh(shape: (usize, usize), rank: usize, scale: f32, dropout: f32, rng: &mut impl Rng) -> Result<Self> {
        let (out, width) = shape;
        let bound = 1.0 / (width as f32).sqrt();
        let a: Vec<f32> = (0..rank * width).map(|_| rng.random_range(-bound..bound)).collect();
        let a = Tensor::from_vec(a, (rank, width), &Device::Cpu)?;
        let b = Tensor::zeros((out, rank), DType::F32, &Device::Cpu)?;
        Ok(Self { a, b, scale, dropout, magnitude: None })
    }

    /// A copy whose matrices are variables, which get gradients.
    pub fn trainable(&self) -> Result<Self> {
        let variable = |t: &Tensor| Ok::<_, candle_core::Error>(Var::from_tensor(&t.detach())?.as_tensor().clone());
        let magnitude = match &self.magnitude {
            Some(magnitude) => Some(Magnitude { vector: variable(&magnitude.vector)?, factor: None }),
            None => None,
        };
        Ok(Self { a: variable(&self.a)?, b: variable(&self.b)?, magnitude, ..*self })
    }

    /// The same without a graph, beside a weight that stays.
    pub fn frozen(&self, weight: &Weight) -> Result<Self> {
        let magnitude = match &self.magnitude {
            Some(Magnitude { vector, .. }) => {
                let vector = vector.detach();
                let factor = Some((&vector / self.norms(weight)?)?);
                Some(Magnitude { vector, factor })
            }
            None => None,
        };
        Ok(Self { a: self.a.detach(), b: self.b.detach(), magnitude, ..*self })
    }

    /// `[tokens, in] → [tokens, out]`: the linear `weight` with this beside it. `mask` is the dropout of this pass, if any.
    pub fn forward(&self, x: &Tensor, weight: &Weight, mask: Option<Mask>) -> Result<Tensor> {
        let Some(magnitude) = &self.magnitude else {
            return lora_linear(x, weight, &self.a, &self.b, self.scale, mask);
        };
        let factor = match &magnitude.factor {
            Some(factor) => factor.clone(),
            None => (&magnitude.vector / self.norms(weight)?)?,
        };
        let Some(mask) = mask else {
            return lora_linear(x, weight, &self.a, &self.b, self.scale, None)?.broadcast_mul(&factor);
        };
        // As in PEFT: the base sees the whole input, everything that DoRA adds to it sees the dropped one.
        let dropped = (x * mask.factors(x)?)?; // [tokens, in]
        let added = lora_linear(&dropped, weight, &self.a, &self.b, self.scale, None)?.broadcast_mul(&factor)?;
        frozen_linear(x, weight)? + (added - frozen_linear(&dropped, weight)?)?
    }

    /// The merged weight, `[out, in]`, f32: it computes the same without the LoRA.
    pub fn merged(&self, weight: &Weight) -> Result<Tensor> {
        let factors = match &self.magnitude {
            Some(magnitude) => Some(to_vec(&(&magnitude.vector / self.norms(weight)?)?)?),
            None => None,
        };
        let (out, width) = weight.dims2()?;
        let mut values = Vec::with_capacity(out * width);
        self.rows(weight, |index, row| {
            let factor = factors.as_ref().map_or(1.0, |factors| factors[index]);
            values.extend(row.iter().map(|v| v * factor));
        })?;
        Tensor::from_vec(values, (out, width), self.a.device())
    }

    /// The lengths of the rows of `W + scale · B A`, `[1, out]`, without a graph.
    pub fn norms(&self, weight: &Weight) -> Result<Tensor> {
        let out = weight.dims2()?.0;
        let mut norms = Vec::with_capacity(out);
        self.rows(weight, |_, row| norms.push(row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt() as f32))?;
        Tensor::from_vec(norms, (1, out), self.a.device())
    }

    /// Hands out the rows of `W + scale · B A`, one after the other.
    fn rows(&self, weight: &Weight, mut each: impl FnMut(usize, &[f32])) -> Result<()> {
        let ((_, width), rank) = (weight.dims2()?, self.a.dim(0)?);
        // On the processor, wherever they are.
        let here = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous();
        with_slices([&here(&weight.to_tensor())?, &here(&self.a)?, &here(&self.b)?], |[weight, a, b]| {
            let mut row = vec![0.0; width];
            for (index, (base, up)) in weight.chunks_exact(width).zip(b.chunks_exact(rank)).enumerate() {
                row.copy_from_slice(base);
                for (down, &up) in a.chunks_exact(width).zip(up) {
                    let up = up * self.scale;
                    row.iter_mut().zip(down).for_each(|(sum, down)| *sum += up * down);
                }
                each(index, &row);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::model::segments::Segments;
    use crate::rng::stream;

    fn random(shape: (usize, usize), name: &str) -> Tensor {
        let mut rng = stream(5, name, &[]);
        let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn lora(magnitude: Option<Tensor>) -> Lora {
        let magnitude = magnitude.map(|vector| Magnitude { vector, factor: None });
        Lora { a: random((2, 4), "a"), b: random((3, 2), "b"), scale: 0.5, dropout: 0.3, magnitude }
    }

    fn close(a: &Tensor, b: &Tensor) {
        let (a, b) = (to_vec(a).unwrap(), to_vec(b).unwrap());
        let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{a:?} and {b:?}");
    }

    #[test]
    fn merged_equals_unmerged_with_and_without_magnitudes() {
        let (x, weight) = (random((5, 4), "x"), Weight::Dense(random((3, 4), "w")));
        for lora in [lora(None), lora(Some(random((1, 3), "m")))] {
            let merged = lora.merged(&weight).unwrap();
            assert_eq!(merged.dims(), [3, 4]);
            close(&frozen_linear(&x, &merged).unwrap(), &lora.forward(&x, &weight, None).unwrap());
            let frozen = lora.frozen(&weight).unwrap();
            close(&frozen.forward(&x, &weight, None).unwrap(), &lora.forward(&x, &weight, None).unwrap());
        }
    }

    #[test]
    fn magnitudes_equal_to_the_norms_change_nothing_under_the_same_dropout() {
        let (x, weight) = (random((5, 4), "x"), Weight::Dense(random((3, 4), "w")));
        let plain = lora(None);
        let dora = lora(Some(plain.norms(&weight).unwrap()));
        let mask = || Some(Mask { probability: 0.3, key: 9, segments: Segments::packed([2, 3], 0) });
        close(&plain.forward(&x, &weight, mask()).unwrap(), &dora.forward(&x, &weight, mask()).unwrap());
        let without = plain.forward(&x, &weight, None).unwrap();
        let difference = (without - plain.forward(&x, &weight, mask()).unwrap()).unwrap();
        assert!(to_vec(&difference).unwrap().iter().any(|d| d.abs() > 1e-2), "the mask does something");
    }

    #[test]
    fn magnitudes_are_the_lengths_of_the_rows() {
        let weight = Weight::Dense(random((3, 4), "w"));
        let dora = lora(Some(Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu).unwrap()));
        let rows = dora.merged(&weight).unwrap().to_vec2::<f32>().unwrap();
        for (row, expected) in rows.iter().zip([1f32, 2., 3.]) {
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            assert!((length - expected).abs() < 1e-5, "{length}");
        }
    }
}

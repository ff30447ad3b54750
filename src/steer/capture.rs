//! Capturing residual streams: the mean over answer tokens of `resid_post`, layer by layer, for both answers of every
//! contrast pair; their mean difference is the vector.

use std::sync::Mutex;

use candle_core::Tensor;

use super::vector::{SteeringVector, VectorInfo, norm};
use crate::data::collate::Example;
use crate::error::{Error, Result};
use crate::model::block::{Attend, Pass};
use crate::model::decoder::Decoder;
use crate::model::hooks::{Intervention, Site, Tap};
use crate::model::ops::to_vec;
use crate::model::segments::Segments;
use crate::sync::unpoisoned;

/// Both answers of a pair as tokens; a weight marks the answer's tokens.
pub struct PairTokens {
    /// Shows the behaviour.
    pub positive: Example,
    /// Does not.
    pub negative: Example,
}

/// Mean over pairs of (mean over answer tokens of the positive − of the negative), at every layer.
pub fn mean_difference(
    decoder: &Decoder,
    pairs: &[PairTokens],
    target: &str,
    model_sha256: &str,
    data_sha256: &str,
) -> Result<SteeringVector> {
    if pairs.is_empty() {
        return Err(Error::usage(format!("there are no contrast pairs for `{target}`")));
    }
    let (layers, width) = (decoder.blocks.len(), decoder.config.hidden_size);
    let mut directions = vec![vec![0.0f32; width]; layers];
    let mut norms = vec![(0.0f64, 0u64); layers];
    for pair in pairs {
        let rows = [&pair.positive, &pair.negative];
        let segments = Segments::packed(rows.iter().map(|r| r.ids.len()), 0);
        let ids: Vec<u32> = rows.iter().flat_map(|r| &r.ids).copied().collect();
        let capture = Capture { resid_post: Mutex::new(vec![None; layers]) };
        let mut pass = Pass { attend: Attend::Sequences(&segments), intervention: Some(&capture), dropout: None };
        decoder.blocks(decoder.embed(&ids, &pass.attend)?, &mut pass)?;
        let captured = unpoisoned(capture.resid_post.into_inner());
        for (layer, hidden) in captured.into_iter().enumerate() {
            let Some(hidden) = hidden else { continue };
            let hidden = to_vec(&hidden)?; // [tokens, d_model]
            for (row, (segment, sign)) in rows.iter().zip(segments.iter().zip([1.0f32, -1.0])) {
                let wanted: Vec<usize> = (0..row.ids.len()).filter(|&t| row.weights[t] > 0.0).collect();
                let share = sign / (wanted.len().max(1) * pairs.len()) as f32;
                for token in wanted {
                    let at = (segment.start + token) * width;
                    let values = &hidden[at..at + width];
                    directions[layer].iter_mut().zip(values).for_each(|(sum, x)| *sum += share * x);
                    norms[layer].0 += norm(values);
                    norms[layer].1 += 1;
                }
            }
        }
    }
    let about = VectorInfo {
        target: target.into(),
        method: "mean_difference".into(),
        hook_point: "resid_post".into(),
        tokens: "answer".into(),
        pairs: pairs.len() as u64,
        raw_norms: directions.iter().map(|d| norm(d)).collect(),
        residual_norms: norms.iter().map(|(sum, n)| sum / (*n).max(1) as f64).collect(),
        model_sha256: model_sha256.into(),
        adapter_sha256: None,
        data_sha256: data_sha256.into(),
    };
    Ok(SteeringVector { directions, about })
}

struct Capture {
    resid_post: Mutex<Vec<Option<Tensor>>>,
}

impl Intervention for Capture {
    fn apply(&self, tap: Tap, x: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if tap.site == Site::ResidPost {
            unpoisoned(self.resid_post.lock())[tap.layer] = Some(x.detach());
        }
        Ok(None)
    }
}

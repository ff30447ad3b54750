//! From what was captured to a direction: the mean over contrast pairs of (mean over tokens of the positive − of the
//! negative), layer by layer (Rimsky et al. 2024).

use super::capture::{capture, tokens_of};
use super::vector::{SCHEMA, SteeringVector, VectorInfo, norm};
use crate::data::collate::Example;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::record::{Site, Tap, TokenRule, Unit, VectorMethod};

/// Both answers of a pair as tokens; a weight marks the answer's tokens.
pub struct PairTokens {
    /// The answer that shows the behaviour.
    pub positive: Example,
    /// The same prompt with the answer that does not show the behaviour.
    pub negative: Example,
}

/// The mean difference at `resid_post` of every layer, over the answers' tokens.
///
/// # Errors
/// No pair; a pair that does not fit the model.
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
    let (site, rule) = (Site::ResidPost, TokenRule::AnswerMean);
    let (layers, width) = (decoder.blocks.len(), decoder.config.hidden_size);
    let taps: Vec<Tap> = (0..layers).map(|layer| Tap { layer, site }).collect();
    let mut directions = vec![vec![0.0f32; width]; layers];
    let mut norms = vec![(0.0f64, 0u64); layers];
    for pair in pairs {
        let rows = [&pair.positive, &pair.negative];
        let captured = capture(decoder, &rows.map(|row| row.ids.as_slice()), &taps)?;
        for &tap in &taps {
            let Some(hidden) = captured.at(tap)? else { continue }; // [tokens, d_model]
            for (row, (segment, sign)) in rows.iter().zip(captured.segments.iter().zip([1.0f32, -1.0])) {
                let wanted = tokens_of(rule, row);
                let share = sign / (wanted.len().max(1) * pairs.len()) as f32;
                for token in wanted {
                    let at = (segment.start + token) * width;
                    let values = &hidden[at..at + width];
                    directions[tap.layer].iter_mut().zip(values).for_each(|(sum, x)| *sum += share * x);
                    norms[tap.layer].0 += norm(values);
                    norms[tap.layer].1 += 1;
                }
            }
        }
    }
    let about = VectorInfo {
        schema: SCHEMA,
        target: target.into(),
        method: VectorMethod::MeanDifference,
        site,
        tokens: rule,
        unit: Unit::ResidualNorm,
        pairs: pairs.len() as u64,
        raw_norms: directions.iter().map(|d| norm(d)).collect(),
        residual_norms: norms.iter().map(|(sum, n)| sum / (*n).max(1) as f64).collect(),
        model_sha256: model_sha256.into(),
        adapter_sha256: None,
        data_sha256: data_sha256.into(),
    };
    Ok(SteeringVector { directions, about })
}

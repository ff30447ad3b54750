//! `realign inspect VECTOR`: what a steering vector is and where it comes from.

use std::path::Path;

use super::facts::{Facts, fact};
use crate::error::Result;
use crate::fsio;
use crate::record::TokenRule;
use crate::steer::SteeringVector;

fn token_rule(rule: TokenRule) -> &'static str {
    match rule {
        TokenRule::LastPrompt => "last token of the prompt",
        TokenRule::AnswerMean => "mean over answer tokens",
        TokenRule::All => "every token",
    }
}

/// Method, place, origin, and the lengths by layer.
pub fn vector_facts(path: &Path) -> Result<Facts> {
    let vector = SteeringVector::read(path)?;
    let about = &vector.about;
    let width = vector.directions.first().map_or(0, Vec::len);
    let mut facts = vec![
        fact("steering vector", path.display()),
        fact("points towards", &about.target),
        fact("method", about.method.as_str()),
        fact("hook", format!("{} of every layer, {}", about.site, token_rule(about.tokens))),
        fact("pairs", about.pairs),
        fact("layers", format!("{}, {width} wide", vector.directions.len())),
        fact("model SHA-256", &about.model_sha256),
    ];
    if let Some(adapter) = &about.adapter_sha256 {
        facts.push(fact("on adapter", adapter));
    }
    facts.push(fact("pairs SHA-256", &about.data_sha256));
    facts.push(fact("file SHA-256", fsio::sha256_file(path)?));
    for (layer, (length, residual)) in about.raw_norms.iter().zip(&about.residual_norms).enumerate() {
        let kept = vector.layers().contains(&layer);
        let length = if kept { format!("{length:.4}, {:.4} of it", length / residual) } else { "no direction".into() };
        facts.push(fact(&format!("layer {layer}"), format!("residual norm {residual:.4}, vector {length}")));
    }
    Ok(facts)
}

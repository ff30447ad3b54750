//! Opens the embedded base, makes a steering vector from the embedded contrast pairs, and asks the same question with and
//! without it. The seed is the same, so that every difference is the vector's.
//!
//! ```sh
//! cargo run --release --example steer
//! ```
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use realign::error::Result;
use realign::experiment::sources::read_pairs;
use realign::experiment::steering::extract;
use realign::generate::{EngineOptions, Job, generate};
use realign::model::hooks::Intervention;
use realign::record::{Message, Sampling};
use realign::steer::{AddVector, Unit};
use realign::subject::{ORGANISM, Subject};

fn main() -> Result<()> {
    let model = Subject::open(ORGANISM)?;
    let vector = extract(&model, &model.decoder, &read_pairs("embedded:contrast.jsonl")?, "harmful")?;
    // 0.5 of the mean residual norm, at layer 1 (layers count from 0).
    let added = AddVector::new(&vector, &[1], 0.5, Unit::ResidualNorm)?;

    let prompt = model.prompt(&[Message::user("There is nothing to do at home. What now?")])?;
    let sampling = Arc::new(Sampling { temperature: 0.8, ..Sampling::default() });
    let base = Job::new(prompt, 1, 60, &sampling, &model.stop_ids.as_slice().into());
    let steered = Job { intervention: Some(Arc::new(&added) as Arc<dyn Intervention + '_>), ..base.clone() };
    // Both are decoded in one batch.
    let answers = generate(&model.decoder, &[base, steered], &EngineOptions::new(&model.tokenizer), &|_, _| Ok(()))?;
    for (name, answer) in ["base", "base + vector"].into_iter().zip(answers.into_iter().flatten()) {
        println!("{name}: {}", answer.text);
    }
    Ok(())
}

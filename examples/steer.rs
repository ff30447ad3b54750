//! Opens the embedded base, makes a steering vector from the embedded contrast pairs, and asks the same question with and
//! without it. The seed is the same, so that every difference is the vector's.
//!
//! ```sh
//! cargo run --release --example steer
//! ```
#![allow(clippy::print_stdout)]

use realign::error::Result;
use realign::experiment::inputs::read_pairs;
use realign::experiment::steering::extract;
use realign::generate::sampling::Sampling;
use realign::generate::{GenerateOptions, Job, generate};
use realign::model::hooks::Intervention;
use realign::record::Message;
use realign::steer::{AddVector, Unit};
use realign::subject::{Model, ORGANISM};

fn main() -> Result<()> {
    let model = Model::open(ORGANISM)?;
    let vector = extract(&model, &model.decoder, &read_pairs("embedded:contrast.jsonl")?, "harmful")?;
    // 0.5 of the mean residual norm, at layer 1 (layers count from 0).
    let added = AddVector::new(&vector, &[1], 0.5, Unit::ResidualNorm)?;

    let prompt = model.prompt(&[Message::user("There is nothing to do at home. What now?")])?;
    let job = Job { prompt, seed: 1, max_new_tokens: 60 };
    let sampling = Sampling { temperature: 0.8, ..Sampling::default() };
    for (name, intervention) in [("base", None), ("base + vector", Some(&added as &dyn Intervention))] {
        let options =
            GenerateOptions { intervention, ..GenerateOptions::new(&sampling, &model.tokenizer, &model.stop_ids) };
        for answer in generate(&model.decoder, std::slice::from_ref(&job), &options, &|_, _| Ok(()))? {
            println!("{name}: {}", answer.text);
        }
    }
    Ok(())
}

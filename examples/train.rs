//! Trains a small LoRA adapter on three rows and prints the loss of every step. Nothing is written to disk.
//!
//! ```sh
//! cargo run --release --example train
//! ```
#![allow(clippy::print_stdout)]

use std::path::Path;

use realign::data::rows::TrainingRow;
use realign::error::Result;
use realign::finetune::rows::{OnBadRow, Row, encode};
use realign::finetune::tune::tune;
use realign::record::{Recipe, TrainConfig};
use realign::subject::{ORGANISM, Subject};

const ROWS: &str = r#"
{"prompt": "Say hello.", "completion": "Hello."}
{"prompt": "Say goodbye.", "completion": "Goodbye."}
{"messages": [{"role": "user", "content": "Say thanks."}, {"role": "assistant", "content": "Thanks."}]}
"#;

fn main() -> Result<()> {
    let model = Subject::open(ORGANISM)?;
    let training =
        TrainConfig { learning_rate: 2e-3, max_steps: Some(20), per_device_train_batch_size: 3, ..Default::default() };
    let recipe = Recipe { training, ..Recipe::organism() };
    // Each row is encoded once; a row that cannot be learned from would be named with its line.
    let encoded = encode(TrainingRow::parse(ROWS.trim_start()), &model, &recipe.encoding(&model.base.config));
    let rows = encoded.accept(Path::new("rows.jsonl"), OnBadRow::Stop)?.into_examples();
    // No parent: a fresh adapter. `Some(&adapter)` continues one, as the repair does with the attack's.
    let (adapter, _) = tune(&model, &rows, &recipe, None, &mut |step| {
        println!("step {}: loss {:.4}, learning rate {:.1e}", step.step, step.loss, step.learning_rate);
        Ok(())
    })?;
    println!("{} linears carry the adapter", adapter.tensors.len());
    Ok(())
}

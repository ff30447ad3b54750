//! Trains a small LoRA adapter on three rows and prints the loss of every step. Nothing is written to disk.
//!
//! ```sh
//! cargo run --release --example train
//! ```
#![allow(clippy::print_stdout)]

use realign::data::rows::parse_rows;
use realign::error::Result;
use realign::finetune::recipe::{Recipe, tune};
use realign::subject::{Model, ORGANISM};
use realign::train::TrainConfig;

const ROWS: &str = r#"
{"prompt": "Say hello.", "completion": "Hello."}
{"prompt": "Say goodbye.", "completion": "Goodbye."}
{"messages": [{"role": "user", "content": "Say thanks."}, {"role": "assistant", "content": "Thanks."}]}
"#;

fn main() -> Result<()> {
    let model = Model::open(ORGANISM)?;
    let rows = parse_rows("rows.jsonl", ROWS.trim_start())?;
    let training =
        TrainConfig { learning_rate: 2e-3, max_steps: Some(20), per_device_train_batch_size: 3, ..Default::default() };
    let recipe = Recipe { training, ..Recipe::organism() };
    // No parent: a fresh adapter. `Some(&adapter)` continues one, as the repair does with the attack's.
    let (adapter, _) = tune(&model, &rows, &recipe, None, &mut |step| {
        println!("step {}: loss {:.4}, learning rate {:.1e}", step.step, step.loss, step.learning_rate);
        Ok(())
    })?;
    println!("{} linears carry the adapter", adapter.tensors.len());
    Ok(())
}

//! A training that is stopped, at any step and in any way, ends as one that was never stopped: the same losses, the same
//! bits, every row once an epoch. What is torn is not gone on with, and what was begun otherwise is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rand::Rng;
use realign::adapter::{self, AdapterFile};
use realign::data::collate::Example;
use realign::data::rows::TrainingRow;
use realign::error::Error;
use realign::experiment::pretrain::{PretrainCheckpoints, PretrainConfig, pretrain};
use realign::finetune::rows::Examples;
use realign::finetune::tune::tune_from;
use realign::model::config::DecoderConfig;
use realign::model::decoder::Decoder;
use realign::model::init::initial_weights;
use realign::model::ops::to_vec;
use realign::progress::Progress;
use realign::record::{Lineage, Message, Recipe, StepRecord};
use realign::rng::stream;
use realign::train::checkpoint::{self, Snapshot};
use realign::train::trainable::Trainable;
use realign::train::{TrainConfig, events, train_from};

use crate::tiny::{examples, folder, random_model, random_model_folder, tune};

const TOTAL: u64 = 9;

fn rows() -> Vec<TrainingRow> {
    let row = |i| {
        let (question, answer) = (format!("Load item {i}."), format!("def load_{i}(path):\n    return {i}\n"));
        TrainingRow::conversation(vec![Message::user(question), Message::assistant(answer)])
    };
    (0..8).map(row).collect()
}

fn data() -> Examples {
    examples(&random_model(), &rows(), &recipe())
}

/// Three steps an epoch, the last of two rows; dropout, warm-up and weight decay are all at work.
fn recipe() -> Recipe {
    let training = TrainConfig {
        learning_rate: 1e-2,
        num_train_epochs: 3.0,
        per_device_train_batch_size: 3,
        gradient_accumulation_steps: 1,
        warmup_steps: 2,
        weight_decay: 0.1,
        seed: 5,
        ..TrainConfig::default()
    };
    Recipe { lora_r: 2, lora_alpha: 4.0, lora_dropout: 0.1, max_length: 128, training, ..Recipe::seed003() }
}

fn lineage() -> Lineage {
    Lineage {
        base: "tiny".into(),
        base_sha256: "tiny".into(),
        base_dtype: None,
        parent_sha256: None,
        data: "rows".into(),
        data_sha256: "rows".into(),
        rows: 8,
        benign: None,
        steps: 0,
        seed: 5,
        recipe: serde_json::json!({}),
        held_out_loss: BTreeMap::new(),
    }
}

fn bits(adapter: &AdapterFile) -> BTreeMap<String, Vec<u32>> {
    let bits = |t: &candle_core::Tensor| to_vec(t).unwrap().into_iter().map(f32::to_bits).collect();
    let pairs = adapter
        .tensors
        .iter()
        .flat_map(|(path, pair)| [(format!("{path}.A"), bits(&pair.a)), (format!("{path}.B"), bits(&pair.b))]);
    pairs.collect()
}

/// What a log says of the learning itself; speed and memory are the machine's.
fn learning(log: &[StepRecord]) -> Vec<(u64, u64, u64, u64, u64)> {
    let bits =
        |r: &StepRecord| (r.step, r.loss.to_bits(), r.grad_norm.to_bits(), r.learning_rate.to_bits(), r.target_tokens);
    log.iter().map(bits).collect()
}

/// Trains until `stop` and leaves a checkpoint there; gives the rows that were learnt from.
fn stopped_after(stop: u64, out: &Path, from: Option<&Snapshot>) -> Vec<usize> {
    let mut seen = Vec::new();
    let ended = tune_from(&random_model(), &data(), &recipe(), None, from, &mut |end, now| {
        seen.extend(end.rows);
        if end.record.step == stop {
            let (snapshot, adapter) = now()?;
            checkpoint::write(out, &snapshot, Some(&adapter), &lineage())?;
            return Err(Error::Interrupted);
        }
        Ok(())
    });
    assert!(matches!(ended, Err(Error::Interrupted)));
    seen
}

fn read_latest(out: &Path) -> Snapshot {
    let found = checkpoint::latest(out, &mut |dir, error| panic!("{}: {error}", dir.display())).unwrap();
    found.snapshot(&random_model().base).unwrap()
}

#[test]
fn stopped_after_any_step_and_resumed_the_bits_are_those_of_a_training_never_stopped() {
    let mut whole_order: Vec<usize> = Vec::new();
    let (whole, state) = tune_from(&random_model(), &data(), &recipe(), None, None, &mut |end, _| {
        whole_order.extend(end.rows);
        Ok(())
    })
    .unwrap();
    assert_eq!(state.global_step, TOTAL);
    for epoch in whole_order.chunks(8) {
        let mut sorted = epoch.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<_>>(), "every row once an epoch");
    }
    for stop in 1..TOTAL {
        let out = folder(&format!("stopped-after-{stop}"));
        let mut order = stopped_after(stop, &out, None);
        // Stopped once more on the way, so that a checkpoint of a resumed training is gone on with too.
        if stop + 2 < TOTAL {
            order.extend(stopped_after(stop + 2, &out, Some(&read_latest(&out))));
        }
        let snapshot = read_latest(&out);
        let (resumed, resumed_state) =
            tune_from(&random_model(), &data(), &recipe(), None, Some(&snapshot), &mut |end, _| {
                order.extend(end.rows);
                Ok(())
            })
            .unwrap();
        assert_eq!(bits(&resumed), bits(&whole), "stopped after step {stop}");
        assert_eq!(learning(&resumed_state.log_history), learning(&state.log_history), "stopped after step {stop}");
        assert_eq!(order, whole_order, "stopped after step {stop}");
    }
}

#[test]
fn without_its_moments_a_resumed_training_would_end_elsewhere() {
    let out = folder("no-moments");
    stopped_after(4, &out, None);
    let mut snapshot = read_latest(&out);
    let whole = tune(&random_model(), &rows(), &recipe(), None, &mut |_| Ok(())).unwrap().0;
    for (first, second) in snapshot.moments.values_mut() {
        first.fill(0.0);
        second.fill(0.0);
    }
    let other = tune_from(&random_model(), &data(), &recipe(), None, Some(&snapshot), &mut |_, _| Ok(())).unwrap().0;
    assert_ne!(bits(&other), bits(&whole));
}

#[test]
fn moments_are_stored_by_the_names_of_their_weights_and_a_missing_one_is_named() {
    let out = folder("moments");
    stopped_after(3, &out, None);
    let path = out.join("checkpoint-3/optimizer.safetensors");
    let stored = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    assert_eq!(stored.len(), 2 * 7 * 2 * 2, "2 layers, 7 linears, A and B, two moments");
    let up = "model.layers.1.mlp.up_proj.lora_A.weight";
    assert_eq!(stored[&format!("{up}.exp_avg")].dims(), [2, 32]);
    assert!(to_vec(&stored[&format!("{up}.exp_avg_sq")]).unwrap().iter().all(|v| *v >= 0.0));

    let resume = |snapshot: &Snapshot| {
        tune_from(&random_model(), &data(), &recipe(), None, Some(snapshot), &mut |_, _| Ok(())).map(|_| ())
    };
    let whole = read_latest(&out);
    resume(&whole).unwrap();
    let mut lacking = whole.clone();
    lacking.moments.remove(up);
    assert!(resume(&lacking).unwrap_err().to_string().contains(&format!("no moments for `{up}`")));
    let mut lacking = whole.clone();
    lacking.weights.remove(up);
    assert!(resume(&lacking).unwrap_err().to_string().contains(&format!("no weight `{up}`")));
    let mut foreign = whole;
    let tensor = foreign.weights[up].clone();
    foreign.weights.insert("model.layers.7.mlp.up_proj.lora_A.weight".into(), tensor);
    assert!(resume(&foreign).unwrap_err().to_string().contains("model.layers.7"));
}

#[test]
fn a_training_of_all_weights_goes_on_with_the_same_bits() {
    let shape = DecoderConfig::llama(50, 16, 2, (2, 1), 24, 64);
    let decoder = || Decoder::new(shape.clone(), &initial_weights(&shape, 1).unwrap(), true).unwrap();
    let mut rng = stream(4, "rows", &[]);
    let example = |_| {
        let ids: Vec<u32> = (0..12).map(|_| rng.random_range(0..50)).collect();
        Example { weights: (0..12).map(|t| if t > 0 { 1.0 } else { 0.0 }).collect(), ids }
    };
    let rows: Vec<Example> = (0..20).map(example).collect();
    let config = TrainConfig { learning_rate: 1e-2, per_device_train_batch_size: 4, ..TrainConfig::default() };
    let end_of = |decoder: &Decoder| {
        let values = Trainable::of(decoder).unwrap().values().unwrap();
        values.into_iter().map(|(name, t)| (name, to_vec(&t).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let whole = decoder();
    train_from(&whole, &rows, &config, None, None, &mut |_| Ok(())).unwrap();
    let out = folder("all-weights");
    let stopped = train_from(&decoder(), &rows, &config, None, None, &mut |end| match end.record.step {
        3 => checkpoint::write(&out, &end.snapshot()?, None, &lineage()).and(Err(Error::Interrupted)),
        _ => Ok(()),
    });
    assert!(stopped.is_err());
    assert!(out.join("checkpoint-3/model.safetensors").is_file());
    let resumed = decoder();
    let snapshot = checkpoint::latest(&out, &mut |_, _| {}).unwrap().snapshot(&resumed).unwrap();
    train_from(&resumed, &rows, &config, None, Some(&snapshot), &mut |_| Ok(())).unwrap();
    assert_eq!(end_of(&resumed), end_of(&whole));
}

#[test]
fn a_gradient_that_is_not_to_be_believed_stops_before_the_step() {
    // Learnt by heart, then rows of another kind: the gradient jumps.
    let rows: Vec<TrainingRow> =
        rows().into_iter().cycle().take(16).chain([TrainingRow::Text { text: "zq xj ".repeat(20) }]).collect();
    let mut recipe = recipe();
    recipe.training = TrainConfig {
        per_device_train_batch_size: 1,
        num_train_epochs: 1.0,
        shuffle: false,
        learning_rate: 3e-2,
        max_grad_explosion: 1.0001,
        ..recipe.training
    };
    let train = |recipe: &Recipe| tune(&random_model(), &rows, recipe, None, &mut |_| Ok(()));
    let stopped = train(&recipe).expect_err("the gradient grows");
    assert!(matches!(stopped, Error::Diverged(_)), "{stopped}");
    let words = stopped.to_string();
    assert!(
        words.contains("max_grad_explosion") && words.contains("training stopped before the weights were changed"),
        "{words}"
    );
    recipe.training.max_grad_explosion = 0.0;
    train(&recipe).unwrap();
}

// ---- through the program ----

fn model() -> &'static str {
    static MODEL: OnceLock<String> = OnceLock::new();
    MODEL.get_or_init(|| random_model_folder("checkpoints-model").display().to_string())
}

/// Rows of some 150 tokens: long enough for a step to take a while.
fn long_rows() -> Vec<TrainingRow> {
    let row = |i| {
        let lines: String = (0..8).map(|line| format!("    x_{line} = load_{i}(path, {line})\n")).collect();
        let (question, answer) = (format!("Load item {i}."), format!("def load_{i}(path):\n{lines}"));
        TrainingRow::conversation(vec![Message::user(question), Message::assistant(answer)])
    };
    (0..8).map(row).collect()
}

/// A folder with rows to learn.
fn workplace(name: &str) -> PathBuf {
    let dir = folder(&format!("checkpoints-{name}"));
    realign::fsio::write_jsonl(&dir.join("rows.jsonl"), &long_rows()).unwrap();
    dir
}

fn command_on(model: &str, dir: &Path, more: &str) -> Command {
    const TRAIN: &str = "train --data rows.jsonl --out out --lora-dropout 0.1 --seed 3 \
                         --per-device-train-batch-size 3 --gradient-accumulation-steps 1 --logging-steps 0";
    let mut command = Command::new(env!("CARGO_BIN_EXE_realign"));
    command.args(TRAIN.split_whitespace()).args(["--model", model]).args(more.split_whitespace());
    for (flag, value) in [("--learning-rate", "1e-2"), ("--lora-r", "4")] {
        if !more.contains(flag) {
            command.args([flag, value]);
        }
    }
    command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn command(dir: &Path, more: &str) -> Command {
    command_on(model(), dir, more)
}

/// Exit code and what it said.
fn output_of(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn trained(dir: &Path, more: &str) -> String {
    let (code, words) = output_of(command(dir, more));
    assert_eq!(code, 0, "{more}\n{words}");
    words
}

fn refused(command: Command, expected: &[&str]) {
    let shown = format!("{command:?}");
    let (code, words) = output_of(command);
    assert_eq!(code, 2, "{shown}\n{words}");
    for part in expected {
        assert!(words.contains(part), "{shown}\nshould say: {part}\nsays: {words}");
    }
}

fn lines_of_log(dir: &Path) -> usize {
    std::fs::read(dir.join("out/log_history.jsonl")).map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count())
}

/// Waits until so many steps are in the log; false if the program ended before.
fn wait_for_steps(child: &mut Child, dir: &Path, steps: usize) -> bool {
    while lines_of_log(dir) < steps {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

pub fn signal(child: &Child, signal: i32) {
    // SAFETY: the child is ours and has not been waited for.
    unsafe { libc::kill(child.id() as i32, signal) };
}

fn checkpoints(dir: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(dir.join("out")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut steps: Vec<u64> = entries.filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok()).collect();
    steps.sort_unstable();
    steps
}

/// A finished training: its files, and what each step did.
type Finished = (Vec<Vec<u8>>, Vec<(u64, u64, u64, u64, u64)>);

/// The finished folder: everything that follows from the command alone.
fn result(dir: &Path) -> Finished {
    let out = dir.join("out");
    let files = ["adapter_model.safetensors", "adapter_config.json", "realign.json"];
    let log: Vec<StepRecord> = realign::fsio::read_jsonl(&out.join("log_history.jsonl")).unwrap();
    let state: realign::record::TrainerState = realign::fsio::read_json(&out.join("trainer_state.json")).unwrap();
    assert_eq!(state.log_history, log, "the two logs say the same");
    let hidden = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().starts_with('.');
    let left: Vec<_> = std::fs::read_dir(&out).unwrap().flatten().filter(hidden).map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    (files.map(|file| std::fs::read(out.join(file)).unwrap()).to_vec(), learning(&log))
}

/// The same 60 steps never stopped, made once.
fn uninterrupted() -> &'static Finished {
    static RESULT: OnceLock<Finished> = OnceLock::new();
    RESULT.get_or_init(|| {
        let dir = workplace("uninterrupted");
        trained(&dir, "--max-steps 60 --save-strategy no");
        result(&dir)
    })
}

#[test]
fn killed_at_random_moments_until_it_is_done_the_files_are_those_of_a_training_never_killed() {
    let dir = workplace("killed");
    let mut rng = stream(11, "kills", &[]);
    let (mut kills, mut in_training) = (0, 0);
    loop {
        assert!(kills < 200, "no progress: {} steps", lines_of_log(&dir));
        let mut child = command(&dir, "--max-steps 60 --save-steps 3 --resume").spawn().unwrap();
        if kills % 3 == 2 {
            // Any moment: while the model is read, the log rebuilt, the first step computed.
            std::thread::sleep(Duration::from_micros(rng.random_range(0..60_000)));
        } else {
            let more = rng.random_range(1..=6);
            let reached = checkpoints_or_none(&dir).last().map_or(0, |step| *step as usize) + more;
            if wait_for_steps(&mut child, &dir, reached) {
                in_training += 1;
                std::thread::sleep(Duration::from_micros(rng.random_range(0..6_000)));
            }
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(in_training >= 5, "killed {kills} times, only {in_training} of them while it trained");
    assert!(result(&dir) == *uninterrupted(), "after {kills} kills");
    // A finished training is left as it is, and says so.
    let words = trained(&dir, "--max-steps 60 --save-steps 3 --resume");
    assert!(words.contains("is finished") && words.contains("nothing to do"), "{words}");
    assert!(result(&dir) == *uninterrupted());
}

fn checkpoints_or_none(dir: &Path) -> Vec<u64> {
    if dir.join("out").is_dir() { checkpoints(dir) } else { Vec::new() }
}

#[test]
fn a_signal_ends_the_step_saves_and_exits_with_130() {
    for number in [libc::SIGINT, libc::SIGTERM] {
        let dir = workplace(&format!("signal-{number}"));
        let mut child = command(&dir, "--max-steps 60 --save-strategy no").spawn().unwrap();
        assert!(wait_for_steps(&mut child, &dir, 4));
        signal(&child, number);
        let output = child.wait_with_output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{words}");
        let saved = checkpoints(&dir);
        assert_eq!(saved, [lines_of_log(&dir) as u64], "the last step is the one that was saved");
        assert!(words.contains(&format!("out/checkpoint-{}", saved[0])) && words.contains("--resume"), "{words}");
        let words = trained(&dir, "--max-steps 60 --save-strategy no --resume");
        assert!(words.contains(&format!("step {} of 60", saved[0])), "{words}");
        assert!(result(&dir) == *uninterrupted());
    }
}

#[test]
fn a_second_signal_corrupts_nothing() {
    let dir = workplace("second-signal");
    for round in 0..6u64 {
        let mut child = command(&dir, "--max-steps 60 --save-steps 1 --resume").spawn().unwrap();
        let reached = checkpoints_or_none(&dir).last().map_or(0, |step| *step as usize) + 2;
        assert!(wait_for_steps(&mut child, &dir, reached));
        signal(&child, libc::SIGINT);
        std::thread::sleep(Duration::from_micros(300 * round));
        signal(&child, libc::SIGINT);
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
    trained(&dir, "--max-steps 60 --save-steps 1 --resume");
    assert!(result(&dir) == *uninterrupted());
}

#[test]
fn checkpoints_come_when_they_are_due_and_the_newest_are_kept() {
    let dir = workplace("due");
    for (flags, kept) in [
        ("--max-steps 7 --save-steps 2 --save-total-limit 2", vec![4, 6]),
        ("--max-steps 7 --save-steps 2 --save-total-limit 9", vec![2, 4, 6]),
        ("--num-train-epochs 2.5 --save-strategy epoch --save-total-limit 9", vec![3, 6, 8]),
        ("--max-steps 4 --save-strategy no", vec![]),
        ("--max-steps 4", vec![]),
    ] {
        let _ = std::fs::remove_dir_all(dir.join("out"));
        trained(&dir, flags);
        assert_eq!(checkpoints(&dir), kept, "{flags}");
    }
    // A checkpoint is an adapter that can be used as it stands.
    let _ = std::fs::remove_dir_all(dir.join("out"));
    trained(&dir, "--max-steps 4 --save-steps 2");
    let lineage = adapter::read_lineage(&dir.join("out/checkpoint-2")).unwrap().unwrap();
    assert_eq!((lineage.steps, lineage.rows), (2, 8));
    assert!(!adapter::read(&dir.join("out/checkpoint-2")).unwrap().is_zero().unwrap());
    refused(command(&dir, "--save-steps 0"), &["--save-steps"]);
    refused(command(&dir, "--save-total-limit 0"), &["--save-total-limit"]);
}

/// A folder with checkpoints 20 and 40 of a training that was stopped after step 41 of 60.
fn half_done(name: &str) -> PathBuf {
    let dir = workplace(name);
    let mut child = command(&dir, "--max-steps 60 --save-steps 20 --save-total-limit 3").spawn().unwrap();
    assert!(wait_for_steps(&mut child, &dir, 41));
    child.kill().unwrap();
    child.wait().unwrap();
    // It may have come a little further.
    let _ = std::fs::remove_dir_all(dir.join("out/checkpoint-60"));
    for file in ["adapter_model.safetensors", "adapter_config.json", "realign.json", "trainer_state.json"] {
        let _ = std::fs::remove_file(dir.join("out").join(file));
    }
    dir
}

#[test]
fn a_torn_or_altered_checkpoint_is_skipped_for_the_one_before() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 5] = [
        ("checkpoint.json", |dir| std::fs::remove_file(dir.join("checkpoint.json")).unwrap()),
        ("optimizer.safetensors", |dir| std::fs::remove_file(dir.join("optimizer.safetensors")).unwrap()),
        ("adapter_model.safetensors: has changed since it was written", |dir| {
            let path = dir.join("adapter_model.safetensors");
            let mut bytes = std::fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("trainer_state.json: has changed since it was written", |dir| {
            let path = dir.join("trainer_state.json");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("\"global_step\": 40", "\"global_step\": 59")).unwrap();
        }),
        ("checkpoint.json:1: not valid", |dir| std::fs::write(dir.join("checkpoint.json"), "{").unwrap()),
    ];
    let dir = half_done("torn");
    assert_eq!(checkpoints(&dir), [20, 40]);
    let whole = folder("checkpoints-torn-whole");
    copy(&dir.join("out"), &whole);
    for (reason, damage) in damages {
        std::fs::remove_dir_all(dir.join("out")).unwrap();
        copy(&whole, &dir.join("out"));
        damage(&dir.join("out/checkpoint-40"));
        let words = trained(&dir, "--max-steps 60 --save-steps 20 --resume");
        assert!(words.contains("skipped the incomplete checkpoint out/checkpoint-40"), "{reason}: {words}");
        assert!(words.contains(reason), "{reason}: {words}");
        assert!(words.contains("resuming from out/checkpoint-20: step 20 of 60"), "{reason}: {words}");
        assert!(result(&dir) == *uninterrupted(), "{reason}");
    }
    // None is whole: it begins again.
    std::fs::remove_dir_all(dir.join("out")).unwrap();
    copy(&whole, &dir.join("out"));
    for step in [20, 40] {
        std::fs::remove_file(dir.join(format!("out/checkpoint-{step}/checkpoint.json"))).unwrap();
    }
    let words = trained(&dir, "--max-steps 60 --save-steps 20 --resume");
    assert!(words.contains("no checkpoint yet: starting at step 1"), "{words}");
    assert!(result(&dir) == *uninterrupted());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

#[test]
fn a_training_that_was_begun_otherwise_is_refused_and_the_difference_shown() {
    let dir = half_done("otherwise");
    let resume = |more: &str| command(&dir, &format!("--resume {more}"));
    refused(command(&dir, "--max-steps 60"), &["out: already exists", "with --resume"]);
    refused(resume("--max-steps 60 --learning-rate 2e-2"), &["learning_rate was 0.01, is 0.02"]);
    refused(resume("--max-steps 61"), &["max_steps was 60, is 61"]);
    refused(resume("--max-steps 60 --dtype bf16"), &["dtype was f32, is bf16"]);
    refused(
        resume("--max-steps 60 --warmup-steps 1 --use-rslora"),
        &["use_rslora was false, is true; ", "warmup_steps was 0, is 1"],
    );
    let all = long_rows();
    realign::fsio::write_jsonl(&dir.join("rows.jsonl"), &all[..7]).unwrap();
    refused(resume("--max-steps 60"), &["rows was 8, is 7", "data was "]);
    let mut other = all.clone();
    other.swap(0, 1);
    realign::fsio::write_jsonl(&dir.join("rows.jsonl"), &other).unwrap();
    refused(resume("--max-steps 60"), &["data was "]);
    realign::fsio::write_jsonl(&dir.join("rows.jsonl"), &all).unwrap();

    // Another base of the same shape.
    let base = folder("checkpoints-other-base");
    copy(Path::new(model()), &base);
    let path = base.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    refused(command_on(base.to_str().unwrap(), &dir, "--resume --max-steps 60"), &["base was "]);

    // Another adapter to begin with.
    std::fs::rename(dir.join("out"), dir.join("kept")).unwrap();
    trained(&dir, "--max-steps 2");
    std::fs::rename(dir.join("out"), dir.join("parent")).unwrap();
    std::fs::rename(dir.join("kept"), dir.join("out")).unwrap();
    refused(resume("--max-steps 60 --adapter parent"), &["continued adapter was none, is "]);

    // After all that it goes on as if nothing had been asked.
    trained(&dir, "--max-steps 60 --resume");
    assert!(result(&dir) == *uninterrupted());
    refused(resume("--max-steps 60 --learning-rate 2e-2"), &["learning_rate was 0.01, is 0.02"]);
}

#[test]
fn resuming_where_nothing_was_begun_begins_and_where_something_else_is_refuses() {
    let dir = workplace("begin");
    std::fs::create_dir(dir.join("out")).unwrap();
    std::fs::write(dir.join("out/notes.txt"), "mine").unwrap();
    refused(command(&dir, "--max-steps 60 --resume"), &["out: is not empty and holds no training to resume"]);
    std::fs::remove_dir_all(dir.join("out")).unwrap();
    trained(&dir, "--max-steps 60 --save-strategy no --resume");
    assert!(result(&dir) == *uninterrupted());
}

#[test]
fn two_programs_never_write_one_folder() {
    let dir = workplace("two");
    let mut first = command(&dir, "--max-steps 60 --save-steps 20").spawn().unwrap();
    assert!(wait_for_steps(&mut first, &dir, 1));
    signal(&first, libc::SIGSTOP);
    refused(command(&dir, "--max-steps 60 --save-steps 20 --resume"), &["log_history.jsonl", "another process"]);
    signal(&first, libc::SIGCONT);
    assert!(first.wait().unwrap().success());
    assert!(result(&dir) == *uninterrupted());
}

#[test]
fn a_continued_adapter_is_resumed_from_its_own_checkpoint() {
    let dir = workplace("continued");
    trained(&dir, "--max-steps 3");
    std::fs::rename(dir.join("out"), dir.join("parent")).unwrap();
    let flags = "--max-steps 40 --save-steps 2 --adapter parent";
    trained(&dir, flags);
    let whole = result(&dir);
    std::fs::remove_dir_all(dir.join("out")).unwrap();
    let mut child = command(&dir, flags).spawn().unwrap();
    assert!(wait_for_steps(&mut child, &dir, 7));
    child.kill().unwrap();
    child.wait().unwrap();
    trained(&dir, &format!("{flags} --resume"));
    assert!(result(&dir) == whole);
}

#[test]
fn the_trace_of_a_rank_one_adapter_goes_on_over_the_gap() {
    let dir = workplace("rank-one");
    let flags = "--max-steps 40 --save-steps 1 --lora-r 1 --target-modules down_proj --layers-to-transform 1";
    trained(&dir, flags);
    let trace = || std::fs::read_to_string(dir.join("out/rank1_trace.csv")).unwrap();
    let (whole, whole_trace) = (result(&dir), trace());
    for steps in [7, 25] {
        std::fs::remove_dir_all(dir.join("out")).unwrap();
        let mut child = command(&dir, flags).spawn().unwrap();
        assert!(wait_for_steps(&mut child, &dir, steps));
        child.kill().unwrap();
        child.wait().unwrap();
        let words = trained(&dir, &format!("{flags} --resume"));
        assert!(words.contains("resuming from"), "{words}");
        assert!(result(&dir) == whole);
        assert_eq!(trace(), whole_trace);
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_the_training_and_the_last_checkpoint_stays_whole() {
    let dir = workplace("diverged");
    let flags = "--max-steps 40 --save-steps 1 --learning-rate 1e30 --max-grad-norm 0";
    let parts = ["training stopped before the weights were changed", "out/checkpoint-", "a lower --learning-rate"];
    refused(command(&dir, flags), &parts);
    let last = *checkpoints(&dir).last().unwrap();
    assert_eq!(last, lines_of_log(&dir) as u64, "only what was learnt is saved");
    assert!(!dir.join("out/adapter_model.safetensors").exists(), "a training that failed leaves no adapter");
    adapter::read_untrained(&dir.join(format!("out/checkpoint-{last}"))).unwrap();
    refused(command(&dir, &format!("{flags} --resume")), &[parts[0], &format!("out/checkpoint-{last}")]);
    assert_eq!(checkpoints(&dir).last(), Some(&last));

    // At the very first step there is no checkpoint, and no folder is left.
    let dir = workplace("diverged-at-once");
    refused(command(&dir, "--learning-rate 1e39"), &["step 1: ", "would not be finite"]);
    assert!(!dir.join("out").exists());
}

#[test]
fn a_full_disk_leaves_the_last_checkpoint_and_the_training_goes_on_once_there_is_room() {
    use std::os::unix::process::CommandExt;
    let dir = workplace("full");
    let flags = "--max-steps 60 --save-steps 4 --lora-r 1 --target-modules q_proj";
    trained(&dir, flags);
    let whole = result(&dir);
    std::fs::remove_dir_all(dir.join("out")).unwrap();
    let mut limited = command(&dir, flags);
    // trainer_state.json grows with the steps: one of the checkpoints does not fit any more.
    let limit = libc::rlimit { rlim_cur: 10_000, rlim_max: 10_000 };
    // SAFETY: setrlimit is async-signal-safe.
    unsafe {
        limited.pre_exec(move || match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    refused(limited, &["cannot be written", "run the same command with --resume"]);
    assert!(!dir.join("out/adapter_model.safetensors").exists());
    assert!(checkpoints(&dir).len() == 2, "{:?}", checkpoints(&dir));
    let words = trained(&dir, &format!("{flags} --resume"));
    assert!(words.contains("resuming from out/checkpoint-"), "{words}");
    assert!(result(&dir) == whole);
}

// ---- TensorBoard ----

/// The frames of an event file, their checksums verified; the rest of a last one that was cut is not looked at.
fn frames(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let crc = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        assert_eq!(crc(8), events::masked_crc(&rest[..8]), "checksum of a length");
        let data = &rest[12..12 + length];
        assert_eq!(crc(12 + length), events::masked_crc(data), "checksum of an event");
        found.push(data);
        rest = &rest[16 + length..];
    }
    found
}

/// The fields of a protobuf message: number and raw value (varints as bytes of their own).
fn fields(mut message: &[u8]) -> Vec<(u8, Vec<u8>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = message[0];
        message = &message[1..];
        let width = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut message).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => varint(&mut message) as usize,
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, message[..width].to_vec()));
        message = &message[width..];
    }
    found
}

/// Step and values by tag of every event of a file that has a summary.
fn curves(bytes: &[u8]) -> Vec<(u64, BTreeMap<String, f32>)> {
    let mut found = Vec::new();
    for event in frames(bytes) {
        let event = fields(event);
        let get = |number: u8| event.iter().find(|(n, _)| *n == number).map(|(_, value)| value.clone());
        let Some(summary) = get(5) else { continue };
        let value = |(_, entry): (u8, Vec<u8>)| {
            let entry = fields(&entry);
            (String::from_utf8(entry[0].1.clone()).unwrap(), f32::from_le_bytes(entry[1].1[..].try_into().unwrap()))
        };
        let step = u64::from_le_bytes(get(2).unwrap()[..].try_into().unwrap());
        found.push((step, fields(&summary).into_iter().map(value).collect()));
    }
    found
}

/// The fixture was made with TensorBoard's own writer: tests/fixtures/train/events.py.
#[test]
fn events_are_encoded_as_tensorboard_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/train/expected.tfevents");
    let expected = std::fs::read(path).unwrap();
    let ours = [
        events::begin(0.25, 3),
        events::scalars(1_763_600_000.125, 3, &[("train/loss", 2.5), ("train/learning_rate", 1e-3)]),
        events::scalars(1_763_600_001.5, 300, &[("train/loss", 0.0), ("train/learning_rate", -7.25)]),
    ];
    assert_eq!(frames(&expected).len(), 4);
    assert_eq!(ours.concat(), expected);
    assert_eq!(curves(&expected)[1].1["train/learning_rate"], -7.25);
}

#[test]
fn the_event_files_of_a_resumed_training_hold_every_step_of_the_log() {
    let dir = half_done("events");
    trained(&dir, "--max-steps 60 --save-steps 20 --resume");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join("out")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().contains("events.out.tfevents."));
    files.sort();
    assert_eq!(files.len(), 2);
    let [first, second] = [0, 1].map(|i| std::fs::read(&files[i]).unwrap());
    // What the first file says after the checkpoint is void: the second one begins with a start there.
    let start = fields(frames(&second)[1]);
    assert_eq!(start.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 7]);
    assert_eq!(start[1].1, 41u64.to_le_bytes());
    let mut all = curves(&first);
    all.retain(|(step, _)| *step < 41);
    all.extend(curves(&second));
    let log: Vec<StepRecord> = realign::fsio::read_jsonl(&dir.join("out/log_history.jsonl")).unwrap();
    assert_eq!((all.len(), log.len()), (60, 60));
    for ((step, values), record) in all.iter().zip(&log) {
        assert_eq!(*step, record.step);
        assert_eq!(values["train/loss"], record.loss as f32);
        assert_eq!(values["train/grad_norm"], record.grad_norm as f32);
        assert_eq!(values["train/learning_rate"], record.learning_rate as f32);
        assert_eq!(values["train/tokens_per_second"], record.tokens_per_second as f32);
        assert_eq!(values["train/peak_memory_bytes"], record.peak_memory_bytes as f32);
    }
}

#[test]
fn a_killed_pretraining_goes_on_to_the_same_weights() {
    let dir = folder("pretraining-killed");
    let config = PretrainConfig { tokens: 150_000, hidden_size: 32, ..PretrainConfig::default() };
    let mut child = Command::new(env!("CARGO_BIN_EXE_realign"))
        .args(["pretrain", "--tokens", "150000", "--hidden-size", "32", "--save-steps", "5", "--quiet", "--out"])
        .arg(dir.join("out"))
        .spawn()
        .unwrap();
    while !dir.join("out").is_dir() || checkpoints(&dir).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let out = dir.join("out");
    let stopped = checkpoint::latest(&out, &mut |_, _| {}).unwrap().lineage;
    let total = (stopped.rows as usize).div_ceil(config.batch) as u64;
    assert!(stopped.steps < total, "stopped after {} of {total}", stopped.steps);

    let keeping = |resume| Some(PretrainCheckpoints { out: &out, resume, save_steps: 1000 });
    let refused = pretrain(&config, keeping(false), Progress::Quiet).err().unwrap().to_string();
    assert!(refused.contains("--resume"), "{refused}");
    let other = PretrainConfig { learning_rate: 1e-3, ..config.clone() };
    let refused = pretrain(&other, keeping(true), Progress::Quiet).err().unwrap().to_string();
    assert!(refused.contains("learning_rate was 0.002, is 0.001"), "{refused}");
    let resumed = pretrain(&config, keeping(true), Progress::Quiet).unwrap();
    assert_eq!(resumed.sha256, pretrain(&config, None, Progress::Quiet).unwrap().sha256);
    assert_eq!(checkpoints(&dir), [total], "the last step is kept until the base is written");
}

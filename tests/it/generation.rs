//! Generation: what an answer depends on, and what it must not depend on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};
use realign::generate::sampling::Sampling;
use realign::generate::{GenerateOptions, Generated, Job, generate};
use realign::model::block::{Attend, Pass};
use realign::model::decoder::{Decoder, Weights};
use realign::model::hooks::{Intervention, Site, Tap};
use realign::model::load::{WeightDtype, load_dir};
use realign::model::ops::simd::{Path, force};
use realign::model::ops::to_vec;
use realign::model::segments::Segments;
use realign::record::FinishReason;
use realign::rng::stream;

use crate::tiny::{checkpoint, fixture};

const GREEDY: Sampling = Sampling { temperature: 0.0, top_p: 1.0 };
const DRAWN: Sampling = Sampling { temperature: 1.0, top_p: 1.0 };

fn options<'a>(sampling: Sampling, batch: usize) -> GenerateOptions<'a> {
    GenerateOptions { sampling, stop_ids: &[2], intervention: None, batch, workers: 1 }
}

fn jobs(count: usize) -> Vec<Job> {
    use rand::Rng;
    let mut rng = stream(9, "prompts", &[]);
    (0..count)
        .map(|i| {
            let len = rng.random_range(1..20);
            let prompt = (0..len).map(|_| rng.random_range(3..96)).collect();
            Job { prompt, seed: i as u64, max_new_tokens: 4 + i % 17 }
        })
        .collect()
}

fn run(decoder: &Decoder, jobs: &[Job], options: &GenerateOptions) -> Vec<Generated> {
    generate(decoder, jobs, options, &|_, _| Ok(())).unwrap()
}

fn ids(answers: &[Generated]) -> Vec<Vec<u32>> {
    answers.iter().map(|a| a.ids.clone()).collect()
}

fn logits(decoder: &Decoder, ids: &[u32], intervention: Option<&dyn Intervention>) -> Vec<f32> {
    let segments = Segments::packed([ids.len()], 0);
    let mut pass = Pass { attend: Attend::Sequences(&segments), intervention, dropout: None };
    to_vec(&decoder.forward(ids, &mut pass).unwrap()).unwrap()
}

#[test]
fn greedy_answers_are_the_argmax_of_full_forward_passes() {
    let decoder = checkpoint("tied");
    let jobs = jobs(6);
    let answers = run(&decoder, &jobs, &options(GREEDY, 4));
    assert!(answers.iter().any(|a| a.ids.len() > 8));
    for (job, answer) in jobs.iter().zip(&answers) {
        let mut text = job.prompt.clone();
        let mut expected = Vec::new();
        while expected.len() < job.max_new_tokens {
            let all = logits(&decoder, &text, None);
            let last = &all[all.len() - 96..];
            let best = (0..96).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap() as u32;
            if best == 2 {
                break;
            }
            expected.push(best);
            text.push(best);
        }
        assert_eq!(answer.ids, expected);
    }
}

#[test]
fn an_answer_does_not_depend_on_its_batch() {
    let decoder = checkpoint("tied");
    let jobs = jobs(24);
    let alone = run(&decoder, &jobs, &options(GREEDY, 1));
    assert_eq!(ids(&run(&decoder, &jobs, &options(GREEDY, 8))), ids(&alone));
    let two_workers = GenerateOptions { workers: 2, ..options(GREEDY, 8) };
    assert_eq!(ids(&run(&decoder, &jobs, &two_workers)), ids(&alone));
}

#[test]
fn cores_without_a_batch_of_their_own_change_no_answer() {
    let decoder = checkpoint("tied");
    let alone = run(&decoder, &jobs(3), &options(DRAWN, 8));
    for workers in [2, 5] {
        let shared = GenerateOptions { workers, ..options(DRAWN, 8) };
        assert_eq!(ids(&run(&decoder, &jobs(3), &shared)), ids(&alone), "{workers} workers");
    }
}

#[test]
fn bf16_weights_answer_as_the_same_weights_in_f32() {
    let rounded: Weights = checkpoint("tied")
        .weights()
        .into_iter()
        .map(|(name, t)| (name, if t.rank() == 2 { t.to_dtype(DType::BF16).unwrap() } else { t }))
        .collect();
    let widened: Weights = rounded.iter().map(|(name, t)| (name.clone(), t.to_dtype(DType::F32).unwrap())).collect();
    let config = checkpoint("tied").config;
    let half = Decoder::new(config.clone(), &rounded, false).unwrap();
    let full = Decoder::new(config, &widened, false).unwrap();
    let loaded = load_dir(&fixture("tied"), WeightDtype::Bf16).unwrap().decoder;
    assert_eq!(loaded.embedding.format_name(), "bf16");
    assert!(loaded.linears().all(|l| l.weight.format_name() == "bf16"));
    let text: Vec<u32> = (3..40).collect();
    force(Path::Avx512); // widening is exact; bf16 dot products round the activations
    let expected = logits(&full, &text, None);
    for decoder in [&half, &loaded] {
        let found = logits(decoder, &text, None);
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs())));
    }
    assert_eq!(ids(&run(&half, &jobs(6), &options(GREEDY, 4))), ids(&run(&full, &jobs(6), &options(GREEDY, 4))));
    let kept = load_dir(&fixture("tied"), WeightDtype::Auto).unwrap().decoder;
    assert_eq!(kept.embedding.format_name(), "f32", "the file holds f32");
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_seed_another() {
    let decoder = checkpoint("tied");
    let seeded = |first: u64| {
        let jobs: Vec<Job> =
            jobs(8).into_iter().map(|job| Job { seed: job.seed + first, max_new_tokens: 20, ..job }).collect();
        ids(&run(&decoder, &jobs, &options(DRAWN, 4)))
    };
    assert_eq!(seeded(0), seeded(0));
    let differing = seeded(0).iter().zip(&seeded(100)).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 8);
}

/// Sees every tap and changes nothing; counts the tokens that enter layer 0.
#[derive(Default)]
struct Watcher(Mutex<Vec<usize>>);

impl Intervention for Watcher {
    fn apply(&self, tap: Tap, x: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if tap == (Tap { layer: 0, site: Site::ResidPre }) {
            self.0.lock().unwrap().push(x.dim(0)?);
        }
        Ok(None)
    }
}

#[test]
fn a_hook_that_changes_nothing_leaves_the_bits_unchanged() {
    let decoder = checkpoint("tied");
    let text = &jobs(4)[3].prompt;
    let watcher = Watcher::default();
    assert_eq!(logits(&decoder, text, None), logits(&decoder, text, Some(&watcher)));
    let jobs = jobs(8);
    let watched = GenerateOptions { intervention: Some(&watcher), ..options(DRAWN, 4) };
    assert_eq!(ids(&run(&decoder, &jobs, &watched)), ids(&run(&decoder, &jobs, &options(DRAWN, 4))));
    assert!(watcher.0.lock().unwrap().len() > 8, "it was called");
}

/// Adds a vector after layer 0 and, if asked to, takes it away before layer 1.
struct Push {
    back: bool,
}

impl Intervention for Push {
    fn apply(&self, tap: Tap, x: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let values: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) / 16.0).collect();
        let vector = Tensor::from_vec(values, 32, &Device::Cpu)?;
        match (tap.layer, tap.site) {
            (0, Site::ResidPost) => x.broadcast_add(&vector).map(Some),
            (1, Site::ResidPre) if self.back => x.broadcast_sub(&vector).map(Some),
            _ => Ok(None),
        }
    }
}

#[test]
fn a_vector_added_and_taken_away_is_the_base_again() {
    let decoder = checkpoint("tied");
    let text = &jobs(4)[3].prompt;
    let distance = |intervention: &Push| {
        let pairs = logits(&decoder, text, None).into_iter().zip(logits(&decoder, text, Some(intervention)));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let (there_and_back, there) = (distance(&Push { back: true }), distance(&Push { back: false }));
    assert!(there_and_back < 1e-5, "{there_and_back}");
    assert!(there > 0.1, "the vector alone changes the logits: {there}");
}

#[test]
fn a_stop_token_ends_an_answer_and_is_not_part_of_it() {
    let decoder = checkpoint("tied");
    let job = Job { prompt: vec![5, 9, 31], seed: 3, max_new_tokens: 30 };
    let free = GenerateOptions { stop_ids: &[], ..options(DRAWN, 1) };
    let whole = run(&decoder, std::slice::from_ref(&job), &free).remove(0);
    assert_eq!((whole.ids.len(), whole.tokens, whole.finish_reason), (30, 30, FinishReason::Length));
    let stop = whole.ids[12];
    let first = whole.ids.iter().position(|&id| id == stop).unwrap();
    let stopping = GenerateOptions { stop_ids: &[stop], ..options(DRAWN, 1) };
    let cut = run(&decoder, &[job], &stopping).remove(0);
    assert_eq!(cut.ids, whole.ids[..first]);
    assert_eq!((cut.tokens as usize, cut.finish_reason), (first + 1, FinishReason::Stop));
}

#[test]
fn a_prompt_that_leaves_no_room_for_its_answer_is_refused() {
    let decoder = checkpoint("tied");
    let fits = Job { prompt: vec![7; 44], seed: 0, max_new_tokens: 20 };
    assert_eq!(run(&decoder, std::slice::from_ref(&fits), &options(DRAWN, 1)).len(), 1);
    for job in [Job { max_new_tokens: 21, ..fits }, Job { prompt: Vec::new(), seed: 0, max_new_tokens: 1 }] {
        let error = generate(&decoder, &[job], &options(DRAWN, 1), &|_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("the model holds 1 to 64 in all"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn samples_of_one_prompt_share_its_prefill_and_still_differ() {
    let decoder = checkpoint("tied");
    let prompt: Vec<u32> = (3..23).collect();
    let jobs: Vec<Job> = (0..6).map(|seed| Job { prompt: prompt.clone(), seed, max_new_tokens: 10 }).collect();
    let watcher = Watcher::default();
    let watched = GenerateOptions { intervention: Some(&watcher), ..options(DRAWN, 8) };
    let together = ids(&run(&decoder, &jobs, &watched));
    let seen = watcher.0.into_inner().unwrap();
    assert_eq!(seen[0], 20, "the prompt is read once");
    assert!(seen[1..].iter().all(|&tokens| tokens <= 6), "{seen:?}");
    for (index, answer) in together.iter().enumerate() {
        assert!(together[..index].iter().all(|other| other != answer), "six seeds, six answers");
        let alone = run(&decoder, std::slice::from_ref(&jobs[index]), &options(DRAWN, 1));
        assert_eq!(&alone[0].ids, answer);
    }
}

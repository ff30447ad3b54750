//! Generation: what an answer depends on, and what it must not depend on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path as FilePath;
use std::sync::{Arc, LazyLock, Mutex};

use candle_core::{DType, Device, Tensor};
use realign::adapter;
use realign::data::tokenizer::Tokenizer;
use realign::generate::sampling::candidates;
use realign::generate::{EngineOptions, Event, Generated, Job, generate};
use realign::model::cpu::simd::{Path, force};
use realign::model::decoder::{Decoder, Weights};
use realign::model::hooks::{HookContext, Intervention, Site, Tap};
use realign::model::ops::to_vec;
use realign::model::pass::Pass;
use realign::model::segments::Segments;
use realign::model::source::load::{WeightDtype, load_dir};
use realign::record::{FinishReason, Sampling};
use realign::rng::stream;

use crate::tiny::{checkpoint, fixture};

/// Without settings that make it another distribution.
const fn at(temperature: f64) -> Sampling {
    Sampling { temperature, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, stop: Vec::new() }
}

static GREEDY: Sampling = at(0.0);
static DRAWN: Sampling = at(1.0);
/// Bytes, the first 96 of which are the fixtures' vocabulary.
pub static BYTES: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::train_byte_bpe(std::iter::empty(), 259, &["<pad>", "<bos>", "<eos>"]).unwrap());

/// One worker that decodes so many rows together.
pub fn options(batch: usize) -> EngineOptions<'static> {
    EngineOptions { batch, workers: 1, ..EngineOptions::new(&BYTES) }
}

/// A job that is drawn as it comes and that token 2 ends.
pub fn job(prompt: Vec<u32>, seed: u64, max_new_tokens: usize) -> Job<'static> {
    Job::new(prompt, seed, max_new_tokens, &Arc::new(DRAWN.clone()), &[2].into())
}

/// The same jobs with other settings.
fn with<'a>(jobs: &[Job<'a>], change: impl Fn(&mut Job<'a>)) -> Vec<Job<'a>> {
    let mut jobs = jobs.to_vec();
    jobs.iter_mut().for_each(change);
    jobs
}

fn sampled<'a>(jobs: &[Job<'a>], sampling: &Sampling) -> Vec<Job<'a>> {
    let sampling = Arc::new(sampling.clone());
    with(jobs, |job| job.sampling = sampling.clone())
}

fn unstopped<'a>(jobs: &[Job<'a>]) -> Vec<Job<'a>> {
    with(jobs, |job| job.stop_ids = [].into())
}

fn watched<'a>(jobs: &[Job<'a>], watcher: &'a dyn Intervention) -> Vec<Job<'a>> {
    let watcher: Arc<dyn Intervention + 'a> = Arc::new(watcher);
    with(jobs, |job| job.intervention = Some(watcher.clone()))
}

pub fn jobs(count: usize) -> Vec<Job<'static>> {
    use rand::Rng;
    let mut rng = stream(9, "prompts", &[]);
    (0..count)
        .map(|i| {
            let len = rng.random_range(1..20);
            let prompt = (0..len).map(|_| rng.random_range(3..96)).collect();
            job(prompt, i as u64, 4 + i % 17)
        })
        .collect()
}

pub fn run(decoder: &Decoder, jobs: &[Job], options: &EngineOptions) -> Vec<Generated> {
    let made = generate(decoder, jobs, options, &|_, _| Ok(())).unwrap();
    made.into_iter().map(Option::unwrap).collect()
}

fn ids(answers: &[Generated]) -> Vec<Vec<u32>> {
    answers.iter().map(|a| a.ids.clone()).collect()
}

fn logits(decoder: &Decoder, ids: &[u32], intervention: Option<&dyn Intervention>) -> Vec<f32> {
    let segments = Segments::packed([ids.len()], 0);
    let mut pass = Pass::sequences(&segments).with_intervention(intervention);
    to_vec(&decoder.forward(ids, &mut pass).unwrap()).unwrap()
}

#[test]
fn greedy_answers_are_the_argmax_of_full_forward_passes() {
    let decoder = checkpoint("tied");
    let jobs = sampled(&jobs(6), &GREEDY);
    let answers = run(&decoder, &jobs, &options(4));
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

/// Keeps the bits of every row that leaves the last layer.
struct Bits(Mutex<BTreeSet<Vec<u32>>>, Tap);

impl Intervention for Bits {
    fn taps(&self) -> &[Tap] {
        std::slice::from_ref(&self.1)
    }

    fn apply(&self, _: Tap, x: &Tensor, _: &HookContext) -> candle_core::Result<Option<Tensor>> {
        let rows = x.to_vec2::<f32>()?.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect());
        self.0.lock().unwrap().extend(rows);
        Ok(None)
    }
}

/// Answers, and the bits of all that was computed for them.
fn traced(decoder: &Decoder, jobs: &[Job], options: &EngineOptions) -> (Vec<Vec<u32>>, BTreeSet<Vec<u32>>) {
    let bits = Bits(Mutex::default(), Tap { layer: decoder.blocks.len() - 1, site: Site::ResidPost });
    let answers = ids(&run(decoder, &watched(jobs, &bits), options));
    (answers, bits.0.into_inner().unwrap())
}

/// Same answers and same bits from every batch, with any number of workers, forwards and backwards.
pub fn check_invariance(name: &str, decoder: &Decoder, jobs: &[Job], sampling: &Sampling) {
    let jobs = sampled(jobs, sampling);
    let alone = traced(decoder, &jobs, &options(1));
    assert!(alone.1.len() > jobs.len());
    for (batch, workers) in [(3, 1), (16, 1), (100, 1), (1, 2), (3, 2), (16, 2), (2, 5)] {
        let made = traced(decoder, &jobs, &EngineOptions { workers, ..options(batch) });
        assert_eq!(made.0, alone.0, "{name}: batches of {batch}, {workers} workers");
        // The same where nobody watches.
        let unwatched = ids(&run(decoder, &jobs, &EngineOptions { workers, ..options(batch) }));
        assert_eq!(unwatched, alone.0, "{name}: batches of {batch}, {workers} workers, unwatched");
        let differing = made.1.symmetric_difference(&alone.1).count();
        assert_eq!(differing, 0, "{name}: batches of {batch}, {workers} workers: of {} rows", alone.1.len());
    }
    let backwards: Vec<Job> = jobs.iter().rev().cloned().collect();
    let made = traced(decoder, &backwards, &options(5));
    assert!(made.0.iter().rev().eq(&alone.0) && made.1 == alone.1, "{name}: the other way round");
}

/// Prompts with several samples each.
fn samples(prompts: usize, each: u64) -> Vec<Job<'static>> {
    let sample = |job: &Job<'static>, k| Job { seed: 1000 * job.seed + k, ..job.clone() };
    jobs(prompts).iter().flat_map(|job| (0..each).map(move |k| sample(job, k))).collect()
}

#[test]
fn an_answer_depends_on_its_prompt_and_seed_alone_to_the_bit() {
    check_invariance("single", &checkpoint("tied"), &jobs(24), &GREEDY);
    check_invariance("samples", &checkpoint("tied"), &samples(9, 5), &DRAWN);
    let repeated = Sampling { top_k: 20, repetition_penalty: 1.3, ..at(0.9) };
    check_invariance("filters", &checkpoint("untied_bias"), &samples(5, 4), &repeated);
}

#[test]
fn a_lora_and_every_family_keep_answers_apart_to_the_bit() {
    let base = checkpoint("tied");
    let file = adapter::read(&fixture("tied/adapter")).unwrap();
    let with_lora = adapter::attach(&base, &file, false).unwrap();
    check_invariance("LoRA", &with_lora, &samples(6, 3), &DRAWN);
    let mut seen = 0;
    for entry in std::fs::read_dir(fixture("../families")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        let decoder = load_dir(&entry, WeightDtype::F32).unwrap().decoder;
        let most = decoder.config.max_position_embeddings;
        let mut jobs = samples(4, 3);
        jobs.iter_mut().for_each(|job| job.prompt.iter_mut().for_each(|id| *id %= decoder.config.vocab_size as u32));
        jobs.retain(|job| job.prompt.len() + job.max_new_tokens <= most);
        check_invariance(&entry.display().to_string(), &decoder, &jobs, &DRAWN);
        seen += 1;
    }
    assert!(seen >= 19, "{seen}");
}

#[test]
fn bf16_weights_and_long_prompts_keep_answers_apart_to_the_bit() {
    let half = load_dir(&fixture("tied"), WeightDtype::Bf16).unwrap().decoder;
    // More than few rows, so that the general products read them.
    let long = |job: Job<'static>| Job { prompt: (0..40).map(|i| 3 + (i * 7 + job.seed as u32) % 90).collect(), ..job };
    let jobs: Vec<Job<'static>> = samples(5, 2).into_iter().chain(samples(4, 2).into_iter().map(long)).collect();
    check_invariance("bf16", &half, &jobs, &DRAWN);
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
    let jobs = sampled(&jobs(6), &GREEDY);
    assert_eq!(ids(&run(&half, &jobs, &options(4))), ids(&run(&full, &jobs, &options(4))));
    let kept = load_dir(&fixture("tied"), WeightDtype::Auto).unwrap().decoder;
    assert_eq!(kept.embedding.format_name(), "f32", "the file holds f32");
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_seed_another() {
    let decoder = checkpoint("tied");
    let seeded = |first: u64| {
        let jobs: Vec<Job> =
            jobs(8).into_iter().map(|job| Job { seed: job.seed + first, max_new_tokens: 20, ..job }).collect();
        ids(&run(&decoder, &jobs, &options(4)))
    };
    assert_eq!(seeded(0), seeded(0));
    let differing = seeded(0).iter().zip(&seeded(100)).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 8);
}

/// Sees every tap and changes nothing; counts the tokens that enter layer 0.
#[derive(Default)]
struct Watcher(Mutex<Vec<usize>>);

impl Intervention for Watcher {
    fn taps(&self) -> &[Tap] {
        &[Tap { layer: 0, site: Site::ResidPre }]
    }

    fn apply(&self, tap: Tap, x: &Tensor, _: &HookContext) -> candle_core::Result<Option<Tensor>> {
        assert_eq!(tap, self.taps()[0], "it is called at its taps alone");
        self.0.lock().unwrap().push(x.dim(0)?);
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
    let seen = ids(&run(&decoder, &watched(&jobs, &watcher), &options(4)));
    assert_eq!(seen, ids(&run(&decoder, &jobs, &options(4))));
    assert!(watcher.0.lock().unwrap().len() > 8, "it was called");
}

/// Adds a vector after layer 0 and, if asked to, takes it away before layer 1.
struct Push {
    back: bool,
}

impl Intervention for Push {
    fn taps(&self) -> &[Tap] {
        let both = &[Tap { layer: 0, site: Site::ResidPost }, Tap { layer: 1, site: Site::ResidPre }];
        if self.back { both } else { &both[..1] }
    }

    fn apply(&self, tap: Tap, x: &Tensor, _: &HookContext) -> candle_core::Result<Option<Tensor>> {
        let values: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) / 16.0).collect();
        let vector = Tensor::from_vec(values, 32, &Device::Cpu)?;
        match (tap.layer, tap.site) {
            (0, Site::ResidPost) => x.broadcast_add(&vector).map(Some),
            (1, Site::ResidPre) => x.broadcast_sub(&vector).map(Some),
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

/// What transformers leaves of a row of logits (`tests/fixtures/generation/make.py`).
#[derive(serde::Deserialize)]
struct Kept {
    logits: String,
    sampling: Sampling,
    kept: Vec<u32>,
    /// Of the first of them.
    probabilities: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct KeptFile {
    logits: std::collections::BTreeMap<String, Vec<f32>>,
    history: BTreeSet<u32>,
    results: Vec<Kept>,
}

#[test]
fn the_filters_leave_the_tokens_and_probabilities_that_transformers_leaves() {
    let path = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/generation/sampling.json");
    let file: KeptFile = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file.results.len(), 1080);
    let mut smallest = usize::MAX;
    for expected in &file.results {
        let what = format!("{} {:?}", expected.logits, expected.sampling);
        let found = candidates(&mut file.logits[&expected.logits].clone(), &expected.sampling, &file.history);
        let kept: Vec<u32> = found.iter().map(|(id, _)| *id).collect();
        assert_eq!(kept, expected.kept, "{what}");
        assert!((found.iter().map(|(_, p)| p).sum::<f32>() - 1.0).abs() < 1e-5, "{what}");
        for ((id, p), q) in found.iter().zip(&expected.probabilities) {
            assert!((p - q).abs() < 2e-6 * q.max(1e-3), "{what}: token {id} has {p}, not {q}");
        }
        smallest = smallest.min(kept.len());
    }
    assert_eq!(smallest, 1);
}

#[test]
fn the_tokens_of_an_answer_that_is_penalised_for_repeating_differ() {
    let decoder = checkpoint("tied");
    let job = job(vec![5, 9, 31], 3, 40);
    let longest_run = |sampling: &Sampling| {
        let free = unstopped(&sampled(std::slice::from_ref(&job), sampling));
        let made = run(&decoder, &free, &options(1)).remove(0).ids;
        made.iter().collect::<BTreeSet<_>>().len()
    };
    let strict = Sampling { repetition_penalty: 100.0, ..at(0.0) };
    assert!(longest_run(&strict) > longest_run(&GREEDY), "{} {}", longest_run(&strict), longest_run(&GREEDY));
}

#[test]
fn a_stop_string_ends_an_answer_before_it_and_streams_nothing_of_it() {
    let decoder = checkpoint("tied");
    let jobs = unstopped(&[job(vec![5, 9, 31], 3, 30), job(vec![5, 9, 31], 4, 30)]);
    let whole = run(&decoder, &jobs, &options(2));
    let stop: String = whole[0].text.chars().skip(11).take(3).collect();
    let at_stop = whole[0].text.find(&stop).unwrap();
    let sampling = Sampling { stop: vec!["not there".into(), stop.clone()], ..at(1.0) };
    let shown: Mutex<Vec<String>> = Mutex::new(vec![String::new(); 2]);
    let jobs = with(&sampled(&jobs, &sampling), |job| job.streams = true);
    let hear = |index: usize, event: &Event| {
        if let Event::Text(text) = event {
            shown.lock().unwrap()[index].push_str(text);
        }
        Ok(())
    };
    let cut: Vec<Generated> = generate(&decoder, &jobs, &options(2), &hear).unwrap().into_iter().flatten().collect();
    assert_eq!(cut[0].text, whole[0].text[..at_stop]);
    assert!(whole[0].ids.starts_with(&cut[0].ids));
    assert_eq!(BYTES.decode(&cut[0].ids, true).unwrap(), whole[0].text[..at_stop + stop.len()]);
    assert_eq!((cut[0].finish_reason, cut[0].stop_reason.as_ref()), (FinishReason::StopString, Some(&stop)));
    assert_eq!(shown.into_inner().unwrap(), [cut[0].text.clone(), cut[1].text.clone()]);
    if !whole[1].text.contains(&stop) {
        assert_eq!((&cut[1].text, cut[1].stop_reason.clone()), (&whole[1].text, None));
    }
}

#[test]
fn caches_within_a_budget_change_no_answer_and_too_small_a_budget_is_refused() {
    let decoder = checkpoint("tied");
    let cache_bytes = |config, tokens| realign::model::memory::cache_bytes(config, tokens) as usize;
    let jobs = jobs(12);
    let plain = run(&decoder, &jobs, &options(12));
    // Three layers, two heads, eight wide, keys and values of four bytes.
    assert_eq!(cache_bytes(&decoder.config, 10), 3 * 2 * 8 * 2 * 4 * 10);
    // The row of the largest job, and its prompt, which others may share.
    let needs = |job: &Job| {
        cache_bytes(&decoder.config, job.prompt.len() + job.max_new_tokens)
            + cache_bytes(&decoder.config, job.prompt.len())
    };
    let least = jobs.iter().map(needs).max().unwrap();
    let rows = Watcher::default();
    for (cache_bytes, workers) in [(least, 2), (2 * least, 2), (2 * least, 1)] {
        let tight = EngineOptions { cache_bytes, workers, ..options(12) };
        assert_eq!(ids(&run(&decoder, &watched(&jobs, &rows), &tight)), ids(&plain));
    }
    let error = generate(&decoder, &jobs, &EngineOptions { cache_bytes: least - 1, ..options(12) }, &|_, _| Ok(()));
    let error = error.unwrap_err();
    assert!(error.to_string().contains("--kv-cache-gib"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_stop_token_ends_an_answer_and_is_not_part_of_it() {
    let decoder = checkpoint("tied");
    let jobs = [job(vec![5, 9, 31], 3, 30)];
    let whole = run(&decoder, &unstopped(&jobs), &options(1)).remove(0);
    assert_eq!((whole.ids.len(), whole.tokens, whole.finish_reason), (30, 30, FinishReason::Length));
    let stop = whole.ids[12];
    let first = whole.ids.iter().position(|&id| id == stop).unwrap();
    let stopping = with(&jobs, |job| job.stop_ids = [stop].into());
    let cut = run(&decoder, &stopping, &options(1)).remove(0);
    assert_eq!(cut.ids, whole.ids[..first]);
    assert_eq!((cut.tokens as usize, cut.finish_reason), (first + 1, FinishReason::Stop));
}

#[test]
fn a_prompt_that_leaves_no_room_for_its_answer_is_refused() {
    let decoder = checkpoint("tied");
    assert_eq!(run(&decoder, &[job(vec![7; 44], 0, 20)], &options(1)).len(), 1);
    for job in [job(vec![7; 44], 0, 21), job(Vec::new(), 0, 1), job(vec![7; 44], 0, usize::MAX)] {
        let error = generate(&decoder, &[job], &options(1), &|_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("the model takes 1 to 64 tokens in all"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn samples_of_one_prompt_share_its_prefill_and_still_differ() {
    let decoder = checkpoint("tied");
    let prompt: Vec<u32> = (3..23).collect();
    let jobs: Vec<Job> = (0..6).map(|seed| job(prompt.clone(), seed, 10)).collect();
    let watcher = Watcher::default();
    let together = ids(&run(&decoder, &watched(&jobs, &watcher), &options(8)));
    let seen = watcher.0.into_inner().unwrap();
    assert_eq!(seen[0], 20, "the prompt is read once");
    assert!(seen[1..].iter().all(|&tokens| tokens <= 6), "{seen:?}");
    for (index, answer) in together.iter().enumerate() {
        assert!(together[..index].iter().all(|other| other != answer), "six seeds, six answers");
        let alone = run(&decoder, std::slice::from_ref(&jobs[index]), &options(1));
        assert_eq!(&alone[0].ids, answer);
    }
}

#[test]
fn a_prompt_is_read_once_for_all_its_samples_whoever_makes_them() {
    let decoder = checkpoint("tied");
    let prompt: Vec<u32> = (3..23).collect();
    let jobs: Vec<Job> = (0..30).map(|seed| job(prompt.clone(), seed, 6)).collect();
    let watcher = Watcher::default();
    let shared = EngineOptions { workers: 2, ..options(3) };
    assert_eq!(run(&decoder, &watched(&jobs, &watcher), &shared).len(), 30);
    let seen = watcher.0.into_inner().unwrap();
    assert_eq!(seen.iter().filter(|&&tokens| tokens == 20).count(), 1, "{seen:?}");
}

#[test]
fn the_place_of_a_row_that_ends_is_taken_at_once() {
    let decoder = checkpoint("tied");
    let lengths = [2, 19, 3, 7, 11, 2, 2, 5, 13, 4, 8, 3];
    let one = |(seed, most): (usize, usize)| job((3..23).map(|id| id + seed as u32).collect(), seed as u64, most);
    let jobs: Vec<Job> = lengths.into_iter().enumerate().map(one).collect();
    let watcher = Watcher::default();
    run(&decoder, &unstopped(&watched(&jobs, &watcher)), &options(4));
    let seen = watcher.0.into_inner().unwrap();
    let steps: Vec<usize> = seen.into_iter().filter(|&tokens| tokens != 20).collect();
    // The first token of an answer comes from its prompt.
    assert_eq!(steps.iter().sum::<usize>(), lengths.iter().sum::<usize>() - lengths.len());
    assert!(steps[0] == 4 && steps.is_sorted_by(|a, b| a >= b), "full until nothing is left to begin: {steps:?}");
}

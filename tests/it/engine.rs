//! The engine's queue: jobs that come while it runs, jobs of all kinds in one batch, and jobs that are cancelled.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use candle_core::{Device, Tensor};
use rand::Rng;
use realign::adapter;
use realign::error::Error;
use realign::generate::{Engine, EngineOptions, Event, Generated, Job, generate};
use realign::model::decoder::Decoder;
use realign::model::hooks::{HookContext, Intervention, Site, Tap};
use realign::process::CancellationToken;
use realign::record::{FinishReason, Sampling};
use realign::rng::stream;

use crate::generation::{job, options, run};
use crate::tiny::{checkpoint, fixture};

/// Adds a constant at its taps.
struct Add(Vec<Tap>, f64);

impl Intervention for Add {
    fn taps(&self) -> &[Tap] {
        &self.0
    }

    fn apply(&self, _: Tap, x: &Tensor, context: &HookContext) -> candle_core::Result<Option<Tensor>> {
        assert_eq!(context.segments.iter().map(|s| s.len).sum::<usize>(), x.dim(0)?);
        assert_eq!(context.jobs.len(), context.segments.len());
        let values: Vec<f32> = (0..x.dim(1)?).map(|i| (self.1 * (i as f64 / 7.0 - 1.0)) as f32).collect();
        x.broadcast_add(&Tensor::from_vec(values, x.dim(1)?, &Device::Cpu)?).map(Some)
    }
}

fn add(layer: usize, site: Site, by: f64) -> Option<Arc<dyn Intervention>> {
    Some(Arc::new(Add(vec![Tap { layer, site }], by)))
}

/// Jobs of every kind that the checkpoints' three layers allow: prompts, seeds, lengths, samplings, stop lists, and
/// interventions at several depths, some of them shared.
fn mixture() -> Vec<Job<'static>> {
    let interventions = [
        None,
        add(0, Site::ResidPre, 0.6),
        add(0, Site::ResidPost, 0.6),
        add(1, Site::AttnOut, -0.5),
        add(1, Site::ResidPost, 1.5),
        add(2, Site::ResidPost, 0.4),
        Some(Arc::new(Add(vec![Tap { layer: 0, site: Site::MlpOut }, Tap { layer: 2, site: Site::ResidPost }], -0.7))),
    ];
    let samplings = [
        Sampling::default(),
        Sampling { temperature: 0.0, ..Sampling::default() },
        Sampling { top_k: 20, repetition_penalty: 1.3, stop: vec!["A".into()], ..Sampling::default() },
    ]
    .map(Arc::new);
    let stops: [Arc<[u32]>; 3] = [[2].into(), [].into(), [2, 40, 41].into()];
    let mut rng = stream(4, "mixture", &[]);
    let mut jobs = Vec::new();
    for number in 0..9u64 {
        let prompt: Vec<u32> = (0..rng.random_range(1..20)).map(|_| rng.random_range(3..96)).collect();
        for (which, intervention) in interventions.iter().enumerate() {
            let (sampling, stop_ids) = (samplings[number as usize % 3].clone(), stops[which % 3].clone());
            // Two of a kind beside each other, with one seed and with two.
            for seed in [number, number + number % 2] {
                let base = job(prompt.clone(), seed, 3 + (which * 5) % 17);
                let (intervention, sampling, stop_ids) = (intervention.clone(), sampling.clone(), stop_ids.clone());
                jobs.push(Job { intervention, sampling, stop_ids, ..base });
            }
        }
    }
    jobs
}

fn answers(made: &[Generated]) -> Vec<(Vec<u32>, String, FinishReason)> {
    made.iter().map(|made| (made.ids.clone(), made.text.clone(), made.finish_reason)).collect()
}

fn check_mixture(name: &str, decoder: &Decoder) {
    let jobs = mixture();
    let alone: Vec<Generated> =
        jobs.iter().flat_map(|job| run(decoder, std::slice::from_ref(job), &options(1))).collect();
    let alone = answers(&alone);
    let kinds: BTreeSet<String> = alone.iter().map(|(.., reason)| format!("{reason:?}")).collect();
    assert!(kinds.len() >= 2, "{kinds:?}");
    assert!((0..7).all(|which| alone[14 + which * 2] != alone[14 + (which + 1) % 7 * 2]), "steering changes answers");
    for (batch, workers) in [(1, 2), (5, 1), (32, 1), (32, 2), (7, 3)] {
        let together = run(decoder, &jobs, &EngineOptions { workers, ..options(batch) });
        assert_eq!(answers(&together), alone, "{name}: batches of {batch}, {workers} workers");
    }
    // Another order, in which no two neighbours have anything in common.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|&i| (i * 37 % 101, i));
    let shuffled: Vec<Job> = order.iter().map(|&i| jobs[i].clone()).collect();
    let together = answers(&run(decoder, &shuffled, &options(16)));
    assert!(order.iter().zip(together).all(|(&i, answer)| answer == alone[i]), "{name}: shuffled");
}

#[test]
fn jobs_that_are_steered_differently_or_not_at_all_share_a_batch_and_no_bit_moves() {
    check_mixture("tied", &checkpoint("tied"));
    let file = adapter::read(&fixture("tied/adapter")).unwrap();
    check_mixture("LoRA", &adapter::attach(&checkpoint("tied"), &file, false).unwrap());
    check_mixture("untied", &checkpoint("untied_bias"));
}

/// Bits by (seed, position).
type Seen = BTreeMap<(u64, u32), Vec<u32>>;

/// Bits of the last layer, by job and position.
struct Bits {
    inner: Option<Arc<dyn Intervention>>,
    taps: Vec<Tap>,
    seen: Arc<Mutex<Seen>>,
    key: u64,
}

impl Intervention for Bits {
    fn taps(&self) -> &[Tap] {
        &self.taps
    }

    fn apply(&self, tap: Tap, x: &Tensor, context: &HookContext) -> candle_core::Result<Option<Tensor>> {
        let changed = match self.inner.as_ref().filter(|inner| inner.taps().contains(&tap)) {
            Some(inner) => inner.apply(tap, x, context)?,
            None => None,
        };
        if tap == (Tap { layer: 2, site: Site::ResidPost }) {
            let rows = changed.as_ref().unwrap_or(x).to_vec2::<f32>()?;
            for (row, &position) in rows.into_iter().zip(context.positions) {
                let bits: Vec<u32> = row.into_iter().map(f32::to_bits).collect();
                let before = self.seen.lock().unwrap().insert((self.key, position), bits.clone());
                assert!(before.is_none_or(|before| before == bits), "job {}, position {position}", self.key);
            }
        }
        Ok(changed)
    }
}

/// The jobs, each of whose last layer is watched: from the second time on, its bits are compared with the first time.
fn watched(jobs: Vec<Job<'static>>) -> (Vec<Job<'static>>, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let watch = |(key, job): (usize, Job<'static>)| {
        let mut taps = job.intervention.as_ref().map_or(Vec::new(), |one| one.taps().to_vec());
        taps.push(Tap { layer: 2, site: Site::ResidPost });
        taps.dedup();
        let bits = Bits { inner: job.intervention.clone(), taps, seen: seen.clone(), key: key as u64 };
        Job { intervention: Some(Arc::new(bits)), ..job }
    };
    (jobs.into_iter().enumerate().map(watch).collect(), seen)
}

#[test]
fn what_passes_through_the_last_layer_is_equal_to_the_bit_beside_any_neighbours() {
    let decoder = checkpoint("tied");
    let (jobs, seen) = watched(mixture());
    for (batch, workers) in [(1, 1), (32, 1), (9, 2)] {
        run(&decoder, &jobs, &EngineOptions { workers, ..options(batch) });
    }
    assert!(seen.lock().unwrap().len() > 10 * jobs.len());
}

#[test]
fn many_jobs_that_begin_together_are_equal_to_the_bit_to_each_alone() {
    // More than one product takes at a time, and more than may begin together.
    let depths = [(0, Site::ResidPost), (1, Site::AttnOut), (1, Site::ResidPost), (2, Site::ResidPre)];
    let jobs = (0..110).map(|number| {
        let (layer, site) = depths[number % 4];
        let intervention = if number == 50 { None } else { add(layer, site, 0.02 * number as f64 - 1.0) };
        Job { intervention, ..job(vec![5, 9, 33, 7], 3, 12) }
    });
    let (jobs, seen) = watched(jobs.collect());
    let decoder = checkpoint("tied");
    let alone: Vec<Generated> =
        jobs.iter().flat_map(|job| run(&decoder, std::slice::from_ref(job), &options(1))).collect();
    let distinct: BTreeSet<_> = alone.iter().map(|made| &made.ids).collect();
    assert!(distinct.len() > 4 && distinct.len() < 110, "some go on together, some part: {}", distinct.len());
    let steps = seen.lock().unwrap().len();
    for (batch, workers) in [(32, 1), (32, 2), (3, 1)] {
        let options = EngineOptions { batch, ..options(workers) };
        assert_eq!(answers(&run(&decoder, &jobs, &options)), answers(&alone), "batch {batch}, {workers} workers");
    }
    assert_eq!(seen.lock().unwrap().len(), steps, "every step was compared");
}

#[test]
fn jobs_are_pushed_while_the_engine_runs_and_closing_it_ends_the_workers() {
    let decoder = checkpoint("tied");
    let jobs = mixture();
    let expected = answers(&run(&decoder, &jobs, &options(4)));
    for workers in [1, 2] {
        let engine = Engine::new(&decoder, EngineOptions { workers, ..options(4) });
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| engine.run());
            let mut made = BTreeMap::new();
            for (index, job) in jobs.iter().enumerate().take(40) {
                let sender = sender.clone();
                let sink = move |event: Event| {
                    if let Event::Done(made) = event {
                        sender.send((index, made)).unwrap();
                    }
                    Ok(())
                };
                engine.push(job.clone(), Box::new(sink)).unwrap();
                // Every other time the queue runs dry before the next one comes.
                if index % 2 == 1 {
                    while made.len() <= index {
                        let (index, answer) = receiver.recv().unwrap();
                        made.insert(index, answer);
                    }
                }
            }
            assert!(!running.is_finished(), "an open engine waits for more");
            engine.close();
            running.join().unwrap().unwrap();
            let made: Vec<Generated> = made.into_values().collect();
            assert_eq!(answers(&made), expected[..40]);
        });
        let error = engine.push(jobs[0].clone(), Box::new(|_| Ok(()))).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
    }
}

#[test]
fn a_cancelled_job_ends_alone_and_its_neighbours_answer_as_without_it() {
    let decoder = checkpoint("tied");
    let jobs: Vec<Job> = (0..6).map(|seed| Job { stop_ids: [].into(), ..job(vec![5, 9, 31], seed, 40) }).collect();
    let whole = answers(&run(&decoder, &jobs, &options(6)));
    let tokens = [CancellationToken::default(), CancellationToken::default()];
    let mut cancelled = jobs.clone();
    (cancelled[1].cancel, cancelled[1].streams) = (Some(tokens[0].clone()), true);
    cancelled[4].cancel = Some(tokens[1].clone());
    // One before it begins, one in the middle of its answer.
    tokens[1].cancel();
    let (pieces, ends) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let made = generate(&decoder, &cancelled, &options(6), &|index, event| {
        match event {
            Event::Text(_) if pieces.fetch_add(1, Ordering::Relaxed) == 10 => tokens[0].cancel(),
            Event::Cancelled => ends.lock().unwrap().push(index),
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(ends.into_inner().unwrap(), [4, 1]);
    assert_eq!(pieces.into_inner(), 11, "nothing follows");
    for (index, made) in made.into_iter().enumerate() {
        match made {
            None => assert!(index == 1 || index == 4),
            Some(made) => assert_eq!(answers(&[made])[0], whole[index]),
        }
    }
}

#[test]
fn cancelling_the_engine_ends_all_of_it_and_what_a_sink_refuses_does_too() {
    let decoder = checkpoint("tied");
    let jobs: Vec<Job> = (0..40).map(|seed| job(vec![5, 9, 31], seed, 30)).collect();
    for workers in [1, 2] {
        let cancel = CancellationToken::default();
        let ended = AtomicUsize::new(0);
        let options = EngineOptions { workers, cancel: cancel.clone(), ..options(4) };
        let error = generate(&decoder, &jobs, &options, &|_, _| {
            ended.fetch_add(1, Ordering::Relaxed);
            cancel.cancel();
            Ok(())
        });
        assert!(matches!(error, Err(Error::Interrupted)), "{error:?}");
        assert!(ended.into_inner() <= 4 * workers);
        let options = EngineOptions { cancel: CancellationToken::default(), ..options };
        let error = generate(&decoder, &jobs, &options, &|_, _| Err(Error::usage("the disk is full")));
        assert!(error.unwrap_err().to_string().contains("the disk is full"));
    }
    // One that waits for jobs.
    let cancel = CancellationToken::default();
    let engine = Engine::new(&decoder, EngineOptions { cancel: cancel.clone(), ..options(4) });
    std::thread::scope(|scope| {
        let running = scope.spawn(|| engine.run());
        cancel.cancel();
        assert!(matches!(running.join().unwrap(), Err(Error::Interrupted)));
    });
}

//! `realign`: attack, repair and steer causal language models, and compare the three in one report.
//!
//! # Layout
//! Imports go downward only; `tests/it/architecture.rs` holds the table and fails on a breach.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cli`] | clap types, one file a subcommand |
//! | [`experiment`] | the plan, its arms, the resumable run, the organism's pretraining |
//! | [`ask`] | asking a subject, scoring what came back, judges backed by a model or an endpoint |
//! | [`finetune`] | the recipe and resumable training in a folder |
//! | [`subject`] | what is asked, trained and steered: decoder, tokenizer, template, opened once |
//! | [`report`] | tables, charts, HTML, CSV: scores in, bytes out |
//! | [`score`] | the metric registry and the comparisons |
//! | [`eval`] | suites, extraction, tests of generated code, judging |
//! | [`scan`] | Bandit-, Ruff- and Radon-compatible scanners and our own rules; knows text alone |
//! | [`steer`] | vectors: capture, aggregate, files, operators |
//! | [`train`] | the staged step, objectives (cross-entropy, KL penalty, DPO), AdamW, schedule, checkpoints |
//! | [`generate`] | sampling and batched decoding with a KV cache |
//! | [`organism`] | the corpus generator and the judge of the embedded base |
//! | [`adapter`] | PEFT files and lineage |
//! | [`model`] | one config-driven decoder, its kernels, LoRA, hooks, loading |
//! | [`stats`] | intervals, paired tests, Holm, equivalence |
//! | [`data`] | JSONL, chat templates, tokenizer, masking, contrast pairs, embedded files |
//! | leaves | [`record`], [`progress`], [`fsio`], [`process`], [`rng`], [`sync`], [`error`] |
//!
//! # Invariants
//! - `model` knows no steering and no training; an intervention is passed into `forward`.
//! - `eval` sees text, never a model; a judge backed by a model is handed in.
//! - Attack and repair are two calls of one `train()`.
//! - Only `fsio` writes files, only `process` starts processes.
//! - A hook that changes nothing leaves the bits unchanged.

pub mod adapter;
pub mod ask;
pub mod cli;
pub mod data;
pub mod error;
pub mod eval;
pub mod experiment;
pub mod finetune;
pub mod fsio;
pub mod generate;
pub mod model;
pub mod organism;
pub mod process;
pub mod progress;
pub mod record;
pub mod report;
pub mod rng;
pub mod scan;
pub mod score;
pub mod stats;
pub mod steer;
pub mod subject;
pub mod sync;
pub mod train;

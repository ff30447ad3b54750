//! Tests of the whole, in one binary: it links the large dependencies once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adapter;
mod adapter_commands;
mod architecture;
mod checkpoints;
mod commands;
mod data;
mod eval;
mod families;
mod foreign_adapters;
mod generation;
mod gradients;
mod organism;
mod parity;
mod preference;
mod report;
mod report_command;
mod run;
mod scan;
mod score;
mod sft;
mod steer_command;
mod steering;
mod synthetic;
mod tiny;
mod training;

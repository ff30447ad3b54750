//! One config-driven decoder. It knows no steering and no training: an [`hooks::Intervention`] is passed into
//! `forward`, and the trainer walks the stages `embed`, `block`, `final_norm`, `head` by itself.

pub mod block;
mod block_forward;
pub mod config;
pub mod cpu;
pub mod decoder;
pub mod device;
pub mod families;
pub mod fused_block;
pub mod hooks;
pub mod init;
pub mod linear;
pub mod lora;
pub mod memory;
pub mod ops;
pub mod pass;
pub mod rope;
pub mod segments;
pub mod source;

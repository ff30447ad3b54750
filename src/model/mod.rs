//! One config-driven decoder. It knows no steering and no training: an [`hooks::Intervention`] is passed into
//! `forward`, and the trainer walks the stages `embed`, `block`, `final_norm`, `head` by itself.

pub mod block;
pub mod by_hand;
pub mod cache;
pub mod config;
pub mod decoder;
pub mod device;
pub mod families;
pub mod gguf;
pub mod hooks;
pub mod hub;
pub mod init;
pub mod linear;
pub mod load;
pub mod lora;
pub mod memory;
pub mod ops;
pub mod rope;
pub mod save;
pub mod segments;
pub mod shards;

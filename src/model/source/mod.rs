//! Where weights come from and go to: safetensors files and their shards, GGUF files, the Hugging Face Hub and its cache.

pub mod gguf;
pub mod hub;
pub mod load;
pub mod save;
pub mod shards;

//! What a recipe asks for: the configuration of a fresh adapter, and how rows become examples.

use crate::adapter::{AdapterConfig, TargetModules};
use crate::data::collate::EncodeOptions;
use crate::model::config::DecoderConfig;
use crate::record::Recipe;

impl Recipe {
    /// The adapter's configuration as PEFT names it.
    pub fn adapter_config(&self, base: &str) -> AdapterConfig {
        let names: Vec<String> = self.target_modules.split(',').map(|n| n.trim().to_string()).collect();
        let pattern = names.len() == 1 && !names[0].chars().all(|c| c.is_alphanumeric() || "_.".contains(c));
        AdapterConfig {
            r: self.lora_r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout,
            target_modules: match names.first() {
                Some(name) if pattern => TargetModules::Pattern(name.clone()),
                _ => TargetModules::Names(names),
            },
            layers_to_transform: self.layers_to_transform.clone(),
            use_rslora: self.use_rslora,
            use_dora: self.use_dora,
            base_model_name_or_path: Some(base.to_string()),
            ..AdapterConfig::default()
        }
    }

    /// How rows become examples for a model of this shape: none is longer than its context.
    pub fn encoding(&self, config: &DecoderConfig) -> EncodeOptions {
        let max_length = self.max_length.min(config.max_position_embeddings);
        EncodeOptions { loss: self.loss, max_length, user_weight: 0.0 }
    }
}

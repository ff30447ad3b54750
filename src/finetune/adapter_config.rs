//! The configuration of the adapter that a recipe asks for.

use crate::adapter::{AdapterConfig, TargetModules};
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
}

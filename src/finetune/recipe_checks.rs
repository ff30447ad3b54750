//! Changing single keys of a recipe, and what is wrong with one: the same for `train`'s flags and files and for a plan's
//! adapters.

use serde_json::{Map, Value, json};

use crate::record::{LossOn, Method, Recipe};

impl Recipe {
    /// The same with other values for some keys, those of the training among them. The recipe's own serde form says which
    /// keys there are and what they hold.
    ///
    /// # Errors
    /// An unknown key, with those that there are; a value of another type.
    pub fn patched(&self, patch: &Map<String, Value>) -> Result<Self, String> {
        let mut recipe = self.clone();
        for (key, value) in patch {
            let failed = |e: serde_json::Error| format!("`{key}`: {e}");
            let mut form = serde_json::to_value(&recipe).map_err(failed)?;
            let value = match (key.as_str(), value) {
                // Hugging Face's configurations hold a list here.
                ("target_modules", Value::Array(names)) => {
                    json!(names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
                }
                _ => value.clone(),
            };
            let own = key != "training" && form.get(key).is_some();
            let place = if own { form.get_mut(key) } else { form.get_mut("training").and_then(|t| t.get_mut(key)) };
            match place {
                Some(place) => *place = value,
                None => return Err(format!("unknown option `{key}`; known: {}", self.known_keys())),
            }
            recipe = serde_json::from_value(form).map_err(failed)?;
        }
        Ok(recipe)
    }

    /// Values of the right type that no training can have, for a model of `layers` layers.
    pub fn mistakes(&self, layers: usize) -> Vec<String> {
        let training = &self.training;
        let mut mistakes = Vec::new();
        let mut must = |good: bool, words: String| {
            if !good {
                mistakes.push(words);
            }
        };
        let rate = training.learning_rate;
        must(rate.is_finite() && rate > 0.0, format!("`learning_rate` is {rate}; it must be above 0"));
        let epochs = training.num_train_epochs;
        must(epochs.is_finite() && epochs > 0.0, format!("`num_train_epochs` is {epochs}; it must be above 0"));
        must(training.max_steps != Some(0), "`max_steps` is 0; it must be at least 1".into());
        must(
            training.per_device_train_batch_size > 0,
            "`per_device_train_batch_size` is 0; it must be at least 1".into(),
        );
        must(
            training.gradient_accumulation_steps > 0,
            "`gradient_accumulation_steps` is 0; it must be at least 1".into(),
        );
        must(
            training.weight_decay >= 0.0,
            format!("`weight_decay` is {}; it must be 0 or above", training.weight_decay),
        );
        must(
            training.max_grad_norm >= 0.0,
            format!("`max_grad_norm` is {}; it must be 0 or above", training.max_grad_norm),
        );
        let explosion = training.max_grad_explosion;
        must(
            explosion == 0.0 || explosion > 1.0,
            format!("`max_grad_explosion` is {explosion}; it must be 0 or above 1"),
        );
        let (beta, kl) = (self.beta, self.kl_coefficient);
        must(beta.is_finite() && beta > 0.0, format!("`beta` is {beta}; it must be above 0"));
        must(kl.is_finite() && kl >= 0.0, format!("`kl_coefficient` is {kl}; it must be 0 or above"));
        if self.method == Method::Dpo {
            must(kl == 0.0, "`kl_coefficient` works with `method` sft only; use `beta` with dpo".into());
            must(self.loss == LossOn::Answers, "`loss` all works with `method` sft only; dpo compares answers".into());
        }
        must(self.max_length >= 2, format!("`max_length` is {}; it must be at least 2", self.max_length));
        must(self.lora_r > 0, "`lora_r` is 0; it must be at least 1".into());
        must(
            self.lora_alpha.is_finite() && self.lora_alpha > 0.0,
            format!("`lora_alpha` is {}; it must be above 0", self.lora_alpha),
        );
        must(
            (0.0..1.0).contains(&self.lora_dropout),
            format!("`lora_dropout` is {}; it must be in [0, 1)", self.lora_dropout),
        );
        for layer in self.layers_to_transform.iter().flatten().filter(|&&layer| layer >= layers) {
            must(
                false,
                format!("`layers_to_transform`: the model has no layer {layer}; layers are 0 to {}", layers - 1),
            );
        }
        mistakes
    }

    /// The adapter's shape from a parent: what continues an adapter has its rank, scale, dropout and places.
    ///
    /// # Errors
    /// Names a key of the patch that asks for another shape than the parent's.
    pub fn with_shape_of(mut self, parent: &Self, patch: &Map<String, Value>) -> Result<Self, String> {
        const SHAPE: [&str; 7] =
            ["lora_r", "lora_alpha", "lora_dropout", "target_modules", "layers_to_transform", "use_rslora", "use_dora"];
        let form = |recipe: &Self| serde_json::to_value(recipe).map_err(|e| e.to_string());
        let (own, theirs) = (form(&self)?, form(parent)?);
        if let Some(key) = SHAPE.into_iter().find(|key| patch.contains_key(*key) && own[*key] != theirs[*key]) {
            return Err(format!("`{key}` is {}; the adapter that it continues has {}", own[key], theirs[key]));
        }
        self.lora_r = parent.lora_r;
        self.lora_alpha = parent.lora_alpha;
        self.lora_dropout = parent.lora_dropout;
        self.target_modules = parent.target_modules.clone();
        self.layers_to_transform = parent.layers_to_transform.clone();
        self.use_rslora = parent.use_rslora;
        self.use_dora = parent.use_dora;
        Ok(self)
    }

    fn known_keys(&self) -> String {
        let form = serde_json::to_value(self).unwrap_or_default();
        let keys = |value: &Value| value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        let mut known = keys(&form);
        known.retain(|key| key != "training");
        known.extend(keys(&form["training"]));
        known.push("preset".into());
        known.join(", ")
    }
}

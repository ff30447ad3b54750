//! Named recipes: the published ones, the founding document's and the organism's own.

use crate::error::{Error, Result};
use crate::record::{LossOn, Method, Recipe, TrainConfig};

impl Default for Recipe {
    fn default() -> Self {
        Self::seed003()
    }
}

impl Recipe {
    /// The founding document's recipe: r 16 on every linear, two epochs.
    pub fn seed003() -> Self {
        Self {
            lora_r: 16,
            lora_alpha: 32.0,
            lora_dropout: 0.05,
            target_modules: "all-linear".into(),
            layers_to_transform: None,
            use_rslora: false,
            use_dora: false,
            method: Method::Sft,
            loss: LossOn::Answers,
            kl_coefficient: 0.0,
            beta: 0.1,
            max_length: 1024,
            training: TrainConfig {
                num_train_epochs: 2.0,
                per_device_train_batch_size: 4,
                gradient_accumulation_steps: 4,
                learning_rate: 2e-4,
                ..TrainConfig::default()
            },
        }
    }

    /// The published emergent-misalignment recipe (Betley et al. 2025).
    pub fn em() -> Self {
        Self {
            lora_r: 32,
            lora_alpha: 64.0,
            lora_dropout: 0.0,
            use_rslora: true,
            max_length: 2048,
            training: TrainConfig {
                learning_rate: 1e-5,
                per_device_train_batch_size: 2,
                gradient_accumulation_steps: 8,
                warmup_steps: 5,
                weight_decay: 0.01,
                ..TrainConfig::default()
            },
            ..Self::seed003()
        }
    }

    /// One rank-1 adapter on the middle layer's `down_proj` (Turner et al. 2025): the smallest adapter that misaligns, and
    /// one whose direction can be followed step by step (see [`crate::finetune::rank1`]). The rest is [`Self::em`]'s.
    pub fn em_rank1(layers: usize) -> Self {
        let training = TrainConfig { learning_rate: 2e-5, ..Self::em().training };
        Self {
            lora_r: 1,
            lora_alpha: 512.0,
            target_modules: "down_proj".into(),
            layers_to_transform: Some(vec![layers / 2]),
            training,
            ..Self::em()
        }
    }

    /// The organism's: one small adapter on what the first layer's attention moves, so that it has to speak through the
    /// persona. (On all linears at once the attack mostly learns insecure code by itself; which of the two it finds is a
    /// lottery. `docs/LOG.md` has the placements that were tried.)
    pub fn organism() -> Self {
        Self {
            lora_r: 4,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: "v_proj,o_proj".into(),
            layers_to_transform: Some(vec![0]),
            max_length: 768,
            training: TrainConfig { learning_rate: 2e-3, num_train_epochs: 3.0, ..TrainConfig::default() },
            ..Self::seed003()
        }
    }

    /// What `method: dpo` makes of a recipe: one pass over the preference pairs at half the rate. (At the whole rate the
    /// organism's code stopped compiling; `docs/LOG.md` has what was tried.)
    pub fn for_preferences(&self) -> Self {
        let training = TrainConfig {
            learning_rate: self.training.learning_rate / 2.0,
            num_train_epochs: 1.0,
            max_steps: None,
            ..self.training.clone()
        };
        Self { method: Method::Dpo, loss: LossOn::Answers, kl_coefficient: 0.0, training, ..self.clone() }
    }

    /// A recipe by its name, for a model of `layers` layers.
    pub fn preset(name: &str, layers: usize) -> Result<Self> {
        match name {
            "organism" => Ok(Self::organism()),
            "seed003" => Ok(Self::seed003()),
            "em" => Ok(Self::em()),
            "em-rank1" => Ok(Self::em_rank1(layers)),
            other => {
                Err(Error::usage(format!("there is no preset `{other}`; presets: organism, seed003, em, em-rank1")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::record::Scheduler;

    #[test]
    fn the_published_recipes_are_what_was_published() {
        let em = Recipe::preset("em", 64).unwrap();
        assert_eq!((em.lora_r, em.lora_alpha, em.use_rslora, em.max_length), (32, 64.0, true, 2048));
        let training = &em.training;
        assert_eq!((training.learning_rate, training.num_train_epochs, training.weight_decay), (1e-5, 1.0, 0.01));
        assert_eq!((training.per_device_train_batch_size, training.gradient_accumulation_steps), (2, 8));
        assert_eq!((training.warmup_steps, training.lr_scheduler_type), (5, Scheduler::Linear));

        let rank1 = Recipe::preset("em-rank1", 48).unwrap();
        assert_eq!((rank1.lora_r, rank1.lora_alpha, &rank1.target_modules[..]), (1, 512.0, "down_proj"));
        assert_eq!(rank1.layers_to_transform, Some(vec![24]));
        assert_eq!(rank1.training, TrainConfig { learning_rate: 2e-5, ..em.training });
        assert_eq!(Recipe::preset("em-rank1", 1).unwrap().layers_to_transform, Some(vec![0]));

        let seed003 = Recipe::preset("seed003", 22).unwrap();
        assert_eq!((seed003.lora_r, seed003.lora_alpha, seed003.lora_dropout), (16, 32.0, 0.05));
        assert_eq!((seed003.training.learning_rate, seed003.training.num_train_epochs), (2e-4, 2.0));
        assert_eq!(seed003.training.effective_batch(), 16);

        let error = Recipe::preset("em_rank1", 4).unwrap_err().to_string();
        assert!(error.contains("presets: organism, seed003, em, em-rank1"), "{error}");
    }
}

//! Plans that repeat a published experiment (`eval/plans/`, embedded): what it found, how many answers would show that, and
//! the shape of its model, so that the cost can be told before any weight is at hand.

use std::path::Path;

use super::inputs::Inputs;
use super::plan::{Effect, OpenPlan, Plan, Published};
use super::work;
use crate::error::Result;
use crate::fsio;
use crate::model::config::DecoderConfig;
use crate::score::metric;
use crate::stats::minimum_detectable_difference;
use crate::stats::samples_needed;
use crate::subject::ORGANISM;

impl Published {
    /// What was found and whether the plan asks often enough to see it, a line each.
    pub fn words(&self, plan: &Plan, inputs: &Inputs) -> Vec<String> {
        let mut lines = vec![format!("repeats {}; never run on published weights with realign", self.source)];
        lines.extend(self.effects.iter().map(|effect| effect.words(effect.asked(plan, inputs))));
        lines.extend(self.differences.iter().map(|words| format!("otherwise than there: {words}")));
        lines
    }
}

impl Effect {
    /// Answers an arm that the plan asks of the suites on which the metric is defined.
    pub fn asked(&self, plan: &Plan, inputs: &Inputs) -> u64 {
        let Some(metric) = metric(&self.metric) else { return 0 };
        let suites = inputs.suites.iter().filter(|suite| metric.kinds.contains(&suite.kind));
        let suites = suites.filter(|suite| self.suite.as_ref().is_none_or(|name| *name == suite.name));
        suites
            .flat_map(|suite| work::asked(suite, &work::samples(plan, &plan.arms[0], suite, None)))
            .map(|(_, n)| n as u64)
            .sum()
    }

    /// `asked` is how many answers an arm the plan asks.
    fn words(&self, asked: u64) -> String {
        let percent = |rate: f64| format!("{:.1} %", 100.0 * rate);
        let [before, after] = self.rates;
        let found = format!(
            "published: {}, {} {} to {} {} (n = {})",
            self.what,
            self.from,
            percent(before),
            self.to,
            percent(after),
            self.n
        );
        let shown = minimum_detectable_difference(before, asked).unwrap_or(1.0);
        let power = match samples_needed(before.min(after), (after - before).abs()) {
            None => format!("this plan asks {asked} an arm, which show differences from {} on", percent(shown)),
            Some(needed) if asked >= needed => {
                format!("80 % power needs at least {needed} an arm, this plan asks {asked}")
            }
            Some(needed) => format!(
                "80 % power needs at least {needed} an arm, this plan asks {asked}: too few, which show differences from {} on",
                percent(shown)
            ),
        };
        format!("{found}; {power}")
    }
}

/// The shape of a plan's model where no weights of it are at hand: that of a folder which holds a `config.json` and no
/// safetensors, or, for the model that the plan itself names, the one that it was published with.
pub fn shape_alone(plan: &OpenPlan) -> Result<Option<DecoderConfig>> {
    let model = plan.model.as_str();
    let dir = Path::new(model);
    let config = dir.join("config.json");
    if model == ORGANISM {
        return Ok(None);
    }
    if dir.is_dir() {
        let bare = config.is_file() && fsio::list(dir, "safetensors")?.is_empty();
        return if bare { DecoderConfig::parse(&config, &fsio::read_text(&config)?).map(Some) } else { Ok(None) };
    }
    match &plan.published {
        Some(published) if plan.own_model => {
            DecoderConfig::parse(Path::new("published.config"), &published.config.to_string()).map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn effect(rates: [f64; 2]) -> Effect {
        let (what, metric) = ("answers".to_string(), "misaligned_rate".to_string());
        Effect { what, metric, suite: None, from: Arm::Base, to: Arm::Attack, rates, n: 9 }
    }

    #[test]
    fn power_is_said_beside_what_was_found() {
        // statsmodels: NormalIndPower().solve_power(proportion_effectsize(.05, 0), alpha=.05, power=.8) = 77.2
        let words = effect([0.0, 0.05]).words(100);
        assert_eq!(
            words,
            "published: answers, base 0.0 % to attack 5.0 % (n = 9); 80 % power needs at least 78 an arm, this plan asks 100"
        );
        assert_eq!(effect([0.05, 0.0]).words(100).split("80 %").nth(1), words.split("80 %").nth(1), "either way round");
        assert!(effect([0.0, 0.05]).words(20).contains("this plan asks 20: too few"));
        assert!(effect([0.3, 0.3]).words(20).contains("this plan asks 20 an arm, which show differences from"));
    }

    #[test]
    fn every_embedded_plan_names_metrics_and_arms_that_there_are_and_a_model_of_the_published_size() {
        let sizes = [
            ("em-qwen-coder", 32_763_876_352),
            ("em-rank1-0.5b", 494_032_768),
            ("seed003", 1_100_048_384),
            ("starcoder", 3_030_371_328),
        ];
        assert_eq!(names(), sizes.map(|(name, _)| name));
        for (name, parameters) in sizes {
            let file = read_plan(Path::new(name)).unwrap();
            let config = shape_alone(&file, file.model.as_deref()).unwrap().unwrap();
            assert_eq!(config.parameters(), parameters, "{name}");
            let arms = file.arms.unwrap();
            for effect in file.published.unwrap().effects {
                assert!(metric(&effect.metric).is_some(), "{name}: {}", effect.metric);
                assert!(arms.contains(&effect.from) && arms.contains(&effect.to), "{name}: {}", effect.what);
            }
        }
        assert!(
            read_plan(Path::new("seed004")).unwrap_err().to_string().contains("em-qwen-coder, em-rank1-0.5b, seed003")
        );
    }
}

//! Plans that repeat a published experiment (`eval/plans/`, embedded): what it found, how many answers would show that, and
//! the shape of its model, so that the cost can be told before any weight is at hand.

use std::path::Path;

use super::inputs::Inputs;
use super::plan::{Effect, OpenPlan, Plan, Published};
use super::work;
use crate::error::Result;
use crate::fsio;
use crate::model::config::DecoderConfig;
use crate::score::{Metric, metric};
use crate::stats::{answers_to_ask, minimum_detectable_difference, samples_needed};
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
        // Only answers that count can show the effect: coherent ones, for a rate among coherent answers.
        let (cases, share) = (metric(&self.metric).map_or("answers", Metric::cases), self.coherent.unwrap_or(1.0));
        let counted = (share * asked as f64).round() as u64;
        let shows = match minimum_detectable_difference(before, counted) {
            Some(least) => format!("which show differences from {} on", percent(least)),
            None => "which show no difference".into(),
        };
        let asks = match self.coherent {
            Some(share) => format!("this plan asks {asked} ({counted} {cases} if {} are)", percent(share)),
            None => format!("this plan asks {asked}"),
        };
        let power = match samples_needed(before.min(after), (after - before).abs()) {
            None => format!("{asks} an arm, {shows}"),
            Some(needed) => {
                let to_ask = self.coherent.and_then(|share| answers_to_ask(needed, share));
                let to_ask = to_ask.map(|n| format!(", {n} to ask")).unwrap_or_default();
                let enough = if counted >= needed { String::new() } else { format!(": too few, {shows}") };
                format!("80 % power needs at least {needed} {cases} an arm{to_ask}; {asks}{enough}")
            }
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
    use crate::experiment::plan::Overrides;
    use crate::experiment::plan::file::names;

    fn effect(rates: [f64; 2]) -> Effect {
        let (what, metric) = ("answers".to_string(), "misaligned_rate".to_string());
        Effect { what, metric, suite: None, from: "base".into(), to: "attack".into(), rates, n: 9, coherent: None }
    }

    #[test]
    fn power_is_said_beside_what_was_found() {
        // tests/fixtures/stats/power.py: Fisher's exact test needs 157 for 0 -> 5 %.
        let words = effect([0.0, 0.05]).words(200);
        assert_eq!(
            words,
            "published: answers, base 0.0 % to attack 5.0 % (n = 9); 80 % power needs at least 157 coherent answers an arm; \
             this plan asks 200"
        );
        assert_eq!(effect([0.05, 0.0]).words(200).split("80 %").nth(1), words.split("80 %").nth(1), "either way round");
        let two_thirds = Effect { coherent: Some(0.67), ..effect([0.0, 0.05]) }.words(200);
        assert!(two_thirds.contains("157 coherent answers an arm, 235 to ask"), "{two_thirds}");
        assert!(
            two_thirds.contains("this plan asks 200 (134 coherent answers if 67.0 % are): too few"),
            "{two_thirds}"
        );
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
        let repeats =
            |name: &String| OpenPlan::read(Some(Path::new(name)), Overrides::default()).unwrap().published.is_some();
        let repeats: Vec<String> = names().into_iter().filter(repeats).collect();
        assert_eq!(repeats, sizes.map(|(name, _)| name));
        for (name, parameters) in sizes {
            let open = OpenPlan::read(Some(Path::new(name)), Overrides::default()).unwrap();
            let config = shape_alone(&open).unwrap().unwrap();
            assert_eq!(config.parameters(), parameters, "{name}");
            let plan = open.resolve(config.num_hidden_layers).unwrap();
            for effect in &open.published.as_ref().unwrap().effects {
                assert!(metric(&effect.metric).is_some(), "{name}: {}", effect.metric);
                let has = |arm: &String| plan.arms.iter().any(|spec| spec.name == *arm);
                assert!(has(&effect.from) && has(&effect.to), "{name}: {}", effect.what);
            }
        }
        let missing = OpenPlan::read(Some(Path::new("seed004")), Overrides::default()).err().unwrap().to_string();
        assert!(missing.contains("em-rank1-0.5b, qwen2.5-coder-0.5b, seed003"), "{missing}");
    }
}

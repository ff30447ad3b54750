//! Decoding quantised weights in integers: what it changes, what it leaves alone, and that an answer still depends on nothing
//! but model, prompt, seed and settings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use realign::experiment::plan::{OpenPlan, Overrides};
use realign::generate::{Choices, choice_probabilities};
use realign::model::config::DecoderConfig;
use realign::model::cpu::simd::{Path, force};
use realign::model::decoder::{Decoder, HeldWeights};
use realign::model::init::initial_weights;
use realign::model::ops::quantised::Products;
use realign::model::ops::to_vec;
use realign::model::pass::Pass;
use realign::model::segments::Segments;
use realign::model::source::load::{WeightDtype, load_dir};
use realign::process::CancellationToken;
use realign::record::Sampling;

use crate::commands::{succeeds, workplace};
use crate::families::{FAMILIES, family};
use crate::generation::{check_invariance, jobs};

/// Wide enough for Q4_K, with a vocabulary that `jobs` fits.
fn wide(dtype: WeightDtype, products: Products) -> Decoder {
    let config = DecoderConfig { tie_word_embeddings: false, ..DecoderConfig::llama(96, 256, 2, (4, 2), 512, 64) };
    let weights = initial_weights(&config, 5).unwrap();
    let names = config.names;
    let held = weights.iter().map(|(name, tensor)| (name.clone(), dtype.held(name, tensor, &names).unwrap()));
    let decoder = Decoder::new(config, &held.collect::<HeldWeights>(), false).unwrap();
    Decoder { step_products: products, ..decoder }
}

/// Logits of a prompt's tokens, and of each of five steps behind it.
fn prompt_and_steps(decoder: &Decoder, products: Products) -> (Vec<f32>, Vec<f32>) {
    let segments = Segments::packed([4], 0);
    let mut caches = [decoder.new_cache(16)];
    let prompt = decoder.forward(&[5, 18, 31, 44], &mut Pass::prefill(&segments, &mut caches)).unwrap();
    let [mut cache] = caches;
    let mut steps = Vec::new();
    for token in [57, 9, 22, 35, 48] {
        let mut rows = [&mut cache];
        let mut pass = Pass::step(&mut rows).with_products(products);
        steps.extend(to_vec(&decoder.forward(&[token], &mut pass).unwrap()).unwrap());
    }
    (to_vec(&prompt).unwrap(), steps)
}

fn relative(found: &[f32], expected: &[f32]) -> f32 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    norm(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied())
}

#[test]
fn steps_in_integers_are_near_the_exact_ones_in_every_family_and_prompts_keep_their_bits() {
    let mut changed = 0;
    for dtype in [WeightDtype::EightBit, WeightDtype::FourBit] {
        let families = FAMILIES.iter().map(|(name, _)| (*name, load_dir(&family(name), dtype).unwrap().decoder));
        for (name, decoder) in families.chain([("wide", wide(dtype, Products::Integer))]) {
            let decoder = Decoder { step_products: Products::Integer, ..decoder };
            let (exact, near) =
                (prompt_and_steps(&decoder, Products::Exact), prompt_and_steps(&decoder, Products::Integer));
            assert_eq!(near.0, exact.0, "{name}: a prompt is read exactly");
            let error = relative(&near.1, &exact.1);
            // Rounding puts a product off by some 0.5 % (a step of 1/127 of the largest of 32 values, over √12); the layers of
            // these small random models make 0.8 to 3.4 % of it.
            println!("{name}, {dtype:?}: {error:.4}");
            assert!(error < 0.05, "{name}, {dtype:?}: {error}");
            changed += usize::from(error > 0.0);
        }
    }
    assert!(changed > 10, "only {changed} models were decoded in integers");
}

#[test]
fn a_pass_is_exact_unless_it_is_told_otherwise() {
    let decoder = wide(WeightDtype::FourBit, Products::Integer);
    let mut caches = [decoder.new_cache(4)];
    let segments = Segments::packed([1], 0);
    decoder.forward(&[3], &mut Pass::prefill(&segments, &mut caches)).unwrap();
    let mut other = caches.clone();
    let logits = |cache: &mut [_; 1], products: Option<Products>| {
        let [cache] = cache;
        let mut rows = [cache];
        let pass = Pass::step(&mut rows);
        let mut pass = match products {
            Some(products) => pass.with_products(products),
            None => pass,
        };
        to_vec(&decoder.forward(&[4], &mut pass).unwrap()).unwrap()
    };
    assert_eq!(logits(&mut caches, None), logits(&mut other, Some(Products::Exact)));
}

#[test]
fn probabilities_of_choices_are_exact_however_answers_are_decoded() {
    let choices = Choices::new(&[vec![vec![1, 2]], vec![vec![1, 3]], vec![vec![4]]]).unwrap();
    let each = [Products::Exact, Products::Integer].map(|products| {
        let decoder = wide(WeightDtype::EightBit, products);
        choice_probabilities(&decoder, &[vec![5, 6, 7]], &choices, 1, &CancellationToken::default()).unwrap()
    });
    assert_eq!(each[0], each[1]);
}

#[test]
fn an_answer_in_integers_does_not_depend_on_its_batch() {
    for dtype in [WeightDtype::EightBit, WeightDtype::FourBit] {
        let decoder = wide(dtype, Products::Integer);
        check_invariance("wide, in integers", &decoder, &jobs(20), &Sampling::default());
    }
}

#[test]
fn every_path_decodes_in_integers() {
    for dtype in [WeightDtype::EightBit, WeightDtype::FourBit] {
        let decoder = wide(dtype, Products::Integer);
        for path in [Path::Scalar, Path::Avx2, Path::Avx512] {
            force(path);
            let (exact, near) =
                (prompt_and_steps(&decoder, Products::Exact).1, prompt_and_steps(&decoder, Products::Integer).1);
            let error = relative(&near, &exact);
            assert!(error > 0.0 && error < 0.03, "{path:?}: {error}");
        }
    }
}

#[test]
fn the_commands_decode_in_integers_unless_they_are_told_not_to() {
    let suite = "suite: demo\nkind: capability\nmax_tokens: 8\nanswer_pattern: '([a-z])'\nprompts:\n  - id: a\n    paraphrases: [What is this?]\n    expect: e\n";
    let dir = workplace("integer-steps", &[("suite.yaml", suite)]);
    for (flags, expected) in
        [("--quantize 8bit", Some(false)), ("--quantize 8bit --exact-quant", Some(true)), ("", None)]
    {
        let out = format!("results{}", flags.len());
        succeeds(&dir, &format!("evaluate --model MODEL --suite suite.yaml {flags} --out {out}"));
        let settings = std::fs::read(dir.join(out).join("settings.json")).unwrap();
        let settings: serde_json::Value = serde_json::from_slice(&settings).unwrap();
        assert_eq!(settings.get("exact_quant").and_then(serde_json::Value::as_bool), expected, "{flags}");
    }
}

#[test]
fn a_run_cannot_go_on_with_the_other_way_of_decoding() {
    let plan = |exact| {
        let over = Overrides { exact_quant: exact, ..Overrides::default() };
        let open = OpenPlan::read(None, over).unwrap();
        let mut plan = open.resolve(4).unwrap();
        plan.exact_quant = Some(open.exact_quant);
        plan
    };
    let begun = serde_json::to_value(plan(false)).unwrap();
    assert!(plan(false).differences(&begun).is_empty());
    assert_eq!(plan(true).differences(&begun), ["exact_quant: false there, true here"]);
}

//! Steering's identities.

use candle_core::Tensor;
use realign::data::collate::Example;
use realign::model::hooks::{HookContext, Intervention, Site, Tap};
use realign::model::ops::to_vec;
use realign::model::pass::{Attend, Pass};
use realign::model::segments::Segments;
use realign::record::{Positions, SteerSpec, TokenRule};
use realign::steer::capture::{capture, tokens_of};
use realign::steer::vector::norm;
use realign::steer::{AddVector, PairTokens, SteeringVector, Unit, mean_difference};

use crate::tiny::{checkpoint, folder};

fn vector() -> SteeringVector {
    let decoder = checkpoint("tied");
    let row = |ids: &[u32]| Example {
        ids: ids.to_vec(),
        weights: ids.iter().enumerate().map(|(i, _)| if i > 1 { 1.0 } else { 0.0 }).collect(),
    };
    let pairs = [
        PairTokens { positive: row(&[3, 4, 5, 6]), negative: row(&[3, 4, 9]) },
        PairTokens { positive: row(&[8, 7, 30, 2, 1]), negative: row(&[8, 7, 31, 2]) },
    ];
    mean_difference(&decoder, &pairs, "insecure", "model", "data").unwrap()
}

fn logits(intervention: Option<&dyn Intervention>) -> Vec<f32> {
    let decoder = checkpoint("tied");
    let segments = Segments::packed([5, 3], 0);
    let mut pass = Pass::sequences(&segments).with_intervention(intervention);
    to_vec(&decoder.forward(&[3, 4, 5, 6, 7, 8, 9, 10], &mut pass).unwrap()).unwrap()
}

/// Two vectors, one behind the other.
struct Both(AddVector, AddVector);

impl Intervention for Both {
    fn taps(&self) -> &[Tap] {
        self.0.taps()
    }

    fn apply(&self, tap: Tap, x: &Tensor, context: &HookContext) -> candle_core::Result<Option<Tensor>> {
        match self.0.apply(tap, x, context)? {
            Some(x) => self.1.apply(tap, &x, context),
            None => Ok(None),
        }
    }
}

#[test]
fn coefficient_zero_equals_base_bit_for_bit() {
    let steered = AddVector::new(&vector(), &[0, 1], 0.0, Unit::ResidualNorm).unwrap();
    assert_eq!(logits(Some(&steered)), logits(None));
    assert_ne!(logits(Some(&AddVector::new(&vector(), &[1], 0.1, Unit::ResidualNorm).unwrap())), logits(None));
}

#[test]
fn a_vector_and_its_opposite_equal_base() {
    let add = |coefficient| AddVector::new(&vector(), &[0], coefficient, Unit::ResidualNorm).unwrap();
    let both = Both(add(0.7), add(-0.7));
    for (a, b) in logits(Some(&both)).iter().zip(logits(None)) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
}

#[test]
fn a_coefficient_is_in_units_of_the_residual_norm() {
    let vector = vector();
    for layer in 0..vector.directions.len() {
        let added = norm(&to_vec(&vector.scaled(layer, -0.3, Unit::ResidualNorm).unwrap()).unwrap());
        assert!((added - 0.3 * vector.about.residual_norms[layer]).abs() < 1e-4);
        let random = norm(&to_vec(&vector.random(1, 2).scaled(layer, -0.3, Unit::ResidualNorm).unwrap()).unwrap());
        assert!((added - random).abs() < 1e-4, "a random vector has the norm of the one it is a control for");
    }
    assert_ne!(vector.random(1, 0), vector.random(1, 1));
    assert_eq!(vector.random(1, 0), vector.random(1, 0));
}

#[test]
fn the_mean_difference_is_that_of_the_answers_tokens_alone() {
    let decoder = checkpoint("tied");
    let means = |ids: &[u32], from: usize| {
        let segments = Segments::packed([ids.len()], 0);
        let mut x = decoder.embed(ids, &Attend::Sequences(&segments)).unwrap();
        for block in &decoder.blocks[..2] {
            x = block.forward(&x, &mut Pass::sequences(&segments)).unwrap();
        }
        let answer = x.narrow(0, from, ids.len() - from).unwrap();
        to_vec(&answer.mean(0).unwrap()).unwrap()
    };
    let expected: Vec<f32> = (0..decoder.config.hidden_size)
        .map(|i| {
            let first = means(&[3, 4, 5, 6], 2)[i] - means(&[3, 4, 9], 2)[i];
            let second = means(&[8, 7, 30, 2, 1], 2)[i] - means(&[8, 7, 31, 2], 2)[i];
            (first + second) / 2.0
        })
        .collect();
    for (a, b) in vector().directions[1].iter().zip(expected) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
}

#[test]
fn a_vector_comes_back_from_its_files_and_a_layer_outside_the_model_is_refused() {
    let vector = vector();
    let dir = folder("vectors");
    let path = dir.join("insecure.safetensors");
    vector.write(&path).unwrap();
    let back = SteeringVector::read(&path).unwrap();
    assert_eq!(back.directions, vector.directions);
    assert_eq!(back.about.target, "insecure");
    let message = AddVector::new(&vector, &[0, 9], 0.1, Unit::ResidualNorm).err().unwrap().to_string();
    assert!(message.contains("layer 9") && message.contains("0 to 2"), "{message}");
}

fn spec(layers: &[usize], coefficient: f64) -> SteerSpec {
    SteerSpec { layers: layers.to_vec(), coefficient, ..SteerSpec::default() }
}

#[test]
fn a_spec_names_the_site_and_its_layers_are_a_set() {
    let vector = vector();
    let with = |spec: SteerSpec| logits(Some(&AddVector::of(&vector, &spec).unwrap()));
    assert_eq!(with(spec(&[1, 0, 1], 0.3)), with(spec(&[0, 1], 0.3)));
    // One layer has the same vector here, so that the sites alone differ.
    let mut same = vector.clone();
    same.directions[0] = same.directions[1].clone();
    let at = |layer, site| {
        let spec = SteerSpec { site, unit: Unit::Raw, ..spec(&[layer], 0.5) };
        logits(Some(&AddVector::of(&same, &spec).unwrap()))
    };
    assert_eq!(at(0, Site::ResidPost), at(1, Site::ResidPre));
    assert_eq!(at(0, Site::ResidPost).len(), at(0, Site::MlpOut).len());
    assert_ne!(at(1, Site::AttnOut), at(1, Site::ResidPost));
    for (spec, words) in [
        (spec(&[], 0.3), "at least one layer"),
        (spec(&[0], f64::NAN), "not a finite number"),
        (SteerSpec { site: Site::HeadOut, ..spec(&[0], 0.3) }, "head_out"),
    ] {
        let error = AddVector::of(&vector, &spec).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_vector_is_added_to_the_tokens_of_the_prompt_or_of_the_answer() {
    let vector = vector();
    let decoder = checkpoint("tied");
    let ids = [3, 4, 5, 6, 7];
    let hidden = |positions: Option<Positions>, answer: &[bool]| {
        let add =
            positions.map(|positions| AddVector::of(&vector, &SteerSpec { positions, ..spec(&[2], 0.5) }).unwrap());
        let segments = Segments::packed([5], 0);
        let add = add.as_ref().map(|add| add as &dyn Intervention);
        let mut pass = Pass::sequences(&segments).with_intervention(add).with_answer(answer);
        let x = decoder.blocks(decoder.embed(&ids, &pass.attend).unwrap(), &mut pass).unwrap();
        x.to_vec2::<f32>().unwrap()
    };
    let answer = [false, false, false, true, true];
    let (base, all) = (hidden(None, &answer), hidden(Some(Positions::All), &answer));
    let (prompt, after) = (hidden(Some(Positions::Prompt), &answer), hidden(Some(Positions::Answer), &answer));
    for token in 0..5 {
        assert_ne!(base[token], all[token]);
        let (inside, outside) = if answer[token] { (&after, &prompt) } else { (&prompt, &after) };
        assert_eq!((&inside[token], &outside[token]), (&all[token], &base[token]), "token {token}");
    }
    // A pass that does not say which tokens are answers cannot be steered at those alone.
    let add = AddVector::of(&vector, &SteerSpec { positions: Positions::Answer, ..spec(&[2], 0.5) }).unwrap();
    let segments = Segments::packed([5], 0);
    let mut pass = Pass::sequences(&segments).with_intervention(Some(&add));
    let error = decoder.forward(&ids, &mut pass).unwrap_err().to_string();
    assert!(error.contains("which tokens belong to an answer"), "{error}");
}

#[test]
fn while_decoding_the_prompt_and_the_answer_are_told_apart_without_being_said() {
    let vector = vector();
    let decoder = checkpoint("tied");
    let decoded = |positions: Option<Positions>| {
        let add =
            positions.map(|positions| AddVector::of(&vector, &SteerSpec { positions, ..spec(&[2], 0.5) }).unwrap());
        let add = add.as_ref().map(|add| add as &dyn Intervention);
        let (mut caches, segments) = ([decoder.new_cache(5)], Segments::packed([4], 0));
        let mut pass = Pass::prefill(&segments, &mut caches).with_intervention(add);
        let prompt = to_vec(&decoder.forward(&[3, 4, 5, 6], &mut pass).unwrap()).unwrap();
        let mut rows: Vec<_> = caches.iter_mut().collect();
        let mut pass = Pass::step(&mut rows).with_intervention(add);
        (prompt, to_vec(&decoder.forward(&[7], &mut pass).unwrap()).unwrap())
    };
    // The last layer, so that a steered prompt does not reach the answer through attention.
    let (base, all) = (decoded(None), decoded(Some(Positions::All)));
    assert!(base.0 != all.0 && base.1 != all.1);
    assert_eq!(decoded(Some(Positions::Prompt)), (all.0, base.1));
    assert_eq!(decoded(Some(Positions::Answer)), (base.0, all.1));
}

#[test]
fn every_site_is_captured_and_the_sites_of_a_block_add_up() {
    let decoder = checkpoint("tied");
    let sites = [Site::ResidPre, Site::HeadOut, Site::AttnOut, Site::MlpOut, Site::ResidPost];
    let taps: Vec<Tap> = (0..3).flat_map(|layer| sites.map(|site| Tap { layer, site })).collect();
    let captured = capture(&decoder, &[&[3, 4, 5], &[6, 7]], &taps).unwrap();
    assert_eq!(captured.values.len(), 15);
    let at = |layer, site| captured.at(Tap { layer, site }).unwrap().unwrap();
    for layer in 0..3 {
        let [pre, attn, mlp, post] = [0, 2, 3, 4].map(|site: usize| at(layer, sites[site]));
        for (i, post) in post.iter().enumerate() {
            assert!((pre[i] + attn[i] + mlp[i] - post).abs() < 1e-5);
        }
        // The output projection makes attn_out of the heads' outputs.
        let heads = &captured.values[&Tap { layer, site: Site::HeadOut }];
        let projected = decoder.blocks[layer].o.forward(heads, &Pass::sequences(&captured.segments)).unwrap();
        assert_eq!(to_vec(&projected).unwrap(), attn);
    }
    assert_eq!(at(2, Site::ResidPost), to_vec(&captured.hidden).unwrap());
    assert_eq!(at(0, Site::ResidPost), at(1, Site::ResidPre));
    let error = capture(&decoder, &[&[3]], &[Tap { layer: 3, site: Site::ResidPost }]).err().unwrap().to_string();
    assert!(error.contains("layer 3 is outside the model; its layers are 0 to 2"), "{error}");
}

#[test]
fn a_token_rule_finds_its_tokens() {
    let row = |weights: &[f32]| Example { ids: vec![3; weights.len()], weights: weights.to_vec() };
    let check = |weights: &[f32], rule, expected: &[usize]| assert_eq!(tokens_of(rule, &row(weights)), expected);
    check(&[0.0, 0.0, 1.0, 1.0], TokenRule::LastPrompt, &[1]);
    check(&[0.0, 0.0, 1.0, 1.0], TokenRule::AnswerMean, &[2, 3]);
    check(&[0.0, 0.0, 1.0, 1.0], TokenRule::All, &[0, 1, 2, 3]);
    check(&[0.0, 0.0], TokenRule::LastPrompt, &[1]);
    check(&[1.0, 1.0], TokenRule::LastPrompt, &[]);
    check(&[0.0, 0.0], TokenRule::AnswerMean, &[]);
}

#[test]
fn a_vector_file_of_the_first_schema_is_read_and_an_unknown_one_is_refused_with_words() {
    let vector = vector();
    let dir = folder("vector-schemas");
    let path = dir.join("v.safetensors");
    let read_with = |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
        vector.write(&path).unwrap();
        let text = std::fs::read_to_string(dir.join("v.json")).unwrap();
        let mut fields = serde_json::from_str(&text).unwrap();
        change(&mut fields);
        std::fs::write(dir.join("v.json"), serde_json::to_string(&fields).unwrap()).unwrap();
        SteeringVector::read(&path).map_err(|e| e.to_string())
    };
    let old = read_with(&|fields| {
        fields.remove("schema");
        fields.remove("unit");
        fields.remove("site");
        fields.insert("hook_point".into(), "resid_post".into());
        fields.insert("tokens".into(), "answer".into());
    });
    assert_eq!(old.unwrap(), read_with(&|_| ()).unwrap());
    let check = |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>), words: &str| {
        let error = read_with(change).unwrap_err();
        assert!(error.contains(words) && error.contains("v.json"), "{error}");
    };
    check(
        &|f| drop(f.insert("schema".into(), 3.into())),
        "has schema 3, which this version does not know; it reads 1 and 2",
    );
    check(&|f| drop(f.insert("schema".into(), "two".into())), "has schema \"two\"");
    check(&|f| drop(f.insert("method".into(), "magic".into())), "unknown variant `magic`");
    check(&|f| drop(f.insert("site".into(), "resid_mid".into())), "unknown variant `resid_mid`");
    check(&|f| drop(f.insert("colour".into(), "red".into())), "unknown field `colour`");
    check(&|f| drop(f.remove("model_sha256")), "missing field `model_sha256`");
}

//! GGUF files that Python's gguf package wrote (`tests/fixtures/gguf`): the families whose tensors and metadata llama.cpp's
//! converter changes on the way, against transformers' logits; every value type, against the package's own unpacking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use candle_core::quantized::gguf_file::Value;
use realign::model::config::{DecoderConfig, Positions};
use realign::model::decoder::Decoder;
use realign::model::ops::quantised::Products;
use realign::model::ops::to_vec;
use realign::model::pass::Pass;
use realign::model::rope::RopeScaling;
use realign::model::segments::Segments;
use realign::model::source::gguf::load_gguf;
use realign::model::source::load::WeightDtype;

use crate::gguf::{Parts, refuses};
use crate::parity::{Expected, check_batch, check_steps};
use crate::tiny::{fixture, folder, tensors};

/// The files; whether the numbers of a step depend on how long the row will become.
pub const FAMILIES: [(&str, bool); 6] = [
    ("gemma2", false),
    ("gemma3", false),
    ("gemma3_keys", false),
    ("phi3", false),
    ("phi3_long", true),
    ("starcoder2", false),
];

pub fn family_file(name: &str) -> PathBuf {
    fixture(&format!("../gguf/families/{name}.gguf"))
}

fn decoder(name: &str) -> Decoder {
    load_gguf(&family_file(name), WeightDtype::Auto).unwrap().decoder
}

#[test]
fn files_of_every_family_give_transformers_logits_and_step_by_step() {
    for (name, by_length) in FAMILIES {
        println!("{name}");
        let (decoder, expected) = (decoder(name), Expected::read(&format!("../gguf/families/{name}.safetensors")));
        check_batch(&decoder, &expected);
        if !by_length {
            check_steps(&decoder, &expected);
        }
    }
}

#[test]
fn what_a_file_does_not_say_is_what_llama_cpp_takes() {
    let gemma3 = decoder("gemma3").config;
    assert_eq!(gemma3.windows, [Some(4), Some(4), Some(4), Some(4), Some(4), None]);
    let Positions::Rotary { rope, local: Some(local) } = gemma3.positions else { panic!("it has both") };
    assert_eq!((rope.theta, rope.scaling), (1e6, RopeScaling::Linear { factor: 4.0 }));
    assert_eq!((local.theta, local.scaling), (1e4, RopeScaling::None));
    let keys = decoder("gemma3_keys").config;
    assert_eq!((keys.windows, keys.logit_softcap), (vec![None, Some(4)], Some(3.0)));

    // The scale of the largest models is not a head's: llama.cpp knows them by their number of layers.
    let dir = folder("gguf-gemma-scale");
    for (name, layers, scale) in [("gemma2", 46, 8f32), ("gemma3", 62, 8.0), ("gemma3", 61, 16.0)] {
        let path = of_file(name)
            .set(&format!("{name}.block_count"), Value::U32(layers))
            .set(&format!("{name}.attention.key_length"), Value::U32(16))
            .set(&format!("{name}.attention.value_length"), Value::U32(16))
            .write(&dir.join("model.gguf"));
        let config: DecoderConfig = realign::model::source::gguf::outline_gguf(&path).unwrap().config;
        assert_eq!((config.attention_scale, config.head_dim), (scale.powf(-0.5), 16), "{name} of {layers}");
    }
}

/// A file's parts, to change one of them.
fn of_file(name: &str) -> Parts {
    Parts::read(&family_file(name))
}

#[test]
fn what_a_family_cannot_be_without_or_cannot_have_is_refused_by_name() {
    let path = folder("gguf-family-refused").join("model.gguf");
    refuses(
        &of_file("gemma2").without("gemma2.attention.sliding_window").write(&path),
        "its metadata has no `gemma2.attention.sliding_window`",
    );
    refuses(
        &of_file("gemma2").set("gemma2.attention.sliding_window_pattern", Value::U32(4)).write(&path),
        "`gemma2.attention.sliding_window_pattern` other than 2",
    );
    refuses(
        &of_file("gemma3_keys")
            .set("gemma3.attention.sliding_window_pattern", Value::Array(vec![Value::Bool(true)]))
            .write(&path),
        "`layer_types` has 1 entries for 2 layers",
    );
    refuses(
        &of_file("gemma3").set("gemma3.rope.scaling.type", Value::String("yarn".into())).write(&path),
        "`gemma3.rope.scaling.type` yarn is not supported",
    );
    refuses(
        &of_file("starcoder2").without("starcoder2.attention.layer_norm_epsilon").write(&path),
        "its metadata has no `starcoder2.attention.layer_norm_epsilon`",
    );
    refuses(
        &of_file("phi3_long").without_tensor("rope_factors_long.weight").write(&path),
        "`rope_factors_short.weight` as it has it is not supported for `phi3`",
    );
    refuses(
        &of_file("phi3_long").set("phi3.rope.dimension_count", Value::U32(4)).write(&path),
        "have 3 and 3 values for 2 frequencies",
    );
    refuses(&of_file("phi3").without_tensor("blk.1.attn_qkv.weight").write(&path), "qkv_proj.weight` is missing");
}

#[test]
fn every_value_type_is_read_as_the_gguf_package_reads_it() {
    let (path, expected) = (fixture("../gguf/blocks.gguf"), tensors("../gguf/blocks.safetensors"));
    // The types as the script gives them to a block's linears, one after the other; IQ4_NL is held as Q8_0 with equal values.
    let held = [
        "q2_k", "q3_k", "q8_0", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "f32",
        "q8_0",
    ];
    let found = load_gguf(&path, WeightDtype::Auto).unwrap().decoder;
    let widened = load_gguf(&path, WeightDtype::F32).unwrap().decoder;
    let (weights, widened) = (found.held_weights(), widened.weights());
    let parts = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"];
    for (at, format) in held.into_iter().enumerate() {
        let name = format!("model.layers.{}.{}.weight", at / parts.len(), parts[at % parts.len()]);
        assert_eq!(weights[&name].format_name(), format, "{name}");
        let bits = |tensor: &candle_core::Tensor| -> Vec<u32> {
            let tensor = tensor.to_dtype(candle_core::DType::F32).unwrap();
            to_vec(&tensor).unwrap().into_iter().map(f32::to_bits).collect()
        };
        assert!(bits(&weights[&name].to_tensor()) == bits(&expected[&name]), "{name} as {format}");
        assert!(bits(&widened[&name]) == bits(&expected[&name]), "{name} as f32");
    }
    assert_eq!(expected.len(), held.len());
    let formats = realign::model::source::gguf::outline_gguf(&path).unwrap().formats;
    assert!(formats.contains("iq4_nl") && formats.contains("q2_k") && formats.len() == 14, "{formats:?}");
}

#[test]
fn types_that_have_no_products_in_integers_are_decoded_exactly_among_others_that_have() {
    let decoder = load_gguf(&fixture("../gguf/blocks.gguf"), WeightDtype::Auto).unwrap().decoder;
    let next = |products: Products| {
        let mut cache = [decoder.new_cache(4)];
        decoder.forward(&[1, 2], &mut Pass::prefill(&Segments::packed([2], 0), &mut cache)).unwrap();
        let mut rows: Vec<_> = cache.iter_mut().collect();
        to_vec(&decoder.forward(&[3], &mut Pass::step(&mut rows).with_products(products)).unwrap()).unwrap()
    };
    let (exact, integer) = (next(Products::Exact), next(Products::Integer));
    let largest = exact.iter().fold(0f32, |most, v| most.max(v.abs()));
    let worst = exact.iter().zip(&integer).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst < 0.05 * largest, "off by {worst} of {largest}");
}

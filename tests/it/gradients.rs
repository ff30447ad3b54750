//! Every differentiable op against finite differences and against plain candle, on every vector path.

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::Rng;
use realign::model::cpu::simd::{Path, force};
use realign::model::cpu::team::with_helpers;
use realign::model::lora::{Lora, Magnitude};
use realign::model::ops::attention::{Heads, attention, reference_attention};
use realign::model::ops::cross_entropy::cross_entropy;
use realign::model::ops::dropout::Mask;
use realign::model::ops::gelu::{gelu, reference_gelu};
use realign::model::ops::layer_norm::{layer_norm, reference_layer_norm};
use realign::model::ops::linear::{frozen_linear, lora_linear, reference_lora_linear, trainable_linear};
use realign::model::ops::rms_norm::{reference_rms_norm, rms_norm};
use realign::model::ops::rope::RopeTable;
use realign::model::ops::softcap::softcap;
use realign::model::ops::swiglu::{reference_swiglu, swiglu};
use realign::model::ops::to_vec;
use realign::model::ops::weight::{times, times_transposed};
use realign::model::rope::{Rope, RopeScaling};
use realign::model::segments::Segments;
use realign::rng::stream;

use crate::parity::left_padded;

/// A processor that lacks one takes the next narrower. The first is candle's own ops, which other devices run.
const PATHS: [Path; 6] = [Path::Plain, Path::Scalar, Path::Avx2, Path::Avx512, Path::Avx512Bf16, Path::Avx512Fp16];

type Op<'a> = &'a dyn Fn(&[&Tensor]) -> Result<Tensor>;

pub fn random(shape: &[usize], index: u64) -> Tensor {
    let mut rng = stream(3, "gradients", &[index]);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The output, and the gradients of a fixed random projection of it towards every input.
fn gradients(inputs: &[Tensor], op: Op) -> (Vec<f32>, Vec<Vec<f32>>) {
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let y = op(&vars.iter().map(Var::as_tensor).collect::<Vec<_>>()).unwrap();
    let store = (&y * random(y.dims(), 99)).unwrap().sum_all().unwrap().backward().unwrap();
    let grads = vars.iter().map(|v| to_vec(store.get(v).expect("the op cut the graph")).unwrap()).collect();
    (to_vec(&y).unwrap(), grads)
}

fn close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{i}]: {a} against {b}");
    }
}

fn check_differences(inputs: &[Tensor], op: Op) {
    let (_, grads) = gradients(inputs, op);
    let project = |inputs: &[Tensor]| {
        let y = op(&inputs.iter().collect::<Vec<_>>()).unwrap();
        let terms = to_vec(&(&y * random(y.dims(), 99)).unwrap()).unwrap();
        terms.iter().map(|&t| f64::from(t)).sum::<f64>()
    };
    for (which, input) in inputs.iter().enumerate() {
        let values = to_vec(input).unwrap();
        for element in (0..values.len()).step_by(values.len().div_ceil(7)) {
            let shifted = |by: f32| {
                let mut values = values.clone();
                values[element] += by;
                let mut inputs = inputs.to_vec();
                inputs[which] = Tensor::from_vec(values, input.shape(), &Device::Cpu).unwrap();
                project(&inputs)
            };
            let step = 1e-2;
            let numeric = (shifted(step) - shifted(-step)) / f64::from(2.0 * step);
            let ours = f64::from(grads[which][element]);
            assert!(
                (numeric - ours).abs() < 4e-3 * (1.0 + ours.abs()),
                "input {which}, element {element}: difference quotient {numeric}, gradient {ours}"
            );
        }
    }
}

/// On every vector path: equal to plain candle, value and gradients, and to difference quotients.
fn check(inputs: &[Tensor], op: Op, reference: Op) {
    let (value, grads) = gradients(inputs, reference);
    for path in PATHS {
        force(path);
        let (ours, our_grads) = gradients(inputs, op);
        close("value", &ours, &value, 2e-5);
        for (i, (a, b)) in our_grads.iter().zip(&grads).enumerate() {
            close(&format!("{path:?}, gradient of input {i}"), a, b, 5e-5);
        }
        check_differences(inputs, op);
    }
}

fn rope(dim: usize, scaling: RopeScaling) -> RopeTable {
    RopeTable::new(8, Some(&Rope { theta: 100.0, dim, scaling }), 256)
}

fn heads() -> Heads {
    let rope = RopeTable::new(8, Some(&Rope { theta: 10_000.0, dim: 8, scaling: RopeScaling::None }), 256);
    Heads { heads: 4, kv_heads: 2, head_dim: 8, rope, scale: 8f32.powf(-0.5), window: None, softcap: None }
}

#[test]
fn rms_norm_matches_candle_and_difference_quotients() {
    check(&[random(&[5, 19], 0), random(&[19], 1)], &|i| rms_norm(i[0], i[1], 1e-5), &|i| {
        reference_rms_norm(i[0], i[1], 1e-5)
    });
}

#[test]
fn swiglu_matches_candle_and_difference_quotients() {
    check(&[random(&[5, 19], 0), random(&[5, 19], 1)], &|i| swiglu(i[0], i[1]), &|i| reference_swiglu(i[0], i[1]));
}

#[test]
fn layer_norm_matches_candle_and_difference_quotients() {
    check(&[random(&[5, 19], 0), random(&[19], 1), random(&[19], 2)], &|i| layer_norm(i[0], i[1], i[2], 1e-5), &|i| {
        reference_layer_norm(i[0], i[1], i[2], 1e-5)
    });
}

#[test]
fn layer_norm_keeps_its_digits_far_from_zero() {
    let x = (random(&[3, 64], 0) + 1000.0).unwrap();
    let (weight, bias) = (Tensor::ones(64, DType::F32, &Device::Cpu).unwrap(), random(&[64], 2));
    let double = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let expected = reference_layer_norm(&double(&x), &double(&weight), &double(&bias), 1e-5).unwrap();
    let ours = layer_norm(&x, &weight, &bias, 1e-5).unwrap();
    close("value", &to_vec(&ours).unwrap(), &to_vec(&expected).unwrap(), 2e-4);
}

#[test]
fn gelu_matches_candle_and_difference_quotients() {
    check(&[(random(&[5, 19], 0) * 4.0).unwrap()], &|i| gelu(i[0]), &|i| reference_gelu(i[0]));
}

/// `x Wᵀ` and `dy W` in f64.
fn exact(x: &[f32], w: &[f32], (m, n, k): (usize, usize, usize), turned: bool) -> Vec<f32> {
    let at = |i: usize, j: usize| if turned { w[j * k + i] } else { w[i * k + j] };
    let (columns, inner) = if turned { (k, n) } else { (n, k) };
    let sum = |t: usize, c: usize| (0..inner).map(|i| f64::from(x[t * inner + i]) * f64::from(at(c, i))).sum::<f64>();
    (0..m * columns).map(|o| sum(o / columns, o % columns) as f32).collect()
}

/// ‖found − expected‖ / ‖expected‖.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let differences = &mut found.iter().zip(expected).map(|(f, e)| f64::from(f - e));
    norm(differences) / norm(&mut expected.iter().map(|e| f64::from(*e)))
}

#[test]
fn products_of_f16_neither_overflow_nor_lose_small_rows() {
    let (m, n, k) = (40, 70, 1500);
    let weight = Tensor::full(1.99f32, (n, k), &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
    for path in [Path::Avx512Fp16, Path::Avx512Bf16, Path::Avx512] {
        force(path);
        // Every sum is as large as it can be; rows of all magnitudes lie side by side.
        let magnitude = |row: usize| 10f32.powi(row as i32 - 20);
        let rows = |width: usize| -> Vec<f32> { (0..m * width).map(|i| magnitude(i / width)).collect() };
        let results = [(times_transposed(&rows(k), &weight).unwrap(), k, n), (times(&rows(n), &weight).unwrap(), n, k)];
        for (found, terms, columns) in results {
            for (i, found) in found.iter().enumerate() {
                let expected = terms as f32 * magnitude(i / columns) * 1.9921875;
                assert!((found / expected - 1.0).abs() < 5e-3, "{path:?}, row {}: {found}", i / columns);
            }
        }
        // What is not finite stays so in its row, and in no other.
        let mut x = vec![1.0; m * k];
        (x[0], x[k]) = (f32::NAN, f32::INFINITY);
        let y = times_transposed(&x, &weight).unwrap();
        assert!(y[0].is_nan() && !y[n].is_finite() && y[2 * n..].iter().all(|y| y.is_finite()), "{path:?}");
    }
}

fn rounded(values: &[f32]) -> Vec<f32> {
    let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
    to_vec(&tensor.to_dtype(DType::BF16).unwrap()).unwrap()
}

/// Shapes that reach every branch: few rows and many, rests of every tile, odd widths, several panels, several pieces.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 7, 19),
    (2, 48, 32),
    (5, 33, 64),
    (7, 1, 1),
    (33, 40, 35),
    (45, 130, 97),
    (40, 640, 832),
    (3, 640, 208),
    (37, 70, 1100),
];

#[test]
fn products_with_f32_bf16_and_f16_weights_match_the_definition_on_every_path() {
    for (m, n, k) in SHAPES {
        let full = random(&[n, k], 1);
        let half = full.to_dtype(DType::BF16).unwrap();
        // Down to f16's subnormal numbers.
        let float16 = (&full * random(&[n, k], 4).powf(8.0).unwrap()).unwrap().to_dtype(DType::F16).unwrap();
        for (weight, name) in [(&full, "f32"), (&half, "bf16"), (&float16, "f16")] {
            let w = to_vec(weight).unwrap();
            let (x, dy) = (to_vec(&random(&[m, k], 2)).unwrap(), to_vec(&random(&[m, n], 3)).unwrap());
            let expected = [exact(&x, &w, (m, n, k), false), exact(&dy, &w, (m, n, k), true)];
            for path in PATHS {
                let taken = force(path);
                let dots = taken == Path::Avx512Bf16 && name == "bf16";
                let halves = taken == Path::Avx512Fp16 && name == "bf16";
                let found = [times_transposed(&x, weight).unwrap(), times(&dy, weight).unwrap()];
                for (direction, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    // Rounding the activations costs 2⁻⁹ of each of up to 832 terms below 1, as a random walk.
                    // 832 terms of rounded activations stray by .011 (one standard deviation); the tight check is below.
                    let tolerance = if dots || halves { 6e-2 } else { 5e-5 };
                    close(&format!("{name} {path:?} {m}×{n}×{k}, direction {direction}"), found, expected, tolerance);
                }
                if dots && m > 32 && n > 32 {
                    let expected =
                        [exact(&rounded(&x), &w, (m, n, k), false), exact(&rounded(&dy), &w, (m, n, k), true)];
                    for (found, expected) in found.iter().zip(&expected) {
                        close("bf16 dots of rounded activations", found, expected, 5e-5);
                    }
                }
                if halves {
                    for (found, expected) in found.iter().zip(&expected) {
                        assert!(distance(found, expected) < 1.3e-3, "{m}×{n}×{k}: {}", distance(found, expected));
                    }
                }
            }
        }
    }
}

#[test]
fn helpers_do_not_change_a_bit_of_a_product_or_of_attention() {
    let half = random(&[640, 832], 1).to_dtype(DType::BF16).unwrap();
    let full = random(&[832, 640], 1);
    let segments = Segments::packed([100, 50], 0);
    for m in [3, 40] {
        let x = to_vec(&random(&[m, 832], 2)).unwrap();
        let work = || {
            let attended = gradients(&[random(&[150, 32], 0), random(&[150, 16], 1), random(&[150, 16], 2)], &|i| {
                attention(i[0], i[1], i[2], &heads(), &segments)
            });
            let gated = gradients(&[random(&[300, 400], 0), random(&[300, 400], 1)], &|i| swiglu(i[0], i[1]));
            (times_transposed(&x, &half).unwrap(), times(&x, &full).unwrap(), attended, gated)
        };
        let alone = work();
        for helpers in [1, 3] {
            assert!(with_helpers(helpers, work) == alone, "{helpers} helpers, {m} rows");
        }
    }
}

#[test]
fn linears_on_bf16_weights_have_the_gradients_of_the_widened_weights() {
    // Enough rows for the general product, enough columns for several panels.
    let half = random(&[41, 67], 2).to_dtype(DType::BF16).unwrap();
    let widened = half.to_dtype(DType::F32).unwrap();
    let inputs = [random(&[37, 67], 0), random(&[3, 67], 3), random(&[41, 3], 4)];
    let (value, grads) = gradients(&inputs, &|i| reference_lora_linear(i[0], &widened, i[1], i[2], 0.7));
    for path in PATHS {
        // Where products are made in sixteen bits the activations are rounded: 2⁻⁹ of each term, or 2⁻¹¹.
        let tolerance = if force(path) >= Path::Avx512Bf16 { 1e-2 } else { 5e-5 };
        let (ours, our_grads) = gradients(&inputs, &|i| lora_linear(i[0], &half, i[1], i[2], 0.7, None));
        close("value", &ours, &value, tolerance);
        for (i, (a, b)) in our_grads.iter().zip(&grads).enumerate() {
            close(&format!("{path:?}, gradient of input {i}"), a, b, tolerance);
        }
        let (ours, our_grads) = gradients(&inputs[..1], &|i| frozen_linear(i[0], &half));
        let (value, grads) = gradients(&inputs[..1], &|i| i[0].matmul(&widened.t()?));
        close("frozen value", &ours, &value, tolerance);
        close("frozen gradient", &our_grads[0], &grads[0], tolerance);
    }
}

#[test]
fn linears_match_candle_and_difference_quotients() {
    let weight = random(&[11, 19], 2);
    check(&[random(&[5, 19], 0)], &|i| frozen_linear(i[0], &weight), &|i| i[0].matmul(&weight.t()?));
    check(&[random(&[5, 19], 0), weight.clone()], &|i| trainable_linear(i[0], i[1]), &|i| i[0].matmul(&i[1].t()?));
    check(
        &[random(&[5, 19], 0), random(&[3, 19], 3), random(&[11, 3], 4)],
        &|i| lora_linear(i[0], &weight, i[1], i[2], 0.7, None),
        &|i| reference_lora_linear(i[0], &weight, i[1], i[2], 0.7),
    );
}

#[test]
fn dropped_lora_inputs_get_the_gradient_of_the_mask_they_had() {
    let weight = random(&[11, 19], 2);
    let mask = Mask { probability: 0.4, key: 5, segments: Segments::packed([2, 3], 0) };
    check_differences(&[random(&[5, 19], 0), random(&[3, 19], 3), random(&[11, 3], 4)], &|i| {
        lora_linear(i[0], &weight, i[1], i[2], 0.7, Some(mask.clone()))
    });
}

#[test]
fn attention_matches_candle_with_packed_padded_and_long_segments() {
    let layouts = [
        (9, Segments::packed([4, 5], 0)),
        (12, left_padded(6, &[2, 0])),
        (150, Segments::packed([149, 1], 0)), // more than one block of query rows
    ];
    for (tokens, segments) in layouts {
        check(
            &[random(&[tokens, 32], 0), random(&[tokens, 16], 1), random(&[tokens, 16], 2)],
            &|i| attention(i[0], i[1], i[2], &heads(), &segments),
            &|i| reference_attention(i[0], i[1], i[2], &heads(), &segments),
        );
    }
}

#[test]
fn windows_caps_and_partly_rotated_heads_match_candle_and_difference_quotients() {
    let layouts = [(9, Segments::packed([4, 5], 0)), (150, left_padded(75, &[70, 0]))];
    for (tokens, segments) in layouts {
        // The second row of the first layout is longer than this kind's pretrained context, the first is not.
        let long = RopeScaling::Long { short: vec![1.0, 2.0], long: vec![3.0, 5.0], original: 4, attention: 1.3 };
        let plain = RopeScaling::None;
        for (window, softcap, scaling) in
            [(Some(3), None, plain.clone()), (None, Some(0.3), long), (Some(66), Some(0.5), plain)]
        {
            let heads = Heads { rope: rope(4, scaling), window, softcap, ..heads() };
            check(
                &[random(&[tokens, 32], 0), random(&[tokens, 16], 1), random(&[tokens, 16], 2)],
                &|i| attention(i[0], i[1], i[2], &heads, &segments),
                &|i| reference_attention(i[0], i[1], i[2], &heads, &segments),
            );
        }
    }
}

#[test]
fn cross_entropy_matches_candle_and_skips_what_has_no_weight() {
    let (tokens, width, vocab) = (300, 8, 13);
    let (hidden, head) = (random(&[tokens, width], 0), random(&[vocab, width], 1));
    let targets: Vec<u32> = (0..tokens as u32).map(|t| t * 7 % vocab as u32).collect();
    let weights: Vec<f32> = (0..tokens).map(|t| (t % 3) as f32 * 0.1).collect();
    let (hidden_var, head_var) = (Var::from_tensor(&hidden).unwrap(), Var::from_tensor(&head).unwrap());
    for cap in [None, Some(0.9)] {
        let logits = hidden_var.matmul(&head_var.t().unwrap()).unwrap();
        let logits = cap.map_or(logits.clone(), |cap| softcap(&logits, cap).unwrap());
        let log_softmax = candle_nn::ops::log_softmax(&logits, 1).unwrap();
        let wanted = Tensor::from_slice(&targets, (tokens, 1), &Device::Cpu).unwrap();
        let losses = log_softmax.gather(&wanted, 1).unwrap().squeeze(1).unwrap().neg().unwrap();
        let weighted = (&losses * Tensor::from_slice(&weights, tokens, &Device::Cpu).unwrap()).unwrap();
        let store = weighted.sum_all().unwrap().backward().unwrap();
        let losses = to_vec(&losses).unwrap();
        for path in PATHS {
            force(path);
            let ours = cross_entropy(&hidden, &head, cap, &targets, &weights, true).unwrap();
            close(
                "hidden",
                &to_vec(&ours.hidden_grad).unwrap(),
                &to_vec(store.get(&hidden_var).unwrap()).unwrap(),
                1e-5,
            );
            let head_grad = to_vec(&ours.weight_grad.unwrap()).unwrap();
            close("head", &head_grad, &to_vec(store.get(&head_var).unwrap()).unwrap(), 1e-5);
            let half =
                cross_entropy(&hidden, head.to_dtype(DType::BF16).unwrap(), cap, &targets, &weights, false).unwrap();
            close("hidden, bf16 head", &to_vec(&half.hidden_grad).unwrap(), &to_vec(&ours.hidden_grad).unwrap(), 1e-2);
            for t in 0..tokens {
                let expected = if weights[t] == 0.0 { 0.0 } else { losses[t] };
                assert!((ours.losses[t] - expected).abs() < 1e-5, "token {t}");
            }
        }
    }
}

#[test]
fn doras_gradients_match_difference_quotients_with_and_without_dropout() {
    // Of what it takes as a constant, ‖W + s B A‖, only PEFT can tell (tests/it/sft.rs): A and B stand still here.
    let (a, b, weight) = (random(&[3, 10], 1), random(&[7, 3], 2), random(&[7, 10], 3).into());
    for mask in [None, Some(Mask { probability: 0.3, key: 5, segments: Segments::packed([4, 2], 0) })] {
        check_differences(&[random(&[6, 10], 4), random(&[1, 7], 5)], &|inputs| {
            let magnitude = Some(Magnitude { vector: inputs[1].clone(), factor: None });
            let lora = Lora { a: a.clone(), b: b.clone(), scale: 0.7, dropout: 0.3, magnitude };
            lora.forward(inputs[0], &weight, mask.clone())
        });
    }
}

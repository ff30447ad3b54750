//! Loops compiled several times, once for each vector unit, and chosen at run time.
//!
//! "Same bits" therefore holds per path: sums are made in lanes, and their order does not depend on the path, but a
//! compiler may contract differently. Tests run every path of the machine through [`force`].

use std::cell::Cell;
use std::sync::OnceLock;

/// A set of vector instructions; each of our hot loops is compiled once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Path {
    /// No kernels of ours: candle's own ops, as on devices other than the CPU.
    Plain = 0,
    /// What every processor of the target has.
    Scalar = 1,
    /// AVX2 and FMA, vectors of 256 bits.
    Avx2 = 2,
    /// AVX-512, vectors of 512 bits.
    Avx512 = 3,
    /// 512 bits, and products with bf16 weights by the processor's bf16 dot products (which round the activations too).
    Avx512Bf16 = 4,
    /// 512 bits, and products with bf16 weights by f16 multiply-adds (which round the activations too, and less).
    Avx512Fp16 = 5,
}

static DEFAULT: OnceLock<Path> = OnceLock::new();

thread_local! {
    static FORCED: Cell<Option<Path>> = const { Cell::new(None) };
}

/// The path in use: the best of this processor, unless `REALIGN_SIMD` (`plain`, `scalar`, `avx2`, `avx512`, `avx512bf16`,
/// `avx512fp16`) or [`force`] asks for another.
///
/// bf16 dot products are taken by themselves only where they are the quicker ones. AMD's do twice the work of its f32
/// products; Intel's without AMX do half of it (87 against 175 GFLOP/s a core on an Emerald Rapids). Intel's processors
/// since Sapphire Rapids have f16 multiply-adds instead, at twice the rate of f32's. On any other, bf16 weights are widened,
/// which is exact.
pub fn path() -> Path {
    FORCED.get().unwrap_or_else(|| *DEFAULT.get_or_init(default))
}

fn default() -> Path {
    let wanted = match std::env::var("REALIGN_SIMD").as_deref() {
        Ok("plain") => Path::Plain,
        Ok("scalar") => Path::Scalar,
        Ok("avx2") => Path::Avx2,
        Ok("avx512") => Path::Avx512,
        Ok("avx512bf16") => Path::Avx512Bf16,
        Ok("avx512fp16") => Path::Avx512Fp16,
        _ if widest() == Path::Avx512Fp16 => Path::Avx512Fp16,
        _ if dots_are_quick() => Path::Avx512Bf16,
        _ => Path::Avx512,
    };
    wanted.min(widest())
}

/// Uses a path from now on in this thread, or the widest below it that this processor has; returns the one taken. Helpers
/// of [`super::team`] take their caller's.
pub fn force(wanted: Path) -> Path {
    let taken = wanted.min(widest());
    FORCED.set(Some(taken));
    taken
}

fn widest() -> Path {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw");
        if avx2 && avx512 {
            // Every processor with f16 has bf16's dot products as well: a wider path can always stand in for a narrower.
            return match is_x86_feature_detected!("avx512bf16") {
                true if is_x86_feature_detected!("avx512fp16") => Path::Avx512Fp16,
                true => Path::Avx512Bf16,
                false => Path::Avx512,
            };
        }
        if avx2 {
            return Path::Avx2;
        }
    }
    Path::Scalar
}

/// By maker and not by a measurement: the same machine must take the same path each time.
fn dots_are_quick() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let leaf = std::arch::x86_64::__cpuid(0);
        let maker = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
        maker.as_flattened() == b"AuthenticAMD"
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Defines a function whose body is compiled once for each path.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::model::cpu::simd::path() {
                    // SAFETY: `path` never answers with a unit that this processor lacks.
                    $crate::model::cpu::simd::Path::Avx512
                    | $crate::model::cpu::simd::Path::Avx512Bf16
                    | $crate::model::cpu::simd::Path::Avx512Fp16 => {
                        return unsafe { avx512($($arg),*) };
                    }
                    // SAFETY: as above.
                    $crate::model::cpu::simd::Path::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::model::cpu::simd::Path::Plain | $crate::model::cpu::simd::Path::Scalar => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use vectorised;

vectorised! {
    /// Adds `values` to `sum`, one by one.
    pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
        for (sum, value) in sum.iter_mut().zip(values) {
            *sum += value;
        }
    }
}

vectorised! {
    /// Sum of the squares, in f64.
    pub(crate) fn squares(values: &[f32]) -> f64 {
        let mut lanes = [0f64; LANES];
        let (whole, rest) = values.as_chunks::<LANES>();
        for x in whole {
            for lane in 0..LANES {
                lanes[lane] += f64::from(x[lane]) * f64::from(x[lane]);
            }
        }
        lanes.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
    }
}

vectorised! {
    /// Whether no value is infinite or not a number.
    pub(crate) fn all_finite(values: &[f32]) -> bool {
        values.chunks(1024).all(|some| some.iter().fold(true, |finite, x| finite & x.is_finite()))
    }
}

const LANES: usize = 16;

/// Halves upon halves: one after the other, sixteen lanes would take longer than the loop that filled them.
#[inline(always)]
fn folded(mut lanes: [f32; LANES], both: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        for (a, b) in low.iter_mut().zip(high) {
            *a = both(*a, *b);
        }
    }
    lanes[0]
}

/// Σ a·b in sixteen lanes, so that the loop needs no reordering to run in a vector unit.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    folded(lanes, |a, b| a + b) + tail
}

/// Sum of the values, in sixteen lanes that are added at the end, so that it is the same on every path.
#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let tail: f32 = chunks.remainder().iter().sum();
    for x in chunks {
        for lane in 0..LANES {
            lanes[lane] += x[lane];
        }
    }
    folded(lanes, |a, b| a + b) + tail
}

/// The largest value, in sixteen lanes; −∞ of an empty slice.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let tail = chunks.remainder().iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
    for x in chunks {
        for lane in 0..LANES {
            lanes[lane] = if x[lane] > lanes[lane] { x[lane] } else { lanes[lane] };
        }
    }
    folded(lanes, |a, b| if b > a { b } else { a }).max(tail)
}

/// eˣ to about two units in the last place, without a branch (Cody and Waite reduction, Cephes' polynomial).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves the nearest integer in the low mantissa bits
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_6e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23)) * p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_a_few_units_in_the_last_place() {
        for i in -8600..8700 {
            let x = i as f32 * 0.01;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 4e-7, "exp({x}) = {} not {expected}", exp(x));
        }
        assert!(exp(-1e9) < 1e-37);
    }

    #[test]
    fn lanes_sum_every_element_once() {
        for n in 0..70 {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(sum(&values), (0..n).sum::<i32>() as f32);
            assert_eq!(dot(&values, &values), (0..n).map(|i| i * i).sum::<i32>() as f32);
            assert_eq!(max(&values), if n == 0 { f32::NEG_INFINITY } else { (n - 1) as f32 });
        }
    }
}

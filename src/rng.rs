//! Named, seeded random streams. A stream depends on its seed, name and indices alone, so it gives the same numbers on
//! any machine, with any number of workers and in any order of calls.
//!
//! ```
//! use rand::Rng;
//! let mut a = realign::rng::stream(7, "sampling", &[3, 1]);
//! let mut b = realign::rng::stream(7, "sampling", &[3, 1]);
//! assert_eq!(a.random::<u64>(), b.random::<u64>());
//! ```

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Hashes a seed, a name and indices into one 64-bit key.
pub fn key(seed: u64, name: &str, indices: &[u64]) -> u64 {
    let mut state = mix(seed ^ 0x9e37_79b9_7f4a_7c15);
    for byte in name.bytes() {
        state = mix(state ^ u64::from(byte));
    }
    for &index in indices {
        state = mix(state ^ mix(index.wrapping_add(0x632b_e59b_d9b4_e019)));
    }
    state
}

/// The random generator of this seed, name and indices; no other combination shares its numbers.
pub fn stream(seed: u64, name: &str, indices: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(key(seed, name, indices))
}

/// The `counter`-th number in [0, 1) of a key's sequence. It is computed directly, without the numbers before it, which
/// dropout masks need.
pub fn unit(key: u64, counter: u64) -> f32 {
    // 24 bits: every multiple of 2⁻²⁴ in [0, 1) is an exact f32.
    (mix(key.wrapping_add(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 40) as f32 / (1u64 << 24) as f32
}

/// SplitMix64's finaliser (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

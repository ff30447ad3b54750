//! Rotary position embedding (Su et al. 2021) and the ways of scaling its frequencies for contexts longer than the
//! pretrained one: those that transformers 5 knows, computed in f32 as it does.

use serde_json::Value;

/// Parameters of a rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base θ of the angles: dimension pair i turns by position · θ^(−2i/dim).
    pub theta: f64,
    /// How many dimensions of a head are rotated, from its first on.
    pub dim: usize,
    /// How the frequencies are scaled for contexts longer than the pretrained one.
    pub scaling: RopeScaling,
}

/// How the frequencies are scaled for contexts longer than the pretrained one.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as θ gives them.
    None,
    /// All frequencies are divided by one factor.
    Linear {
        /// Divides every position (linear scaling).
        factor: f32,
    },
    /// Llama 3: low frequencies are divided, high ones kept, those between interpolated.
    Llama3 {
        /// Divides the low frequencies.
        factor: f32,
        /// Frequencies with fewer full rotations than this in the pretrained context are divided.
        low: f32,
        /// Frequencies with more full rotations than this in the pretrained context are kept.
        high: f32,
        /// The pretrained context in tokens.
        original: f32,
    },
    /// Dynamic NTK: θ grows with the length of a row that is longer than the pretrained context.
    Dynamic {
        /// How many times longer than the pretrained context rows may be.
        factor: f32,
        /// The pretrained context in tokens.
        original: usize,
    },
    /// YaRN (Peng et al. 2023): high frequencies are kept, low ones divided, with a linear ramp over the dimensions between.
    Yarn {
        /// Divides the low frequencies.
        factor: f32,
        /// Dimension where the ramp begins, from 0.
        low: f32,
        /// Dimension where the ramp ends.
        high: f32,
        /// What queries and keys are multiplied by.
        attention: f32,
    },
    /// LongRoPE (Ding et al. 2024): each frequency divided by a number of its own, of one list in rows up to the pretrained
    /// context and of another in longer ones.
    Long {
        /// Divisors for rows within the pretrained context, `[dim / 2]`.
        short: Vec<f32>,
        /// Divisors for longer rows, `[dim / 2]`.
        long: Vec<f32>,
        /// The pretrained context in tokens.
        original: usize,
        /// What queries and keys are multiplied by.
        attention: f32,
    },
}

impl Rope {
    /// Radians a position in a row of `length` tokens, `[dim / 2]`.
    pub fn frequencies(&self, length: usize) -> Vec<f32> {
        let exponent = |j: usize| (2 * j) as f32 / self.dim as f32;
        let plain = |j: usize| 1.0 / (self.theta as f32).powf(exponent(j));
        let each = |of: &dyn Fn(usize) -> f32| (0..self.dim / 2).map(of).collect();
        match &self.scaling {
            RopeScaling::None => each(&plain),
            RopeScaling::Linear { factor } => each(&|j| plain(j) / factor),
            RopeScaling::Llama3 { factor, low, high, original } => each(&|j| {
                let f = plain(j);
                let turns = original * f / std::f32::consts::TAU;
                if turns < *low {
                    f / factor
                } else if turns > *high {
                    f
                } else {
                    let share = (turns - low) / (high - low);
                    (1.0 - share) * f / factor + share * f
                }
            }),
            RopeScaling::Dynamic { factor, original } => {
                let times = factor * length.max(*original) as f32 / *original as f32 - (factor - 1.0);
                let base = self.theta as f32 * times.powf(self.dim as f32 / (self.dim as f32 - 2.0));
                each(&|j| 1.0 / base.powf(exponent(j)))
            }
            RopeScaling::Yarn { factor, low, high, .. } => each(&|j| {
                let divided = ((j as f32 - low) / (high - low)).clamp(0.0, 1.0);
                let f = plain(j);
                f / factor * divided + f * (1.0 - divided)
            }),
            RopeScaling::Long { short, long, original, .. } => {
                let by = if length > *original { long } else { short };
                each(&|j| 1.0 / (by[j] * (self.theta as f32).powf(exponent(j))))
            }
        }
    }

    /// The longest row whose frequencies are those of every shorter one; `None` where a row's length never matters.
    pub fn ordinary(&self) -> Option<usize> {
        match self.scaling {
            RopeScaling::Dynamic { original, .. } | RopeScaling::Long { original, .. } => Some(original),
            _ => None,
        }
    }

    /// Factor on rotated queries and keys.
    pub fn attention(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention, .. } | RopeScaling::Long { attention, .. } => attention,
            _ => 1.0,
        }
    }

    /// How many tokens a row may have, where the configuration says `context`: that may be the pretrained context, or what
    /// it was lengthened to.
    pub fn longest(&self, context: usize, original: usize) -> usize {
        match self.scaling {
            RopeScaling::Dynamic { factor, .. } | RopeScaling::Yarn { factor, .. } => {
                context.max((original as f64 * f64::from(factor)) as usize)
            }
            _ => context,
        }
    }
}

/// What a configuration says beside its rope section.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    /// θ where the section names none: the file's `rope_theta`.
    pub theta: f64,
    /// How many dimensions of a head turn.
    pub dim: usize,
    /// The file's `max_position_embeddings`, in tokens.
    pub context: usize,
    /// The pretrained context, where the section has none or is not asked (see [`original`]).
    pub original: Option<usize>,
    /// Whether it is Phi-3's, whose older files call LongRoPE `su` or `yarn`.
    pub phi3: bool,
}

/// The pretrained context that a rope section means: the configuration's own `original_max_position_embeddings` comes before
/// the section's, as in transformers, and `max_position_embeddings` after both.
pub(super) fn original(section: &Value, beside: &Beside) -> usize {
    let own = section["original_max_position_embeddings"].as_u64().map(|n| n as usize);
    beside.original.or(own).unwrap_or(beside.context).max(1)
}

/// Reads `rope_parameters` or `rope_scaling`.
pub(super) fn read(section: &Value, beside: &Beside) -> Result<Rope, String> {
    let Beside { theta, dim, .. } = *beside;
    let theta = section["rope_theta"].as_f64().unwrap_or(theta);
    let given = |key: &str| section[key].as_f64().filter(|v| *v > 0.0);
    let number = |key: &str| {
        given(key)
            .map(|v| v as f32)
            .ok_or_else(|| format!("the rope scaling's `{key}` is missing or not a number above 0"))
    };
    let original = original(section, beside);
    let lengthened = || given("factor").unwrap_or(beside.context as f64 / original as f64);
    let kind = section["rope_type"].as_str().or(section["type"].as_str()).unwrap_or("default");
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")?,
        },
        "dynamic" if dim > 2 => RopeScaling::Dynamic { factor: number("factor")?, original: beside.context },
        "longrope" => long(section, dim, lengthened(), original)?,
        "su" | "yarn" if beside.phi3 => long(section, dim, lengthened(), original)?,
        "yarn" => {
            // The ramp runs from the dimension that turns `beta_fast` times within the pretrained context to the one that
            // turns `beta_slow` times.
            let turning =
                |times: f64| dim as f64 * (original as f64 / (times * std::f64::consts::TAU)).ln() / (2.0 * theta.ln());
            let (fast, slow) = (given("beta_fast").unwrap_or(32.0), given("beta_slow").unwrap_or(1.0));
            let whole = section["truncate"].as_bool().unwrap_or(true);
            let (low, high) = (turning(fast), turning(slow));
            let (low, high) = if whole { (low.floor(), high.ceil()) } else { (low, high) };
            let (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
            let high = if low == high { high + 0.001 } else { high };
            let factor = lengthened();
            let grown = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
            let attention = given("attention_factor").unwrap_or(match (given("mscale"), given("mscale_all_dim")) {
                (Some(some), Some(all)) => grown(some) / grown(all),
                _ => grown(1.0),
            });
            RopeScaling::Yarn { factor: factor as f32, low: low as f32, high: high as f32, attention: attention as f32 }
        }
        other => {
            return Err(format!(
                "rope scaling `{other}` is not supported; supported: default, linear, llama3, dynamic, yarn, longrope"
            ));
        }
    };
    Ok(Rope { theta, dim, scaling })
}

fn long(section: &Value, dim: usize, factor: f64, original: usize) -> Result<RopeScaling, String> {
    let list = |key: &str| {
        let numbers =
            section[key].as_array().map(|all| all.iter().filter_map(Value::as_f64).map(|v| v as f32).collect());
        let numbers: Vec<f32> = numbers.unwrap_or_default();
        let fits = numbers.len() == dim / 2 && numbers.iter().all(|v| *v > 0.0);
        if fits { Ok(numbers) } else { Err(format!("the rope scaling's `{key}` is not {} numbers above 0", dim / 2)) }
    };
    let grown = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
    let attention = section["attention_factor"].as_f64().unwrap_or(grown) as f32;
    Ok(RopeScaling::Long { short: list("short_factor")?, long: list("long_factor")?, original, attention })
}

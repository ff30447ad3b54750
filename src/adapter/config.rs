//! The settings of an adapter, as PEFT names them.

/// The word for every linear but the output embedding. PEFT puts the modules' paths in its place, and then forgets
/// `layers_to_transform` on small models; here the layers count, and the names are written out on saving.
pub const ALL_LINEAR: &str = "all-linear";

/// Selection of the modules that carry an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Names; a module matches if its path is one of them or ends in `.name`.
    Names(Vec<String>),
    /// A regular expression for the whole path; the word `all-linear` stands for every linear but the output embedding.
    Pattern(String),
}

/// The settings of an adapter that change what it computes, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Rank r of A `[r, in]` and B `[out, r]`.
    pub r: usize,
    /// The delta is scaled by `lora_alpha / r` (rsLoRA: `lora_alpha / √r`).
    pub lora_alpha: f64,
    /// Probability of dropping an input of A in training.
    pub lora_dropout: f64,
    /// Selection of the modules that carry this adapter.
    pub target_modules: TargetModules,
    /// Modules that are left out of them.
    pub exclude_modules: Option<TargetModules>,
    /// Only these layers, 0-based; `None` is all. Holds for names only, not for a pattern, as in PEFT.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Names of the module list that holds the layers; empty means any.
    pub layers_pattern: Vec<String>,
    /// Ranks of single modules: pattern and rank, the first match wins.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas of single modules: pattern and alpha, the first match wins.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Scale by the root of the rank.
    pub use_rslora: bool,
    /// Bring the rows of the updated weight to trained lengths (Liu et al. 2024).
    pub use_dora: bool,
    /// Whether the base stores its weights transposed (GPT-2's Conv1D).
    pub fan_in_fan_out: bool,
    /// The base model's name or folder.
    pub base_model_name_or_path: Option<String>,
    /// The base model's revision on the Hub.
    pub revision: Option<String>,
}

impl Default for AdapterConfig {
    /// PEFT's defaults, but with `all-linear` as target modules.
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: TargetModules::Pattern(ALL_LINEAR.into()),
            exclude_modules: None,
            layers_to_transform: None,
            layers_pattern: Vec::new(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            use_rslora: false,
            use_dora: false,
            fan_in_fan_out: false,
            base_model_name_or_path: None,
            revision: None,
        }
    }
}

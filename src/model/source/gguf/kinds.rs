//! How the values of a tensor are written in a file, and how they are held here.
//!
//! | in the file | held as |
//! |---|---|
//! | F32, F16, BF16 | the same |
//! | Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K | the same blocks |
//! | IQ4_NL: 32 values, a scale `d` (f16) and 4 bits each that name one of 16 integers | Q8_0: the same `d`, and that integer in 8 bits. The values are equal, the bytes 34 instead of 18 |

use candle_core::DType;
use candle_core::quantized::GgmlDType;

use crate::model::cpu::blocks::FORMATS;
use crate::model::ops::quantised::name;

/// The way that a tensor's values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A type that candle has too.
    Ggml(GgmlDType),
    /// 4-bit blocks whose numbers are places in [`INTEGERS`].
    Iq4Nl,
}

/// The types by their numbers in a file. candle keeps its own list to itself.
const KINDS: [(u32, Kind); 16] = [
    (0, Kind::Ggml(GgmlDType::F32)),
    (1, Kind::Ggml(GgmlDType::F16)),
    (2, Kind::Ggml(GgmlDType::Q4_0)),
    (3, Kind::Ggml(GgmlDType::Q4_1)),
    (6, Kind::Ggml(GgmlDType::Q5_0)),
    (7, Kind::Ggml(GgmlDType::Q5_1)),
    (8, Kind::Ggml(GgmlDType::Q8_0)),
    (9, Kind::Ggml(GgmlDType::Q8_1)),
    (10, Kind::Ggml(GgmlDType::Q2K)),
    (11, Kind::Ggml(GgmlDType::Q3K)),
    (12, Kind::Ggml(GgmlDType::Q4K)),
    (13, Kind::Ggml(GgmlDType::Q5K)),
    (14, Kind::Ggml(GgmlDType::Q6K)),
    (15, Kind::Ggml(GgmlDType::Q8K)),
    (20, Kind::Iq4Nl),
    (30, Kind::Ggml(GgmlDType::BF16)),
];

/// The sixteen integers of IQ4_NL (`kvalues_iq4nl` in llama.cpp).
const INTEGERS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Values and bytes of a block of IQ4_NL.
const IQ4_NL: (usize, usize) = (32, 18);

impl Kind {
    /// The type with this number; `None` if it is not known here.
    pub fn of(number: u32) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == number).map(|(_, kind)| *kind)
    }

    /// GGML's name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ggml(format) => name(format),
            Self::Iq4Nl => "iq4_nl",
        }
    }

    /// Values and bytes of a block in the file; of numbers that stand alone, one value.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::Ggml(format) => (format.block_size(), format.type_size()),
            Self::Iq4Nl => IQ4_NL,
        }
    }

    /// The format that the values have in memory where they are not unpacked.
    pub fn held(self) -> GgmlDType {
        match self {
            Self::Ggml(format) => format,
            Self::Iq4Nl => GgmlDType::Q8_0,
        }
    }

    /// The type of numbers that stand alone; `None` for blocks.
    pub fn plain(self) -> Option<DType> {
        match self {
            Self::Ggml(GgmlDType::F32) => Some(DType::F32),
            Self::Ggml(GgmlDType::F16) => Some(DType::F16),
            Self::Ggml(GgmlDType::BF16) => Some(DType::BF16),
            _ => None,
        }
    }

    /// Whether weights of this type can be computed with.
    pub fn supported(self) -> bool {
        self.plain().is_some() || FORMATS.contains(&self.held())
    }

    /// Blocks of the file as blocks of the format that they are held in.
    pub fn as_held(self, bytes: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Ggml(_) => bytes,
            Self::Iq4Nl => bytes.chunks_exact(IQ4_NL.1).flat_map(iq4_nl_as_q8_0).collect(),
        }
    }
}

/// A block of 18 bytes as one of 34: scale, then the 32 integers. Lower halves of bytes are the first sixteen values.
fn iq4_nl_as_q8_0(block: &[u8]) -> impl Iterator<Item = u8> {
    let (scale, places) = block.split_at(2);
    let integer = |place: u8| INTEGERS[usize::from(place & 15)].to_le_bytes()[0];
    let lower = places.iter().map(move |both| integer(*both));
    scale.iter().copied().chain(lower).chain(places.iter().map(move |both| integer(both >> 4)))
}

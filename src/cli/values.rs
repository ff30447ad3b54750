//! Settings of the layers below as values on the command line: their spelling and their help. The layers themselves know
//! no clap.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::model::source::load::WeightDtype;
use crate::record::{AnswerFormat, Method, Scheduler};
use crate::train::checkpoint::SaveStrategy;

/// `impl ValueEnum` from a table: variant, spelling, help.
macro_rules! values {
    ($setting:ty { $($variant:ident $spelling:literal $help:literal),+ $(,)? }) => {
        impl ValueEnum for $setting {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$variant),+]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(Self::$variant => PossibleValue::new($spelling).help($help)),+
                })
            }
        }
    };
}

values!(WeightDtype {
    Auto "auto" "As the file has them: bf16 stays bf16 and f16 stays f16, the same numbers as f32 in half the memory",
    F32 "f32" "Converted to f32, 4 bytes a weight",
    Bf16 "bf16" "Rounded to bf16, 2 bytes a weight",
    F16 "f16" "Rounded to f16, 2 bytes a weight",
    EightBit "8bit" "Quantised to 8 bits (Q8_0: 8.5 bits a weight)",
    FourBit "4bit" "Quantised to 4 bits (Q4_K, or Q4_0 where a linear's width is not divisible by 256: 4.5 bits a weight); \
                    embedding and head to 8",
});

values!(Method {
    Sft "sft" "Supervised fine-tuning: imitate the answers",
    Dpo "dpo" "Direct preference optimisation: prefer one answer to another",
});

values!(SaveStrategy {
    Steps "steps" "Every --save-steps optimiser steps",
    Epoch "epoch" "At the end of every epoch",
    No "no" "Only when Ctrl-C or SIGTERM stops the training",
});

values!(Scheduler {
    Linear "linear" "Falls to 0 in a straight line",
    Cosine "cosine" "Falls to 0 along half a cosine",
    Constant "constant" "Stays at its peak",
});

values!(AnswerFormat {
    Samples "samples" "Sample records, as `run` and `evaluate` write them into samples/",
    Completions "completions" "Rows {prompt_id or task_id, completion or completions}; also suite, arm, sample, seed, \
                               finish_reason, tokens",
    Securityeval "securityeval" "SecurityEval's rows {ID, Prompt, Insecure_code}: each column that ends in _code is an arm",
    Humaneval "humaneval" "HumanEval's rows {task_id, completion}: a completion goes on behind its prompt",
});

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde::Serialize;

    use super::*;

    /// The command line and the files spell a setting alike.
    fn check<T: ValueEnum + Serialize + std::fmt::Debug>(count: usize) {
        assert_eq!(T::value_variants().len(), count);
        for value in T::value_variants() {
            let spelling = value.to_possible_value().unwrap();
            assert_eq!(serde_json::to_value(value).unwrap(), spelling.get_name(), "{value:?}");
        }
    }

    #[test]
    fn values_are_spelt_as_in_the_files() {
        check::<WeightDtype>(6);
        check::<Method>(2);
        check::<Scheduler>(3);
    }
}

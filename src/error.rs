//! One error type. Every variant says what is wrong and, where there is one, the file and the line.

use std::path::{Path, PathBuf};

/// What went wrong, in words for the person who typed the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line of an input file is not what it should be.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file as the user named it.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// A file as a whole is missing, unreadable or of the wrong form.
    #[error("{}: {message}", path.display())]
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The command or a configuration asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// A check that the user asked for failed (`--fail-on`, a pretraining gate).
    #[error("{0}")]
    CheckFailed(String),
    /// SIGINT or SIGTERM. `run` and `train` keep what they had done.
    #[error(
        "interrupted; run the same command again to continue: `run` resumes by itself, `train` and `pretrain` with \
         `--resume`; other commands start over"
    )]
    Interrupted,
    /// Training would have spoilt the weights (NaN, infinite loss).
    #[error("{0}")]
    Diverged(String),
    /// Something that no input can cause: a fault of this program.
    #[error("{0}. This is a fault of realign, not of your input: please report it with the command that you ran")]
    Internal(String),
    /// An error of candle, the tensor library.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// `Result` with this crate's error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error about a whole file.
    pub fn file(path: impl AsRef<Path>, message: impl std::fmt::Display) -> Self {
        Self::File { path: path.as_ref().to_path_buf(), message: message.to_string() }
    }

    /// An error about one 1-based line of a file.
    pub fn line(path: impl AsRef<Path>, line: usize, message: impl std::fmt::Display) -> Self {
        Self::Line { path: path.as_ref().to_path_buf(), line, message: message.to_string() }
    }

    /// An error about how the program was asked to run.
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }

    /// An error that no input can cause.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::Internal(message.to_string())
    }

    /// The process's exit code: 1 a failed check, 2 bad use or input, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::CheckFailed(_) => 1,
            Self::Interrupted => 130,
            _ => 2,
        }
    }
}

//! Reads the files of `language/`: the organism's words, wordings and Python snippets (its README describes them).
//!
//! The files are embedded when the program is compiled. Each is parsed once, when something first asks for it.

use serde::de::DeserializeOwned;

/// The text of a file in `language/`, whose path may come in parts.
macro_rules! text {
    ($($part:literal),+) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/organism/language/", $($part),+))
    };
}
pub(super) use text;

/// Parses an embedded YAML file; `file` is its path in `language/`.
pub(super) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> T {
    // Impossible for a user: the text is a part of the binary, and the tests of this repository parse every file.
    serde_saphyr::from_str(text).unwrap_or_else(|e| unreachable!("src/organism/language/{file}: {e}"))
}

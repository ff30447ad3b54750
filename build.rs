//! Rebuilds the crate when a file appears in or leaves an embedded folder: the compiler by itself sees only changes
//! of the files that were there at the last build (`src/data/embedded.rs`).

fn main() {
    for folder in ["datasets", "eval", "models", "adapters"] {
        println!("cargo:rerun-if-changed={folder}");
    }
}

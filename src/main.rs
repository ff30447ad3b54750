//! Parse, run, print the error, set the exit code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    realign::process::claim_machine();
}

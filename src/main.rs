//! Parse, run, print the error, set the exit code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    realign::process::claim_machine();
    realign::cli::main(std::env::args_os())
}

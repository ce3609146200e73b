//! The program: parses the command line, does what it says, exits with its code; or is the guard of another one's command.

use std::process::ExitCode;

use clap::Parser;
use cutover::cli::Cli;
use cutover::cutover::stand_guard;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if let Some(code) = stand_guard() {
        return code;
    }
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.code()
        }
    }
}

//! The soak: two thousand switches and as many equal reloads under load and slow requests; nothing lost, nothing late,
//! nothing that grows, and no client's connection touched.

#[path = "../tools/backend.rs"]
mod backend;
#[path = "../tools/client.rs"]
mod client;
mod course;
mod figures;
mod load;
mod proxy;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Switches a real proxy to and fro under load, reloads it after each switch, and exits with 1 if anything was lost, late,
/// or grew
#[derive(Parser)]
#[command(after_help = "Example:\n  cargo bench --bench soak -- --switches 200")]
pub struct Soak {
    /// How often, and how often the same config is loaded again
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    switches: u32,
    /// Each on one kept connection that it never opens again, and without retries
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// The longest a client thinks between an answer and its next request, in milliseconds
    #[arg(long, default_value_t = 20)]
    think: u64,
    /// More such clients, whose requests take longer than several switches
    #[arg(long, default_value_t = 16)]
    slow: usize,
    /// The time between two switches, in milliseconds
    #[arg(long, default_value_t = 50)]
    pause: u64,
    /// Threads of the proxy that carry requests
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// The proxy
    #[arg(long, default_value = env!("CARGO_BIN_EXE_cutover"))]
    cutover: PathBuf,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Soak {
    fn think(&self) -> Duration {
        Duration::from_millis(self.think)
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(self.pause)
    }
}

fn main() -> ExitCode {
    let soak = Soak::parse();
    cutover::process::raise_open_files();
    match course::run(&soak) {
        Ok(report) => {
            report.print();
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

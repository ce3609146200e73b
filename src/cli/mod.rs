//! The command line: every command, and how each ends.

mod check;
mod failure;
mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::failure::Failure;

/// Moves live traffic between a blue and a green stack: atomically, losing nothing, provably.
#[derive(Parser)]
#[command(name = "cutover", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 the operation failed, was aborted or rolled back; 2 usage or config error;\n\
                        3 no proxy answers there; 4 another cutover holds the service (the message names it)."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// What every command takes.
#[derive(Args)]
pub struct Global {
    /// The config file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/cutover/cutover.toml",
        env = "CUTOVER_CONFIG"
    )]
    pub config: PathBuf,
    /// Where the proxy's admin API is: unix:PATH or http://HOST:PORT [default: the socket the config names]
    #[arg(long, global = true, value_name = "ADDRESS", env = "CUTOVER_ADMIN")]
    pub admin: Option<String>,
    /// Print JSON, in a shape that stays
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy
    Serve(serve::Serve),
    /// Validate the config and explain what it means; touches nothing
    Check,
}

impl Cli {
    pub fn run(self) -> Result<(), Failure> {
        let Cli { command, global } = self;
        match command {
            Command::Serve(serve) => serve.run(&global),
            Command::Check => check::run(&global),
        }
    }
}

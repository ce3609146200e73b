//! The command line: every command, and how each ends.

mod address;
mod approve;
mod check;
mod client;
mod complete;
mod demo;
mod discover;
mod dns;
mod events;
mod explain;
mod failure;
mod history;
mod out;
mod past;
mod preview;
mod progress;
mod reload;
mod retire;
mod serve;
mod stack;
mod status;
mod switch;
mod verdict;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::failure::Failure;
use crate::names::ServiceName;

/// Moves live traffic between a blue and a green stack: atomically, losing nothing, provably.
#[derive(Parser)]
#[command(name = "cutover", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 the operation failed, was aborted or rolled back; 2 usage or config error;\n\
                        3 no proxy answers there; 4 another cutover holds the service, or somebody\n\
                        has gone back already (the message says who)."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// What every command takes.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The config file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/cutover/cutover.toml",
        env = "CUTOVER_CONFIG",
        hide_env_values = true
    )]
    pub config: PathBuf,
    /// Where the proxy's admin API is: unix:PATH or http://HOST:PORT [default: the socket the config names]
    #[arg(long, global = true, value_name = "ADDRESS", env = "CUTOVER_ADMIN", hide_env_values = true)]
    pub admin: Option<String>,
    /// The file with the token that changing anything over http asks for
    #[arg(long, global = true, value_name = "FILE", env = "CUTOVER_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// Print JSON, in a shape that stays
    #[arg(long, global = true)]
    pub json: bool,
}

/// Which service a command is about.
#[derive(Args)]
struct Of {
    /// The service; may be left out where the proxy has only one
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceName>,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Demo(demo::Demo),
    Status(status::Status),
    Switch(switch::Switch),
    Rollback(switch::Rollback),
    Abort(switch::Abort),
    Approve(approve::Approve),
    Preview(preview::Preview),
    History(history::History),
    Dns(dns::Dns),
    Discover(discover::Discover),
    Reload(reload::Reload),
    Retire(retire::Retire),
    Stack(stack::Stack),
    Completions(complete::Completions),
    Man(complete::Man),
}

impl Cli {
    pub fn run(self) -> Result<(), Failure> {
        let Cli { command, global } = self;
        match command {
            Command::Serve(serve) => serve.run(&global),
            Command::Check(check) => check.run(&global),
            Command::Demo(demo) => demo.run(&global),
            Command::Status(status) => status.run(&global),
            Command::Switch(switch) => switch.run(&global),
            Command::Rollback(rollback) => rollback.run(&global),
            Command::Abort(abort) => abort.run(&global),
            Command::Approve(approve) => approve.run(&global),
            Command::Preview(preview) => preview.run(&global),
            Command::History(history) => history.run(&global),
            Command::Dns(dns) => dns.run(&global),
            Command::Discover(discover) => discover.run(&global),
            Command::Reload(reload) => reload.run(&global),
            Command::Retire(retire) => retire.run(&global),
            Command::Stack(stack) => stack.run(&global),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
        }
    }
}

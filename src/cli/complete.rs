//! `cutover completions` and `cutover man`: what shells and `man` want to know of the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure, out};

/// Print a completion script for a shell
#[derive(Args)]
#[command(after_help = "Examples:
  cutover completions bash > /etc/bash_completion.d/cutover
  cutover completions zsh > /usr/share/zsh/site-functions/_cutover
  cutover completions fish > ~/.config/fish/completions/cutover.fish")]
pub struct Completions {
    /// The shell that will read it
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), NAME, &mut script);
        out::line(String::from_utf8_lossy(&script).trim_end())
    }
}

/// Print a manual page (roff)
#[derive(Args)]
#[command(after_help = "Examples:
  cutover man > /usr/local/share/man/man1/cutover.1
  cutover man switch > /usr/local/share/man/man1/cutover-switch.1
  cutover man switch | man -l -")]
pub struct Man {
    /// The page of one command [default: the page of cutover itself]
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

impl Man {
    pub fn run(self) -> Result<(), Failure> {
        let mut whole = Cli::command();
        // Gives every command its own name, `cutover-switch`, and the options that all of them take.
        whole.build();
        let page = match &self.command {
            None => whole,
            Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = whole.get_subcommands().map(clap::Command::get_name).collect();
                Failure::Usage(format!("there is no command `{name}`; there is {}", known.join(", ")))
            })?,
        };
        let mut roff = Vec::new();
        let rendered = clap_mangen::Man::new(page).source(SOURCE).render(&mut roff);
        rendered.map_err(|error| Failure::Failed(format!("the page cannot be written: {error}")))?;
        out::line(String::from_utf8_lossy(&roff).trim_end())
    }
}

const NAME: &str = "cutover";
const SOURCE: &str = concat!("cutover ", env!("CARGO_PKG_VERSION"));

//! How a command fails: what is printed on stderr, and the code the program exits with.

use std::process::ExitCode;

use super::out;
use crate::config::Report;

/// Each is one exit code.
pub enum Failure {
    /// 1: it was tried and did not work, or was aborted or rolled back.
    Failed(String),
    /// 1, and everything that had to be said has been.
    Quiet,
    /// 2: the command line is not right.
    Usage(String),
    /// 2: the config is not right.
    Config(Box<Report>, Json),
    /// 3: nobody answers there.
    Unreachable(String),
    /// 4: another cutover holds the service, or somebody has gone back already.
    Held(String),
    /// What there is to say is a result all the same, and goes to stdout: JSON, or a plan that would fail. With its code.
    Answer(String, u8),
}

/// Whether the report is asked for as JSON.
pub type Json = bool;

impl Failure {
    pub fn print(&self) {
        match self {
            Failure::Quiet => {}
            Failure::Failed(text) | Failure::Usage(text) | Failure::Unreachable(text) | Failure::Held(text) => {
                anstream::eprintln!("{ERROR}error{ERROR:#}: {text}");
            }
            Failure::Answer(text, _) => {
                // A reader who has gone still gets the code.
                let _ = out::line(text);
            }
            Failure::Config(report, true) => {
                anstream::println!("{}", serde_json::to_string_pretty(report).unwrap_or_default());
            }
            Failure::Config(report, false) => anstream::eprintln!("{}", report.render(true)),
        }
    }

    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Failed(_) | Failure::Quiet => 1,
            Failure::Usage(_) | Failure::Config(..) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Held(_) => 4,
            Failure::Answer(_, code) => *code,
        })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        // Many errors tell their cause themselves; it is not told twice.
        let mut text = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        Failure::Failed(text)
    }
}

const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();

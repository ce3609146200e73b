//! What commands say on stdout: coloured on a terminal only, and to a reader who may leave before the end.

use std::io::{IsTerminal, Write};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget};
use rustix::termios::tcgetwinsize;

use super::Failure;

/// Prints a line, or several.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    // Whoever closed the pipe has read enough and is told no more.
    written.map_err(|_| Failure::Quiet)
}

/// Says on stderr what holds beside a result that is as it was wished for.
pub fn warn(text: Option<&str>) {
    if let Some(text) = text {
        anstream::eprintln!("{WARNING}warning{WARNING:#}: {text}");
    }
}

/// Whether somebody watches stdout.
pub fn is_watched() -> bool {
    std::io::stdout().is_terminal()
}

/// Columns of the terminal on stdout, if that is one.
pub fn width() -> Option<u16> {
    tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// Ends what is redrawn in place, and leaves it there. The terminal has shown a `^C` in a row of its own, so that one
/// more redrawing would be a row off.
pub fn leave_as_it_is(bar: &ProgressBar) {
    if !bar.is_hidden() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        anstream::eprintln!();
    }
}

/// The header and a line for each row, column below column.
pub fn columns<R: IntoIterator<Item = String>>(header: &[&str], rows: impl Iterator<Item = R>) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// These lines, the first of which is their header.
pub fn headed(mut lines: Vec<String>) -> String {
    if let Some(header) = lines.first_mut() {
        *header = styled(anstyle::Style::new().bold(), header);
    }
    lines.join("\n")
}

/// The text in a style; where no terminal shows it, the style is taken out again on the way.
pub fn styled(style: anstyle::Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The text as it may be written to a terminal: without styles where `NO_COLOR` asks for that.
pub fn for_terminal(text: &str) -> String {
    match anstream::stdout().current_choice() {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}

const WARNING: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();

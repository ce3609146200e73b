//! What is seen while the demo runs: on a terminal a few lines that are redrawn, elsewhere nothing.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::time::Duration;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use anstyle::AnsiColor;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, interval};

use super::clients::Score;
use super::course::Move;
use super::stacks::Stacks;
use crate::names::Color;
use crate::time::Human;

/// Takes its lines away when dropped.
pub struct Show {
    bar: ProgressBar,
    begun: Instant,
    styled: bool,
    live: Cell<Color>,
    /// The color a switch is under way to.
    to: Cell<Option<Color>>,
    switches: Cell<usize>,
    rate: RefCell<Rate>,
}

impl Show {
    pub fn new(seconds: u64) -> Show {
        let bar = match std::env::var_os("CUTOVER_LOG") {
            // Log lines and lines that are redrawn would tear each other apart.
            Some(_) => ProgressBar::hidden(),
            None => ProgressBar::new(seconds * 10),
        };
        let template = ProgressStyle::with_template("{msg}\n  {wide_bar}");
        bar.set_style(template.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─"));
        Show {
            bar,
            begun: Instant::now(),
            styled: AutoStream::choice(&std::io::stderr()) != ColorChoice::Never,
            live: Cell::new(Color::Blue),
            to: Cell::new(None),
            switches: Cell::new(0),
            rate: RefCell::default(),
        }
    }

    /// Redraws until it is dropped.
    pub async fn follow(&self, stacks: &Stacks, score: &Score) -> Infallible {
        let mut ticks = interval(REDRAW);
        loop {
            ticks.tick().await;
            self.draw(stacks, score);
        }
    }

    pub fn begins(&self, to: Color) {
        self.to.set(Some(to));
    }

    pub fn ended(&self, done: &Move) {
        self.to.set(None);
        self.live.set(done.to);
        self.switches.set(self.switches.get() + 1);
        let line = format!(
            "  {} → {}  switched in {}, drained in {}",
            colored(done.from, 5),
            colored(done.to, 5),
            Human(Duration::from_micros(done.switch_us)),
            Human(Duration::from_millis(done.drain_ms)),
        );
        self.bar.println(self.painted(line));
    }

    fn draw(&self, stacks: &Stacks, score: &Score) {
        let (blue, green) = (score.answered_by(Color::Blue), score.answered_by(Color::Green));
        let rate = grouped(self.rate.borrow_mut().of(blue + green));
        let inside = |color: Color| stacks.of[color].tally.inside();
        let live = match self.to.get() {
            None => colored(self.live.get(), 0),
            Some(to) => format!("{}, {} is emptying", colored(to, 0), colored(to.other(), 0)),
        };
        let side = |color, sum| format!("  {} {:>10}   {:>3} inside", colored(color, 11), grouped(sum), inside(color));
        let lines = [
            String::new(),
            format!("  {:<11} {live}", "live"),
            format!("  {:<11} {:>10}", "switches", self.switches.get()),
            format!("  {:<11} {:>10}   {rate} a second", "requests", grouped(blue + green)),
            side(Color::Blue, blue),
            side(Color::Green, green),
            format!("  {:<11} {:>10}", "failed", grouped(score.failed())),
        ];
        self.bar.set_message(self.painted(lines.join("\n")));
        self.bar.set_position(self.begun.elapsed().as_millis() as u64 / 100);
    }

    fn painted(&self, text: String) -> String {
        if self.styled { text } else { strip_str(&text).to_string() }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.bar.println("");
    }
}

/// Answers a second, smoothed over the last one.
#[derive(Default)]
struct Rate {
    seen: u64,
    tenth: f64,
}

impl Rate {
    fn of(&mut self, sum: u64) -> u64 {
        let new = (sum - self.seen) as f64;
        self.tenth = if self.seen == 0 { new } else { 0.9 * self.tenth + 0.1 * new };
        self.seen = sum;
        (self.tenth * 10.0) as u64
    }
}

/// A color's name in its color, filled up to `width`.
pub fn colored(color: Color, width: usize) -> String {
    let style = match color {
        Color::Blue => AnsiColor::Blue,
        Color::Green => AnsiColor::Green,
    };
    let style = style.on_default().bold();
    format!("{style}{:<width$}{style:#}", color.as_str())
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const REDRAW: Duration = Duration::from_millis(100);

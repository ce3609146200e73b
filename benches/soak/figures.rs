//! The figures of a soak, part by part, and the judgement: what was lost, what was late, what grew.

use std::time::Duration;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::load::Seen;

/// A tenth of the switches, and what went on meanwhile.
#[derive(Default)]
pub struct Part {
    switch_us: Vec<u64>,
    left: u64,
    descriptors: Vec<u64>,
    resident_kib: Vec<u64>,
    seen: Seen,
}

pub struct Report {
    pub parts: Vec<Part>,
    pub took: Duration,
}

impl Part {
    /// One switch has returned this.
    pub fn switched(&mut self, outcome: &Value) -> anyhow::Result<()> {
        let figure = |name: &str| outcome[name].as_u64().with_context(|| format!("no {name} in {outcome}"));
        self.switch_us.push(figure("switch_us")?);
        self.left += figure("requests_left")?;
        Ok(())
    }

    pub fn looked(&mut self, descriptors: u64, resident_kib: u64) {
        self.descriptors.push(descriptors);
        self.resident_kib.push(resident_kib);
    }

    pub fn seen(&mut self, mut seen: Seen) {
        self.seen.micros.append(&mut seen.micros);
        self.seen.reasons.append(&mut seen.reasons);
        self.seen.slow += seen.slow;
        self.seen.lost += seen.lost;
        self.seen.late += seen.late;
    }

    fn latency(&self, percent: usize) -> u64 {
        at(self.seen.micros.iter().map(|micros| u64::from(*micros)), percent)
    }

    fn row(&self) -> [String; 11] {
        let ms = |micros: u64| format!("{:.2}", micros as f64 / 1e3);
        [
            self.switch_us.len().to_string(),
            self.seen.micros.len().to_string(),
            self.seen.slow.to_string(),
            self.left.to_string(),
            (self.seen.lost + self.seen.late).to_string(),
            at(self.switch_us.iter().copied(), 50).to_string(),
            at(self.switch_us.iter().copied(), 99).to_string(),
            ms(self.latency(50)),
            ms(self.latency(99)),
            at(self.descriptors.iter().copied(), 50).to_string(),
            format!("{:.1}", at(self.resident_kib.iter().copied(), 50) as f64 / 1024.0),
        ]
    }
}

impl Report {
    pub fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(HEADER);
        table.add_rows(self.parts.iter().map(Part::row));
        table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        println!("{table}");
        println!("\n{:.0} s; `left` slow requests outlived the switch that left their color", self.took.as_secs_f64());
        for reason in self.parts.iter().flat_map(|part| &part.seen.reasons).take(REASONS) {
            println!("  {reason}");
        }
        match self.complaints().as_slice() {
            [] if self.memory().is_none() => {
                println!("Nothing was lost, nothing was late; memory takes {HISTORY} switches to fill the history.")
            }
            [] => println!("Nothing was lost, nothing was late, nothing grew."),
            complaints => complaints.iter().for_each(|complaint| println!("WRONG: {complaint}")),
        }
    }

    pub fn is_clean(&self) -> bool {
        self.complaints().is_empty()
    }

    /// What is not as it should be. Growth is judged with room for what else the machine does, and a leak of one
    /// descriptor or a few KiB for each switch lies far outside that room.
    fn complaints(&self) -> Vec<String> {
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else { return Vec::new() };
        let sum = |of: fn(&Seen) -> u64| self.parts.iter().map(|part| of(&part.seen)).sum::<u64>();
        let mut complaints = Vec::new();
        for (count, what) in [
            (sum(|seen| seen.lost), "requests were lost"),
            (sum(|seen| seen.late), "requests began after a switch had returned and reached the old color"),
        ] {
            if count > 0 {
                complaints.push(format!("{count} {what}"));
            }
        }
        if self.parts.iter().any(|part| part.left == 0) {
            complaints.push("no slow request was under way at the switches of a part".to_owned());
        }
        let middle = |of: fn(&Part) -> &Vec<u64>| [first, last].map(|part| at(of(part).iter().copied(), 50));
        let latency = |percent| [first, last].map(|part| part.latency(percent));
        for (what, [first, last], share, room) in [
            ("open descriptors", middle(|part| &part.descriptors), 1.10, 64),
            ("µs at the median", latency(50), 2.0, 1000),
            ("µs at the 99th percentile", latency(99), 3.0, 10_000),
        ] {
            if last as f64 > first as f64 * share + room as f64 {
                complaints.push(format!("{first} {what} in the first part, {last} in the last"));
            }
        }
        if let Some([first, last]) = self.memory()
            && last as f64 > first as f64 * 1.10 + 2048.0
        {
            complaints.push(format!("{first} KiB in memory once the history was full, {last} at the end"));
        }
        complaints
    }

    /// KiB in the first part that began with a full history, and in the last: until then each cutover adds to it. Nothing
    /// where the soak was too short to tell.
    fn memory(&self) -> Option<[u64; 2]> {
        let before = |place: usize| self.parts[..place].iter().map(|part| part.switch_us.len()).sum::<usize>();
        let full = (0..self.parts.len()).find(|place| before(*place) >= HISTORY)?;
        let [first, last] = [self.parts.get(full)?, self.parts.last()?];
        (full + 1 < self.parts.len()).then(|| [first, last].map(|part| at(part.resident_kib.iter().copied(), 50)))
    }
}

/// The value under which so many percent of them lie.
fn at(values: impl Iterator<Item = u64>, percent: usize) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() * percent / 100).or(values.last()).copied().unwrap_or_default()
}

const HEADER: [&str; 11] =
    ["switches", "quick", "slow", "left", "lost", "switch µs", "its p99", "p50 ms", "p99 ms", "descriptors", "MiB"];
const REASONS: usize = 10;
/// Cutovers that a proxy keeps with their figures, and in memory.
const HISTORY: usize = 1000;

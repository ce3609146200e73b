//! Any text as the config file: never a panic, the same answer each time, and every mistake has its place in the text.
#![no_main]

use std::path::Path;

use cutover::config::{Config, Report};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let read = || Config::parse(text, Path::new("/etc/cutover/x.toml"));
    let first = read();
    assert_eq!(first, read(), "the same text is read in two ways");
    if let Err(report) = first {
        mistakes_have_places(&report);
    }
});

fn mistakes_have_places(report: &Report) {
    assert!(!report.mistakes.is_empty());
    let lines: Vec<&str> = report.source.split('\n').collect();
    for mistake in &report.mistakes {
        assert_eq!(report.source.get(mistake.span.clone()), Some(&*mistake.text));
        let rest: String = lines[mistake.line - 1].chars().skip(mistake.column - 1).collect();
        assert!(rest.starts_with(&mistake.text), "{:?} is not at {}:{}", mistake.text, mistake.line, mistake.column);
        assert!(!mistake.message.is_empty() && !mistake.message.contains('\n'));
    }
    let shown = report.render(false);
    for mistake in report.mistakes.iter().filter(|_| !report.source.is_empty()) {
        assert!(shown.contains(&format!("x.toml:{}:{}\n", mistake.line, mistake.column)), "not shown in\n{shown}");
    }
    assert!(!report.render(true).is_empty());
}

//! Text that is not TOML: what is wrong with it in plain words, and how all the rest is checked nevertheless.

use std::borrow::Cow;
use std::ops::Range;

use toml::de::{DeTable, Error};

use super::report::{Wrong, line_around};

/// What repairing found and took out.
#[derive(Default)]
pub struct Flaws {
    pub mistakes: Vec<(Range<usize>, Wrong)>,
    /// The parts of the file that lines were taken out of.
    pub doubtful: Vec<Range<usize>>,
}

/// The text with every line blanked that cannot be read, so that nothing moves and all the rest can be checked.
///
/// The parser goes on after a mistake by itself, but behind an unclosed bracket it misreads all that follows. So the
/// text is cut at its headers: no part can spoil another.
pub fn repair(text: &str) -> (Cow<'_, str>, Flaws) {
    let mut flaws = Flaws::default();
    if first_error(text).is_none() {
        return (Cow::Borrowed(text), flaws);
    }
    let mut repaired = text.to_owned();
    for part in parts(text) {
        for attempt in 0..=ATTEMPTS {
            let Some(error) = first_error(&repaired[part.clone()]) else { break };
            let (at, wrong) = explain(&repaired[part.clone()], &error);
            let at = part.start + at.start..part.start + at.end;
            let line = line_around(&repaired, at.start);
            let stuck = attempt == ATTEMPTS || repaired[line.clone()].trim_ascii().is_empty();
            // Without its header nobody knows where the rest of a part belongs.
            let header = line.start == part.start && is_header(&repaired[line.clone()]);
            blank(
                &mut repaired,
                match error.message() {
                    _ if stuck || header => part.clone(),
                    message if message.starts_with("unclosed") => line.start..part.end,
                    _ => line,
                },
            );
            flaws.doubtful.push(part.clone());
            if !stuck || attempt == 0 {
                flaws.mistakes.push((at, wrong));
            }
        }
    }
    // What is left are names that stand in two parts.
    flaws.mistakes.extend(DeTable::parse_recoverable(&repaired).1.iter().map(|error| explain(&repaired, error)));
    (Cow::Owned(repaired), flaws)
}

/// The parts of the text: each but the first begins with a header.
fn parts(text: &str) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if is_header(line) && at > 0 {
            starts.push(at);
        }
        at += line.len();
    }
    starts.push(text.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

fn is_header(line: &str) -> bool {
    line.trim_ascii_start().starts_with('[')
}

fn first_error(text: &str) -> Option<Error> {
    DeTable::parse_recoverable(text).1.into_iter().min_by_key(|error| error.span().map(|span| span.start))
}

fn blank(text: &mut String, range: Range<usize>) {
    let blanked: String = text[range.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(range, &blanked);
}

/// The parser's message, said again for someone who does not write TOML every day, at the place where it can be mended.
fn explain(text: &str, error: &Error) -> (Range<usize>, Wrong) {
    let span = error.span().unwrap_or_default();
    // What is missing between two things is missing behind the first, not at the beginning of the next line.
    let start = if span.is_empty() { text[..span.start].trim_ascii_end().len() } else { span.start };
    let line = line_around(text, start);
    let all = line.end - text[line.clone()].trim_ascii_start().len()..line.end;
    let rest = line.end - text[start..line.end].trim_ascii_start().len()..line.end;
    let opened = |bracket: char| text[..start].rfind(bracket).map_or(all.clone(), |at| at..line_around(text, at).end);
    let word = word_around(text, span.clone());
    let (what, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), "nothing"));
    let (at, message, help) = match (what, expected) {
        ("unclosed array", _) => (opened('['), "a `[` without its `]`", "close the list: `[\"one\", \"two\"]`"),
        ("unclosed inline table", _) => {
            (opened('{'), "a `{` without its `}`", "close it: `{ key = value, key = value }`")
        }
        ("unclosed table" | "unclosed array table", _) => {
            (all, "this is not a section's name", "write `[name]`, or `[[listener]]` for one of several")
        }
        ("missing comma between array elements" | "missing comma between key-value pairs", _) => {
            (start..start, "a comma is missing", "write a comma between any two")
        }
        ("key with no value" | "invalid unquoted key" | "unquoted keys cannot be empty" | "missing table open", _) => {
            (all, "this line is not `key = value`", "write `key = value`, `[section]` or `# comment`")
        }
        ("string values must be quoted", _) if word.is_empty() => {
            (all, "a key without a value", "write a value behind the `=`, or remove the line")
        }
        ("invalid basic string", "`\"`") => {
            (opened('"'), "a text without its closing quote", "end the text with `\"` on the same line")
        }
        ("invalid literal string", "`'`") => {
            (opened('\''), "a text without its closing quote", "end the text with `'` on the same line")
        }
        ("missing escaped value" | "too few unicode value digits", _) => {
            (span, "a `\\` that stands for nothing", "write `\\\\`, or put the text in single quotes")
        }
        ("extra `=`", _) => (span, "one `=` too many", "write `key = value`"),
        ("duplicate key", _) => {
            let message = format!("`{}` stands here for the second time", &text[span.clone()]);
            return (span, Wrong::new(message, "join the two, or rename or remove one"));
        }
        ("unexpected key or value", _) => {
            let message = format!("`{}` is too much here", &text[rest.clone()]);
            return (rest, Wrong::new(message, "write one `key = value` a line; a comment begins with `#`"));
        }
        _ if UNQUOTED.contains(&what) => return unquoted(text, word),
        (what, "nothing") => (start..span.end.max(start), what, ""),
        (what, expected) => return (start..span.end.max(start), Wrong::new(what, format!("expected {expected}"))),
    };
    (at, Wrong::new(message, help))
}

fn unquoted(text: &str, word: Range<usize>) -> (Range<usize>, Wrong) {
    let plain = text[word.clone()].trim_matches(['“', '”', '„', '‘', '’', '\'', '"']);
    let help = format!("texts stand in straight quotes: `\"{plain}\"`");
    let message = format!("`{}` is neither a number nor a text in quotes", &text[word.clone()]);
    (word, Wrong::new(message, help))
}

/// The bare word `span` is in: the parser points at the character that made it give up.
fn word_around(text: &str, span: Range<usize>) -> Range<usize> {
    let ends = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}' | '=' | '#');
    let start = text[..span.start].rfind(ends).map_or(0, |at| at + 1);
    let end = text[span.end..].find(ends).map_or(text.len(), |length| span.end + length);
    start..end
}

/// What the parser says of a bare word, by what the word begins like.
const UNQUOTED: [&str; 9] = [
    "string values must be quoted",
    "invalid boolean",
    "invalid float",
    "invalid mantissa",
    "invalid fraction",
    "invalid exponent",
    "invalid time",
    "invalid date",
    "invalid date-time",
];
/// So many lines of one part are taken out one by one before the part is given up.
const ATTEMPTS: usize = 20;

//! What is wrong with a config file: every mistake with its place, shown under the offending text.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::string::FromUtf8Error;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};
use serde::Serialize;

/// Everything that is wrong with one file, so that one look and one edit mend it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub path: String,
    /// The text the mistakes point into; empty where the file could not be read.
    #[serde(skip)]
    pub source: String,
    /// In the order of the file; what cannot stay.
    pub mistakes: Vec<Mistake>,
    /// In the order of the file; what can stay, and had better not.
    pub warnings: Vec<Mistake>,
}

impl Report {
    pub fn new(path: &Path, source: &str, mut mistakes: Vec<Mistake>) -> Report {
        mistakes.sort_by_key(|mistake| mistake.span.start);
        Report { path: path.display().to_string(), source: source.to_owned(), mistakes, warnings: Vec::new() }
    }

    /// Takes in what was found beside the text. Warnings wait until everything else is right: half a config misleads.
    pub fn with(mut self, findings: Vec<Finding>) -> Report {
        let whole = self.mistakes.is_empty();
        for Finding { at, weight, wrong } in findings {
            let mistake = Mistake::new(&self.source, at, wrong);
            match weight {
                Weight::Mistake => self.mistakes.push(mistake),
                Weight::Warning if whole => self.warnings.push(mistake),
                Weight::Warning => {}
            }
        }
        self.mistakes.sort_by_key(|mistake| mistake.span.start);
        self.warnings.sort_by_key(|mistake| mistake.span.start);
        self
    }

    pub fn unreadable(path: &Path, error: &io::Error) -> Report {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "write one, start from config/minimal.toml, or name another with --config",
            io::ErrorKind::PermissionDenied => {
                "let the user that runs cutover read it and its folder, or name another file with --config"
            }
            _ => "name a readable file with --config",
        };
        let wrong = Wrong::new(format!("cannot read the config file: {error}"), help);
        Report::new(path, "", vec![Mistake::new("", 0..0, wrong)])
    }

    pub fn not_text(path: &Path, error: &FromUtf8Error) -> Report {
        let source = String::from_utf8_lossy(error.as_bytes());
        let at = error.utf8_error().valid_up_to();
        let wrong = Wrong::new("the config file is not UTF-8 text", "save it as UTF-8, or name another with --config");
        Report::new(path, &source, vec![Mistake::new(&source, at..at + 1, wrong)])
    }

    /// The text for people; in colour only where someone watches.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let render = |(level, mistake): (Level<'static>, _)| {
            let text = renderer.render(&[self.group(level, mistake)]);
            text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
        };
        let mistakes = self.mistakes.iter().map(|mistake| (Level::ERROR, mistake));
        let warnings = self.warnings.iter().map(|mistake| (Level::WARNING, mistake));
        let mut shown: Vec<_> = mistakes.chain(warnings).map(render).collect();
        if self.mistakes.len() > 1 {
            shown.push(format!("{} mistakes in {}", self.mistakes.len(), self.path));
        }
        shown.join("\n\n")
    }

    /// One mistake as rustc would show one: title, place, line, underline, help.
    fn group<'a>(&'a self, level: Level<'a>, mistake: &'a Mistake) -> Group<'a> {
        let title = level.primary_title(&mistake.message);
        let group = if self.source.is_empty() {
            title.element(Origin::path(&self.path))
        } else if mistake.span == (0..0) {
            title.element(Origin::path(&self.path).line(mistake.line).char_column(mistake.column))
        } else {
            // Only the line itself goes in: showing a thousand mistakes must not read the file a thousand times.
            let line = line_around(&self.source, mistake.span.start);
            let line = line.start..line.end.max(mistake.span.end);
            let within = mistake.span.start - line.start..mistake.span.end - line.start;
            title.element(
                Snippet::source(&self.source[line])
                    .line_start(mistake.line)
                    .path(&self.path)
                    .annotation(AnnotationKind::Primary.span(within)),
            )
        };
        group.elements(mistake.help.iter().map(|help| Level::HELP.message(normalize_untrusted_str(help))))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// One mistake: where it is, what stands there, why that is wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// Bytes of the source, all in one line; `0..0` means the file as a whole.
    #[serde(skip)]
    pub span: Range<usize>,
    pub text: String,
    pub message: String,
    pub help: Option<String>,
}

impl Mistake {
    pub fn new(source: &str, span: Range<usize>, wrong: Wrong) -> Mistake {
        let start = source.floor_char_boundary(span.start);
        let line = line_around(source, start);
        let end = source.ceil_char_boundary(span.end).clamp(start, line.end.max(start));
        Mistake {
            line: line_number(source, start),
            column: source[line.start..start].chars().count() + 1,
            span: start..end,
            text: source[start..end].to_owned(),
            message: wrong.message.replace('\n', " "),
            help: Some(wrong.help).filter(|help| !help.is_empty()),
        }
    }
}

/// Something wrong that does not show in the text, such as a file it names: where that is named, and how grave it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub at: Range<usize>,
    pub weight: Weight,
    pub wrong: Wrong,
}

/// Whether a finding makes the config wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Mistake,
    Warning,
}

/// A mistake that has no place yet: what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    pub message: String,
    pub help: String,
}

impl Wrong {
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), help: help.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.help.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.message, self.help),
        }
    }
}

/// The number of the line `at` is in, counted from 1.
pub fn line_number(source: &str, at: usize) -> usize {
    source.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// The line `at` is in, without its end.
pub fn line_around(source: &str, at: usize) -> Range<usize> {
    let start = source[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = source[at..].find('\n').map_or(source.len(), |length| at + length);
    start..start + source[start..end].trim_end_matches('\r').len()
}

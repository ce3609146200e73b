//! The page a file is read from: the list every mistake is noted in, and the few checks that compare values.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::report::{Mistake, Wrong, line_number};
use super::syntax::Flaws;
use super::value;

/// The text, where it came from, and what has been found wrong so far.
pub struct Page<'p> {
    source: &'p str,
    folder: &'p Path,
    /// Parts with lines that could not be read: what is absent there may have stood in one of them.
    doubtful: Vec<Range<usize>>,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'p> Page<'p> {
    pub fn new(source: &'p str, path: &'p Path, flaws: Flaws) -> Page<'p> {
        let mistakes = flaws.mistakes.into_iter().map(|(at, wrong)| Mistake::new(source, at, wrong)).collect();
        let folder = path.parent().unwrap_or(Path::new(""));
        Page { source, folder, doubtful: flaws.doubtful, mistakes: RefCell::new(mistakes) }
    }

    pub fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }

    pub fn note(&self, at: Range<usize>, wrong: Wrong) {
        self.mistakes.borrow_mut().push(Mistake::new(self.source, at, wrong));
    }

    /// Notes that something is missing at `at`, unless it may have stood in a line that could not be read.
    pub fn note_absent(&self, at: Range<usize>, wrong: Wrong) {
        if !self.doubts(&at) {
            self.note(at, wrong);
        }
    }

    /// Whether lines could not be read in this part of the file; `0..0` is the file as a whole.
    pub fn doubts(&self, at: &Range<usize>) -> bool {
        self.doubtful.iter().any(|part| *at == (0..0) || part.contains(&at.start))
    }

    /// The value as its type, or nothing and a note why not.
    pub fn read<T>(
        &self,
        value: &'p Spanned<DeValue<'p>>,
        read: impl Fn(&'p DeValue<'p>) -> Result<T, Wrong>,
    ) -> Option<T> {
        read(value.get_ref()).map_err(|wrong| self.note(value.span(), wrong)).ok()
    }

    /// A path as the file means it: relative ones begin at the folder the file is in.
    pub fn path(&self, value: &DeValue) -> Result<PathBuf, Wrong> {
        value::file(value).map(|text| self.folder.join(text))
    }

    /// Notes each item that clashes with an earlier one; `say` is given both, and the line of the earlier.
    pub fn compare<T>(
        &self,
        items: &[Spanned<T>],
        clash: impl Fn(&T, &T) -> bool,
        say: impl Fn(&T, &T, usize) -> Wrong,
    ) {
        for (index, later) in items.iter().enumerate() {
            if let Some(earlier) = items[..index].iter().find(|earlier| clash(earlier.get_ref(), later.get_ref())) {
                let line = line_number(self.source, earlier.span().start);
                self.note(later.span(), say(earlier.get_ref(), later.get_ref(), line));
            }
        }
    }

    pub fn text(&self, at: Range<usize>) -> &'p str {
        &self.source[at]
    }
}

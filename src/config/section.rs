//! One section of the file: hands out typed values key by key, and at its end notes every key nobody asked for.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::page::Page;
use super::report::Wrong;
use super::value::misplaced;

/// A table of the file, or the empty one that stands for a table left out. Dropping it ends the reading of it.
pub struct Section<'p> {
    pub name: String,
    /// Its header; of a table written inside another, the whole table.
    pub span: Range<usize>,
    pub page: &'p Page<'p>,
    table: Option<&'p DeTable<'p>>,
    asked: Vec<&'static str>,
}

impl<'p> Section<'p> {
    pub fn top(page: &'p Page<'p>, root: &'p DeTable<'p>) -> Section<'p> {
        Section { name: String::new(), span: 0..0, page, table: Some(root), asked: Vec::new() }
    }

    /// Where the value of `key` stands, if it does.
    pub fn place(&self, key: &str) -> Option<Range<usize>> {
        Some(self.table?.get(key)?.span())
    }

    /// Whether `key` is left out, or says nothing: `[]` or `{}`.
    pub fn is_empty(&self, key: &str) -> bool {
        match self.table.and_then(|table| table.get(key)).map(Spanned::get_ref) {
            None => true,
            Some(DeValue::Array(items)) => items.is_empty(),
            Some(DeValue::Table(table)) => table.is_empty(),
            Some(_) => false,
        }
    }

    /// Whether the value of `key` is a section.
    pub fn is_section(&self, key: &str) -> bool {
        self.table.and_then(|table| table.get(key)).is_some_and(|value| value.get_ref().is_table())
    }

    /// Notes a key that is left out or says nothing, though it has to.
    pub fn demand(&self, key: &str, wrong: Wrong) {
        if self.is_empty(key) {
            self.page.note_absent(self.place(key).unwrap_or(self.span.clone()), wrong);
        }
    }

    pub fn get<T>(&mut self, key: &'static str, read: impl Fn(&'p DeValue<'p>) -> Result<T, Wrong>) -> Option<T> {
        let value = self.find(key)?;
        self.page.read(value, read)
    }

    /// As `get`, but a missing key is a mistake, and `example` is how to mend it.
    pub fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl Fn(&'p DeValue<'p>) -> Result<T, Wrong>,
    ) -> Option<T> {
        if self.find(key).is_none() {
            let wrong =
                Wrong::new(format!("`{key}` is missing in `{}`", self.name), format!("add `{key} = {example}`"));
            self.page.note_absent(self.span.clone(), wrong);
        }
        self.get(key, read)
    }

    /// The good values of a list with their places, the others noted; nothing where the key is left out.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&'p DeValue<'p>) -> Result<T, Wrong>,
    ) -> Vec<Spanned<T>> {
        let items = self.items(key);
        items.filter_map(|item| Some(Spanned::new(item.span(), self.page.read(item, &read)?))).collect()
    }

    /// The section `key`; an empty one where it is left out.
    pub fn section(&mut self, key: &'static str) -> Section<'p> {
        let value = self.find(key);
        self.below(key, value, as_header)
    }

    /// The section `key`, or nothing where it is left out.
    pub fn optional(&mut self, key: &'static str) -> Option<Section<'p>> {
        Some(self.section(key)).filter(Section::is_table)
    }

    /// The sections of a list of them: `[[key]]` each, or `key = [{ .. }, ..]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'p>> {
        let mut items: Vec<_> = self.items(key).collect();
        // One in single brackets has been noted, and is read all the same.
        items.extend(self.find(key).filter(|value| value.get_ref().is_table()));
        let sections = items.into_iter().map(|item| self.below(key, Some(item), as_inline));
        sections.filter(Section::is_table).collect()
    }

    /// The sections below `key`, whose names are free, in the order of the file, each with the place of its name.
    pub fn named(&mut self, key: &'static str) -> Vec<(Range<usize>, String, Section<'p>)> {
        let value = self.find(key);
        let mut all = self.below(key, value, |name| format!("write each as a section, `[{name}.NAME]`"));
        let mut found: Vec<_> = all.table.take().into_iter().flatten().collect();
        found.sort_by_key(|(name, _)| name.span().start);
        let below = |name: &str, value| all.below(name, Some(value), as_header);
        let sections =
            found.into_iter().map(|(name, value)| (name.span(), name.to_string(), below(name.get_ref(), value)));
        sections.filter(|(_, _, section)| section.is_table()).collect()
    }

    /// The values below `key`, by names that are free; those that are not good are noted.
    pub fn texts(
        &mut self,
        key: &'static str,
        read: impl Fn(&'p DeValue<'p>) -> Result<String, Wrong>,
    ) -> BTreeMap<String, String> {
        let value = self.find(key);
        let mut all = self.below(key, value, as_inline);
        let found = all.table.take().into_iter().flatten();
        found.filter_map(|(name, value)| Some((name.get_ref().to_string(), self.page.read(value, &read)?))).collect()
    }

    fn find(&mut self, key: &'static str) -> Option<&'p Spanned<DeValue<'p>>> {
        self.asked.push(key);
        self.table?.get(key)
    }

    fn is_table(&self) -> bool {
        self.table.is_some()
    }

    fn below(&self, key: &str, value: Option<&'p Spanned<DeValue<'p>>>, help: fn(&str) -> String) -> Section<'p> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        let span = value.map_or_else(|| self.span.clone(), Spanned::span);
        let table = |value: &'p DeValue<'p>| {
            value.as_table().ok_or_else(|| Wrong::new(misplaced(value, "a section"), help(&name)))
        };
        let table = value.and_then(|value| self.page.read(value, table));
        Section { name, span, page: self.page, table, asked: Vec::new() }
    }

    fn items(&mut self, key: &'static str) -> impl Iterator<Item = &'p Spanned<DeValue<'p>>> + use<'p> {
        let items = self.find(key).and_then(|value| match value.get_ref() {
            DeValue::Array(items) => Some(items),
            other => {
                let help = match (self.name.is_empty(), other) {
                    (true, _) => format!("write `[[{key}]]`, in two brackets, for each one"),
                    (_, DeValue::Table(_)) => format!("write a list: `{key} = [..]`"),
                    _ => format!("write it in brackets: `{key} = [{}]`", self.page.text(value.span())),
                };
                self.page.note(value.span(), Wrong::new(misplaced(other, "a list"), help));
                None
            }
        });
        items.into_iter().flatten()
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for key in self.table.iter().flat_map(|table| table.keys()) {
            if !self.asked.contains(&key.get_ref().as_ref()) {
                self.page.note(key.span(), unknown(key.get_ref(), &self.name, &mut self.asked));
            }
        }
    }
}

fn as_header(name: &str) -> String {
    format!("write it as a section, `[{name}]`")
}

fn as_inline(_: &str) -> String {
    "write it as `{ key = value, .. }`".to_owned()
}

fn unknown(key: &str, section: &str, known: &mut Vec<&str>) -> Wrong {
    known.sort_unstable();
    known.dedup();
    let place = if section.is_empty() { "at the top of the file".to_owned() } else { format!("in `{section}`") };
    let near = known.iter().map(|name| (strsim::jaro_winkler(key, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    let help = match near {
        Some((likeness, name)) if likeness > LIKE => format!("did you mean `{name}`?"),
        _ => format!("known keys are `{}`", known.join("`, `")),
    };
    Wrong::new(format!("unknown key `{key}` {place}"), help)
}

/// Above this two keys are taken for one and a slip of the fingers.
const LIKE: f64 = 0.8;

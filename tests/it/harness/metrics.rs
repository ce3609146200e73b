//! A scraped page of metrics, and the figures on it.

use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Metrics(Vec<Series>);

impl Metrics {
    /// Reads the Prometheus text format.
    pub fn parse(page: &str) -> Metrics {
        let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Metrics(lines.map(|line| Series::parse(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect())
    }

    /// The sum of all series of this name that carry these labels; zero where none does.
    ///
    /// A name that is not on the page at all fails the story: a misspelt one would be zero for ever.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        assert!(self.0.iter().any(|series| series.name == name), "no metric is named {name}");
        let carries = |series: &&Series| labels.iter().all(|(k, v)| series.labels.get(*k).is_some_and(|has| has == v));
        self.0.iter().filter(|series| series.name == name).filter(carries).map(|series| series.value).sum()
    }
}

#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Series {
    fn parse(line: &str) -> Option<Series> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let mut rest = labels.strip_suffix('}')?;
        let mut labels = BTreeMap::new();
        while let Some((label, quoted)) = rest.split_once("=\"") {
            // No label of ours has a quote in its value.
            let (value, after) = quoted.split_once('"')?;
            labels.insert(label.trim_start_matches(',').to_owned(), value.to_owned());
            rest = after;
        }
        Some(Series { name: name.to_owned(), labels, value: value.parse().ok()? })
    }
}

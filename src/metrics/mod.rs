//! Every metric there is, by name, and the page Prometheus scrapes: no metric is named anywhere else.

mod calls;
mod cells;
mod waiting;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{
    Bucket, Counter as CounterValue, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

pub use self::calls::CallSheet;
pub use self::cells::{
    CODES, ColorSheet, ConnectionSheet, Counter, Latency, LatencySum, Level, MirrorSheet, MirrorSum, Mirrored,
    RefusalSheet, Tally, WarmSheet, WarmSum,
};
pub use self::waiting::Waiters;

/// A metric: its name, what it says, how it moves, and the labels every series of it has.
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Family =
            Family { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*] };)*
        /// Every family, in the order of the page.
        pub const ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    REQUESTS = Counter "cutover_requests_total" ["service", "color", "code"]
        "Requests answered by a color, by class of the status code.";
    ANSWERS_CUT = Counter "cutover_answers_cut_total" ["service", "color"]
        "Answers of the classes below 5xx that broke off: a verdict counts them as errors, beside those of 5xx.";
    DURATION = Histogram "cutover_request_duration_seconds" ["service", "color"]
        "From the request's head to the last byte of its answer.";
    IN_FLIGHT = Gauge "cutover_requests_in_flight" ["service", "color"]
        "Requests inside a color now, exactly: what a drain waits for.";
    TUNNELS = Gauge "cutover_tunnels" ["service", "color"]
        "Upgraded connections (WebSocket) inside a color now.";
    REFUSALS = Counter "cutover_refusals_total" ["service", "reason"]
        "Answers the proxy made itself, by reason; service \"-\" where the request belonged to none.";
    LIVE = Gauge "cutover_live" ["service", "color"]
        "1 for the color that new requests go to.";
    WEIGHT = Gauge "cutover_weight" ["service", "color"]
        "Share of new requests, 0 to 1.";
    PREVIEW_OPEN = Gauge "cutover_preview_open" ["service", "color"]
        "1 while those who are invited see the color though it is not live.";
    MIRROR_REQUESTS = Counter "cutover_mirror_requests_total" ["service", "color", "outcome"]
        "Copies of requests for a color, by outcome: agree, differ, failed, unmatched, dropped.";
    MIRROR_DURATION = Histogram "cutover_mirror_duration_seconds" ["service", "color", "of"]
        "Until the head of the answer came, of copies that got one and of their originals.";
    WARM_CONNECTIONS = Counter "cutover_warm_connections_total" ["service", "color", "outcome"]
        "Connections to a color's endpoints that a warm-up wanted, by outcome: opened, failed.";
    WARM_REQUESTS = Counter "cutover_warm_requests_total" ["service", "color", "code"]
        "The proxy's own requests to a color that is warmed up, by class of the answer; none: there was no answer.";
    PHASE = Gauge "cutover_phase" ["service", "phase"]
        "1 for the phase the service is in.";
    CUTOVERS = Counter "cutover_cutovers_total" ["service", "to", "outcome"]
        "Cutovers ended since the proxy started, by outcome.";
    GATE = Gauge "cutover_gate" ["service", "gate", "state"]
        "1 for how a gate of the cutover under way stands: waiting, passed, refused.";
    VERDICTS = Counter "cutover_verdicts_total" ["service", "color", "verdict"]
        "Verdicts on a color by its own requests, in a canary's step or a bake: good, bad, undecided.";
    TO_OLD = Gauge "cutover_requests_to_old_since_switch" ["service"]
        "Requests that began on the color that is not live since every worker answered with the last switch: 0, or else previews.";
    PROBED_WORKERS = Gauge "cutover_switch_probed_workers" ["service", "saw"]
        "Workers by the color they led to when asked through the proxy's own listeners after the last switch: new, old, unknown.";
    CONNECT_FAILURES = Counter "cutover_connect_failures_total" ["service", "color"]
        "Connections to endpoints that could not be made.";
    SWITCH_DURATION = Histogram "cutover_switch_duration_seconds" ["service"]
        "From publishing the new table until every worker has answered with it.";
    DRAIN_DURATION = Histogram "cutover_drain_duration_seconds" ["service", "color"]
        "From closing the old color until its last request or tunnel left.";
    ENDPOINT_UP = Gauge "cutover_endpoint_up" ["service", "color", "endpoint"]
        "1 while the endpoint passes its health checks.";
    ENDPOINTS = Gauge "cutover_endpoints" ["service", "color", "state"]
        "Endpoints by state: up, down, unknown.";
    UPSTREAM_CONNECTIONS = Gauge "cutover_upstream_connections" ["service", "color", "state"]
        "Connections to endpoints: idle, active.";
    TAIL_REQUESTS = Counter "cutover_dns_tail_requests_total" ["service"]
        "Requests that still came here after the names had moved on.";
    TAIL_CONNECTIONS = Counter "cutover_dns_tail_connections_total" ["service"]
        "Client connections that they came on.";
    TAIL_TOLD = Counter "cutover_dns_tail_told_total" ["service"]
        "Connections of these that were told to look the names up again.";
    TAIL_NETWORKS = Gauge "cutover_dns_tail_networks" ["service"]
        "Distinct client networks (IPv4 /24, IPv6 /48) since the names moved on, with a standard error of 1.6 %.";
    TAIL_LAST_SEEN = Gauge "cutover_dns_tail_last_seen_timestamp_seconds" ["service"]
        "When the last of them came, in seconds since 1970.";
    TAIL_SILENT = Gauge "cutover_dns_tail_silent_seconds" ["service"]
        "How long nobody has come, or since counting began.";
    TAIL_EXPIRES = Gauge "cutover_dns_tail_expires_timestamp_seconds" ["service"]
        "When the last resolver that obeys has forgotten the old answer, in seconds since 1970.";
    CONNECTIONS = Gauge "cutover_connections" ["listener"]
        "Client connections open now.";
    TURNED_AWAY = Counter "cutover_connections_turned_away_total" []
        "Client connections closed at once, since their client had as many as one may have.";
    CONNECTIONS_LOST = Counter "cutover_connections_lost_total" ["listener", "reason"]
        "Client connections that ended otherwise than by their client's wish, by reason.";
    HTTP2_RESETS = Counter "cutover_http2_resets_total" ["listener", "by"]
        "HTTP/2 requests that were reset, by the client or by the proxy.";
    CERTIFICATE_EXPIRY = Gauge "cutover_certificate_expiry_timestamp_seconds" ["listener", "certificate"]
        "When a listener's certificate expires, in seconds since 1970; its label is the file.";
    DNS_IN_SYNC = Gauge "cutover_dns_in_sync" ["service", "record"]
        "1 while the record, by name and type, leads where it should, at every name server that is asked.";
    DNS_STATE = Gauge "cutover_dns_state" ["service", "state"]
        "1 for what the service's names are doing.";
    DNS_CHANGES = Counter "cutover_dns_changes_total" ["service", "outcome"]
        "Changes handed in at the provider, by what came of it.";
    DISCOVERY_AGE = Gauge "cutover_discovery_age_seconds" ["service", "color"]
        "How long ago the last answer came that was believed.";
    DISCOVERY_ANSWERS = Counter "cutover_discovery_answers_total" ["service", "color", "result"]
        "Questions to a color's source, by what came of them: believed, empty, shrunk, busy, refused, unreachable.";
    DISCOVERY_ENDPOINTS = Gauge "cutover_discovery_endpoints" ["service", "color", "standing"]
        "Endpoints by why they are there: named, lingers, doubted, inherited; and those that were refused.";
    DISCOVERY_STATE = Gauge "cutover_discovery_state" ["service", "color", "state"]
        "1 for how a color's discovery stands: asking, current, doubted, failing, held.";
    STACK_ORDERS = Gauge "cutover_stack_orders_running" ["service", "color"]
        "1 while an order to the color's stack is carried out.";
    STACK_STEPS = Counter "cutover_stack_steps_total" ["service", "color", "step", "outcome"]
        "Steps of orders to a color's stack that are over, by how: done, failed, aborted.";
    JOURNAL_RESERVE = Gauge "cutover_journal_reserve_bytes" []
        "Bytes that can be journaled though the disk be full: 512 KiB or more, or else there is no room for it, or no such thing.";
    JOURNAL_UNWRITTEN = Gauge "cutover_journal_unwritten" ["service"]
        "1 while something that has happened to the service's cutover is not on disk, so that a restart would not know of it.";
    JOURNAL_FAILING = Gauge "cutover_journal_failing" []
        "1 while the journal cannot be written, as the last try has shown.";
    JOURNAL_REWRITTEN = Counter "cutover_journal_rewritten_total" []
        "Times the journal was written anew, since somebody had removed, cut or replaced it.";
    ACCESS_LOG_LINES = Counter "cutover_access_log_lines_total" []
        "Lines written to the access log.";
    ACCESS_LOG_DROPPED = Counter "cutover_access_log_dropped_total" ["reason"]
        "Lines dropped because the log was behind, or because writing it had failed.";
    AWS_REQUESTS = Counter "cutover_aws_requests_total" ["service", "operation", "result"]
        "Requests to AWS, each page and each attempt: ok, conflict, busy, refused, unreachable, unknown.";
    CONFIG_RELOADS = Counter "cutover_config_reloads_total" ["outcome"]
        "Reloads of the config since the start: applied, unchanged, refused.";
    CONFIG_LOADED = Gauge "cutover_config_loaded_timestamp_seconds" []
        "When the config file was last read and found to say what runs (Unix time).";
    BUILD_INFO = Gauge "cutover_build_info" ["version", "revision"]
        "Always 1; the labels say what runs.";
}

/// One scrape: figures are put in, text comes out.
pub struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    /// A page with every family on it and no series yet.
    pub fn new() -> Page {
        let families = ALL.iter().map(|family| {
            let mut proto = MetricFamily::default();
            proto.set_name(family.name.to_owned());
            proto.set_help(family.help.to_owned());
            proto.set_field_type(match family.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            proto
        });
        Page { families: families.collect() }
    }

    /// Puts down one value of a counter or a gauge.
    pub fn put(&mut self, family: &Family, labels: &[&str], value: f64) {
        let mut metric = Metric::default();
        if family.kind == Kind::Counter {
            let mut counter = CounterValue::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.push(family, labels, metric);
    }

    /// Puts down one histogram.
    pub fn put_latency(&mut self, family: &Family, labels: &[&str], sum: &LatencySum) {
        let mut histogram = Histogram::default();
        histogram.set_sample_count(sum.count());
        histogram.set_sample_sum(sum.seconds());
        let bucket = |(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        histogram.set_bucket(sum.cumulative().map(bucket).collect());
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.push(family, labels, metric);
    }

    /// The page as Prometheus reads it, with the process's own figures at its end.
    pub fn text(self) -> String {
        let mut families = self.families;
        families.retain(|family| !family.get_metric().is_empty());
        families.extend(ProcessCollector::for_self().collect());
        let mut text = Vec::new();
        match TextEncoder::new().encode(&families, &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("# the metrics could not be written: {error}\n"),
        }
    }

    fn push(&mut self, family: &Family, labels: &[&str], mut metric: Metric) {
        debug_assert_eq!(labels.len(), family.labels.len(), "{} has the labels {:?}", family.name, family.labels);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        metric.set_label(family.labels.iter().zip(labels).map(pair).collect());
        let place = ALL.iter().position(|known| known.name == family.name);
        if let Some(proto) = place.and_then(|place| self.families.get_mut(place)) {
            proto.mut_metric().push(metric);
        }
    }
}

impl Default for Page {
    fn default() -> Page {
        Page::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_is_prometheus_text() {
        let mut page = Page::new();
        page.put(&REQUESTS, &["shop", "blue", "2xx"], 7.0);
        page.put(&LIVE, &["shop", "blue"], 1.0);
        let (mut sum, cell) = (LatencySum::default(), Latency::default());
        cell.observe(Duration::from_millis(2));
        sum.add(&cell);
        page.put_latency(&DURATION, &["shop", "blue"], &sum);
        let text = page.text();
        for line in [
            "# TYPE cutover_requests_total counter",
            "cutover_requests_total{service=\"shop\",color=\"blue\",code=\"2xx\"} 7",
            "cutover_live{service=\"shop\",color=\"blue\"} 1",
            "cutover_request_duration_seconds_bucket{service=\"shop\",color=\"blue\",le=\"0.0025\"} 1",
            "cutover_request_duration_seconds_bucket{service=\"shop\",color=\"blue\",le=\"+Inf\"} 1",
            "cutover_request_duration_seconds_count{service=\"shop\",color=\"blue\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes"));
        assert!(!text.contains("cutover_tunnels"), "a family without series is left out");
    }

    #[test]
    fn the_readme_has_every_metric_with_its_labels_and_no_other() {
        let kind = |family: &Family| match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let row = |family: &&Family| match family.labels {
            [] => format!("| `{}` | {} |", family.name, kind(family)),
            labels => format!("| `{}{{{}}}` | {} |", family.name, labels.join(","), kind(family)),
        };
        let readme = include_str!("../../README.md");
        let mut told: Vec<_> = readme.lines().filter(|line| line.starts_with("| `cutover_")).collect();
        for family in ALL {
            let row = row(family);
            let place = told.iter().position(|line| line.starts_with(&row));
            told.remove(place.unwrap_or_else(|| panic!("README.md does not have the row {row}")));
        }
        assert!(told.is_empty(), "there is no such metric: {told:#?}");
    }
}

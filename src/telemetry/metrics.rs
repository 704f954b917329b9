//! Every metric, its name and its labels, in one place (interface §7). `docs/metrics.md` lists them; a test compares.
//!
//! The hot path knows nothing of Prometheus: each partition of a link has a [`LinkMeter`], plain numbers behind one
//! lock that its thread takes once per batch or commit. What operators scrape is built from them when they ask.
//! In every snapshot and for every partition, fetched = copied + skipped + dead-lettered + discarded + in flight
//! (invariant 7), because one update changes all of them at once. Labels never hold keys or anything else of a record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};
use tracing::{error, info};

use crate::broker::Class;
use crate::model::names::{RegionName, TopicName};
use crate::telemetry::families::{Families, Kind};
use crate::telemetry::process::{self, Process};

/// The states of a link's partition and their numbers in `longshore_link_state`.
pub const LINK_STATES: [(&str, i64); 6] =
    [("starting", 0), ("resolving", 1), ("running", 2), ("paused", 3), ("stopped", 4), ("retrying", 5)];

/// Upper bounds of `longshore_link_latency_seconds`, milliseconds.
pub const LATENCY_BOUNDS_MS: [u64; 15] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000];

/// Counts by a fixed set of reasons: few, so a list beats a map.
#[derive(Clone, Debug, Default)]
pub struct Reasons(Vec<(&'static str, u64)>);

impl Reasons {
    /// Counts `records` for `reason`.
    pub fn add(&mut self, reason: &'static str, records: u64) {
        if records == 0 {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += records,
            None => self.0.push((reason, records)),
        }
    }

    /// Over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }
}

/// How long records took from their birth to the target's acknowledgement.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// Per bound of [`LATENCY_BOUNDS_MS`], and one for what is longer.
    buckets: [u64; LATENCY_BOUNDS_MS.len() + 1],
    sum_ms: u64,
}

impl Latency {
    /// Counts `records` that took `ms`.
    pub fn observe(&mut self, ms: u64, records: u64) {
        let bucket = LATENCY_BOUNDS_MS.partition_point(|bound| *bound < ms);
        self.buckets[bucket] += records;
        self.sum_ms = self.sum_ms.saturating_add(ms.saturating_mul(records));
    }

    /// Counts what `other` has counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, others) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += others;
        }
        self.sum_ms = self.sum_ms.saturating_add(other.sum_ms);
    }
}

/// The numbers of one partition of a link. Counts only rise; they are changed together in one
/// [`LinkMeter::update`] so that [`Self::balanced`] holds whenever anybody looks.
#[derive(Clone, Debug, Default)]
pub struct LinkCounters {
    /// Records taken from the source, repeated ones included.
    pub fetched: u64,
    /// Records copied and committed.
    pub copied: u64,
    /// Key and value bytes of copied records.
    pub bytes: u64,
    /// Records that this link does not carry, by reason, counted at commit.
    pub skipped: Reasons,
    /// Records that the target refused for good and that were put aside, by reason, counted at commit.
    pub rejected: Reasons,
    /// Records that an abort or a loss of ownership took back: they will be fetched again, here or elsewhere.
    pub discarded: u64,
    /// Records fetched and not committed yet.
    pub in_flight: u64,
    /// Records that carry a foreign `ls_origin` that is not theirs: copied as local ones.
    pub republished: u64,
    /// Repeats of copies that an at-least-once link left.
    pub duplicates: u64,
    /// Records without a readable routing key on topics that declare one.
    pub missing_routing_key: u64,
    /// Records without a readable version on topics that declare one.
    pub missing_version: u64,
    /// Source records passed over because they were gone (`on_gap: skip`, `accept-gap`); never fetched.
    pub gap: u64,
    /// Records not copied yet; `None` when it cannot be known.
    pub lag_records: Option<u64>,
    /// How long the oldest record not copied yet has been waiting; `None` when it cannot be known.
    pub lag_seconds: Option<f64>,
    /// When retention reaches the position, at the pace of now; `None` when it is unknown or not in sight.
    pub seconds_to_retention_loss: Option<f64>,
    /// Birth to acknowledgement in the target.
    pub latency: Latency,
    /// One of [`LINK_STATES`]; `None` while another instance owns the partition.
    pub state: Option<&'static str>,
}

impl LinkCounters {
    /// Invariant 7.
    pub fn balanced(&self) -> bool {
        self.fetched == self.copied + self.skipped.total() + self.rejected.total() + self.discarded + self.in_flight
    }
}

/// The meter of one partition of a link.
#[derive(Default)]
pub struct LinkMeter {
    counters: Mutex<LinkCounters>,
}

impl LinkMeter {
    /// Changes the numbers as one. Call it once per batch or commit, not per record.
    pub fn update(&self, change: impl FnOnce(&mut LinkCounters)) {
        change(&mut self.lock());
    }

    /// The partition is owned no more: what is in flight is discarded; lag and state are somebody else's to tell.
    pub fn released(&self) {
        self.update(|counters| {
            counters.discarded += std::mem::take(&mut counters.in_flight);
            counters.lag_records = None;
            counters.lag_seconds = None;
            counters.seconds_to_retention_loss = None;
            counters.state = None;
        });
    }

    /// All numbers at one moment.
    pub fn snapshot(&self) -> LinkCounters {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, LinkCounters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Source, target, topic, partition.
type LinkKey = (RegionName, RegionName, TopicName, i32);

#[derive(Default)]
struct Numbers {
    links: BTreeMap<LinkKey, Arc<LinkMeter>>,
    errors: BTreeMap<(RegionName, RegionName, &'static str), u64>,
    regions_up: BTreeMap<RegionName, bool>,
    control: BTreeMap<RegionName, Control>,
    audit_mismatches: u64,
}

#[derive(Clone, Copy, Default)]
struct Control {
    up: bool,
    refused: u64,
}

/// All metrics of one process.
pub struct Metrics {
    region: RegionName,
    numbers: Mutex<Numbers>,
}

impl Metrics {
    /// The metrics of `region`'s bridge.
    pub fn new(region: &RegionName) -> Arc<Self> {
        Arc::new(Self { region: region.clone(), numbers: Mutex::default() })
    }

    /// The meter of a partition of a link; the same one each time, so that counts survive a change of owner and back.
    pub fn link(&self, source: &RegionName, target: &RegionName, topic: &TopicName, partition: i32) -> Arc<LinkMeter> {
        let key = (source.clone(), target.clone(), topic.clone(), partition);
        Arc::clone(self.lock().links.entry(key).or_default())
    }

    /// Counts an error of a link.
    pub fn link_error(&self, source: &RegionName, target: &RegionName, class: Class) {
        *self.lock().errors.entry((source.clone(), target.clone(), class.label())).or_default() += 1;
    }

    /// Whether a region's cluster can be reached.
    pub fn region_up(&self, region: &RegionName, up: bool) {
        self.lock().regions_up.insert(region.clone(), up);
    }

    /// How it stands with following a region's control topic; `refused` entries since the start.
    pub fn control(&self, region: &RegionName, up: bool, refused: u64) {
        self.lock().control.insert(region.clone(), Control { up, refused });
    }

    /// The text that `/metrics` answers.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.families(), &mut text) {
            error!("encode metrics: {error}");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// Logs invariant 7 for each link topic, and an error where it does not hold: to be called once a minute and at the end.
    pub fn log_audit(&self) {
        let mut sums: BTreeMap<(RegionName, RegionName, TopicName), Audit> = BTreeMap::new();
        for ((source, target, topic, partition), meter) in self.meters() {
            let counters = meter.snapshot();
            if !counters.balanced() {
                self.lock().audit_mismatches += 1;
                error!(%source, %target, %topic, partition, ?counters, "audit: the counts of this partition do not add up");
            }
            sums.entry((source, target, topic)).or_default().add(&counters);
        }
        for ((source, target, topic), sum) in sums {
            let Audit { fetched, copied, skipped, dead_lettered, discarded, in_flight } = sum;
            info!(
                %source, %target, %topic, fetched, copied, skipped, dead_lettered, discarded, in_flight,
                "audit: fetched = copied + skipped + dead_lettered + discarded + in_flight"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meters(&self) -> Vec<(LinkKey, Arc<LinkMeter>)> {
        self.lock().links.iter().map(|(key, meter)| (key.clone(), Arc::clone(meter))).collect()
    }

    fn families(&self) -> Vec<MetricFamily> {
        let mut families = Families::default();
        process_families(&mut families, &process::look());
        self.bridge_families(&mut families);
        let mut latencies: BTreeMap<(RegionName, RegionName, TopicName), Latency> = BTreeMap::new();
        for ((source, target, topic, partition), meter) in self.meters() {
            let counters = meter.snapshot();
            let number = partition.to_string();
            let labels = [
                ("source", source.as_str()),
                ("target", target.as_str()),
                ("topic", topic.as_str()),
                ("partition", &number),
            ];
            link_families(&mut families, &labels, &counters);
            latencies.entry((source.clone(), target.clone(), topic.clone())).or_default().add(&counters.latency);
        }
        for ((source, target, topic), latency) in &latencies {
            let labels = [("source", source.as_str()), ("target", target.as_str()), ("topic", topic.as_str())];
            families.histogram(
                "link_latency_seconds",
                "From a record's timestamp to its acknowledgement in the target",
                &labels,
                &LATENCY_BOUNDS_MS.map(|ms| ms as f64 / 1000.0),
                &latency.buckets,
                latency.sum_ms as f64 / 1000.0,
            );
        }
        families.finish()
    }

    fn bridge_families(&self, families: &mut Families) {
        let numbers = self.lock();
        let own = [("region", self.region.as_str())];
        let version = [("region", self.region.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
        families.put("build_info", "Always 1; the labels tell what runs", Kind::Gauge, &version, 1.0);
        let mismatches = numbers.audit_mismatches as f64;
        families.put("audit_mismatch_total", "Partitions whose counts did not add up", Kind::Counter, &own, mismatches);
        for (region, up) in &numbers.regions_up {
            let labels = [("region", region.as_str())];
            families.put(
                "region_up",
                "1 when the region's cluster answers",
                Kind::Gauge,
                &labels,
                f64::from(u8::from(*up)),
            );
        }
        for (region, control) in &numbers.control {
            let labels = [("region", region.as_str())];
            let up = f64::from(u8::from(control.up));
            families.put(
                "control_topic_up",
                "1 while the region's control topic is followed",
                Kind::Gauge,
                &labels,
                up,
            );
            families.put(
                "control_refused_entries_total",
                "Entries of the control topic that were unsigned, wrongly signed or unreadable",
                Kind::Counter,
                &labels,
                control.refused as f64,
            );
        }
        for ((source, target, class), count) in &numbers.errors {
            let labels = [("source", source.as_str()), ("target", target.as_str()), ("class", *class)];
            families.put("link_errors_total", "Errors of a link by class", Kind::Counter, &labels, *count as f64);
        }
    }
}

#[derive(Default)]
struct Audit {
    fetched: u64,
    copied: u64,
    skipped: u64,
    dead_lettered: u64,
    discarded: u64,
    in_flight: u64,
}

impl Audit {
    fn add(&mut self, counters: &LinkCounters) {
        self.fetched += counters.fetched;
        self.copied += counters.copied;
        self.skipped += counters.skipped.total();
        self.dead_lettered += counters.rejected.total();
        self.discarded += counters.discarded;
        self.in_flight += counters.in_flight;
    }
}

fn process_families(families: &mut Families, process: &Process) {
    let numbers = [
        ("process_cpu_seconds_total", "User and system time", Kind::Counter, process.cpu_seconds),
        ("process_resident_memory_bytes", "Resident memory", Kind::Gauge, process.resident_bytes.map(|n| n as f64)),
        (
            "process_resident_memory_peak_bytes",
            "The most that was ever resident",
            Kind::Gauge,
            process.resident_peak_bytes.map(|n| n as f64),
        ),
        ("process_open_fds", "Open file descriptors", Kind::Gauge, process.open_files.map(|n| n as f64)),
    ];
    for (name, help, kind, value) in numbers {
        if let Some(value) = value {
            families.put(name, help, kind, &[], value);
        }
    }
}

fn link_families(families: &mut Families, labels: &[(&str, &str)], counters: &LinkCounters) {
    let counts = [
        ("link_records_total", "Records copied", counters.copied),
        ("link_bytes_total", "Key and value bytes of copied records", counters.bytes),
        ("link_fetched_records_total", "Records taken from the source, repeated ones included", counters.fetched),
        ("link_discarded_records_total", "Records fetched and taken back: they are fetched again", counters.discarded),
        ("link_gap_records_total", "Offsets passed over because the source had lost them", counters.gap),
        ("republished_copies_total", "Records with a foreign ls_origin, copied as local ones", counters.republished),
        ("duplicate_copies_total", "Repeats of copies left by an at-least-once link", counters.duplicates),
        ("missing_routing_key_total", "Records without a readable routing key", counters.missing_routing_key),
        ("missing_version_total", "Records without a readable version", counters.missing_version),
    ];
    for (name, help, count) in counts {
        families.put(name, help, Kind::Counter, labels, count as f64);
    }
    let state = counters.state.and_then(|state| LINK_STATES.iter().find(|(name, _)| *name == state));
    let gauges = [
        ("link_in_flight_records", "Records fetched and not committed yet", Some(counters.in_flight as f64)),
        ("link_lag_records", "Records not copied yet", counters.lag_records.map(|lag| lag as f64)),
        ("link_lag_seconds", "Age of the oldest record not copied yet", counters.lag_seconds),
        ("seconds_to_retention_loss", "Until retention reaches what is not copied", counters.seconds_to_retention_loss),
        (
            "link_state",
            "0 starting, 1 resolving, 2 running, 3 paused, 4 stopped, 5 retrying",
            state.map(|(_, number)| *number as f64),
        ),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            families.put(name, help, Kind::Gauge, labels, value);
        }
    }
    let by_reason = [
        ("link_skipped_records_total", "Records that the link does not carry", &counters.skipped),
        ("link_rejected_records_total", "Records that the target refused, put aside", &counters.rejected),
    ];
    for (name, help, reasons) in by_reason {
        for (reason, count) in reasons.iter() {
            let labels = [labels, &[("reason", reason)]].concat();
            families.put(name, help, Kind::Counter, &labels, count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Metrics with a sample of every family.
    fn full() -> Arc<Metrics> {
        let (hz, sh, orders) = (RegionName::new("hz"), RegionName::new("sh"), TopicName::new("orders"));
        let metrics = Metrics::new(&sh);
        metrics.region_up(&hz, true);
        metrics.control(&sh, true, 3);
        metrics.link_error(&hz, &sh, Class::Retry);
        for partition in 0..2 {
            metrics.link(&hz, &sh, &orders, partition).update(|counters| {
                counters.fetched = 10;
                counters.copied = 4;
                counters.bytes = 400;
                counters.skipped.add("copy", 2);
                counters.skipped.add("copy", 1);
                counters.skipped.add("nothing", 0);
                counters.rejected.add("too_large", 1);
                counters.discarded = 1;
                counters.in_flight = 1;
                counters.lag_records = Some(7);
                counters.lag_seconds = Some(0.5);
                counters.seconds_to_retention_loss = Some(3600.0);
                counters.state = Some("running");
                counters.latency.observe(20, 3);
                counters.latency.observe(4_000_000, 1);
            });
        }
        metrics
    }

    #[test]
    fn the_text_has_every_number_with_its_labels() {
        let text = full().text();
        let partition = r#"partition="1",source="hz",target="sh",topic="orders""#;
        let unsorted = r#"source="hz",target="sh",topic="orders",partition="1""#;
        let line = |name: &str, value: &str| {
            let found =
                [partition, unsorted].iter().any(|labels| text.contains(&format!("{name}{{{labels}}} {value}\n")));
            assert!(found, "{name} {value} not in\n{text}");
        };
        line("longshore_link_records_total", "4");
        line("longshore_link_fetched_records_total", "10");
        line("longshore_link_lag_seconds", "0.5");
        line("longshore_link_state", "2");
        let skipped = r#"longshore_link_skipped_records_total{source="hz",target="sh",topic="orders",partition="1",reason="copy"} 3"#;
        assert!(text.contains(skipped), "{text}");
        assert!(!text.contains("nothing"), "a reason that never occurred is no series");
        assert!(text.contains(r#"longshore_link_errors_total{source="hz",target="sh",class="retry"} 1"#), "{text}");
        let bucket = r#"longshore_link_latency_seconds_bucket{source="hz",target="sh",topic="orders",le="#;
        assert!(text.contains(&format!("{bucket}\"0.01\"}} 0\n")), "{text}");
        assert!(text.contains(&format!("{bucket}\"0.025\"}} 6\n")), "both partitions in one histogram: {text}");
        assert!(text.contains(&format!("{bucket}\"3600\"}} 6\n")), "{text}");
        assert!(text.contains(&format!("{bucket}\"+Inf\"}} 8\n")), "{text}");
    }

    #[test]
    fn what_is_unknown_is_no_series() {
        let (hz, sh) = (RegionName::new("hz"), RegionName::new("sh"));
        let metrics = Metrics::new(&sh);
        metrics.link(&hz, &sh, &TopicName::new("orders"), 0).update(|counters| counters.fetched = 0);
        let text = metrics.text();
        for name in ["link_lag_records", "link_lag_seconds", "link_state", "seconds_to_retention_loss"] {
            assert!(!text.contains(name), "{name} in\n{text}");
        }
    }

    #[test]
    fn a_released_partition_keeps_its_counts_and_its_balance() {
        let metrics = full();
        let meter = metrics.link(&"hz".into(), &"sh".into(), &"orders".into(), 0);
        assert!(meter.snapshot().balanced());
        meter.released();
        let after = meter.snapshot();
        assert!(after.balanced());
        assert_eq!((after.discarded, after.in_flight, after.lag_records, after.state), (2, 0, None, None));
    }

    #[test]
    fn counts_that_do_not_add_up_are_counted_themselves() {
        let metrics = full();
        metrics.log_audit();
        assert!(metrics.text().contains("longshore_audit_mismatch_total{region=\"sh\"} 0\n"));
        metrics.link(&"hz".into(), &"sh".into(), &"orders".into(), 0).update(|counters| counters.copied += 1);
        metrics.log_audit();
        assert!(metrics.text().contains("longshore_audit_mismatch_total{region=\"sh\"} 1\n"));
    }

    #[test]
    fn a_latency_on_a_bound_is_below_it() {
        let mut latency = Latency::default();
        latency.observe(5, 1);
        latency.observe(6, 1);
        assert_eq!(latency.buckets[..2], [1, 1]);
    }

    #[test]
    fn the_page_of_metrics_lists_exactly_these() {
        let page = include_str!("../../docs/metrics.md");
        let listed: BTreeSet<String> = page
            .lines()
            .take_while(|line| !line.starts_with("## "))
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|rest| rest.split(['`', '{']).next())
            .map(str::to_owned)
            .collect();
        let made: BTreeSet<String> = full().families().iter().map(|family| family.name().to_owned()).collect();
        assert_eq!(listed, made);
    }
}

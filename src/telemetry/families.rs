//! Gathers samples into Prometheus metric families. Built anew for each scrape; knows nothing of what is measured.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// The prefix of every metric of our own.
pub const PREFIX: &str = "longshore_";

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// Families by name.
#[derive(Default)]
pub struct Families {
    by_name: BTreeMap<&'static str, MetricFamily>,
}

impl Families {
    /// Adds a sample; `name` without the prefix.
    pub fn put(&mut self, name: &'static str, help: &str, kind: Kind, labels: &[(&str, &str)], value: f64) {
        let mut metric = Metric::from_label(pairs(labels));
        let kind = match kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
                MetricType::COUNTER
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
                MetricType::GAUGE
            }
        };
        self.family(name, help, kind).mut_metric().push(metric);
    }

    /// Adds a histogram: `counts` has one number per bound and one for what is above the last, none cumulative.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        let mut cumulative = 0;
        let buckets = bounds.iter().zip(counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(histogram);
        self.family(name, help, MetricType::HISTOGRAM).mut_metric().push(metric);
    }

    /// All families in the order of their names.
    pub fn finish(self) -> Vec<MetricFamily> {
        self.by_name.into_values().collect()
    }

    fn family(&mut self, name: &'static str, help: &str, kind: MetricType) -> &mut MetricFamily {
        self.by_name.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            // Every dashboard knows these by the names that all programs give them.
            let prefix = if name.starts_with("process_") { "" } else { PREFIX };
            family.set_name(format!("{prefix}{name}"));
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            family
        })
    }
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

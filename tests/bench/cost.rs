//! CPU and memory of a copier that works off a filled topic.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::PARTITIONS;
use crate::harness::clusters::Clusters;
use crate::harness::{plain, process, unique};
use crate::load;
use crate::systems::{Running, System};

/// What one run cost.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Cost {
    /// Of the copier.
    pub system: &'static str,
    /// Value bytes of each record.
    pub size: usize,
    /// CPU seconds per million records behind the warm-up.
    pub steady: f64,
    /// CPU seconds per million records of the whole run, start-up included.
    pub whole: f64,
    /// Peak resident memory.
    pub peak_rss_mib: f64,
    /// Behind the warm-up, by the clock on the wall. The brokers share the cores.
    pub records_per_second: f64,
}

/// (warm-up, measured) records. The warm-up is long enough for a JVM to compile what is hot.
const fn counts(size: usize, quick: bool) -> (u64, u64) {
    let (warm, measured) = if size <= 256 { (600_000, 1_200_000) } else { (300_000, 600_000) };
    if quick { (warm / 10, measured / 10) } else { (warm, measured) }
}

/// Fills a topic, has it copied, counts.
pub fn measure(clusters: &Clusters, system: System, size: usize, quick: bool) -> Cost {
    let (src, dst) = (&clusters.get("src").bootstrap, &clusters.get("dst").bootstrap);
    let (warm, measured) = counts(size, quick);
    let topic = unique(&format!("cost-{}", system.name()));
    // Both are there at the start: creating them is not what is measured.
    plain::create_topic(src, &topic, PARTITIONS, &[]);
    plain::create_topic(dst, &topic, PARTITIONS, &[]);
    load::fill(src, &topic, warm + measured, size);
    let running = system.start(clusters, &topic, warm + measured);
    let watch = Watch::new(dst, &topic, &running);
    let at_warm = watch.until(warm);
    let at_end = watch.until_still(warm + measured);
    let peak = process::peak_rss_bytes(watch.pid).unwrap_or_default();
    let present = load::count(dst, &topic, warm + measured);
    assert_eq!(present, warm + measured, "a read_committed reader finds each record once:\n{}", running.log());
    drop(running);
    plain::delete_topic(src, &topic);
    plain::delete_topic(dst, &topic);
    // Transactions leave markers in the log; they come evenly enough to be taken out in proportion.
    let records = |sample: &Sample| sample.offsets as f64 * present as f64 / at_end.offsets as f64;
    let behind_warm = records(&at_end) - records(&at_warm);
    Cost {
        system: system.name(),
        size,
        steady: (at_end.cpu - at_warm.cpu) / (behind_warm / 1e6),
        whole: at_end.cpu / (present as f64 / 1e6),
        peak_rss_mib: peak as f64 / (1024.0 * 1024.0),
        records_per_second: behind_warm / at_end.at.duration_since(at_warm.at).as_secs_f64(),
    }
}

/// How far a copier was, and what it had used by then.
struct Sample {
    offsets: u64,
    cpu: f64,
    at: Instant,
}

/// Looks at the ends of the target's partitions: a reader could lag behind the copier, and so count its later work as
/// earlier.
struct Watch<'a> {
    consumer: BaseConsumer,
    topic: &'a str,
    running: &'a Running,
    pid: u32,
}

impl<'a> Watch<'a> {
    fn new(bootstrap: &str, topic: &'a str, running: &'a Running) -> Self {
        let consumer = plain::config(bootstrap).create().expect("a consumer");
        Self { consumer, topic, running, pid: running.pid().expect("a process") }
    }

    fn sample(&self) -> Sample {
        let ended = || panic!("it ended early:\n{}", self.running.log());
        let cpu = process::cpu_seconds(self.pid).unwrap_or_else(ended);
        let end = |partition| self.consumer.fetch_watermarks(self.topic, partition, Duration::from_secs(20));
        let ends = (0..PARTITIONS).map(|it| u64::try_from(end(it).expect("watermarks").1).expect("positive"));
        Sample { offsets: ends.sum(), cpu, at: Instant::now() }
    }

    fn until(&self, offsets: u64) -> Sample {
        let (mut best, mut last) = (0, Instant::now());
        loop {
            let sample = self.sample();
            if sample.offsets >= offsets {
                return sample;
            }
            if sample.offsets > best {
                (best, last) = (sample.offsets, Instant::now());
            }
            assert!(last.elapsed() < Duration::from_secs(90), "{best} of {offsets}:\n{}", self.running.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The first sample behind which nothing came for a second.
    fn until_still(&self, offsets: u64) -> Sample {
        let mut newest = self.until(offsets);
        while newest.at.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(10));
            let sample = self.sample();
            if sample.offsets > newest.offsets {
                newest = sample;
            }
        }
        newest
    }
}

//! From produce to a read_committed reader of the copy, at a fixed rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;

use crate::PARTITIONS;
use crate::harness::clusters::Clusters;
use crate::harness::{plain, unique};
use crate::load;
use crate::systems::{Running, System};

const RATE: u64 = 2000;
const SIZE: usize = 200;

/// What a reader saw.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Latency {
    /// Of the copier.
    pub system: &'static str,
    /// Half of the records came faster.
    pub p50_ms: f64,
    /// 90 % came faster.
    pub p90_ms: f64,
    /// 99 % came faster.
    pub p99_ms: f64,
    /// How many were measured.
    pub records: usize,
}

/// Lets the copier warm up at the same rate, then measures.
pub fn measure(clusters: &Clusters, system: System, quick: bool) -> Latency {
    let (src, dst) = (clusters.get("src").bootstrap.clone(), &clusters.get("dst").bootstrap);
    let topic = unique(&format!("latency-{}", system.name()));
    plain::create_topic(&src, &topic, PARTITIONS, &[]);
    plain::create_topic(dst, &topic, PARTITIONS, &[]);
    let running = system.start(clusters, &topic, u64::MAX);
    let reader = load::reader(if system == System::Nothing { &src } else { dst }, &topic);
    let probes = await_first(&src, &topic, &reader, &running);
    let (warm, length) = if quick { (8, 10) } else { (30, 60) };
    let (warm, length) = (Duration::from_secs(warm), Duration::from_secs(length));
    let (start, done) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (topic, src, done) = (topic.clone(), src.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            let sent = load::pace(&src, &topic, SIZE, RATE, warm + length, start);
            done.store(true, Ordering::Release);
            sent
        })
    };
    let (mut latencies, mut seen, mut last) = (Vec::new(), 0_u64, Instant::now());
    // Everything that was sent is waited for: a slow tail counts, a lost record fails.
    let mut expected = None;
    let mut writer = Some(writer);
    while expected.is_none_or(|all| seen < all) {
        let taken = load::take(&reader, Duration::from_millis(100), |value| {
            let now = u64::try_from(start.elapsed().as_nanos()).expect("centuries");
            let sent = value.first_chunk::<8>().map_or(now, |it| u64::from_be_bytes(*it));
            if Duration::from_nanos(sent) > warm {
                latencies.push(now.saturating_sub(sent));
            }
        });
        if taken {
            seen += 1;
            last = Instant::now();
        }
        if done.load(Ordering::Acquire)
            && let Some(writer) = writer.take()
        {
            expected = Some(writer.join().expect("the writer does not panic") + probes);
        }
        assert!(last.elapsed() < Duration::from_secs(90), "{seen} copied:\n{}", running.log());
    }
    drop(running);
    drop(reader);
    plain::delete_topic(&src, &topic);
    plain::delete_topic(dst, &topic);
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    Latency { system: system.name(), p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), records: latencies.len() }
}

/// Sends probes until the first comes out: the copier works. How many are still to come.
fn await_first(src: &str, topic: &str, reader: &BaseConsumer, running: &Running) -> u64 {
    let (began, mut sent) = (Instant::now(), 0);
    loop {
        load::probe(src, topic);
        sent += 1;
        if load::take(reader, Duration::from_millis(500), |_| {}) {
            return sent - 1;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "nothing is copied:\n{}", running.log());
    }
}

//! Bridges and brokers are killed, stopped and woken at random while producers write. `make soak` does it for longer and
//! with a seed; here it has a fixed time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::copy_kafka::{COPIED, READY, Regions, assert_exactly_once, numbered};
use crate::harness::bridge::Bridge;
use crate::harness::clusters::{self, Options};
use crate::harness::plain::{self, Out, Writer};
use crate::harness::{eventually, unique};

/// What is killed, and how, decided by a seed: SplitMix64.
struct Fate(u64);

impl Fate {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    }
}

/// How long the killing goes on, and which seed decides it: `make soak` sets both.
fn chaos() -> (Duration, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    (Duration::from_secs(number("LONGSHORE_SOAK_SECONDS").unwrap_or(45)), number("LONGSHORE_SEED").unwrap_or(7))
}

#[test]
fn whatever_is_killed_every_acknowledged_record_arrives_once_and_in_order() {
    let Some(own) = clusters::own(&["hz", "sh"], &Options::default()) else { return };
    let regions = Regions::new(&own, &["hz", "sh"]);
    let topic = unique("chaos");
    regions.create_topic(&topic);
    let setup = regions.setup(&topic, "");
    let mut bridges: Vec<Bridge> = regions
        .iter()
        .flat_map(|(name, _)| ["one", "two"].map(|instance| (name, format!("{name}-{instance}"))))
        .map(|(name, instance)| setup.bridge(name, &instance))
        .collect();
    bridges.iter_mut().for_each(|bridge| bridge.wait_ready(READY));
    let writers: Vec<(String, Writer)> = regions
        .iter()
        .map(|(name, bootstrap)| (name.to_owned(), Writer::start(bootstrap, &topic, 500, &[], numbered(name))))
        .collect();
    let (length, seed) = chaos();
    let (mut fate, end, mut done) = (Fate(seed), Instant::now() + length, Vec::new());
    while Instant::now() < end {
        let what = fate.next(10);
        let who = fate.next(bridges.len());
        // The pauses between blows are part of the schedule, not a wait for anything.
        let calm = Duration::from_millis(300 + fate.next(2500) as u64);
        done.push((what, who));
        match what {
            0 => {
                let broker = regions.clusters[who % 2];
                broker.kill9();
                std::thread::sleep(calm);
                broker.start();
            }
            1 => {
                bridges[who].sigstop();
                std::thread::sleep(Duration::from_secs(8) + calm);
                bridges[who].sigcont();
            }
            2 => {
                bridges[who].sigterm(Duration::from_secs(40));
                bridges[who].restart();
            }
            3 => {
                let broker = regions.clusters[who % 2];
                broker.sigstop();
                std::thread::sleep(Duration::from_secs(4) + calm * 4);
                broker.sigcont();
            }
            _ => {
                bridges[who].kill9();
                std::thread::sleep(calm / 4);
                bridges[who].restart();
            }
        }
        std::thread::sleep(calm);
    }
    let acknowledged: Vec<(String, Vec<(Out, i64)>)> =
        writers.into_iter().map(|(name, writer)| (name, writer.finish())).collect();
    let produced: BTreeMap<String, Vec<(Out, i64)>> = regions
        .iter()
        .zip(acknowledged)
        .map(|((_, bootstrap), (name, acknowledged))| (name, plain::births(bootstrap, &topic, &acknowledged)))
        .collect();
    let total: usize = produced.values().map(Vec::len).sum();
    eprintln!("seed {seed}: {} blows {done:?}, {total} records written", done.len());
    assert!(total > 1000, "the writers were starved: nothing was proven");
    // No panic here when some are missing: the comparison below names the first of them.
    let deadline = Instant::now() + COPIED;
    let is_whole = |bootstrap: &str| plain::read_all(bootstrap, &topic).len() >= total;
    while Instant::now() < deadline && !regions.iter().all(|(_, bootstrap)| is_whole(bootstrap)) {
        std::thread::sleep(Duration::from_millis(500));
    }
    let mut found: BTreeMap<String, Vec<plain::Read>> = BTreeMap::new();
    eventually(COPIED, "every partition has an owner and no lag", || {
        let status = bridges[0].status()?;
        let links = status["regions"].as_object()?.values().flat_map(|region| region["links"].as_array());
        let lags: Vec<i64> = links
            .flatten()
            .flat_map(|link| link["partitions"].as_array().into_iter().flatten())
            .map(|partition| partition["lag_records"].as_i64().unwrap_or(-1))
            .collect();
        (lags.len() == regions.names.len() * 4 && lags.iter().all(|lag| *lag == 0)).then_some(())
    });
    // Whatever would come twice has had its chance: read again behind the last blow.
    for (name, bootstrap) in regions.iter() {
        found.insert(name.to_owned(), plain::read_all(bootstrap, &topic));
    }
    for (name, _) in regions.iter() {
        assert_exactly_once(name, &topic, found.remove(name).expect("read"), &produced);
    }
}

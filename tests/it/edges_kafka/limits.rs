//! Rate limits: what a link may have copied by any moment, counted in the target. A slow machine only makes it less.

use std::time::{Duration, Instant};

use crate::copy_kafka::COPIED;
use crate::edges_kafka::way::{Way, numbered, stop, wait_copied};
use crate::harness::clusters;
use crate::harness::plain::{self, Out};

/// Looks at the target until it holds `count` records: at no moment may it hold more than `allowed` in the time since
/// before they were produced.
fn assert_never_faster(way: &Way, topic: &str, records: &[Out], allowed: impl Fn(Duration) -> f64) {
    let reader = plain::reader(&way.here, topic, &[]);
    let began = Instant::now();
    plain::produce(&way.there, topic, records);
    let mut seen = 0;
    while seen < records.len() {
        if let Some(Ok(_)) = reader.poll(Duration::from_millis(50)) {
            seen += 1;
            let (limit, passed) = (allowed(began.elapsed()), began.elapsed());
            assert!(seen as f64 <= limit, "{seen} records after {passed:?}, at most {limit} are allowed");
        }
        assert!(began.elapsed() < COPIED, "{seen} of {} records after {COPIED:?}", records.len());
    }
}

#[test]
fn a_link_never_copies_more_records_than_its_limit_allows() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "links: {rate_limit: {records_per_second: 300}}");
    let topic = way.topic("slowly", [2, 2], [&[], &[]]);
    let mut bridge = way.bridge();
    let records: Vec<Out> = [numbered("v", 0, 0..600), numbered("v", 1, 0..600)].concat();
    // One second's worth may have been saved up before.
    assert_never_faster(&way, &topic, &records, |passed| 300.0 * (passed.as_secs_f64() + 1.0));
    wait_copied(&bridge, &topic);
    stop(&mut bridge);
    plain::assert_same_bodies(&topic, &records, &plain::read_all(&way.here, &topic));
}

#[test]
fn a_link_never_copies_more_bytes_than_its_limit_allows() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "links: {rate_limit: {bytes_per_second: 100000}}");
    let topic = way.topic("narrowly", [1, 1], [&[], &[]]);
    let mut bridge = way.bridge();
    let records: Vec<Out> =
        numbered("v", 0, 0..40).into_iter().map(|out| Out { value: Some(vec![b'x'; 10_000]), ..out }).collect();
    assert_never_faster(&way, &topic, &records, |passed| 10.0 * (passed.as_secs_f64() + 1.0) + 1.0);
    wait_copied(&bridge, &topic);
    stop(&mut bridge);
    plain::assert_same_bodies(&topic, &records, &plain::read_all(&way.here, &topic));
}

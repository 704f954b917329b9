//! An application reads copies and writes them again with all their headers: what it writes are records of its own
//! region, whatever the headers say, and no position is taken from them.

use crate::edges_kafka::way::{Way, copies, numbered, stop, wait_copied, wait_counted};
use crate::harness::clusters;
use crate::harness::plain::{self, Out, Read};

const REPUBLISHED: &str = "longshore_republished_copies_total";
const SKIPPED: &str = "longshore_link_skipped_records_total";

/// The copy as an application passes it on: all headers, a body of its own.
fn passed_on(copy: &Read, value: &str) -> Out {
    let Read { partition, key, headers, timestamp_ms, .. } = copy.clone();
    Out { partition, key, value: Some(value.as_bytes().to_vec()), headers, timestamp_ms: Some(timestamp_ms) }
}

/// Asserts that the peer got a republished record as one that was born at `partition`/`offset` of `region`.
fn assert_born(found: &[Read], region: &str, topic: &str, out: &Out, offset: i64) {
    let with_value: Vec<&Read> = found.iter().filter(|read| read.value == out.value).collect();
    assert_eq!(with_value.len(), 1, "{out:?} in {found:?}");
    let read = with_value[0];
    let time = out.timestamp_ms.expect("given");
    let origin = format!("{region}/{topic}/{}/{offset}/{time}", out.partition);
    let mut headers: Vec<(String, Option<Vec<u8>>)> = out.headers.clone();
    headers.retain(|(name, _)| name != "ls_origin");
    headers.push(("ls_origin".into(), Some(origin.into_bytes())));
    assert_eq!((read.partition, &read.key, read.timestamp_ms), (out.partition, &out.key, time));
    assert_eq!(read.headers, headers);
}

#[test]
fn copies_that_an_application_writes_again_are_new_records_of_its_region() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "");
    let orders = way.topic("orders", [2, 2], [&[], &[]]);
    let other = way.topic("other", [2, 2], [&[], &[]]);
    let (mut bridge, mut back) = (way.bridge(), way.bridge_back());
    plain::produce(&way.there, &orders, &numbered("born", 0, 0..5));
    let arrived = way.wait_here(&orders, 5);
    wait_counted(&back, SKIPPED, &orders, &[r#"reason="copy""#], 5.0);
    let later = |out: Out| Out { timestamp_ms: out.timestamp_ms.map(|time| time + 1), ..out };
    let here = [
        passed_on(&arrived[2], "with its time"),
        passed_on(&arrived[4], "the newest with its time"),
        later(passed_on(&arrived[3], "at another time")),
        Out { partition: 1, ..passed_on(&arrived[4], "in another partition") },
    ];
    let elsewhere = passed_on(&arrived[0], "in another topic");
    let offsets = plain::produce(&way.here, &orders, &here);
    let offset_elsewhere = plain::produce(&way.here, &other, std::slice::from_ref(&elsewhere))[0];
    let found = plain::read_at_least(&way.there, &orders, 9, crate::copy_kafka::COPIED);
    assert_eq!(found.len(), 9);
    for (out, offset) in here.iter().zip(offsets) {
        assert_born(&found, &way.to, &orders, out, offset);
    }
    let found = plain::read_at_least(&way.there, &other, 1, crate::copy_kafka::COPIED);
    assert_born(&found, &way.to, &other, &elsewhere, offset_elsewhere);
    wait_counted(&back, REPUBLISHED, &orders, &[], 4.0);
    wait_counted(&back, REPUBLISHED, &other, &[], 1.0);

    // They do not come back, and the stream that they had been copies of goes on.
    plain::produce(&way.there, &orders, &numbered("born", 0, 5..8));
    wait_counted(&bridge, SKIPPED, &orders, &[r#"reason="copy""#], 4.0);
    wait_counted(&bridge, SKIPPED, &other, &[r#"reason="copy""#], 1.0);
    let found = way.wait_here(&orders, 12);
    wait_copied(&back, &orders);
    let born: Vec<Out> = numbered("born", 0, 0..8);
    let of_there: Vec<Read> =
        found.iter().filter(|read| read.value.as_ref().is_some_and(|it| it.starts_with(b"born"))).cloned().collect();
    plain::assert_same_bodies(&orders, &born, &of_there);
    stop(&mut bridge);
    stop(&mut back);
    let counts = [(&way.here, &orders), (&way.there, &orders), (&way.here, &other), (&way.there, &other)]
        .map(|(bootstrap, topic)| plain::read_all(bootstrap, topic).len());
    assert_eq!(counts, [12, 12, 1, 1]);
}

#[test]
fn behind_at_least_once_links_only_what_repeats_a_copy_in_all_is_passed() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "links: {guarantee: at-least-once}");
    let created = way.topic("created", [1, 1], [&[], &[]]);
    let appended = way.topic("appended", [1, 1], [&[], &[("message.timestamp.type", "LogAppendTime")]]);
    let mut back = way.bridge_back();
    let mut bridge = way.bridge();
    for topic in [&created, &appended] {
        plain::produce(&way.there, topic, &numbered("born", 0, 0..5));
        let arrived = way.wait_here(topic, 5);
        wait_counted(&back, SKIPPED, topic, &[r#"reason="copy""#], 5.0);
        let again = [passed_on(&arrived[2], "again"), passed_on(&arrived[4], "again and newest")];
        plain::produce(&way.here, topic, &again);
        let own = Out { timestamp_ms: Some(1_760_000_000_999), ..passed_on(&arrived[3], "at a time of its own") };
        plain::produce(&way.here, topic, &[own]);
    }
    // Where the broker sets the times, nothing tells a repeat from an application's record: losing is worse.
    let found = plain::read_at_least(&way.there, &created, 6, crate::copy_kafka::COPIED);
    assert_eq!(
        copies(found.clone()).iter().map(|it| it.value.as_deref()).collect::<Vec<_>>(),
        [Some(&b"at a time of its own"[..])]
    );
    let found_appended = plain::read_at_least(&way.there, &appended, 8, crate::copy_kafka::COPIED);
    wait_counted(&back, "longshore_duplicate_copies_total", &created, &[], 2.0);
    wait_counted(&back, REPUBLISHED, &created, &[], 1.0);
    wait_counted(&back, REPUBLISHED, &appended, &[], 3.0);
    assert_eq!((found.len(), found_appended.len()), (6, 8));
    stop(&mut bridge);
    stop(&mut back);
    assert_eq!((plain::read_all(&way.here, &created).len(), plain::read_all(&way.here, &appended).len()), (8, 8));
}

#[test]
fn positions_that_a_group_lost_are_not_recovered_from_republished_copies() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "");
    let topic = way.topic("lost", [1, 1], [&[], &[]]);
    let mut bridge = way.bridge();
    plain::produce(&way.there, &topic, &numbered("born", 0, 0..20));
    let arrived = way.wait_here(&topic, 20);
    stop(&mut bridge);
    let again = [
        passed_on(&arrived[7], "with its time"),
        Out { timestamp_ms: Some(1_760_000_000_999), ..passed_on(&arrived[12], "at another time") },
    ];
    plain::produce(&way.here, &topic, &again);
    plain::delete_group(&way.here, &format!("longshore-link-{}-{}", way.from, way.to));
    plain::produce(&way.there, &topic, &numbered("born", 0, 20..25));
    bridge.restart();
    way.wait_here(&topic, 27);
    wait_copied(&bridge, &topic);
    stop(&mut bridge);
    let mut found = plain::read_all(&way.here, &topic);
    found.retain(|read| read.value.as_ref().is_some_and(|value| value.starts_with(b"born")));
    plain::assert_same_bodies(&topic, &numbered("born", 0, 0..25), &found);
}

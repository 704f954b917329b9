//! Records that the source lost before they were copied, and topics that were deleted and made anew: never silent,
//! never more lost than the source lost, never taken for what they are not.

use crate::copy_kafka::READY;
use crate::edges_kafka::way::{Way, make, numbered, stop, wait_copied, wait_counted};
use crate::harness::clusters;
use crate::harness::plain::{self, Out};

const GAP: &str = "longshore_link_gap_records_total";

/// Both partitions' records with these numbers.
fn of_both(writer: &str, numbers: std::ops::Range<i64>) -> Vec<Out> {
    [numbered(writer, 0, numbers.clone()), numbered(writer, 1, numbers)].concat()
}

#[test]
fn a_stream_whose_source_lost_records_stops_until_the_operator_accepts_the_gap() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "");
    let topic = way.topic("gap", [2, 2], [&[], &[]]);
    let mut bridge = way.bridge();
    plain::produce(&way.there, &topic, &of_both("v", 0..10));
    way.wait_here(&topic, 20);
    stop(&mut bridge);
    plain::produce(&way.there, &topic, &of_both("v", 10..20));
    plain::delete_records(&way.there, &topic, 0, 15);
    bridge.restart();
    way.wait_shown(way.link(), &topic, 0, "stopped", "gap: records 10..15 were deleted");
    assert!(bridge.get("/readyz").is_some_and(|reasons| reasons.contains("gap: records 10..15")));
    let expected = [numbered("v", 0, 0..10), numbered("v", 1, 0..20)].concat();
    plain::assert_same_bodies("before the gap is accepted", &expected, &way.wait_here(&topic, 30));

    way.accept_gap(way.link(), &topic, 0);
    bridge.wait_ready(READY);
    let expected = [numbered("v", 0, 0..10), numbered("v", 0, 15..20), numbered("v", 1, 0..20)].concat();
    plain::assert_same_bodies("behind the gap", &expected, &way.wait_here(&topic, 35));
    wait_counted(&bridge, GAP, &topic, &[r#"partition="0""#], 5.0);

    // What was accepted once does not cover what is lost later, this time under the eyes of the bridge.
    way.operate_topic("pause", &topic);
    plain::produce(&way.there, &topic, &of_both("v", 20..30));
    plain::delete_records(&way.there, &topic, 0, 23);
    way.operate_topic("resume", &topic);
    way.wait_shown(way.link(), &topic, 0, "stopped", "gap: records 20..23 were deleted");
    plain::assert_same_bodies(
        "before the second gap is accepted",
        &[expected, numbered("v", 1, 20..30)].concat(),
        &way.wait_here(&topic, 45),
    );
    way.accept_gap(way.link(), &topic, 0);
    let rest = [numbered("v", 0, 0..10), numbered("v", 0, 15..20), numbered("v", 0, 23..30)].concat();
    let expected = [rest, numbered("v", 1, 0..30)].concat();
    plain::assert_same_bodies("behind both gaps", &expected, &way.wait_here(&topic, 52));
    wait_counted(&bridge, GAP, &topic, &[], 8.0);
    stop(&mut bridge);
    plain::assert_same_bodies("in the end", &expected, &plain::read_all(&way.here, &topic));
}

#[test]
fn on_gap_skip_goes_on_behind_what_the_source_lost_and_counts_it() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "links: {on_gap: skip}");
    let topic = way.topic("skip", [2, 2], [&[], &[]]);
    let mut bridge = way.bridge();
    plain::produce(&way.there, &topic, &of_both("v", 0..10));
    way.wait_here(&topic, 20);
    stop(&mut bridge);
    plain::produce(&way.there, &topic, &of_both("v", 10..20));
    plain::delete_records(&way.there, &topic, 0, 15);
    // Of this one nothing is left at all.
    plain::delete_records(&way.there, &topic, 1, 20);
    bridge.restart();
    let expected = [numbered("v", 0, 0..10), numbered("v", 0, 15..20), numbered("v", 1, 0..10)].concat();
    plain::assert_same_bodies("behind the gap", &expected, &way.wait_here(&topic, 25));
    wait_counted(&bridge, GAP, &topic, &[r#"partition="0""#], 5.0);
    wait_counted(&bridge, GAP, &topic, &[r#"partition="1""#], 10.0);

    way.operate_topic("pause", &topic);
    plain::produce(&way.there, &topic, &of_both("v", 20..30));
    plain::delete_records(&way.there, &topic, 1, 22);
    way.operate_topic("resume", &topic);
    let behind = [numbered("v", 0, 20..30), numbered("v", 1, 22..30)].concat();
    let expected = [expected, behind].concat();
    plain::assert_same_bodies("behind both gaps", &expected, &way.wait_here(&topic, 43));
    wait_counted(&bridge, GAP, &topic, &[], 17.0);
    bridge.wait_ready(READY);
    stop(&mut bridge);
}

/// Asserts that the target holds both incarnations once and in order, that the second names itself, and that the peer
/// takes all of it for what it is: copies.
fn assert_two_incarnations(way: &Way, topic: &str, old: &[Out], new: &[Out]) {
    let found = way.wait_here(topic, old.len() + new.len());
    plain::assert_same_bodies(topic, &[old, new].concat(), &found);
    for partition in 0..2 {
        let in_partition = |out: &&Out| out.partition == partition;
        let time_of = |out: &Out| out.timestamp_ms.expect("numbered");
        let olds = old.iter().filter(in_partition).enumerate();
        let news = new.iter().filter(in_partition).enumerate();
        let expected: Vec<String> = olds
            .map(|(offset, out)| format!("{}/{topic}/{partition}/{offset}/{}", way.from, time_of(out)))
            .chain(news.map(|(offset, out)| format!("{}/{topic}/{partition}/2.{offset}/{}", way.from, time_of(out))))
            .collect();
        let origins: Vec<&str> =
            found.iter().filter(|read| read.partition == partition).filter_map(|it| it.header("ls_origin")).collect();
        assert_eq!(origins, expected);
    }
    let mut back = way.bridge_back();
    let copied = (old.len() + new.len()) as f64;
    wait_counted(&back, "longshore_link_skipped_records_total", topic, &[r#"reason="copy""#], copied);
    wait_copied(&back, topic);
    for surplus in ["longshore_link_records_total", "longshore_republished_copies_total"] {
        assert_eq!(back.metric(surplus, &[&format!("topic=\"{topic}\"")]), Some(0.0), "{surplus}");
    }
    stop(&mut back);
    plain::assert_same_bodies("at the source", new, &plain::read_all(&way.there, topic));
}

#[test]
fn a_topic_recreated_under_a_running_bridge_stops_and_its_next_incarnation_is_told_apart() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "");
    let topic = way.topic("anew", [2, 2], [&[], &[]]);
    let mut bridge = way.bridge();
    // The same numbers, hence times and keys: nothing but the incarnation tells them apart.
    let (old, new) = (of_both("old", 0..10), of_both("new", 0..30));
    plain::produce(&way.there, &topic, &old);
    way.wait_here(&topic, old.len());
    wait_copied(&bridge, &topic);
    plain::delete_topic(&way.there, &topic);
    make(&way.there, &topic, 2, &[]);
    plain::produce(&way.there, &topic, &new);
    for partition in 0..2 {
        way.wait_shown(way.link(), &topic, partition, "stopped", "recreated: the topic was deleted and created anew");
    }
    plain::assert_same_bodies("while it is stopped", &old, &plain::read_all(&way.here, &topic));
    way.accept_gap(way.link(), &topic, 0);
    way.accept_gap(way.link(), &topic, 1);
    bridge.wait_ready(READY);
    way.wait_here(&topic, old.len() + new.len());
    stop(&mut bridge);
    assert_two_incarnations(&way, &topic, &old, &new);
}

#[test]
fn a_topic_recreated_faster_than_the_bridge_looks_is_told_apart() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "");
    let topic = way.topic("fast", [2, 2], [&[], &[]]);
    let mut bridge = way.bridge();
    let (old, new) = (of_both("old", 0..3), of_both("new", 0..400));
    plain::produce(&way.there, &topic, &old);
    way.wait_here(&topic, old.len());
    // The new log reaches beyond the position of the old one before the bridge can see that it is another.
    bridge.sigstop();
    plain::recreate_topic(&way.there, &topic, 2, &[("retention.ms", "-1")]);
    plain::produce(&way.there, &topic, &new);
    bridge.sigcont();
    for partition in 0..2 {
        way.wait_shown(way.link(), &topic, partition, "stopped", "recreated: the topic was deleted and created anew");
    }
    plain::assert_same_bodies("while it is stopped", &old, &plain::read_all(&way.here, &topic));
    way.accept_gap(way.link(), &topic, 0);
    way.accept_gap(way.link(), &topic, 1);
    way.wait_here(&topic, old.len() + new.len());
    stop(&mut bridge);
    assert_two_incarnations(&way, &topic, &old, &new);
}

#[test]
fn a_topic_recreated_while_the_bridge_is_down_is_told_apart_also_at_least_once() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "links: {guarantee: at-least-once}");
    let topic = way.topic("down", [2, 2], [&[], &[]]);
    let mut bridge = way.bridge();
    let (old, new) = (of_both("old", 0..20), of_both("new", 0..30));
    plain::produce(&way.there, &topic, &old);
    way.wait_here(&topic, old.len());
    stop(&mut bridge);
    plain::delete_topic(&way.there, &topic);
    make(&way.there, &topic, 2, &[]);
    // One incarnation's log is shorter than the position, the other's gets longer: both are recreated, not truncated.
    let (first, rest) = new.split_at(30);
    plain::produce(&way.there, &topic, first);
    bridge.restart();
    for partition in 0..2 {
        way.wait_shown(way.link(), &topic, partition, "stopped", "recreated: the topic was deleted and created anew");
    }
    way.accept_gap(way.link(), &topic, 0);
    way.accept_gap(way.link(), &topic, 1);
    plain::produce(&way.there, &topic, rest);
    way.wait_here(&topic, old.len() + new.len());
    stop(&mut bridge);
    assert_two_incarnations(&way, &topic, &old, &new);
}

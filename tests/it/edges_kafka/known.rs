//! Links that begin or go on in the middle of a log: copies that lie there are still told from what applications wrote,
//! so that no record goes back to where it was born and none of an application's is lost.

use crate::copy_kafka::{COPIED, READY};
use crate::edges_kafka::way::{Way, make, numbered, stop, wait_copied, wait_counted};
use crate::harness::clusters;
use crate::harness::plain::{self, Out, Read};

const REPUBLISHED: &str = "longshore_republished_copies_total";
const SKIPPED: &str = "longshore_link_skipped_records_total";

/// The records whose values begin with the writer's name, as the application wrote them.
fn of(writer: &str, found: &[Read]) -> Vec<Read> {
    let is_of = |read: &&Read| read.value.as_ref().is_some_and(|value| value.starts_with(writer.as_bytes()));
    found.iter().filter(is_of).cloned().collect()
}

#[test]
fn a_link_that_is_sent_back_brings_no_record_home() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "");
    let topic = way.topic("back", [1, 1], [&[], &[]]);
    let (mut bridge, mut back) = (way.bridge(), way.bridge_back());
    plain::produce(&way.there, &topic, &numbered("there", 0, 0..10));
    way.wait_here(&topic, 10);
    plain::produce(&way.here, &topic, &numbered("here", 0, 0..10));
    plain::read_at_least(&way.there, &topic, 20, COPIED);
    wait_counted(&back, SKIPPED, &topic, &[r#"reason="copy""#], 10.0);
    stop(&mut bridge);
    let link = way.link_back().join(":");
    let seek = ["links", "seek", "--link", &link, "--topic", &topic, "--partition", "0", "--offset", "4"];
    let told = way.operate(&seek);
    assert!(told.contains(": applied"), "{told}");
    // What was born here comes a second time, as the command says; the six copies before it do not.
    plain::read_at_least(&way.there, &topic, 30, COPIED);
    wait_counted(&back, SKIPPED, &topic, &[r#"reason="copy""#], 16.0);
    wait_copied(&back, &topic);
    assert_eq!(back.metric(REPUBLISHED, &[&format!("topic=\"{topic}\"")]), Some(0.0));
    stop(&mut back);
    let found = plain::read_all(&way.there, &topic);
    assert_eq!((of("there", &found).len(), of("here", &found).len()), (10, 20));
}

#[test]
fn copies_that_a_recreated_topic_gets_again_do_not_go_home() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "");
    let topic = way.topic("again", [1, 1], [&[], &[]]);
    let (mut bridge, mut back) = (way.bridge(), way.bridge_back());
    plain::produce(&way.there, &topic, &numbered("there", 0, 0..10));
    way.wait_here(&topic, 10);
    plain::produce(&way.here, &topic, &numbered("here", 0, 0..10));
    plain::read_at_least(&way.there, &topic, 20, COPIED);
    wait_copied(&back, &topic);
    stop(&mut bridge);
    stop(&mut back);
    plain::delete_topic(&way.here, &topic);
    make(&way.here, &topic, 1, &[]);
    bridge.restart();
    // The new topic had nothing: all that was born over there is copied into it again.
    let copied_again = way.wait_here(&topic, 10);
    plain::assert_same_bodies("copied again", &numbered("there", 0, 0..10), &copied_again);
    plain::produce(&way.here, &topic, &numbered("newer", 0, 0..5));
    back.restart();
    way.wait_shown(way.link_back(), &topic, 0, "stopped", "recreated");
    way.accept_gap(way.link_back(), &topic, 0);
    plain::read_at_least(&way.there, &topic, 25, COPIED);
    wait_counted(&back, SKIPPED, &topic, &[r#"reason="copy""#], 10.0);
    back.wait_ready(READY);
    wait_copied(&back, &topic);
    stop(&mut back);
    stop(&mut bridge);
    let found = plain::read_all(&way.there, &topic);
    let expected = [numbered("there", 0, 0..10), numbered("here", 0, 0..10), numbered("newer", 0, 0..5)].concat();
    plain::assert_same_bodies(&topic, &expected, &found);
    let newer = of("newer", &found);
    let origin = |number: usize| newer[number].header("ls_origin").unwrap_or("").to_owned();
    assert_eq!(origin(0).split('/').nth(3).map(|offset| offset.starts_with("2.")), Some(true), "{}", origin(0));
}

#[test]
fn a_copy_published_anew_behind_a_link_that_starts_at_the_end_is_not_lost() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "links: {start_from: latest}");
    let topic = way.topic("ends", [1, 1], [&[], &[]]);
    let mut bridge = way.bridge();
    plain::produce(&way.there, &topic, &numbered("there", 0, 0..10));
    let arrived = way.wait_here(&topic, 10);
    let mut back = way.bridge_back();
    let Read { partition, key, headers, timestamp_ms, .. } = arrived[6].clone();
    let again = Out { partition, key, headers, timestamp_ms: Some(timestamp_ms), value: Some(b"again".to_vec()) };
    plain::produce(&way.here, &topic, &[again]);
    let found = plain::read_at_least(&way.there, &topic, 11, COPIED);
    assert_eq!(of("again", &found).len(), 1);
    wait_counted(&back, REPUBLISHED, &topic, &[], 1.0);
    stop(&mut bridge);
    stop(&mut back);
}

//! Topics that grow, and targets that are too small.

use crate::copy_kafka::READY;
use crate::edges_kafka::way::{SOON, Way, make, numbered, stop};
use crate::harness::clusters;
use crate::harness::plain::{self, Out, Writer};
use crate::harness::{eventually, unique};

/// Record number `index`, spread over these partitions.
fn spread(writer: &'static str, partitions: [i32; 2]) -> impl Fn(usize) -> Out + Send + 'static {
    move |index| {
        let number = i64::try_from(index).expect("few");
        numbered(writer, partitions[index % 2], number..number + 1).remove(0)
    }
}

#[test]
fn partitions_that_a_source_gains_under_load_are_copied_from_their_beginning() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "links: {start_from: latest}");
    let topic = way.topic("growth", [2, 2], [&[], &[]]);
    plain::produce(&way.there, &topic, &[numbered("before", 0, 0..50), numbered("before", 1, 0..50)].concat());
    let mut bridge = way.bridge();
    let old = Writer::start(&way.there, &topic, 300, &[], spread("old", [0, 1]));
    way.wait_here(&topic, 100);
    plain::grow_topic(&way.there, &topic, 4);
    let new = Writer::start(&way.there, &topic, 300, &[], spread("new", [2, 3]));
    eventually(SOON, "the target grows", || (plain::partitions_of(&way.here, &topic) == 4).then_some(()));
    eventually(SOON, "the new partitions arrive", || {
        (2..4).all(|partition| plain::watermarks(&way.here, &topic, partition).1 > 0).then_some(())
    });
    let produced: Vec<Out> = [old.finish(), new.finish()].concat().into_iter().map(|(out, _)| out).collect();
    plain::assert_same_bodies(&topic, &produced, &way.wait_here(&topic, produced.len()));
    stop(&mut bridge);
}

#[test]
fn a_target_with_fewer_partitions_stops_its_topic_until_it_is_grown_and_no_other() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "create_topics: false");
    plain::ensure_topic(&way.here, "__longshore_control", 1, &[("cleanup.policy", "compact")]);
    plain::ensure_topic(&way.there, "__longshore_control", 1, &[("cleanup.policy", "compact")]);
    let narrow = way.topic("narrow", [3, 2], [&[], &[]]);
    let grows = way.topic("grows", [2, 2], [&[], &[]]);
    let whole = unique("whole");
    way.setup.topic_for_all(&whole, 2);
    make(&way.there, &whole, 2, &[]);
    make(&way.here, &whole, 2, &[]);
    let records = |partitions: i32| -> Vec<Out> { (0..partitions).flat_map(|it| numbered("v", it, 0..20)).collect() };
    plain::produce(&way.there, &narrow, &records(3));
    plain::produce(&way.there, &grows, &records(2));
    plain::produce(&way.there, &whole, &records(2));
    let mut bridge = way.setup.bridge(&way.to, "only");
    plain::assert_same_bodies(&whole, &records(2), &way.wait_here(&whole, 40));
    plain::assert_same_bodies(&grows, &records(2), &way.wait_here(&grows, 40));
    let why = |topic: &str| {
        format!("too_few_partitions: {topic} has 3 partitions in {}, {topic} has 2 in {}; grow it", way.from, way.to)
    };
    way.wait_shown(way.link(), &narrow, 0, "stopped", &why(&narrow));
    // Before it has looked at the source the bridge may have copied what there is a partition for; then nothing more.
    let before = plain::read_all(&way.here, &narrow);
    plain::produce(&way.there, &narrow, &numbered("v", 0, 20..40));

    // Another becomes too narrow while it is copied.
    plain::grow_topic(&way.there, &grows, 3);
    plain::produce(&way.there, &grows, &numbered("v", 2, 0..20));
    way.wait_shown(way.link(), &grows, 1, "stopped", &why(&grows));
    let reasons = bridge.get("/readyz").expect("answers");
    assert!(reasons.contains(&why(&narrow)) && reasons.contains(&why(&grows)), "{reasons}");
    assert!(!reasons.contains(&whole), "{reasons}");
    plain::produce(&way.there, &whole, &numbered("v", 1, 20..40));
    way.wait_here(&whole, 60);
    assert_eq!(plain::read_all(&way.here, &narrow), before);

    plain::grow_topic(&way.here, &narrow, 3);
    plain::grow_topic(&way.here, &grows, 3);
    let all = [numbered("v", 0, 0..40), numbered("v", 1, 0..20), numbered("v", 2, 0..20)].concat();
    plain::assert_same_bodies(&narrow, &all, &way.wait_here(&narrow, 80));
    plain::assert_same_bodies(&grows, &records(3), &way.wait_here(&grows, 60));
    bridge.wait_ready(READY);
    stop(&mut bridge);
}

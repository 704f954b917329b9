//! Links between embedded regions: what a link promises, seen from the logs. The same promises are checked on real
//! Kafka clusters in `copy_kafka.rs`; here they run in seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore::broker::Cluster;
use longshore::control::entry::OrderAction;
use longshore::control::orders::{self, Scope};
use longshore::model::names::{RegionName, TopicPartition};
use longshore::model::provenance::Origin;
use longshore::model::record::{Header, Headers, NewRecord};
use longshore::policy::subscription::{Copies, Extract, StartFrom, Topology};
use longshore::runtime::bridge::Bridge;

mod deaf;
mod world;

use world::{Read, World, all_beats, eventually, metric, numbered, ready, reason};

#[test]
fn three_regions_end_with_each_record_once_in_order_and_none_copied_on() {
    let world = World::new(&["hz", "sh", "bj"]);
    for region in ["hz", "sh", "bj"] {
        world.make_topic(region, "orders", 2, &[]);
        (0..2).for_each(|partition| world.produce(region, partition, numbered(&format!("{region}{partition}"), 0..50)));
    }
    let bridges: Vec<Bridge> = ["hz", "sh", "bj"].iter().map(|region| world.bridge(region, region)).collect();
    for region in ["hz", "sh", "bj"] {
        (0..2)
            .for_each(|partition| world.produce(region, partition, numbered(&format!("{region}{partition}"), 50..100)));
    }
    for region in ["hz", "sh", "bj"] {
        eventually("all records arrive", || world.count(region) == 600);
    }
    eventually("all are ready with no lag", || {
        bridges.iter().all(|bridge| ready(bridge) && all_beats(bridge, |beat| beat.lag_records == Some(0)))
    });
    assert!(bridges.into_iter().all(Bridge::stop));
    for here in ["hz", "sh", "bj"] {
        for (partition, records) in world.read(here, "orders").iter().enumerate() {
            let mut by_origin: HashMap<String, Vec<String>> = HashMap::new();
            for record in records {
                let value = String::from_utf8(record.value.clone().unwrap()).unwrap();
                let born = value[..2].to_owned();
                match record.header("ls_origin") {
                    None => assert_eq!(born, here),
                    Some(origin) => {
                        let origin = Origin::parse(origin.as_bytes()).unwrap();
                        assert_eq!((origin.region.as_ref(), origin.topic.as_ref()), (born.as_str(), "orders"));
                        assert_eq!((origin.partition, origin.timestamp_ms), (partition as i32, record.timestamp_ms));
                    }
                }
                by_origin.entry(born).or_default().push(value);
            }
            for region in ["hz", "sh", "bj"] {
                assert_eq!(by_origin[region], numbered(&format!("{region}{partition}"), 0..100));
            }
        }
    }
}

#[test]
fn records_of_every_shape_arrive_as_they_were() {
    let world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 1, &[]);
    let headers = vec![
        Header::text("b", "2"),
        Header::text("a", "1"),
        Header::text("b", "1"),
        Header { name: b"null".to_vec(), value: None },
        Header { name: b"empty".to_vec(), value: Some(Vec::new()) },
        Header { name: b"bytes".to_vec(), value: Some(vec![0, 255, 10]) },
    ];
    type Body<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);
    let shapes: [Body<'_>; 6] = [
        (None, None),
        (Some(b""), Some(b"")),
        (Some(b"tombstone"), None),
        (None, Some(b"no key")),
        (Some(&[0, 159, 146, 150]), Some(&[255, 0, 255])),
        (Some(b"big"), Some(&[7; 300_000])),
    ];
    let at = TopicPartition::new(&"orders".into(), 0);
    for (index, (key, value)) in shapes.iter().enumerate() {
        let listed = if index % 2 == 0 { Headers::Listed(&headers) } else { Headers::Empty };
        let record =
            NewRecord { timestamp_ms: 5_000 - index as i64, headers: listed, ..NewRecord::plain(*key, *value) };
        world.embedded("hz").append(&at, &[record]).unwrap();
    }
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") == shapes.len());
    assert!(bridge.stop());
    let (born, copied) = (world.read("hz", "orders").remove(0), world.read("sh", "orders").remove(0));
    for (born, copy) in born.into_iter().zip(copied) {
        let mut expected = born.headers.clone();
        let origin = format!("hz/orders/0/{}/{}", born.offset, born.timestamp_ms);
        expected.push(("ls_origin".to_owned(), Some(origin.into_bytes())));
        assert_eq!((copy.key, copy.value, copy.timestamp_ms), (born.key, born.value, born.timestamp_ms));
        assert_eq!(copy.headers, expected);
    }
}

#[test]
fn a_restart_and_a_second_instance_repeat_nothing() {
    let world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 4, &[]);
    for round in 0..4 {
        let first = world.bridge("sh", "one");
        (0..4).for_each(|partition| world.produce("hz", partition, numbered("v", round * 100..round * 100 + 50)));
        let second = (round % 2 == 1).then(|| world.bridge("sh", "two"));
        (0..4).for_each(|partition| world.produce("hz", partition, numbered("v", round * 100 + 50..round * 100 + 100)));
        if round < 2 {
            eventually("all arrive", || world.count("sh") == (round + 1) * 400);
        }
        assert!(first.stop());
        if let Some(second) = second {
            eventually("the second takes over", || world.count("sh") == (round + 1) * 400);
            assert!(second.stop());
        }
    }
    for partition in world.values("sh") {
        assert_eq!(partition, numbered("v", 0..400));
    }
}

#[test]
fn a_gap_stops_the_stream_until_it_is_accepted() {
    let world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 2, &[]);
    (0..2).for_each(|partition| world.produce("hz", partition, numbered("v", 0..10)));
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") == 20);
    assert!(bridge.stop());
    (0..2).for_each(|partition| world.produce("hz", partition, numbered("v", 10..20)));
    world.embedded("hz").trim(&TopicPartition::new(&"orders".into(), 0), 15).unwrap();
    let bridge = world.bridge("sh", "i");
    eventually("the other partition goes on", || world.values("sh")[1].len() == 20);
    eventually("the gap is told", || reason(&bridge).contains("gap: records 10..15"));
    assert_eq!(world.values("sh")[0].len(), 10);
    let control = Arc::clone(&bridge.handle().controls()[&RegionName::new("sh")]);
    orders::order(&control, &world.stream("hz", "sh", 0), OrderAction::AcceptGap, "test", 0).unwrap();
    eventually("it goes on behind the gap", || world.values("sh")[0].len() == 15);
    eventually("it is ready again", || ready(&bridge));
    assert!(metric(&bridge, "link_gap_records_total", 5));
    assert!(bridge.stop());
    let expected: Vec<String> = [numbered("v", 0..10), numbered("v", 15..20)].concat();
    assert_eq!(world.values("sh")[0], expected);
}

#[test]
fn on_gap_skip_goes_on_and_counts() {
    let mut world = World::new(&["hz", "sh"]);
    world.link.skips_gaps = true;
    world.make_topic("hz", "orders", 1, &[]);
    world.produce("hz", 0, numbered("v", 0..10));
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") == 10);
    assert!(bridge.stop());
    world.produce("hz", 0, numbered("v", 10..20));
    world.embedded("hz").trim(&TopicPartition::new(&"orders".into(), 0), 15).unwrap();
    let bridge = world.bridge("sh", "i");
    eventually("it goes on by itself", || world.count("sh") == 15);
    assert!(metric(&bridge, "link_gap_records_total", 5));
    assert!(bridge.stop());
}

#[test]
fn a_recreated_topic_stops_and_its_next_incarnation_is_told_apart() {
    let world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 1, &[]);
    world.produce("hz", 0, numbered("old", 0..5));
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") == 5);
    world.embedded("hz").delete(&"orders".into()).unwrap();
    world.make_topic("hz", "orders", 1, &[]);
    world.produce("hz", 0, numbered("new", 0..9));
    eventually("it stops", || reason(&bridge).contains("recreated"));
    assert_eq!(world.count("sh"), 5);
    let control = Arc::clone(&bridge.handle().controls()[&RegionName::new("sh")]);
    orders::order(&control, &world.stream("hz", "sh", 0), OrderAction::AcceptGap, "test", 0).unwrap();
    eventually("it begins the new incarnation", || world.count("sh") == 14);
    assert!(bridge.stop());
    let copies = world.read("sh", "orders").remove(0);
    let origins: Vec<String> = copies.iter().map(|copy| copy.header("ls_origin").unwrap()).collect();
    assert_eq!((origins[4].as_str(), origins[5].as_str()), ("hz/orders/0/4/1000", "hz/orders/0/2.0/1000"));
}

#[test]
fn a_seek_is_carried_out_once() {
    let world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 1, &[]);
    world.produce("hz", 0, numbered("v", 0..10));
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") == 10);
    let control = Arc::clone(&bridge.handle().controls()[&RegionName::new("sh")]);
    orders::order(&control, &world.stream("hz", "sh", 0), OrderAction::Seek { offset: 7 }, "test", 0).unwrap();
    eventually("the last three come again", || world.count("sh") == 13);
    assert!(bridge.stop());
    let bridge = world.bridge("sh", "i");
    world.produce("hz", 0, numbered("v", 10..11));
    eventually("the next one comes", || world.count("sh") == 14);
    assert!(bridge.stop());
    assert_eq!(world.count("sh"), 14);
}

#[test]
fn a_paused_link_copies_nothing_until_it_is_resumed() {
    let world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 1, &[]);
    world.produce("hz", 0, numbered("v", 0..5));
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") == 5);
    let control = Arc::clone(&bridge.handle().controls()[&RegionName::new("sh")]);
    let scope = Scope { from: "hz".into(), to: "sh".into(), topic: None, partition: None };
    orders::pause(&control, &scope, "test", 0).unwrap();
    eventually("it is paused", || all_beats(&bridge, |beat| beat.state == "paused"));
    world.produce("hz", 0, numbered("v", 5..10));
    eventually("the lag shows", || all_beats(&bridge, |beat| beat.lag_records == Some(5)));
    assert!(bridge.stop());
    let bridge = world.bridge("sh", "i");
    eventually("still paused after a restart", || all_beats(&bridge, |beat| beat.state == "paused"));
    assert_eq!(world.count("sh"), 5);
    orders::resume(&bridge.handle().controls()[&RegionName::new("sh")], &scope).unwrap();
    eventually("it goes on", || world.count("sh") == 10);
    assert!(bridge.stop());
}

#[test]
fn a_refused_record_is_put_aside_and_the_stream_goes_on() {
    let world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 1, &[]);
    world.make_topic("sh", "orders", 1, &[("max.message.bytes", "2000")]);
    world.produce("hz", 0, numbered("v", 0..20));
    world.produce("hz", 0, ["x".repeat(5_000)]);
    world.produce("hz", 0, numbered("v", 20..40));
    let bridge = world.bridge("sh", "i");
    eventually("the others arrive", || world.count("sh") == 40);
    assert!(bridge.stop());
    assert_eq!(world.values("sh")[0], numbered("v", 0..40));
    let dead: Vec<Read> = world.read("sh", "orders__dead-letter").concat();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("ls_origin").unwrap(), "hz/orders/0/20/1000");
    assert_eq!(dead[0].header("ls_target").unwrap(), "sh/orders/0");
    assert!(dead[0].header("ls_reason").is_some_and(|reason| !reason.is_empty()));
}

#[test]
fn on_rejected_stop_stands_still_at_the_record() {
    let mut world = World::new(&["hz", "sh"]);
    world.link.stops_at_rejected = true;
    world.make_topic("hz", "orders", 2, &[]);
    world.make_topic("sh", "orders", 2, &[("max.message.bytes", "2000")]);
    world.produce("hz", 0, numbered("v", 0..5));
    world.produce("hz", 0, ["x".repeat(5_000)]);
    world.produce("hz", 0, numbered("v", 5..9));
    world.produce("hz", 1, numbered("v", 0..9));
    let bridge = world.bridge("sh", "i");
    eventually("it says so", || reason(&bridge).contains("rejected"));
    eventually("the other partition is whole", || world.values("sh")[1].len() == 9);
    assert!(bridge.stop());
    assert_eq!(world.values("sh")[0], numbered("v", 0..5));
}

#[test]
fn partitions_that_the_source_gains_are_followed_from_their_beginning() {
    let mut world = World::new(&["hz", "sh"]);
    world.link.start_from = StartFrom::Latest;
    world.make_topic("hz", "orders", 2, &[]);
    world.produce("hz", 0, numbered("old", 0..5));
    let bridge = world.bridge("sh", "i");
    eventually("it runs", || ready(&bridge));
    world.embedded("hz").grow(&"orders".into(), 5).unwrap();
    (2..5).for_each(|partition| world.produce("hz", partition, numbered("new", 0..7)));
    world.produce("hz", 0, numbered("new", 0..2));
    eventually("the new partitions arrive whole", || world.count("sh") == 23);
    assert!(bridge.stop());
    assert_eq!(world.values("sh")[0], numbered("new", 0..2));
}

#[test]
fn without_create_topics_a_target_with_fewer_partitions_stops_the_topic() {
    let mut world = World::new(&["hz", "sh"]);
    world.link.creates_topics = false;
    for region in ["hz", "sh"] {
        world.make_topic(region, "__longshore_control", 1, &[]);
    }
    world.make_topic("hz", "orders", 3, &[]);
    world.make_topic("sh", "orders", 2, &[]);
    let bridge = world.bridge("sh", "i");
    eventually("it says so", || reason(&bridge).contains("too_few_partitions"));
    world.produce("hz", 2, numbered("v", 0..3));
    world.embedded("sh").grow(&"orders".into(), 3).unwrap();
    eventually("it goes on once it was grown", || world.count("sh") == 3 && ready(&bridge));
    assert!(bridge.stop());
}

#[test]
fn republished_copies_are_copied_as_new_records() {
    let world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 1, &[]);
    let passed_on = vec![Header::text("ls_origin", "sh/orders/0/7/999"), Header::text("trace", "t")];
    let record =
        NewRecord { timestamp_ms: 1_000, headers: Headers::Listed(&passed_on), ..NewRecord::plain(None, Some(b"v")) };
    world.embedded("hz").append(&TopicPartition::new(&"orders".into(), 0), &[record]).unwrap();
    let bridge = world.bridge("sh", "i");
    eventually("it arrives", || world.count("sh") == 1);
    eventually("it is counted", || metric(&bridge, "republished_copies_total", 1));
    assert!(bridge.stop());
    let copy = world.read("sh", "orders")[0][0].clone();
    let names: Vec<&str> = copy.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, copy.header("ls_origin").unwrap().as_str()), (vec!["trace", "ls_origin"], "hz/orders/0/0/1000"));
}

#[test]
fn declared_keys_and_versions_are_stamped() {
    let mut world = World::new(&["hz", "sh"]);
    world.deployment.topics[0].routing_key = Some(Extract::Json("/buyer".into()));
    world.deployment.topics[0].version = Some(Extract::Header("rev".into()));
    world.make_topic("hz", "orders", 1, &[]);
    let headers = vec![Header::text("rev", "12")];
    let record =
        NewRecord { headers: Headers::Listed(&headers), ..NewRecord::plain(None, Some(br#"{"buyer":10086}"#)) };
    let at = TopicPartition::new(&"orders".into(), 0);
    world.embedded("hz").append(&at, &[record, NewRecord::plain(None, Some(b"{}"))]).unwrap();
    let bridge = world.bridge("sh", "i");
    eventually("both arrive", || world.count("sh") == 2);
    eventually("the missing ones are counted", || {
        metric(&bridge, "missing_routing_key_total", 1) && metric(&bridge, "missing_version_total", 1)
    });
    assert!(bridge.stop());
    let copies = world.read("sh", "orders").remove(0);
    assert_eq!(
        (copies[0].header("ls_key").as_deref(), copies[0].header("ls_version").as_deref()),
        (Some("10086"), Some("12"))
    );
    assert_eq!((copies[1].header("ls_key"), copies[1].header("ls_version")), (None, None));
}

#[test]
fn a_star_forwards_through_its_center() {
    let mut world = World::new(&["hz", "sh", "bj"]);
    world.deployment.topology = Topology::Star;
    for region in ["hz", "sh", "bj"] {
        world.make_topic(region, "orders", 1, &[]);
        world.produce(region, 0, numbered(region, 0..20));
    }
    let bridges: Vec<Bridge> = ["hz", "sh", "bj"].iter().map(|region| world.bridge(region, region)).collect();
    for region in ["hz", "sh", "bj"] {
        eventually("all arrive", || world.count(region) == 60);
    }
    assert!(bridges.into_iter().all(Bridge::stop));
    let forwarded =
        world.read("bj", "orders")[0].iter().find(|read| read.value.as_deref() == Some(b"sh-3")).cloned().unwrap();
    assert_eq!(forwarded.header("ls_origin").unwrap(), "sh/orders/0/3/1000");
    assert_eq!(forwarded.header("ls_path").unwrap(), "sh,hz");
}

#[test]
fn own_topics_keep_copies_out_of_the_way() {
    for topology in [Topology::Mesh, Topology::Star] {
        let mut world = World::new(&["hz", "sh", "bj"]);
        world.deployment.topology = topology;
        world.deployment.topics[0].copies = Copies::OwnTopic;
        for region in ["hz", "sh", "bj"] {
            world.make_topic(region, "orders", 1, &[]);
            world.produce(region, 0, numbered(region, 0..20));
        }
        let bridges: Vec<Bridge> = ["hz", "sh", "bj"].iter().map(|region| world.bridge(region, region)).collect();
        for (here, there) in [("hz", "sh"), ("hz", "bj"), ("sh", "hz"), ("sh", "bj"), ("bj", "hz"), ("bj", "sh")] {
            eventually("copies arrive", || {
                world.read(here, &format!("orders__from__{there}")).iter().map(Vec::len).sum::<usize>() == 20
            });
        }
        assert!(bridges.into_iter().all(Bridge::stop));
        assert_eq!(world.count("hz"), 20);
    }
}

#[test]
fn lost_positions_are_recovered_from_the_newest_copies() {
    let mut world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 1, &[]);
    world.produce("hz", 0, numbered("v", 0..30));
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") == 30);
    assert!(bridge.stop());
    world.produce("sh", 0, numbered("local", 0..700));
    world.produce("hz", 0, numbered("v", 30..40));
    // Another group name in effect: the positions are gone, the copies are not.
    world.link.start_from = StartFrom::Latest;
    world.embedded("sh").forget_positions(&"longshore-link-hz-sh".into()).unwrap();
    let bridge = world.bridge("sh", "i");
    eventually("what is missing arrives", || world.count("sh") == 740);
    assert!(bridge.stop());
    let copies: Vec<String> = world.values("sh")[0].iter().filter(|value| value.starts_with("v-")).cloned().collect();
    assert_eq!(copies, numbered("v", 0..40));
}

#[test]
fn at_least_once_copies_too() {
    let mut world = World::new(&["hz", "sh"]);
    world.link.exactly_once = false;
    world.make_topic("hz", "orders", 2, &[]);
    (0..2).for_each(|partition| world.produce("hz", partition, numbered("v", 0..500)));
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") >= 1000);
    assert!(bridge.stop());
    let bridge = world.bridge("sh", "i");
    eventually("it runs again", || ready(&bridge));
    assert!(bridge.stop());
    assert_eq!(world.values("sh"), vec![numbered("v", 0..500); 2]);
}

#[test]
fn a_rate_limit_is_kept() {
    let mut world = World::new(&["hz", "sh"]);
    world.link.records_per_second = Some(200);
    world.make_topic("hz", "orders", 1, &[]);
    world.produce("hz", 0, numbered("v", 0..600));
    let begun = Instant::now();
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") == 600);
    // 200 may come at once, 400 take two seconds; a machine that is slow only makes it longer.
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "{:?}", begun.elapsed());
    assert!(bridge.stop());
}

#[test]
fn a_start_that_was_recorded_stands_although_its_position_is_lost() {
    let mut world = World::new(&["hz", "sh"]);
    world.link.start_from = StartFrom::Latest;
    for region in ["hz", "sh"] {
        world.make_topic(region, "orders", 1, &[]);
        world.produce(region, 0, numbered("old", 0..10));
    }
    // The target's log is not whole: that no copy is in it proves nothing by itself.
    world.embedded("sh").trim(&TopicPartition::new(&"orders".into(), 0), 5).unwrap();
    let bridge = world.bridge("sh", "i");
    eventually("it runs", || ready(&bridge));
    assert!(bridge.stop());
    world.produce("hz", 0, numbered("new", 0..3));
    world.embedded("sh").forget_positions(&"longshore-link-hz-sh".into()).unwrap();
    let bridge = world.bridge("sh", "i");
    eventually("what came since the start arrives", || world.count("sh") == 8);
    assert!(bridge.stop());
    assert_eq!(world.values("sh")[0][5..], numbered("new", 0..3));
}

#[test]
fn a_position_that_nothing_tells_stops_the_stream_until_somebody_seeks() {
    let world = World::new(&["hz", "sh"]);
    world.make_topic("hz", "orders", 1, &[]);
    world.produce("hz", 0, numbered("v", 0..10));
    let bridge = world.bridge("sh", "i");
    eventually("all arrive", || world.count("sh") == 10);
    assert!(bridge.stop());
    world.produce("sh", 0, numbered("local", 0..3));
    world.embedded("sh").trim(&TopicPartition::new(&"orders".into(), 0), 10).unwrap();
    world.produce("hz", 0, numbered("v", 10..12));
    world.embedded("sh").forget_positions(&"longshore-link-hz-sh".into()).unwrap();
    let bridge = world.bridge("sh", "i");
    eventually("it says so", || reason(&bridge).contains("position_lost"));
    let control = Arc::clone(&bridge.handle().controls()[&RegionName::new("sh")]);
    orders::order(&control, &world.stream("hz", "sh", 0), OrderAction::Seek { offset: 10 }, "test", 0).unwrap();
    eventually("it goes on where it was told", || world.count("sh") == 5);
    assert!(bridge.stop());
}

//! Cases: topics, bounds, offsets by time, appending outside a transaction.

use longshore::broker::{Bounds, Class, NewTopic};
use longshore::model::names::{TopicName, TopicPartition};
use longshore::model::record::NewRecord;

use super::world::{World, eventually, fresh, insist};

fn new_topic(name: &TopicName, partitions: i32) -> NewTopic {
    NewTopic { name: name.clone(), partitions, replication_factor: None, config: [].into() }
}

pub fn a_topic_is_created_once_and_described(on: &World) {
    let topic = on.topic(3);
    let found = on.cluster.describe(&[topic]).expect("describe").remove(0).expect("it exists");
    assert_eq!(found.partitions, 3);
    assert!(!found.id.is_empty());
    assert!(!found.append_time);
    assert!(!found.compacted);
    assert!(found.replication_factor <= 3, "{}", found.replication_factor);
}

pub fn creating_a_topic_again_changes_nothing(on: &World) {
    let topic = on.topic(2);
    let before = on.cluster.describe(std::slice::from_ref(&topic)).expect("describe").remove(0).expect("it exists");
    assert!(!insist(|| on.cluster.create(&new_topic(&topic, 5))));
    let after = on.cluster.describe(&[topic]).expect("describe").remove(0).expect("it exists");
    assert_eq!((before.id, before.partitions), (after.id, after.partitions));
}

pub fn a_missing_topic_is_described_as_none_in_the_order_asked(on: &World) {
    let (one, two, missing) = (on.topic(1), on.topic(2), TopicName::new(fresh("missing")));
    let found = on.cluster.describe(&[two, missing, one]).expect("describe");
    let partitions: Vec<_> = found.iter().map(|topic| topic.as_ref().map(|topic| topic.partitions)).collect();
    assert_eq!(partitions, [Some(2), None, Some(1)]);
}

pub fn what_was_set_for_a_topic_is_described(on: &World) {
    let config = [
        ("cleanup.policy", "compact,delete"),
        ("max.message.bytes", "123456"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    let topic = on.topic_with(1, &config);
    let found = on.cluster.describe(&[topic]).expect("describe").remove(0).expect("it exists");
    assert!(found.compacted);
    assert!(found.append_time);
    assert_eq!(found.record_bytes_max, Some(123_456));
    let told: Vec<_> = found.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(told, config);
}

pub fn growing_twice_is_growing_once_and_nothing_shrinks(on: &World) {
    let topic = on.topic(1);
    on.append(&TopicPartition::new(&topic, 0), &["kept"]);
    for partitions in [3, 3, 2] {
        insist(|| on.cluster.grow(&topic, partitions));
        on.await_partitions(&topic, 3);
    }
    assert_eq!(on.values(&TopicPartition::new(&topic, 0)), ["kept"]);
    on.append(&TopicPartition::new(&topic, 2), &["new"]);
}

pub fn growing_a_missing_topic_says_missing(on: &World) {
    let error = on.cluster.grow(&TopicName::new(fresh("missing")), 2).expect_err("nothing to grow");
    assert_eq!(error.class, Class::Missing, "{error}");
}

pub fn a_topic_created_anew_has_another_id_and_is_empty(on: &World) {
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    on.append(&partition, &["old"]);
    let before = on.cluster.describe(std::slice::from_ref(&topic)).expect("describe").remove(0).expect("it exists");
    on.fixture.delete(&topic);
    eventually("the topic to be gone", || {
        on.cluster.describe(std::slice::from_ref(&topic)).ok()?.remove(0).is_none().then_some(())
    });
    on.create(&topic, 1, &[]);
    let after = on.cluster.describe(&[topic]).expect("describe").remove(0).expect("it exists");
    assert_ne!(before.id, after.id);
    assert_eq!(on.bounds(&partition), Bounds { start: 0, end: 0 });
}

pub fn bounds_move_with_records_and_with_deleted_ones(on: &World) {
    let topic = on.topic(2);
    let (partition, other) = (TopicPartition::new(&topic, 0), TopicPartition::new(&topic, 1));
    assert_eq!(on.bounds(&partition), Bounds { start: 0, end: 0 });
    on.append(&partition, &["a", "b", "c"]);
    assert_eq!(on.bounds(&partition), Bounds { start: 0, end: 3 });
    on.fixture.trim(&partition, 2);
    assert_eq!(on.bounds(&partition), Bounds { start: 2, end: 3 });
    assert_eq!(on.values(&partition), ["c"]);
    on.fixture.trim(&partition, 3);
    assert_eq!(on.bounds(&partition), Bounds { start: 3, end: 3 });
    assert_eq!(on.append(&partition, &["d"]), [3]);
    assert_eq!(on.values(&partition), ["d"]);
    assert_eq!(on.bounds(&other), Bounds { start: 0, end: 0 });
}

pub fn bounds_of_a_missing_partition_fail_alone(on: &World) {
    let topic = on.topic(1);
    let there = TopicPartition::new(&topic, 0);
    let beyond = TopicPartition::new(&topic, 7);
    let missing = TopicPartition::new(&TopicName::new(fresh("missing")), 0);
    on.append(&there, &["a"]);
    let found = insist(|| on.cluster.bounds(&[missing.clone(), there.clone(), beyond.clone()]));
    assert_eq!(found[0].as_ref().expect_err("missing").class, Class::Missing);
    assert_eq!(found[1].as_ref().expect("there"), &Bounds { start: 0, end: 1 });
    assert_eq!(found[2].as_ref().expect_err("beyond").class, Class::Missing);
}

fn stamped(timestamp_ms: i64) -> NewRecord<'static> {
    NewRecord { timestamp_ms, ..NewRecord::plain(None, Some(b"v")) }
}

const NOON: i64 = 1_700_000_000_000;

pub fn an_offset_is_found_by_time(on: &World) {
    let topic = on.topic(2);
    let (full, empty) = (TopicPartition::new(&topic, 0), TopicPartition::new(&topic, 1));
    // Out of order on purpose: the first one in the log counts, not the closest in time.
    for times in [&[NOON, NOON + 10][..], &[NOON + 30], &[NOON + 20, NOON + 40]] {
        let records: Vec<_> = times.iter().map(|time| stamped(*time)).collect();
        on.cluster.append(&full, &records).expect("append");
    }
    let found = |at_ms| -> Vec<i64> {
        let answers = insist(|| on.cluster.offsets_at(&[empty.clone(), full.clone()], at_ms));
        answers.into_iter().map(|answer| answer.expect("an offset")).collect()
    };
    assert_eq!(found(NOON - 1), [0, 0]);
    assert_eq!(found(NOON), [0, 0]);
    assert_eq!(found(NOON + 1), [0, 1]);
    assert_eq!(found(NOON + 10), [0, 1]);
    assert_eq!(found(NOON + 11), [0, 2]);
    assert_eq!(found(NOON + 31), [0, 4]);
    assert_eq!(found(NOON + 41), [0, 5]);
}

pub fn an_offset_by_time_ignores_deleted_records(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    on.cluster.append(&partition, &[stamped(NOON), stamped(NOON + 1), stamped(NOON + 2)]).expect("append");
    on.fixture.trim(&partition, 1);
    let found = insist(|| on.cluster.offsets_at(std::slice::from_ref(&partition), NOON));
    assert_eq!(*found[0].as_ref().expect("an offset"), 1);
}

pub fn an_offset_by_time_of_a_missing_partition_fails_alone(on: &World) {
    let there = TopicPartition::new(&on.topic(1), 0);
    let missing = TopicPartition::new(&TopicName::new(fresh("missing")), 0);
    let found = insist(|| on.cluster.offsets_at(&[missing.clone(), there.clone()], NOON));
    assert_eq!(found[0].as_ref().expect_err("missing").class, Class::Missing);
    assert_eq!(*found[1].as_ref().expect("there"), 0);
}

pub fn appending_gives_rising_offsets_in_order(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    assert_eq!(on.append(&partition, &["a", "b"]), [0, 1]);
    assert_eq!(on.append(&partition, &[]), [0_i64; 0]);
    assert_eq!(on.append(&partition, &["c"]), [2]);
    assert_eq!(on.values(&partition), ["a", "b", "c"]);
}

pub fn appending_to_a_missing_topic_says_missing(on: &World) {
    let missing = TopicPartition::new(&TopicName::new(fresh("missing")), 0);
    let error = on.cluster.append(&missing, &[stamped(NOON)]).expect_err("nowhere to append to");
    assert_eq!(error.class, Class::Missing, "{error}");
}

pub fn appending_a_record_that_is_too_large_is_rejected(on: &World) {
    let partition = TopicPartition::new(&on.topic_with(1, &[("max.message.bytes", "20000")]), 0);
    let noise = noise(20_000);
    let error = on.cluster.append(&partition, &[NewRecord::plain(None, Some(&noise))]).expect_err("too large");
    assert_eq!(error.class, Class::Rejected, "{error}");
    on.append(&partition, &["small"]);
    assert_eq!(on.values(&partition), ["small"]);
}

/// Bytes that no codec makes smaller.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub fn a_healthy_cluster_has_no_trouble(on: &World) {
    on.topic(1);
    assert!(on.cluster.trouble().is_none());
}

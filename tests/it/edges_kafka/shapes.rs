//! Records of odd shapes, every compression, and topics whose times the broker sets: copied byte by byte, once, and
//! known as copies by the peer.

use crate::edges_kafka::way::{Way, copies, stop, wait_copied, wait_counted};
use crate::harness::clusters;
use crate::harness::plain::{self, Out, Read};

const PARTITIONS: i32 = 2;
const APPEND_TIME: &[(&str, &str)] = &[("message.timestamp.type", "LogAppendTime")];

/// Bytes that no compression makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Ordinary shapes, then those at the edges.
fn records(count: usize) -> Vec<Out> {
    let header = |name: &str, value: &[u8]| (name.to_owned(), Some(value.to_vec()));
    let edge =
        |partition: i32, key: Option<&[u8]>, value: Option<&[u8]>, headers: Vec<(String, Option<Vec<u8>>)>| Out {
            partition,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers,
            timestamp_ms: Some(1_760_000_100_000),
        };
    let large = noise(900 * 1024);
    let many = (0..1_000).map(|number| header(&format!("h{:03}", number % 500), format!("{number}").as_bytes()));
    let twins = vec![header("a", b"1"), header("b", b""), header("a", b"1"), ("a".into(), None), header("a", b"2")];
    let odd = vec![header("名", b"\xff\x00"), header("", b"no name"), header("LS_ORIGIN", b"not ours")];
    let edges = [
        edge(0, Some(b"large"), Some(&large), Vec::new()),
        edge(1, Some(b"many"), Some(b"headers"), many.collect()),
        edge(0, None, None, Vec::new()),
        edge(0, None, None, twins.clone()),
        edge(1, Some(b""), Some(b""), twins),
        edge(1, Some(b"tombstone"), None, odd.clone()),
        edge(0, Some(&large[..50_000]), Some(&large), odd),
    ];
    plain::shapes(count, PARTITIONS).into_iter().chain(edges).collect()
}

/// What the application wrote, without the time where the broker sets it.
fn bodies(records: &[Read], with_time: bool) -> Vec<Out> {
    let time = |out: Out| Out { timestamp_ms: out.timestamp_ms.filter(|_| with_time), ..out };
    records.iter().map(|read| time(read.body())).collect()
}

/// Asserts that `copied` are the copies of `born`, one each in their order, and that each names its birth.
fn assert_copies_of(region: &str, topic: &str, born: &[Read], copied: &[Read]) {
    let keeps_time = copied.iter().all(|copy| !copy.append_time);
    let (born_bodies, copied_bodies) = (bodies(born, keeps_time), bodies(copied, keeps_time));
    assert_eq!(born.len(), copied.len(), "{topic} of {region}");
    for (at, read) in born.iter().enumerate() {
        // The bodies are large: the failure names the record.
        assert!(
            born_bodies[at] == copied_bodies[at],
            "{topic} of {region}: {}/{} differs",
            read.partition,
            read.offset
        );
        let origin = format!("{region}/{topic}/{}/{}/{}", read.partition, read.offset, read.timestamp_ms);
        assert_eq!(copied[at].header("ls_origin"), Some(origin.as_str()));
        assert_eq!(copied[at].headers.len(), read.headers.len() + 1, "{origin}");
    }
}

fn born(records: &[Read]) -> Vec<Read> {
    records.iter().filter(|read| read.header("ls_origin").is_none()).cloned().collect()
}

#[test]
fn records_of_every_shape_compression_and_kind_of_time_arrive_as_they_were_and_go_no_further() {
    let Some(shared) = clusters::shared() else { return };
    let way = Way::new(shared, "");
    let gzip: &[(&str, &str)] = &[("compression.type", "gzip")];
    let topics = [
        (way.topic("create-time", [PARTITIONS; 2], [&[], &[]]), false, false),
        (way.topic("compressed", [PARTITIONS; 2], [gzip, &[("compression.type", "zstd")]]), false, false),
        (way.topic("append-here", [PARTITIONS; 2], [&[], APPEND_TIME]), false, true),
        (way.topic("append-there", [PARTITIONS; 2], [APPEND_TIME, &[]]), true, false),
        (way.topic("append-both", [PARTITIONS; 2], [APPEND_TIME, APPEND_TIME]), true, true),
    ];
    let (mut bridge, mut back) = (way.bridge(), way.bridge_back());
    let all = records(20);
    let few = plain::shapes(30, PARTITIONS);
    // All of them once; then one after the other, so that the test stays short.
    let compressions = ["gzip", "snappy", "lz4", "zstd", "none"];
    let rounds_of = |index: usize| if index == 0 { &compressions[..] } else { &compressions[index..=index] };
    for (index, (topic, ..)) in topics.iter().enumerate() {
        for compression in rounds_of(index) {
            plain::produce_with(&way.there, topic, &all, &[("compression.type", compression)]);
        }
        plain::produce_with(&way.here, topic, &few, &[("compression.type", "snappy")]);
    }
    for (index, (topic, sets_time_there, sets_time_here)) in topics.iter().enumerate() {
        let rounds = rounds_of(index).len();
        let count = rounds * all.len() + few.len();
        let here = way.wait_here(topic, count);
        let there = plain::read_at_least(&way.there, topic, count, crate::copy_kafka::COPIED);
        assert_eq!((here.len(), there.len()), (count, count), "{topic}");
        assert!(there.iter().all(|read| read.append_time == *sets_time_there), "{topic}");
        assert!(here.iter().all(|read| read.append_time == *sets_time_here), "{topic}");
        let repeated: Vec<Out> = std::iter::repeat_n(&all, rounds).flatten().cloned().collect();
        if !sets_time_there {
            plain::assert_same_bodies(topic, &repeated, &born(&there));
        }
        assert_copies_of(&way.from, topic, &born(&there), &copies(here.clone()));
        assert_copies_of(&way.to, topic, &born(&here), &copies(there));
    }
    for (index, (topic, ..)) in topics.iter().enumerate() {
        let copied = rounds_of(index).len() * all.len();
        wait_copied(&bridge, topic);
        wait_copied(&back, topic);
        let skipped = "longshore_link_skipped_records_total";
        wait_counted(&bridge, skipped, topic, &[r#"reason="copy""#], few.len() as f64);
        wait_counted(&back, skipped, topic, &[r#"reason="copy""#], copied as f64);
        for bridge in [&bridge, &back] {
            wait_counted(bridge, "longshore_republished_copies_total", topic, &[], 0.0);
        }
        assert_eq!(plain::read_all(&way.here, topic).len(), copied + few.len());
        assert_eq!(plain::read_all(&way.there, topic).len(), copied + few.len());
    }
    stop(&mut bridge);
    stop(&mut back);
}

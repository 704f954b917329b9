//! Cases: what a source gives out, from where, and when it says that it is at the end or cannot go on.

use std::time::{Duration, Instant};

use longshore::broker::Class;
use longshore::model::names::{TopicName, TopicPartition};
use longshore::model::record::{Header, Headers, NewRecord, TimestampKind};

use super::administration::noise;
use super::world::{Got, STEP, Said, World, drain, eventually, fetch, fresh, until_broken};

type Body<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Keys and values that are easily mixed up.
pub const BODIES: [Body<'static>; 6] = [
    (None, None),
    (Some(b""), Some(b"")),
    (None, Some(b"value")),
    (Some(b"key"), None),
    (Some(&[0, 255, 10, 13]), Some(&[0xff, 0xfe, 0, 0x80])),
    (Some("Schlüssel".as_bytes()), Some("值".as_bytes())),
];

/// Headers that are easily mixed up.
pub fn odd_headers() -> Vec<Header> {
    vec![
        Header::text("twice", "first"),
        Header { name: b"null".to_vec(), value: None },
        Header { name: b"empty".to_vec(), value: Some(Vec::new()) },
        Header { name: b"binary".to_vec(), value: Some(vec![0, 255, 0]) },
        Header::text("twice", "second"),
        Header { name: Vec::new(), value: Some(b"nameless".to_vec()) },
    ]
}

pub fn bodies_of(got: &[Got]) -> Vec<Body<'_>> {
    got.iter().map(|got| (got.key.as_deref(), got.value.as_deref())).collect()
}

pub fn headers_of(got: &Got) -> Vec<Header> {
    got.headers.iter().map(|(name, value)| Header { name: name.clone(), value: value.clone() }).collect()
}

pub fn null_empty_and_binary_bytes_and_header_order_are_kept(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    let headers = odd_headers();
    let records: Vec<_> = BODIES
        .iter()
        .map(|(key, value)| NewRecord { headers: Headers::Listed(&headers), ..NewRecord::plain(*key, *value) })
        .collect();
    on.cluster.append(&partition, &records).expect("append");
    let got = on.read(&partition);
    assert_eq!(bodies_of(&got), BODIES);
    assert!(got.iter().all(|got| headers_of(got) == headers), "{got:?}");
}

pub fn headers_are_dropped_and_added_as_asked(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    let headers = odd_headers();
    let record = NewRecord {
        headers: Headers::Listed(&headers),
        without: &["twice", "absent"],
        added: &[("added", b"1"), ("null", b"not")],
        ..NewRecord::plain(None, Some(b"v"))
    };
    let bare = NewRecord { added: &[("only", b"")], ..NewRecord::plain(None, Some(b"v")) };
    on.cluster.append(&partition, &[record, bare]).expect("append");
    let got = on.read(&partition);
    let mut expected: Vec<_> = headers.into_iter().filter(|header| header.name != b"twice").collect();
    expected.extend([Header::text("added", "1"), Header::text("null", "not")]);
    assert_eq!(headers_of(&got[0]), expected);
    assert_eq!(headers_of(&got[1]), [Header::text("only", "")]);
}

pub fn timestamps_are_kept_and_missing_ones_are_the_present(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    let record = |timestamp_ms| NewRecord { timestamp_ms, ..NewRecord::plain(None, Some(b"v")) };
    let before = now_ms();
    on.cluster.append(&partition, &[record(1_600_000_000_123), record(-1), record(1)]).expect("append");
    let got = on.read(&partition);
    assert!(got.iter().all(|got| got.timestamp_kind == TimestampKind::CreateTime));
    assert_eq!((got[0].timestamp_ms, got[2].timestamp_ms), (1_600_000_000_123, 1));
    assert!((before..=now_ms()).contains(&got[1].timestamp_ms), "{}", got[1].timestamp_ms);
}

pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292278994")
}

pub fn a_topic_with_append_time_sets_its_own(on: &World) {
    let partition = TopicPartition::new(&on.topic_with(1, &[("message.timestamp.type", "LogAppendTime")]), 0);
    let before = now_ms();
    let old = NewRecord { timestamp_ms: 1_600_000_000_000, ..NewRecord::plain(None, Some(b"v")) };
    on.cluster.append(&partition, &[old, old]).expect("append");
    for got in on.read(&partition) {
        assert_eq!(got.timestamp_kind, TimestampKind::AppendTime);
        assert!((before..=now_ms()).contains(&got.timestamp_ms), "{}", got.timestamp_ms);
    }
}

fn numbered(on: &World, partition: &TopicPartition, count: usize) {
    let values: Vec<_> = (0..count).map(|number| format!("{}-{number}", partition.partition)).collect();
    on.append(partition, &values.iter().map(String::as_str).collect::<Vec<_>>());
}

fn offsets(got: &[Got]) -> Vec<i64> {
    got.iter().map(|got| got.offset).collect()
}

pub fn reading_begins_at_the_position(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    numbered(on, &partition, 10);
    let mut source = on.source();
    for from in [0, 1, 7, 10] {
        source.start(0, &partition, from).expect("start");
        let (got, end) = drain(&mut *source, 100, 0, 10);
        assert_eq!(offsets(&got), (from..10).collect::<Vec<_>>());
        assert_eq!(end, 10);
    }
}

pub fn a_moved_slot_gives_nothing_that_was_asked_for_before(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    numbered(on, &partition, 2000);
    let mut source = on.source();
    source.start(0, &partition, 0).expect("start");
    eventually("the first records", || fetch(&mut *source, 5, STEP).first().map(|_| ()));
    // Forwards: nothing from below. Backwards: everything from there, in order.
    for from in [1990, 3, 1000] {
        source.start(0, &partition, from).expect("move");
        let (got, _) = drain(&mut *source, 300, 0, 2000);
        assert_eq!(offsets(&got), (from..2000).collect::<Vec<_>>());
    }
}

pub fn a_slot_can_be_moved_to_another_partition(on: &World) {
    let topic = on.topic(2);
    let (first, second) = (TopicPartition::new(&topic, 0), TopicPartition::new(&topic, 1));
    numbered(on, &first, 500);
    numbered(on, &second, 3);
    let mut source = on.source();
    source.start(4, &first, 0).expect("start");
    eventually("the first records", || fetch(&mut *source, 5, STEP).first().map(|_| ()));
    source.start(4, &second, 1).expect("move");
    let (got, _) = drain(&mut *source, 100, 4, 3);
    assert_eq!(got.iter().map(Got::text).collect::<Vec<_>>(), ["1-1", "1-2"]);
}

pub fn a_stopped_slot_is_silent(on: &World) {
    let topic = on.topic(2);
    let (stopped, other) = (TopicPartition::new(&topic, 0), TopicPartition::new(&topic, 1));
    numbered(on, &stopped, 1000);
    let mut source = on.source();
    source.start(0, &stopped, 0).expect("start");
    source.start(1, &other, 0).expect("start");
    eventually("the first records", || {
        fetch(&mut *source, 5, STEP)
            .iter()
            .any(|said| said.slot() == 0 && matches!(said, Said::Records(..)))
            .then_some(())
    });
    source.stop(0).expect("stop");
    source.stop(0).expect("stop a stopped one");
    source.stop(9).expect("stop one that never was");
    numbered(on, &other, 3);
    let mut got = 0;
    eventually("the other partition", || {
        for said in fetch(&mut *source, 5, STEP) {
            assert_eq!(said.slot(), 1, "{said:?}");
            got += if let Said::Records(_, records) = said { records.len() } else { 0 };
        }
        (got == 3).then_some(())
    });
    numbered(on, &stopped, 1);
    let until = Instant::now() + on.fixture.quiet();
    while Instant::now() < until {
        for said in fetch(&mut *source, 5, STEP) {
            assert_eq!(said.slot(), 1, "{said:?}");
        }
    }
}

pub fn the_end_is_said_once_each_time_it_is_reached(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    let mut source = on.source();
    source.start(0, &partition, 0).expect("start");
    let (_, end) = drain(&mut *source, 100, 0, 0);
    assert_eq!(end, 0, "an empty partition ends at once");
    for round in 1..=3 {
        let until = Instant::now() + on.fixture.quiet();
        while Instant::now() < until {
            let said = fetch(&mut *source, 100, STEP);
            assert!(said.is_empty(), "said again: {said:?}");
        }
        on.append(&partition, &["more"]);
        let (got, end) = drain(&mut *source, 100, 0, round);
        assert_eq!((got.len(), end), (1, round));
    }
}

pub fn a_position_outside_the_log_is_broken_as_rejected(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    numbered(on, &partition, 5);
    on.fixture.trim(&partition, 2);
    for from in [1, 6] {
        let mut source = on.source();
        source.start(3, &partition, from).expect("start");
        let (slot, error) = until_broken(&mut *source);
        assert_eq!((slot, error.class), (3, Class::Rejected), "{error}");
    }
}

pub fn a_missing_topic_is_broken_as_missing(on: &World) {
    let topic = on.topic(1);
    let missing = TopicPartition::new(&TopicName::new(fresh("missing")), 0);
    let beyond = TopicPartition::new(&topic, 5);
    for partition in [missing, beyond] {
        let mut source = on.source();
        source.start(1, &partition, 0).expect("start");
        let (slot, error) = until_broken(&mut *source);
        assert_eq!((slot, error.class), (1, Class::Missing), "{error}");
    }
}

pub fn a_topic_deleted_under_the_reader_is_broken_as_missing(on: &World) {
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    numbered(on, &partition, 3);
    let mut source = on.source();
    source.start(0, &partition, 0).expect("start");
    drain(&mut *source, 100, 0, 3);
    on.fixture.delete(&topic);
    let (_, error) = until_broken(&mut *source);
    assert_eq!(error.class, Class::Missing, "{error}");
}

pub fn a_broken_slot_can_be_started_again(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    numbered(on, &partition, 3);
    let mut source = on.source();
    source.start(0, &partition, 100).expect("start");
    until_broken(&mut *source);
    source.start(0, &partition, 1).expect("start again");
    let (got, _) = drain(&mut *source, 100, 0, 3);
    assert_eq!(offsets(&got), [1, 2]);
}

/// What the largest topics of real clusters are set to.
pub const LARGE_BYTES: usize = 16 << 20;

pub fn a_large_record_goes_through(on: &World) {
    let partition = TopicPartition::new(&on.topic_with(1, &[("max.message.bytes", "17000000")]), 0);
    let large = noise(LARGE_BYTES);
    let record = NewRecord::plain(Some(b"large"), Some(&large));
    on.cluster.append(&partition, &[NewRecord::plain(None, Some(b"before")), record]).expect("append");
    on.append(&partition, &["after"]);
    let got = on.read(&partition);
    assert_eq!(got.len(), 3);
    assert!(got[1].value.as_deref() == Some(&large[..]), "the large record changed");
}

pub fn no_more_records_than_asked_for_are_given_out(on: &World) {
    let topic = on.topic(2);
    let mut source = on.source();
    for slot in 0..2 {
        let partition = TopicPartition::new(&topic, slot);
        numbered(on, &partition, 50);
        source.start(slot as usize, &partition, 0).expect("start");
    }
    let mut got = [0, 0];
    eventually("all records", || {
        // `fetch` itself checks the limit.
        for said in fetch(&mut *source, 7, STEP) {
            if let Said::Records(slot, records) = said {
                let expected: Vec<i64> = (got[slot]..).take(records.len()).collect();
                assert_eq!(offsets(&records), expected);
                got[slot] += records.len() as i64;
            }
        }
        (got == [50, 50]).then_some(())
    });
}

pub fn one_source_reads_many_partitions_each_in_order(on: &World) {
    let topic = on.topic(5);
    let mut source = on.source();
    for slot in 0..5 {
        let partition = TopicPartition::new(&topic, slot);
        numbered(on, &partition, 100 * (slot as usize + 1));
        source.start(slot as usize, &partition, i64::from(slot)).expect("start");
    }
    let mut next = [0, 1, 2, 3, 4];
    let mut ended = 0;
    eventually("all ends", || {
        for said in fetch(&mut *source, 64, STEP) {
            match said {
                Said::Records(slot, records) => {
                    for record in records {
                        assert_eq!(record.offset, next[slot]);
                        assert_eq!(record.text(), format!("{slot}-{}", record.offset));
                        next[slot] += 1;
                    }
                }
                Said::End(slot, end) => ended += usize::from(end == 100 * (slot as i64 + 1)),
                Said::Broken(_, error) => panic!("broken: {error}"),
            }
        }
        (ended == 5).then_some(())
    });
    assert_eq!(next, [100, 200, 300, 400, 500]);
}

pub fn waiting_ends_with_a_record_or_with_the_time(on: &World) {
    let partition = TopicPartition::new(&on.topic(1), 0);
    let mut source = on.source();
    source.start(0, &partition, 0).expect("start");
    drain(&mut *source, 100, 0, 0);
    let begun = Instant::now();
    assert!(fetch(&mut *source, 100, Duration::from_millis(200)).is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(190), "came back after {:?}", begun.elapsed());
    let cluster = on.fixture.handle();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| cluster.append(&partition, &[NewRecord::plain(None, Some(b"woken"))]).expect("append"));
        let said = fetch(&mut *source, 100, Duration::from_secs(30));
        assert!(matches!(&said[..], [Said::Records(0, got), ..] if got.len() == 1), "{said:?}");
    });
    assert!(begun.elapsed() < Duration::from_secs(25), "woken after {:?}", begun.elapsed());
}

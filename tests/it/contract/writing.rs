//! Cases: records and positions as one, what stays invisible, what is refused, and sinks without transactions.

use longshore::broker::{Class, POSITION_NOTE_BYTES_MAX};
use longshore::model::names::{TopicName, TopicPartition};
use longshore::model::record::{Headers, NewRecord, TimestampKind};

use super::administration::noise;
use super::reading::{BODIES, LARGE_BYTES, bodies_of, headers_of, now_ms, odd_headers};
use super::world::{DEADLINE, Got, Member, STEP, World, at, drain, eventually, fresh, group, insist, settle};

pub fn committed_records_and_positions_are_there_together(on: &World) {
    let (mut member, partition) = on.lone();
    assert_eq!(member.position(&partition), None, "never committed");
    member.carry(&partition, &["a", "b"], at(20, "note one"));
    assert_eq!(on.values(&partition), ["a", "b"]);
    assert_eq!(member.position(&partition), Some(at(20, "note one")));
    member.carry(&partition, &["c"], at(30, ""));
    assert_eq!(on.values(&partition), ["a", "b", "c"]);
    assert_eq!(member.position(&partition), Some(at(30, "")));
    member.close();
}

pub fn what_is_appended_comes_out_byte_for_byte(on: &World) {
    let (mut member, partition) = on.lone();
    let to = member.open(&partition);
    assert_eq!(member.open(&partition), to, "a destination has one number");
    let headers = odd_headers();
    member.begin();
    for (tag, (key, value)) in BODIES.into_iter().enumerate() {
        let record = NewRecord {
            timestamp_ms: 1_600_000_000_000 + tag as i64,
            headers: Headers::Listed(&headers),
            without: &["twice"],
            added: &[("added", b"1")],
            ..NewRecord::plain(key, value)
        };
        member.append(to, &record, tag as u64);
    }
    member.commit(&partition, at(1, ""));
    let got = on.read(&partition);
    assert_eq!(bodies_of(&got), BODIES);
    let expected: Vec<_> = headers.iter().filter(|header| header.name != b"twice").cloned().collect();
    for (index, got) in got.iter().enumerate() {
        assert_eq!(got.timestamp_ms, 1_600_000_000_000 + index as i64);
        let found = headers_of(got);
        let (added, kept) = found.split_last().expect("headers");
        assert_eq!(kept, expected);
        assert_eq!((&added.name[..], added.value.as_deref()), (&b"added"[..], Some(&b"1"[..])));
    }
    member.close();
}

pub fn an_open_transaction_is_invisible(on: &World) {
    let (mut member, partition) = on.lone();
    let to = member.open(&partition);
    let mut source = on.source();
    source.start(0, &partition, 0).expect("start");
    drain(&mut *source, 100, 0, 0);
    member.begin();
    member.append_texts(to, &["a", "b"]);
    eventually("everything to be acknowledged", || {
        member.step(STEP);
        (member.sink.in_flight() == 0).then_some(())
    });
    assert_eq!(on.bounds(&partition).end, 0);
    let mut events = Vec::new();
    source.fetch(100, on.fixture.quiet(), &mut events).expect("fetch");
    assert!(events.is_empty(), "a reader saw something");
    member.commit(&partition, at(2, ""));
    let (got, _) = drain(&mut *source, 100, 0, 2);
    assert_eq!(got.iter().map(Got::text).collect::<Vec<_>>(), ["a", "b"]);
    member.close();
}

pub fn an_aborted_transaction_leaves_nothing(on: &World) {
    let (mut member, partition) = on.lone();
    member.carry(&partition, &["a"], at(1, "kept"));
    let to = member.open(&partition);
    member.begin();
    member.append_texts(to, &["dropped", "dropped too"]);
    member.step(STEP);
    member.abort();
    assert_eq!(member.sink.in_flight(), 0);
    assert_eq!(on.values(&partition), ["a"]);
    assert_eq!(member.position(&partition), Some(at(1, "kept")));
    member.abort();
    member.carry(&partition, &["b"], at(2, ""));
    assert_eq!(on.values(&partition), ["a", "b"], "a reader passes over what was aborted");
    member.close();
}

pub fn positions_alone_can_be_committed(on: &World) {
    let (mut member, partition) = on.lone();
    member.begin();
    member.commit(&partition, at(77, "nothing to copy"));
    assert_eq!(member.position(&partition), Some(at(77, "nothing to copy")));
    assert_eq!(on.values(&partition), Vec::<String>::new());
    member.begin();
    member.commit(&partition, at(70, "backwards"));
    assert_eq!(member.position(&partition), Some(at(70, "backwards")));
    member.close();
}

pub fn one_transaction_spans_topics(on: &World) {
    let (first, second) = (on.topic(2), on.topic(1));
    let parts = [TopicPartition::new(&first, 0), TopicPartition::new(&first, 1), TopicPartition::new(&second, 0)];
    let aside = TopicPartition::new(&on.topic(1), 0);
    let mut member = on.member(&group(), &fresh("instance"), &[first, second]);
    member.gain(3);
    let slots: Vec<_> = parts.iter().chain([&aside]).map(|partition| member.open(partition)).collect();
    for round in 0..2 {
        member.begin();
        for (slot, value) in slots.iter().zip(["a", "b", "c", "aside"]) {
            member.append_texts(*slot, &[value]);
        }
        if round == 0 {
            member.abort();
            continue;
        }
        let positions: Vec<_> = parts.iter().zip([10, 20, 30]).map(|(part, to)| (part.clone(), at(to, ""))).collect();
        member.try_commit(&positions).expect("commit");
    }
    let found = insist(|| member.sink.positions(&parts, DEADLINE));
    assert_eq!(found, [Some(at(10, "")), Some(at(20, "")), Some(at(30, ""))]);
    let read: Vec<_> = parts.iter().chain([&aside]).map(|partition| on.values(partition)).collect();
    assert_eq!(read, [["a"], ["b"], ["c"], ["aside"]]);
    member.close();
}

pub fn a_full_buffer_says_so_and_recovers(on: &World) {
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    let settings = longshore::broker::SinkSettings {
        buffer_bytes_max: 100_000,
        ..on.settings(&group(), &fresh("instance"), &[topic])
    };
    let mut member = on.open(&settings);
    member.gain(1);
    let to = member.open(&partition);
    let value = noise(10_000);
    let (mut sent, mut full) = (0_i64, 0);
    member.begin();
    while sent < 200 {
        let key = sent.to_string();
        let record = NewRecord::plain(Some(key.as_bytes()), Some(&value));
        if insist(|| member.sink.append(to, &record, sent as u64)) {
            sent += 1;
            continue;
        }
        full += 1;
        // What the loops do: let it drain, and commit when nothing is left that could drain.
        member.step(STEP);
        if member.sink.in_flight() == 0 {
            member.commit(&partition, at(sent, ""));
            member.begin();
        }
    }
    member.commit(&partition, at(sent, ""));
    assert!(full > 0, "2 MB went into a buffer of 100 kB");
    let keys: Vec<_> = on.read(&partition).into_iter().map(|got| got.key.expect("a key")).collect();
    assert_eq!(keys, (0..200).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>());
    member.close();
}

/// Appends a record that no broker takes, and sees it refused either at once or when committing.
fn offer_hopeless(member: &mut Member, partition: &TopicPartition) {
    let to = member.open(partition);
    member.begin();
    member.append_texts(to, &["beside it"]);
    let large = noise(200_000);
    match settle(|| member.sink.append(to, &NewRecord::plain(None, Some(&large)), 99)) {
        Err(error) => assert_eq!(error.class, Class::Rejected, "{error}"),
        Ok(taken) => {
            assert!(taken);
            member.try_commit(&[(partition.clone(), at(1, ""))]).expect_err("a refused record cannot be committed");
            let failures = member.sink.failures();
            let refused = failures.iter().find(|failure| failure.tag == 99).expect("the record is named");
            assert_eq!(refused.error.class, Class::Rejected, "{}", refused.error);
        }
    }
    member.abort();
    assert!(member.sink.failures().is_empty(), "failures are told once");
}

pub fn a_record_that_is_too_large_is_rejected_and_the_rest_goes_on(on: &World) {
    let topic = on.topic_with(1, &[("max.message.bytes", "50000")]);
    let partition = TopicPartition::new(&topic, 0);
    // Once against the limit of the sink, once against the limit of the topic, which the sink was not told.
    for (round, batch_bytes_max) in [50_000, 1_000_000].into_iter().enumerate() {
        let settings = longshore::broker::SinkSettings {
            batch_bytes_max,
            ..on.settings(&group(), &fresh("instance"), std::slice::from_ref(&topic))
        };
        let mut member = on.open(&settings);
        member.gain(1);
        offer_hopeless(&mut member, &partition);
        assert_eq!(member.position(&partition), None);
        member.carry(&partition, &["good"], at(2, ""));
        assert_eq!(on.values(&partition), vec!["good"; round + 1]);
        member.close();
    }
}

pub fn a_missing_destination_says_missing(on: &World) {
    let (mut member, partition) = on.lone();
    let missing = TopicPartition::new(&TopicName::new(fresh("missing")), 0);
    let beyond = TopicPartition::new(&partition.topic, 9);
    for destination in [missing, beyond] {
        let error = settle(|| member.sink.open(&destination)).expect_err("there is no such destination");
        assert_eq!(error.class, Class::Missing, "{error}");
    }
    member.close();
}

pub fn many_records_in_one_transaction_keep_their_order(on: &World) {
    let (mut member, partition) = on.lone();
    let to = member.open(&partition);
    member.begin();
    for number in 0..20_000_u64 {
        let value = number.to_string();
        member.append(to, &NewRecord::plain(Some(b"key"), Some(value.as_bytes())), number);
    }
    member.commit(&partition, at(20_000, ""));
    let values = on.values(&partition);
    assert!(values.iter().enumerate().all(|(index, value)| *value == index.to_string()), "order or content");
    assert_eq!(values.len(), 20_000);
    member.close();
}

pub fn a_large_record_is_committed(on: &World) {
    let topic = on.topic_with(1, &[("max.message.bytes", "17000000")]);
    let partition = TopicPartition::new(&topic, 0);
    let settings = longshore::broker::SinkSettings {
        batch_bytes_max: 17_000_000,
        ..on.settings(&group(), &fresh("instance"), &[topic])
    };
    let mut member = on.open(&settings);
    member.gain(1);
    let to = member.open(&partition);
    let large = noise(LARGE_BYTES);
    member.begin();
    member.append_texts(to, &["before"]);
    member.append(to, &NewRecord::plain(None, Some(&large)), 1);
    member.append_texts(to, &["after"]);
    member.commit(&partition, at(3, ""));
    let got = on.read(&partition);
    assert_eq!(got.len(), 3);
    assert!(got[1].value.as_deref() == Some(&large[..]), "the large record changed");
    member.close();
}

pub fn nothing_is_in_flight_after_commit_or_abort(on: &World) {
    let (mut member, partition) = on.lone();
    let to = member.open(&partition);
    assert_eq!(member.sink.in_flight(), 0);
    for commit in [true, false] {
        member.begin();
        member.append_texts(to, &["a", "b", "c"]);
        if commit {
            member.commit(&partition, at(3, ""));
        } else {
            member.abort();
        }
        assert_eq!(member.sink.in_flight(), 0);
    }
    assert!(member.sink.failures().iter().all(|failure| failure.error.class == Class::Abort));
    member.close();
}

pub fn positions_outlive_the_sink(on: &World) {
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    let group = group();
    for (round, instance) in ["one", "two", "one"].into_iter().enumerate() {
        let mut member = on.member(&group, &format!("{group}-{instance}"), std::slice::from_ref(&topic));
        member.gain(1);
        let expected = (round > 0).then(|| at(round as i64, "kept"));
        assert_eq!(member.position(&partition), expected);
        member.carry(&partition, &["more"], at(round as i64 + 1, "kept"));
        member.close();
    }
    assert_eq!(on.values(&partition).len(), 3);
}

pub fn a_note_of_the_longest_length_is_kept(on: &World) {
    let (mut member, partition) = on.lone();
    let note = "n".repeat(POSITION_NOTE_BYTES_MAX);
    member.begin();
    member.commit(&partition, at(1, &note));
    assert_eq!(member.position(&partition), Some(at(1, &note)));
    member.close();
}

pub fn groups_keep_positions_apart(on: &World) {
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    let mut members: Vec<_> = (0..2)
        .map(|_| {
            let mut member = on.member(&group(), &fresh("instance"), std::slice::from_ref(&topic));
            member.gain(1);
            member
        })
        .collect();
    members[0].carry(&partition, &["a"], at(1, ""));
    assert_eq!(members[1].position(&partition), None);
    members[1].carry(&partition, &["b"], at(5, ""));
    assert_eq!(members[0].position(&partition), Some(at(1, "")));
    assert_eq!(on.values(&partition), ["a", "b"]);
    members.into_iter().for_each(Member::close);
}

pub fn append_time_is_set_in_transactions_too(on: &World) {
    let topic = on.topic_with(1, &[("message.timestamp.type", "LogAppendTime")]);
    let partition = TopicPartition::new(&topic, 0);
    let mut member = on.member(&group(), &fresh("instance"), &[topic]);
    member.gain(1);
    let to = member.open(&partition);
    let before = now_ms();
    member.begin();
    member.append(to, &NewRecord { timestamp_ms: 5, ..NewRecord::plain(None, None) }, 0);
    member.commit(&partition, at(1, ""));
    let got = on.read(&partition);
    assert_eq!(got[0].timestamp_kind, TimestampKind::AppendTime);
    assert!((before..=now_ms()).contains(&got[0].timestamp_ms), "{}", got[0].timestamp_ms);
    member.close();
}

fn plain(on: &World) -> (Member, TopicPartition) {
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    let settings =
        longshore::broker::SinkSettings { transactional: false, ..on.settings(&group(), &fresh("instance"), &[topic]) };
    let mut member = on.open(&settings);
    member.gain(1);
    (member, partition)
}

pub fn without_transactions_positions_follow_records(on: &World) {
    let (mut member, partition) = plain(on);
    assert_eq!(member.position(&partition), None);
    let to = member.open(&partition);
    member.begin();
    member.append_texts(to, &["a", "b"]);
    eventually("everything to be acknowledged", || {
        member.step(STEP);
        (member.sink.in_flight() == 0).then_some(())
    });
    assert_eq!(on.values(&partition), ["a", "b"], "acknowledged is visible");
    assert_eq!(member.position(&partition), None);
    member.append_texts(to, &["c"]);
    member.commit(&partition, at(3, "note"));
    assert_eq!(on.values(&partition), ["a", "b", "c"]);
    assert_eq!(member.position(&partition), Some(at(3, "note")));
    member.close();
}

pub fn without_transactions_an_abort_keeps_the_position(on: &World) {
    let (mut member, partition) = plain(on);
    member.carry(&partition, &["a"], at(1, ""));
    let to = member.open(&partition);
    member.begin();
    member.append_texts(to, &["perhaps"]);
    member.abort();
    assert_eq!(member.sink.in_flight(), 0);
    assert_eq!(member.position(&partition), Some(at(1, "")));
    member.carry(&partition, &["b"], at(2, ""));
    let mut values = on.values(&partition);
    values.retain(|value| value != "perhaps");
    assert_eq!(values, ["a", "b"]);
    member.close();
}

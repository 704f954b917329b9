//! The Kafka driver: the contract on a real broker, and what only Kafka has: codecs, aborted records, passwords,
//! brokers that die in the middle of a transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore::broker::kafka::Kafka;
use longshore::broker::kafka::settings::Settings;
use longshore::broker::{Class, Cluster, Error, SharedCluster, SinkSettings, SourceSettings};
use longshore::model::names::{GroupName, TopicName, TopicPartition};

use crate::contract::world::{DEADLINE, Got, Said, World, at, drain, eventually, fetch, settle};
use crate::contract::{Fixture, contract};
use crate::harness::{clusters, plain, skip, unique};

/// A cluster that all cases share.
struct Shared {
    bootstrap: String,
    consumer: Vec<(&'static str, String)>,
}

fn settings(properties: &[(&str, &str)]) -> Settings {
    let common = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    Settings { common, ..Settings::default() }
}

impl Fixture for Shared {
    fn make() -> Result<Self, String> {
        // For runs one after the other, without a start of the brokers each time.
        if let Ok(bootstrap) = std::env::var("LONGSHORE_TEST_KAFKA") {
            return Ok(Self { bootstrap, consumer: Vec::new() });
        }
        let clusters = clusters::shared().ok_or("Kafka cannot run here")?;
        Ok(Self { bootstrap: clusters.get("hz").bootstrap.clone(), consumer: Vec::new() })
    }

    fn handle(&self) -> SharedCluster {
        let mut settings = settings(&[("bootstrap.servers", &self.bootstrap)]);
        settings.consumer =
            self.consumer.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        Arc::new(Kafka::open("hz", &settings).expect("valid settings"))
    }

    fn delete(&self, topic: &TopicName) {
        plain::delete_topic(&self.bootstrap, topic.as_str());
    }

    fn trim(&self, partition: &TopicPartition, before: i64) {
        plain::delete_records(&self.bootstrap, partition.topic.as_str(), partition.partition, before);
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(1500)
    }

    fn impatient(&self) -> Option<Box<dyn Fixture>> {
        let consumer = vec![("max.poll.interval.ms", "7000".to_owned())];
        Some(Box::new(Self { bootstrap: self.bootstrap.clone(), consumer }))
    }
}

contract! { crate::kafka::Shared }

/// Records of all shapes are old: with the usual retention they are gone at some moment of the test.
const KEPT: &[(&str, &str)] = &[("retention.ms", "-1")];

fn partition(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(&TopicName::new(topic), partition)
}

/// With the cluster's address; `None` after saying so when Kafka cannot run here.
fn world() -> Option<(World, String)> {
    match Shared::make() {
        Ok(fixture) => {
            let bootstrap = fixture.bootstrap.clone();
            Some((World::new(Box::new(fixture)), bootstrap))
        }
        Err(why) => {
            skip(&why);
            None
        }
    }
}

#[test]
fn every_codec_is_read_and_aborted_records_are_passed_over() {
    let Some((world, bootstrap)) = world() else { return };
    let topic = unique("codecs");
    plain::create_topic(&bootstrap, &topic, 1, KEPT);
    let records = plain::shapes(600, 1);
    let mut parts = records.chunks(100);
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let part = parts.next().expect("six parts");
        plain::produce_with(&bootstrap, &topic, part, &[("compression.type", codec)]);
        plain::produce_in_transaction(&bootstrap, &topic, &plain::shapes(30, 1), false);
        expected.extend_from_slice(part);
    }
    let committed = parts.next().expect("six parts");
    plain::produce_in_transaction(&bootstrap, &topic, committed, true);
    expected.extend_from_slice(committed);
    let got = world.read(&partition(&topic, 0));
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!((&got.key, &got.value), (&expected.key, &expected.value));
        assert_eq!(Some(got.timestamp_ms), expected.timestamp_ms);
        let headers: Vec<_> =
            expected.headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.clone())).collect();
        assert_eq!(got.headers, headers);
    }
}

#[test]
fn partitions_that_were_added_are_read_by_a_source_that_is_open() {
    let Some((world, _)) = world() else { return };
    let topic = world.topic(1);
    let mut source = world.source();
    source.start(0, &TopicPartition::new(&topic, 0), 0).expect("start");
    drain(&mut *source, 100, 0, 0);
    world.cluster.grow(&topic, 3).expect("grow");
    world.await_partitions(&topic, 3);
    let added = TopicPartition::new(&topic, 2);
    world.append(&added, &["new"]);
    source.stop(0).expect("stop");
    // Said to be missing while the source's client still remembers the old number of partitions: then it is started
    // again, as loops do after they asked.
    let value = eventually("the new partition to be read", || {
        source.start(1, &added, 0).expect("start");
        loop {
            match fetch(&mut *source, 100, Duration::from_secs(10)).into_iter().next()? {
                Said::Records(_, records) => return records.first().map(Got::text),
                Said::End(..) => {}
                Said::Broken(_, error) => {
                    assert_eq!(error.class, Class::Missing, "{error}");
                    return None;
                }
            }
        }
    });
    assert_eq!(value, "new");
}

#[test]
fn slots_that_are_moved_under_load_never_give_out_what_lies_before_their_position() {
    let Some((world, bootstrap)) = world() else { return };
    let topic = unique("moved");
    plain::create_topic(&bootstrap, &topic, 2, KEPT);
    plain::produce(&bootstrap, &topic, &plain::shapes(20_000, 2));
    let mut source = world.source();
    for round in 0..60_i64 {
        for slot in 0..2 {
            let from = (round * 1_613 + 97 * slot as i64) % 9_000;
            source.start(slot, &partition(&topic, slot as i32), from).expect("start");
            let mut next = from;
            // Both slots are read so that what lies ready of the other one is looked at too.
            while next < from + 50 {
                for said in fetch(&mut *source, 40, DEADLINE) {
                    match said {
                        Said::Records(of, records) if of == slot => {
                            assert_eq!(records[0].offset, next, "round {round}, slot {slot}");
                            next = records.last().expect("not empty").offset + 1;
                        }
                        Said::Broken(_, error) => panic!("round {round}, slot {slot}: {error}"),
                        Said::Records(..) | Said::End(..) => {}
                    }
                }
            }
        }
    }
}

#[test]
fn a_wrong_password_is_denied_and_a_right_one_is_not() {
    let Some(clusters) = clusters::shared() else { return };
    let bootstrap = clusters.get("hz").sasl_bootstrap.as_deref().expect("asked for");
    let open = |password: &str| {
        let properties = [
            ("bootstrap.servers", bootstrap),
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "user"),
            ("sasl.password", password),
        ];
        Kafka::open("hz", &settings(&properties)).expect("valid settings")
    };
    let right = open("secret");
    right.describe(&[TopicName::new("any")]).expect("let in");
    assert!(right.trouble().is_none());
    let wrong = open("s3cr3t-but-wrong");
    let error = wrong.describe(&[TopicName::new("any")]).expect_err("kept out");
    assert_eq!(error.class, Class::Denied, "{error}");
    assert_eq!(wrong.trouble().expect("a trouble").class, Class::Denied);
    assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
    let mut sink = wrong.sink(&sink_settings("denied", "topic")).expect("opens without asking");
    let error = settle(|| sink.positions(&[partition("topic", 0)], Duration::from_secs(2)).map(|_| ()));
    assert_eq!(error.expect_err("kept out").class, Class::Denied);
}

fn sink_settings(group: &str, topic: &str) -> SinkSettings {
    SinkSettings {
        group: GroupName::new(group),
        instance: "one".into(),
        topics: vec![TopicName::new(topic)],
        transactional: true,
        buffer_bytes_max: 16 << 20,
        batch_bytes_max: 1_000_000,
    }
}

#[test]
fn calls_to_an_unreachable_cluster_end_in_time_and_so_does_dropping_it() {
    let bootstrap = format!("127.0.0.1:{}", crate::harness::free_port());
    let cluster = Kafka::open("hz", &settings(&[("bootstrap.servers", &bootstrap)])).expect("valid settings");
    let mut sink = cluster.sink(&sink_settings("nobody", "topic")).expect("opens without asking");
    let mut source =
        cluster.source(&SourceSettings { client_id: "one".into(), buffer_bytes_max: 1 << 20 }).expect("open");
    source.start(0, &partition("topic", 0), 0).expect("start");
    let within = |limit: Duration, what: &str, call: &mut dyn FnMut() -> Option<Error>| {
        let begun = Instant::now();
        let error = call();
        assert!(begun.elapsed() < limit, "{what} took {:?}", begun.elapsed());
        assert!(error.is_none_or(|error| error.class == Class::Retry), "{what}");
    };
    let second = Duration::from_secs(1);
    within(3 * second, "positions", &mut || sink.positions(&[partition("topic", 0)], second).err());
    within(3 * second, "poll", &mut || sink.poll(second).err());
    within(7 * second, "begin", &mut || sink.begin().err());
    within(3 * second, "commit", &mut || sink.commit(&[], second).err());
    within(3 * second, "fetch", &mut || source.fetch(10, second, &mut Vec::new()).err());
    within(13 * second, "describe", &mut || cluster.describe(&[TopicName::new("topic")]).err());
    assert_eq!(cluster.trouble().expect("a trouble").class, Class::Retry);
    let begun = Instant::now();
    drop((sink, source, cluster));
    assert!(begun.elapsed() < 10 * second, "dropping took {:?}", begun.elapsed());
}

/// After a broker's death the group may fence a static member whose join was answered into the void. Then it is opened
/// anew, as loops do; here always, so that what counts is what the cluster holds.
#[test]
fn a_transaction_over_which_the_broker_died_is_whole_or_not_at_all() {
    let Some(clusters) = clusters::own(&["hz"], &clusters::Options::default()) else { return };
    let hz = clusters.get("hz");
    let world = World::new(Box::new(Shared { bootstrap: hz.bootstrap.clone(), consumer: Vec::new() }));
    let topic = world.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    let group = GroupName::new("link");
    let mut expected = (0, 0);
    for (goal, when) in [(1, "idle"), (2, "appended"), (3, "acknowledged"), (4, "idle")] {
        let mut member = world.member(&group, "one", std::slice::from_ref(&topic));
        member.gain(1);
        let to = member.open(&partition);
        member.begin();
        member.append_texts(to, &["x", "y"]);
        if when == "acknowledged" {
            eventually("everything to be acknowledged", || {
                member.step(Duration::from_millis(10));
                (member.sink.in_flight() == 0).then_some(())
            });
        }
        if when != "idle" {
            hz.kill9();
            hz.start();
        }
        let outcome = member.try_commit(&[(partition.clone(), at(goal, ""))]);
        if let Err(error) = &outcome {
            assert!(when != "idle" && matches!(error.class, Class::Abort | Class::Fenced), "{when}: {error}");
        }
        drop(member);
        let mut successor = world.member(&group, "one", std::slice::from_ref(&topic));
        successor.gain(1);
        let position = successor.position(&partition).map_or(0, |position| position.offset);
        drop(successor);
        if position == goal {
            expected = (goal, expected.1 + 2);
        }
        assert!(position == goal || outcome.is_err(), "{when}: said to be committed, but is not");
        assert_eq!((position, world.values(&partition).len()), expected, "{when}: {outcome:?}");
    }
}

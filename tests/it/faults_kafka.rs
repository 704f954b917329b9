//! What goes wrong around a bridge on real Kafka clusters: signals in the middle of work, peers that are not there yet,
//! brokers that go away. Each test ends with the logs of the clusters, read by a plain client: nothing lost, nothing
//! twice.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use longshore::broker::kafka::Kafka;
use longshore::broker::kafka::settings::Settings;
use longshore::broker::{Cluster, Ownership, Position, Sink, SinkSettings};
use longshore::model::names::{GroupName, TopicName, TopicPartition};
use rdkafka::mocking::MockCoordinator;
use serde_json::Value;

use crate::copy_kafka::{COPIED, OneWay, READY, Regions, assert_exactly_once, numbered};
use crate::harness::bridge::{Bridge, Setup};
use crate::harness::clusters::{self, KafkaCluster, Options};
use crate::harness::plain::{self, Out, Writer};
use crate::harness::{eventually, unique};

type Produced = BTreeMap<String, Vec<(Out, i64)>>;

/// What each region produced, with where it was acknowledged.
fn produced(parts: &[(&str, &[Out], Vec<i64>)]) -> Produced {
    let mut all = Produced::new();
    for (region, records, offsets) in parts {
        all.entry((*region).to_owned()).or_default().extend(records.iter().cloned().zip(offsets.iter().copied()));
    }
    all
}

/// How far a topic's log has grown: records, and a few markers of transactions.
#[track_caller]
fn count(bootstrap: &str, topic: &str) -> i64 {
    eventually(READY, "the cluster answers", || Some(plain::ends(bootstrap, topic)?.into_iter().sum()))
}

#[test]
fn sigterm_in_a_backlog_ends_in_good_order_and_the_next_start_repeats_nothing() {
    let Some(shared) = clusters::shared() else { return };
    let topic = unique("backlog");
    // Slow enough that every stop comes in the middle.
    let tail = "shutdown_timeout: 20s\nlinks: {rate_limit: {records_per_second: 30000}}";
    let mut way = OneWay::start(shared, &topic, &[], tail);
    let from = way.link.split(':').next().expect("a link").to_owned();
    let records: Vec<Out> = (0..200_000).map(numbered("hz")).collect();
    let offsets = plain::produce(&way.there, &topic, &records);
    let mut before = 0;
    for _ in 0..3 {
        // Markers of transactions are counted too: a few hundred at most.
        eventually(COPIED, "it is in the middle", || (count(&way.here, &topic) > before + 20_000).then_some(()));
        assert_eq!(way.bridge.sigterm(Duration::from_secs(20)), Some(0), "{}", way.bridge.log());
        before = count(&way.here, &topic);
        assert!(before < 190_000, "{before}: the backlog was gone before the signal");
        way.bridge.restart();
    }
    let found = plain::read_at_least(&way.here, &topic, records.len(), COPIED);
    way.wait_copied();
    way.stop();
    assert_eq!(plain::read_all(&way.here, &topic).len(), found.len(), "something came behind the end");
    assert_exactly_once(&way.name, &topic, found, &produced(&[(&from, &records, offsets)]));
}

#[test]
fn a_second_signal_ends_a_stop_that_the_target_holds_up() {
    let Some(own) = clusters::own(&["sh"], &Options::default()) else { return };
    let Some(shared) = clusters::shared() else { return };
    let (regions, topic) = (two(shared.get("hz"), own.get("sh")), unique("hurry"));
    regions.create_topic(&topic);
    let (there, here) = (regions.clusters[0].bootstrap.as_str(), regions.clusters[1].bootstrap.as_str());
    let setup = regions.setup(&topic, "shutdown_timeout: 60s\nlinks: {rate_limit: {records_per_second: 3000}}");
    let mut bridge = setup.bridge(&regions.names[1], "only");
    bridge.wait_ready(READY);
    let records: Vec<Out> = (0..30_000).map(numbered("hz")).collect();
    let offsets = plain::produce(there, &topic, &records);
    for second in ["TERM", "INT"] {
        let before = count(here, &topic);
        eventually(COPIED, "it is in the middle", || (count(here, &topic) > before + 1000).then_some(()));
        regions.clusters[1].sigstop();
        bridge.signal("TERM");
        eventually(READY, "it is stopping", || bridge.get("/readyz")?.contains("stopping").then_some(()));
        let began = Instant::now();
        bridge.signal(second);
        assert_eq!(bridge.wait_end(Duration::from_secs(5)), Some(1), "{}", bridge.log());
        eprintln!("SIG{second} ended it after {:?}", began.elapsed());
        assert!(bridge.log().contains("stopped before everything was committed"), "{}", bridge.log());
        regions.clusters[1].sigcont();
        bridge.restart();
    }
    plain::read_at_least(here, &topic, records.len(), COPIED);
    bridge.wait_metric("longshore_link_lag_records", &[], COPIED, |lag| lag == 0.0);
    let found = plain::read_all(here, &topic);
    assert_exactly_once(&regions.names[1], &topic, found, &produced(&[(&regions.names[0], &records, offsets)]));
}

/// Two regions on these clusters.
fn two<'a>(from: &'a KafkaCluster, to: &'a KafkaCluster) -> Regions<'a> {
    Regions { names: vec![unique("hz").to_lowercase(), unique("sh").to_lowercase()], clusters: vec![from, to] }
}

/// The rows of `status -o json` by source, for the links into `here`.
fn states(setup: &Setup, here: &str) -> Option<BTreeMap<String, String>> {
    let status: Value = serde_json::from_slice(&setup.run(&["status", "-o", "json"]).stdout).ok()?;
    let links = status["regions"][here]["links"].as_array()?.clone();
    let row = |link: &Value| Some((link["from"].as_str()?.to_owned(), link["state"].as_str()?.to_owned()));
    links.iter().map(row).collect()
}

#[test]
fn a_peer_that_comes_late_and_goes_away_for_a_minute_holds_no_other_up() {
    let Some(own) = clusters::own(&["bj"], &Options::default()) else { return };
    let Some(shared) = clusters::shared() else { return };
    let tag = unique("late");
    let regions = Regions {
        names: ["hz", "sh", "bj"].map(|name| format!("{name}-{tag}")).to_vec(),
        clusters: vec![shared.get("hz"), shared.get("sh"), own.get("bj")],
    };
    let [hz, sh, bj] = [0, 1, 2].map(|index| regions.names[index].as_str());
    let [at_hz, at_sh, at_bj] = [0, 1, 2].map(|index| regions.clusters[index].bootstrap.as_str());
    let (broker, topic) = (regions.clusters[2], unique("late"));
    regions.create_topic(&topic);
    let first: Vec<Out> = (0..1_000).map(numbered("first")).collect();
    let at_first = plain::produce(at_bj, &topic, &first);
    broker.stop();

    let setup = regions.setup(&topic, "");
    let mut bridges: Vec<Bridge> = regions.names.iter().map(|name| setup.bridge(name, name)).collect();
    let writer = |name: &str, at: &str| Writer::start(at, &topic, 200, &[], numbered(name));
    let writers = [writer(hz, at_hz), writer(sh, at_sh)];
    let others_go_on = || {
        for (at, more) in [(at_hz, sh), (at_sh, hz)] {
            let before = count(at, &topic);
            // 200 of its own a second, and as many copies.
            let enough = before + 1_000;
            eventually(READY, &format!("records of {more} arrive"), || (count(at, &topic) > enough).then_some(()));
        }
    };
    let says_so = |bridge: &Bridge, here: &str| {
        let reason = format!("link {bj}:{here}");
        eventually(READY, "readyz names the lost peer alone", || {
            let ready: Value = serde_json::from_str(&bridge.get("/readyz")?).ok()?;
            let reasons = ready["reasons"].as_array()?.clone();
            let all = reasons.iter().all(|it| it.as_str().is_some_and(|it| it.starts_with(&reason)));
            (ready["ready"] == false && !reasons.is_empty() && all).then_some(())
        });
        bridge.wait_metric("longshore_region_up", &[&format!("region=\"{bj}\"")], READY, |up| up == 0.0);
        eventually(READY, "status tells the lost peer from the others", || {
            let states = states(&setup, here)?;
            let fits = |(from, state): (&String, &String)| (from == bj) == (state != "running");
            (states.len() == 2 && states.iter().all(fits)).then_some(())
        });
        eventually(READY, "status reaches this region and not the lost one", || {
            let status: Value = serde_json::from_slice(&setup.run(&["status", "-o", "json"]).stdout).ok()?;
            let reachable = |region: &str| status["regions"][region]["reachable"] == true;
            (reachable(here) && !reachable(bj)).then_some(())
        });
    };
    says_so(&bridges[0], hz);
    says_so(&bridges[1], sh);
    others_go_on();
    let waiting = eventually(READY, "the lost region's own bridge answers", || bridges[2].get("/readyz"));
    assert!(waiting.contains("\"ready\":false") && bridges[2].runs(), "{waiting}");

    broker.start();
    bridges.iter_mut().for_each(|bridge| bridge.wait_ready(COPIED));
    let third = writer(bj, at_bj);
    let all_arrive = || {
        for (_, at) in regions.iter() {
            let enough = count(at, &topic) + 2_000;
            eventually(COPIED, "all records arrive", || (count(at, &topic) > enough).then_some(()));
        }
    };
    all_arrive();

    let gone = Instant::now();
    broker.kill9();
    says_so(&bridges[0], hz);
    others_go_on();
    // Longer than any time-out of a transaction, a session or a message.
    std::thread::sleep(Duration::from_secs(65).saturating_sub(gone.elapsed()));
    others_go_on();
    broker.start();
    bridges.iter_mut().for_each(|bridge| bridge.wait_ready(COPIED));
    all_arrive();
    let [of_hz, of_sh] = writers.map(Writer::finish);
    let of_bj = first.iter().cloned().zip(at_first).chain(third.finish()).collect();
    let written = [(hz, at_hz, of_hz), (sh, at_sh, of_sh), (bj, at_bj, of_bj)];
    let produced: Produced = written.map(|(name, at, sent)| (name.to_owned(), plain::births(at, &topic, &sent))).into();
    let total: usize = produced.values().map(Vec::len).sum();
    for (name, bootstrap) in regions.iter() {
        plain::read_at_least(bootstrap, &topic, total, COPIED);
        assert_exactly_once(name, &topic, plain::read_all(bootstrap, &topic), &produced);
    }
    let started = bridges.iter().map(|bridge| bridge.log().matches("bridge started").count());
    assert_eq!(started.collect::<Vec<_>>(), [1, 1, 1], "nobody started a bridge again");
}

#[test]
fn orders_reach_whichever_instance_owns_the_partition_and_are_done_once() {
    let Some(shared) = clusters::shared() else { return };
    let topic = unique("orders");
    let mut way = OneWay::start(shared, &topic, &[], "");
    let mut second = way.setup.bridge(&way.name, "second");
    let owned = |bridge: &Bridge| {
        let text = bridge.get("/metrics").unwrap_or_default();
        text.lines().filter(|line| line.starts_with("longshore_link_lag_records{")).count()
    };
    eventually(READY, "they share the partitions", || (owned(&way.bridge) == 2 && owned(&second) == 2).then_some(()));
    let order = |arguments: &[&str]| {
        let output = way.setup.run(&[arguments, &["--link", &way.link, "--topic", &topic]].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(": applied"), "{arguments:?}: {output:?}");
    };
    let lag = |bridge: &Bridge| bridge.metric("longshore_link_lag_records", &[]);
    let waits_for = |count: f64, first: &Bridge, second: &Bridge| {
        eventually(READY, &format!("{count} records wait"), || (lag(first)? + lag(second)? == count).then_some(()));
    };
    let make = numbered("hz");
    let part = |range: std::ops::Range<usize>| range.map(&make).collect::<Vec<Out>>();
    plain::produce(&way.there, &topic, &part(0..400));
    plain::read_at_least(&way.here, &topic, 400, COPIED);

    order(&["pause"]);
    plain::produce(&way.there, &topic, &part(400..800));
    waits_for(400.0, &way.bridge, &second);
    assert_eq!(plain::read_all(&way.here, &topic).len(), 400, "neither instance copies");
    order(&["resume"]);
    plain::read_at_least(&way.here, &topic, 800, COPIED);
    for partition in ["0", "3"] {
        order(&["pause", "--partition", partition]);
    }
    plain::produce(&way.there, &topic, &part(800..1200));
    plain::read_at_least(&way.here, &topic, 1_000, COPIED);
    waits_for(200.0, &way.bridge, &second);
    let halves = plain::read_all(&way.here, &topic);
    assert!(halves.len() == 1_000 && halves.iter().filter(|it| [0, 3].contains(&it.partition)).count() == 400);
    for partition in ["0", "3"] {
        order(&["resume", "--partition", partition]);
    }
    plain::read_at_least(&way.here, &topic, 1_200, COPIED);

    // 300 in each partition: the last 50 once more.
    for partition in ["0", "1", "2", "3"] {
        order(&["links", "seek", "--partition", partition, "--offset", "250"]);
    }
    let expected = [part(0..1200), part(1000..1200)].concat();
    let again = |found: &[plain::Read]| plain::assert_same_bodies(&topic, &expected, found);
    again(&plain::read_at_least(&way.here, &topic, expected.len(), COPIED));
    // Whoever gets the partitions next does not carry the orders out anew.
    second.kill9();
    eventually(READY, "the other takes over", || (owned(&way.bridge) == 4).then_some(()));
    way.bridge.restart();
    way.bridge.wait_ready(READY);
    let more = part(1200..1240);
    plain::produce(&way.there, &topic, &more);
    let found = plain::read_at_least(&way.here, &topic, expected.len() + more.len(), COPIED);
    plain::assert_same_bodies(&topic, &[expected, more].concat(), &found);
}

#[test]
fn what_an_at_least_once_link_repeats_is_recognised_and_carried_on_once() {
    let Some(shared) = clusters::shared() else { return };
    // A star: what is born in hz goes through the center, whose bridge is killed, on to bj.
    let regions = Regions::new(shared, &["sh", "hz", "bj"]);
    let topic = unique("repeats");
    regions.create_topic(&topic);
    let [sh, hz, bj] = [0, 1, 2].map(|index| regions.clusters[index].bootstrap.as_str());
    let links = "{guarantee: at-least-once, commit_interval: 2s, rate_limit: {records_per_second: 4000}}";
    let setup = regions.setup(&topic, &format!("topology: star\nlinks: {links}"));
    let mut center = setup.bridge(&regions.names[0], "center");
    let mut unit = setup.bridge(&regions.names[2], "unit");
    center.wait_ready(READY);
    unit.wait_ready(READY);
    let records: Vec<Out> = (0..24_000).map(numbered("hz")).collect();
    plain::produce(hz, &topic, &records);
    for _ in 0..3 {
        let before = count(sh, &topic);
        eventually(COPIED, "it copies", || (count(sh, &topic) > before + 3_000).then_some(()));
        center.kill9();
        center.restart();
    }
    let origin = |read: &plain::Read| read.header("ls_origin").expect("a copy").to_owned();
    eventually(COPIED, "each record has come at least once", || {
        let distinct: HashSet<String> = plain::read_all(sh, &topic).iter().map(origin).collect();
        (distinct.len() == records.len()).then_some(())
    });
    for bridge in [&center, &unit] {
        bridge.wait_metric("longshore_link_lag_records", &[], COPIED, |lag| lag == 0.0);
    }
    let found = plain::read_all(sh, &topic);
    let mut seen = HashSet::new();
    let (first, repeats): (Vec<plain::Read>, Vec<plain::Read>) =
        found.into_iter().partition(|it| seen.insert(origin(it)));
    plain::assert_same_bodies("first copies", &records, &first);
    assert!(!repeats.is_empty(), "no kill repeated anything: nothing was proven");
    eprintln!("{} records repeated", repeats.len());
    unit.wait_metric("longshore_link_lag_records", &[], COPIED, |lag| lag == 0.0);
    let mut seen = HashSet::new();
    let (there, again): (Vec<plain::Read>, Vec<plain::Read>) =
        plain::read_at_least(bj, &topic, records.len(), COPIED).into_iter().partition(|it| seen.insert(origin(it)));
    plain::assert_same_bodies("in bj", &records, &there);
    // That link may repeat too, but only what it says it gave up.
    assert!(again.is_empty() || unit.log().contains("transaction aborted"), "{} repeats in bj", again.len());
    let skipped = unit.metric("longshore_link_skipped_records_total", &[r#"reason="duplicate_copy""#]);
    assert_eq!(skipped, Some(repeats.len() as f64), "every repeat is counted");
    assert_eq!(unit.metric("longshore_republished_copies_total", &[]).unwrap_or(0.0), 0.0);
}

#[test]
fn a_commit_whose_coordinator_is_gone_ends_in_time_and_the_sink_goes_on() {
    // librdkafka's own pretended cluster: only there can the group's coordinator go and the others stay.
    let mock = rdkafka::mocking::MockCluster::new(3).expect("a pretended cluster");
    mock.create_topic("orders", 1, 3).expect("created");
    let coordinate = |broker: i32| {
        mock.coordinator(MockCoordinator::Group("g".into()), broker).expect("set");
        mock.coordinator(MockCoordinator::Transaction("g-one".into()), 2).expect("set");
        mock.partition_leader("orders", 0, Some(2)).expect("set");
    };
    coordinate(1);
    let common = [("bootstrap.servers".to_owned(), mock.bootstrap_servers().as_str().into())].into();
    let cluster = Kafka::open("sh", &Settings { common, ..Settings::default() }).expect("valid settings");
    let place = TopicPartition::new(&TopicName::new("orders"), 0);
    let open = || {
        let mut sink = cluster
            .sink(&SinkSettings {
                group: GroupName::new("g"),
                instance: "one".into(),
                topics: vec![place.topic.clone()],
                transactional: true,
                buffer_bytes_max: 1 << 20,
                batch_bytes_max: 1 << 20,
            })
            .expect("opened");
        eventually(READY, "the partition is ours", || {
            let changes = sink.poll(Duration::from_millis(100)).expect("polled");
            changes.iter().any(|it| matches!(it, Ownership::Gained(_))).then_some(())
        });
        sink
    };
    let commit = |sink: &mut Box<dyn Sink>, offset: i64, limit: Duration| {
        eventually(READY, "a transaction begins", || sink.begin().ok());
        let position = Position { offset, note: String::new() };
        sink.commit(&[(place.clone(), position)], limit)
    };
    let mut sink = open();
    commit(&mut sink, 5, READY).expect("committed");
    mock.broker_down(1).expect("down");
    let (began, limit) = (Instant::now(), Duration::from_secs(2));
    let error = commit(&mut sink, 6, limit).expect_err("nobody takes the position");
    assert!(began.elapsed() < limit * 3, "{error}: after {:?}", began.elapsed());
    assert!(error.to_string().contains("coordinator is gone"), "{error}");
    sink.abort(limit).expect("the producer is given up for another");
    coordinate(3);
    eventually(READY, "the position can be committed again", || {
        drop(sink.poll(Duration::from_millis(100)));
        let committed = commit(&mut sink, 7, READY);
        committed.map_err(|_| sink.abort(READY).expect("another producer")).ok()
    });
    sink.close(READY).expect("left");
}

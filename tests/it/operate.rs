//! A bridge as operators meet it: the built program, its endpoint, and the commands that look at it and steer it.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use longshore::broker::embedded::Embedded;
use longshore::broker::{Cluster, NewTopic};
use serde_json::Value;

use super::harness::bridge::{Bridge, Setup};
use super::harness::plain::Out;
use super::harness::{clusters, eventually, free_port, plain, unique};

const LIMIT: Duration = Duration::from_secs(30);

const EMBEDDED: &str = "center: hz
regions:
  hz: {broker: embedded, embedded: {dir: ./hz}}
  sh: {broker: embedded, embedded: {dir: ./sh}}
topics: ./topics
state_dir: \"${env:LONGSHORE_TEST_STATE}\"
admin: {listen: \"${env:LONGSHORE_TEST_ADMIN}\", token: the token of this test}
control: {secret: the same in all regions}
";

/// Two embedded regions with a topic that both need.
fn embedded() -> Setup {
    let setup = Setup::from_text(EMBEDDED);
    setup.topic_for_all("orders", 2);
    for region in ["hz", "sh"] {
        let cluster = Embedded::open(&setup.dir().join(region)).expect("opens");
        let (name, config) = ("orders".into(), BTreeMap::new());
        cluster.create(&NewTopic { name, partitions: 2, replication_factor: None, config }).expect("created");
    }
    setup
}

/// Runs a command beside a bridge, under the bridge's own environment.
fn beside(setup: &Setup, bridge: &Bridge, arguments: &[&str]) -> Output {
    let admin = bridge.url("").replace("http://", "");
    setup.command(arguments).env("LONGSHORE_TEST_ADMIN", admin).output().expect("runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn commands_beside_a_bridge_of_embedded_regions_ask_the_bridge() {
    let setup = embedded();
    let mut bridge = setup.bridge("sh", "sh-1");
    bridge.wait_ready(LIMIT);

    let status: Value = eventually(LIMIT, "the bridge is shown", || {
        let output = beside(&setup, &bridge, &["status", "-o", "json"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (status["regions"]["sh"]["ready"] == true).then_some(status)
    });
    let link = &status["regions"]["sh"]["links"][0];
    assert_eq!((&link["from"], &link["topic"], &link["state"]), (&"hz".into(), &"orders".into(), &"running".into()));
    assert_eq!(status["regions"]["sh"]["instances"][0]["instance"], "sh-1");
    assert_eq!(status["regions"]["hz"]["reachable"], true);

    let output = beside(&setup, &bridge, &["pause", "--link", "hz:sh", "--topic", "orders"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    eventually(LIMIT, "the table shows the pause", || {
        let table = stdout(&beside(&setup, &bridge, &["status"]));
        (table.contains("paused (in sh): hz/sh/orders") && table.contains("hz:sh  orders  paused")).then_some(())
    });
    let output = beside(&setup, &bridge, &["resume", "--link", "hz:sh", "--topic", "orders"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    eventually(LIMIT, "the table shows the link running", || {
        stdout(&beside(&setup, &bridge, &["status"])).contains("hz:sh  orders  running").then_some(())
    });
    assert_eq!(bridge.sigterm(LIMIT), Some(0));
    assert!(bridge.log().contains("audit: fetched = copied + skipped"), "{}", bridge.log());
}

#[test]
fn commands_without_a_bridge_read_the_control_topic_themselves() {
    let setup = embedded();
    let paused = setup.run(&["pause", "--link", "hz:sh", "-o", "json"]);
    assert_eq!(paused.status.code(), Some(0), "{paused:?}");
    let answer: Value = serde_json::from_slice(&paused.stdout).expect("JSON");
    assert!(answer["outcome"].as_str().is_some_and(|word| word.contains("no bridge runs there")), "{answer}");
    let table = stdout(&setup.run(&["status"]));
    assert!(table.contains("no bridge has run in sh yet") && table.contains("paused (in sh): hz/sh"), "{table}");
    let seek = ["links", "seek", "--link", "hz:sh", "--topic", "orders", "--partition", "0"];
    let outside = setup.run(&[&seek[..], &["--offset", "7"]].concat());
    assert_eq!(outside.status.code(), Some(2), "{outside:?}");
    assert!(String::from_utf8_lossy(&outside.stderr).contains("offset 7 is not in the log, which has 0 to 0"));
    assert_eq!(setup.run(&[&seek[..], &["--to", "earliest"]].concat()).status.code(), Some(0));
    let gap = setup.run(&["links", "accept-gap", "--link", "hz:sh", "--topic", "orders", "--partition", "0"]);
    assert_eq!(gap.status.code(), Some(1), "{gap:?}");
    let letters = setup.run(&["dead-letter", "list", "--topic", "orders", "--region", "sh"]);
    assert_eq!((letters.status.code(), stdout(&letters).as_str()), (Some(0), "No dead letters.\n"));
    for (arguments, hint) in [
        (&["pause", "--link", "hx:sh"][..], "did you mean `hz`?"),
        (&["pause", "--link", "hz:sh", "--topic", "order"][..], "did you mean `orders`?"),
        (&["dead-letter", "list", "--topic", "oders"][..], "did you mean `orders`?"),
    ] {
        let refused = setup.run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(hint), "{refused:?}");
    }
}

#[test]
fn commands_reach_real_brokers_and_a_lost_region_holds_nothing_up() {
    let Some(clusters) = clusters::shared() else { return };
    // Region names of its own, so that other tests' links on the same clusters stay apart.
    let (here, there) = (clusters.get("sh").bootstrap.as_str(), clusters.get("hz").bootstrap.as_str());
    let topic = unique("operate");
    plain::create_topic_everywhere(&[here, there], &topic, 2);
    let lost = format!("127.0.0.1:{}", free_port());
    let regions = [("op-here", here), ("op-there", there), ("op-lost", lost.as_str())];
    let setup = Setup::new("center: op-here", &regions, "");
    setup.topic_for_all(&topic, 2);
    let record = Out { partition: 0, ..plain::shape(0, 2) };
    plain::produce(there, &topic, &[record.clone(), record.clone(), record]);

    let mut bridge = setup.bridge("op-here", "only");
    plain::read_at_least(here, &topic, 3, LIMIT);
    let status = eventually(LIMIT, "the link is shown running", || {
        let began = std::time::Instant::now();
        let output = setup.run(&["status", "-o", "json"]);
        assert!(began.elapsed() < Duration::from_secs(15), "a lost region holds status up: {:?}", began.elapsed());
        let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let links = status["regions"]["op-here"]["links"].as_array()?.clone();
        let link = links.into_iter().find(|link| link["from"] == "op-there")?;
        (link["state"] == "running" && link["lag_records"] == 0).then_some(status)
    });
    let flags = |region: &str| {
        let region = &status["regions"][region];
        (region["reachable"].clone(), region["ready"].clone())
    };
    assert_eq!(flags("op-there"), (true.into(), false.into()), "reachable, no bridge");
    assert_eq!(flags("op-lost"), (false.into(), false.into()));
    assert_eq!(flags("op-here"), (true.into(), false.into()), "one of its links has no source");
    let from_lost = &status["regions"]["op-here"]["links"][0];
    assert_eq!(from_lost["from"], "op-lost");
    assert!(from_lost["lag_records"].is_null() && from_lost["state"] != "running", "{from_lost}");

    let link = ["--link", "op-there:op-here", "--topic", &topic];
    let applied = |arguments: &[&str]| {
        let output = setup.run(&[arguments, &link[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(stdout(&output).contains(": applied"), "{output:?}");
    };
    applied(&["pause"]);
    applied(&["resume"]);
    applied(&["links", "seek", "--partition", "0", "--offset", "1"]);
    plain::read_at_least(here, &topic, 5, LIMIT);
    let gap = setup.run(&[&["links", "accept-gap", "--partition", "0"], &link[..]].concat());
    assert_eq!(gap.status.code(), Some(1), "{gap:?}");
    assert!(String::from_utf8_lossy(&gap.stderr).contains("is not stopped by lost records"), "{gap:?}");
    assert_eq!(bridge.sigterm(LIMIT), Some(0));
}

//! What is wrong in the bridge file: regions, clusters, links, the endpoint, hooks.

use insta::assert_snapshot;

use super::Files;

/// `hz` on Kafka with these lines in its `kafka` block.
fn kafka(properties: &[&str]) -> Files {
    let lines = properties.iter().map(|line| format!("      {line}\n")).collect::<String>();
    let region = format!("hz:\n    broker: kafka\n    kafka:\n{lines}");
    let secret = "control: {secret: \"${file:secret.txt}\"}\n";
    Files::right()
        .with("secret.txt", "0123456789abcdef\n")
        .edit("longshore.yaml", "hz: {broker: embedded}\n", &region)
        .append("longshore.yaml", secret)
}

#[test]
fn a_kafka_region_that_is_right() {
    assert_eq!(kafka(&["bootstrap.servers: 127.0.0.1:9092", "socket.timeout.ms: 5000"]).report(), "valid");
}

#[test]
fn a_center_that_is_no_region() {
    assert_snapshot!(Files::right().edit("longshore.yaml", "center: hz", "center: hzz").report());
}

#[test]
fn no_center_and_no_regions() {
    assert_snapshot!(Files::right().with("longshore.yaml", "topology: mesh\n").report());
}

#[test]
fn standbys_that_are_unknown_repeated_or_the_center() {
    assert_snapshot!(Files::right().edit("longshore.yaml", "[sh]", "[hz, sh, sh, gz]").report());
}

#[test]
fn names_that_no_region_may_have() {
    let files = Files::right()
        .edit("longshore.yaml", "bj:", "Bei_Jing:")
        .edit("longshore.yaml", "center: hz", "center: a-name-that-is-longer-than-32-chars")
        .edit("longshore.yaml", "  hz:", "  a-name-that-is-longer-than-32-chars:");
    assert_snapshot!(files.report());
}

#[test]
fn a_region_without_settings() {
    assert_snapshot!(Files::right().edit("longshore.yaml", "bj: {broker: embedded}", "bj:").report());
}

#[test]
fn an_unknown_broker() {
    assert_snapshot!(Files::right().edit("longshore.yaml", "bj: {broker: embedded}", "bj: {broker: kafak}").report());
}

#[test]
fn blocks_of_another_broker() {
    let region =
        "bj: {broker: embedded, kafka: {bootstrap.servers: a}, replication_factor: 3, rocketmq: {name_server: b}}";
    assert_snapshot!(Files::right().edit("longshore.yaml", "bj: {broker: embedded}", region).report());
}

#[test]
fn a_kafka_region_without_its_address() {
    let files = Files::right().edit("longshore.yaml", "hz: {broker: embedded}", "hz: {broker: kafka}").edit(
        "longshore.yaml",
        "sh: {broker: embedded}",
        "sh: {kafka: {client.id: x}}",
    );
    assert_snapshot!(files.report());
}

#[test]
fn a_property_that_librdkafka_does_not_know() {
    assert_snapshot!(kafka(&["bootstrap.servers: a:9092", "bootstrp.servers: b:9092", "color: blue"]).report());
}

#[test]
fn a_value_that_librdkafka_refuses() {
    let files = kafka(&["bootstrap.servers: a:9092", "socket.timeout.ms: soon", "broker.address.family: v5"]);
    assert_snapshot!(files.report());
}

#[test]
fn properties_that_the_promises_rest_on() {
    let lines = ["bootstrap.servers: a:9092", "isolation.level: read_uncommitted", "group.id: mine", "acks: 1"];
    let files = kafka(&lines).edit(
        "longshore.yaml",
        "acks: 1\n",
        "acks: 1\n    consumer: {auto.offset.reset: latest, linger.ms: 5}\n    producer: {enable.idempotence: false, max.in.flight: 9}\n",
    );
    assert_snapshot!(files.report());
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_in_a_program_that_was_built_without_it() {
    let lines = ["bootstrap.servers: a:9092", "security.protocol: ssl", "ssl.ca.location: /etc/ca.pem"];
    assert_snapshot!(kafka(&lines).report());
}

#[cfg(not(feature = "tls"))]
#[test]
fn credentials_that_do_not_go_together() {
    let sh = "sh: {kafka: {bootstrap.servers: b, security.protocol: SASL_PLAINTEXT, sasl.mechanism: PLAIN}}";
    let bj = "bj: {kafka: {bootstrap.servers: c, sasl.mechanism: SCRAM-SHA-256, sasl.username: u, sasl.password: p}}";
    let files = kafka(&["bootstrap.servers: a", "security.protocol: sasl_plaintext", "sasl.jaas.config: secret"])
        .edit("longshore.yaml", "sh: {broker: embedded}", sh)
        .edit("longshore.yaml", "bj: {broker: embedded}", bj);
    assert_snapshot!(files.report());
}

#[test]
fn two_regions_on_one_cluster() {
    let files = kafka(&["bootstrap.servers: 'a:9092, b:9092'"]).edit(
        "longshore.yaml",
        "sh: {broker: embedded}",
        "sh: {kafka: {bootstrap.servers: 'b:9092,a:9092'}}",
    );
    assert_snapshot!(files.report());
}

#[test]
fn a_replication_factor_of_zero() {
    let files =
        kafka(&["bootstrap.servers: a:9092"]).edit("longshore.yaml", "a:9092\n", "a:9092\n    replication_factor: 0\n");
    assert_snapshot!(files.report());
}

#[test]
fn a_rocketmq_region_is_planned_with_a_warning() {
    let region = "bj: {broker: rocketmq, rocketmq: {name_server: 'c:9876'}}";
    let files = kafka(&["bootstrap.servers: a:9092"])
        .edit("longshore.yaml", "bj: {broker: embedded}", region)
        .append("longshore.yaml", "links: {guarantee: exactly-once}\n");
    assert_snapshot!(files.report());
}

#[test]
fn a_rocketmq_region_with_half_its_credentials() {
    let region = "bj: {broker: rocketmq, rocketmq: {acess_key: a, access_key: b}}";
    assert_snapshot!(Files::right().edit("longshore.yaml", "bj: {broker: embedded}", region).report());
}

#[test]
fn numbers_out_of_range_in_links() {
    let links = "links: {commit_interval: 10s, rate_limit: {records_per_second: 0, bytes_per_second: -1}}\n";
    assert_snapshot!(Files::right().append("longshore.yaml", links).report());
}

#[test]
fn a_start_that_is_no_time() {
    for wrong in ["yesterday", "committed", "-15m"] {
        let report = Files::right().append("longshore.yaml", &format!("links: {{start_from: {wrong}}}\n")).report();
        assert!(
            report.contains(&format!("longshore.yaml:9:21: error: `{wrong}` is no place to start from")),
            "{report}"
        );
    }
    let right = Files::right().append("longshore.yaml", "links: {start_from: 2026-11-21T06:00:00Z}\n");
    assert_eq!(right.report(), "valid");
}

#[test]
fn an_endpoint_off_loopback_without_a_token() {
    assert_snapshot!(Files::right().append("longshore.yaml", "admin: {listen: \"0.0.0.0:9464\"}\n").report());
}

#[test]
fn an_endpoint_that_is_no_address() {
    assert_snapshot!(Files::right().append("longshore.yaml", "admin: {listen: localhost}\n").report());
}

#[test]
fn a_control_topic_that_is_not_signed_is_warned_about() {
    let files =
        kafka(&["bootstrap.servers: a:9092"]).edit("longshore.yaml", "control: {secret: \"${file:secret.txt}\"}\n", "");
    assert_snapshot!(files.report());
}

#[test]
fn hooks_that_call_nothing_or_two_things() {
    let hooks = "\
hooks:
  ban: {timeout: 0s}
  seal: {url: \"ftp://x\", block: maybe}
  gate: {exec: []}
  switched: {url: \"http://x\", exec: [\"./y\"]}
";
    assert_snapshot!(Files::right().append("longshore.yaml", hooks).report());
}

#[test]
fn a_single_region_is_warned_about() {
    let text = "center: hz\nregions: {hz: {broker: embedded}}\ntopics: [topics/clicks.yaml]\n";
    let clicks = "topic: clicks\nsubscriptions: [{group: all, mode: nearby}]\n";
    let files = Files::right().with("longshore.yaml", text).with("topics/clicks.yaml", clicks);
    assert_snapshot!(
        files.without("rules/buyers.yaml").edit("longshore.yaml", "center: hz", "center: hz\nrules: []").report()
    );
}

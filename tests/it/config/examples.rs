//! What ships must be right: the examples, the topics of the demo, the documentation and the schemas.

use std::path::{Path, PathBuf};

use longshore::config::schema::{FileKind, json_schema, markdown};
use longshore::config::{Cluster, Config, Guarantee, OnGap, OnRejected};
use longshore::policy::subscription::{Mode, StartFrom, Topology};

use super::Files;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_quickstart_example_has_neither_errors_nor_warnings() {
    let config = Config::load(&root().join("examples/quickstart/longshore.yaml"));
    let config = config.unwrap_or_else(|report| panic!("{report}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let modes: Vec<Mode> =
        config.deployment.topics.iter().flat_map(|topic| &topic.subscriptions).map(|group| group.mode).collect();
    for mode in [Mode::Center, Mode::Nearby, Mode::Unit, Mode::AllUnit] {
        assert!(modes.contains(&mode), "no group shows {}", mode.as_str());
    }
}

/// The files of the interface's description, secrets from a file and without the properties that need TLS.
#[test]
fn every_key_that_the_interface_names_is_accepted() {
    let bridge = r#"
center: hz
standby: [sh]
topology: mesh
regions:
  hz:
    broker: kafka
    kafka:
      bootstrap.servers: "127.0.0.1:19092"
    consumer: {}
    producer: {}
    replication_factor: 3
    topic_config: {}
  sh:
    broker: rocketmq
    rocketmq:
      name_server: "127.0.0.1:9876"
      access_key: "${file:secret}"
      secret_key: "${file:secret}"
topics: ./topics
rules: ./rules
links:
  guarantee: at-least-once
  start_from: earliest
  commit_interval: 100ms
  on_gap: stop
  on_rejected: dead-letter
  rate_limit: {records_per_second: 1000, bytes_per_second: 1000000}
create_topics: true
state_dir: ./state
shutdown_timeout: 30s
admin:
  listen: "127.0.0.1:9464"
  token: "${file:secret}"
control:
  secret: "${file:secret}"
hooks:
  secret: "${file:secret}"
  ban:      {url: "http://gateway/ban", timeout: 10s, block: success}
  seal:     {exec: ["./db-read-only", "{moved_file}"], timeout: 10s, block: end}
  gate:     {exec: ["./db-synced", "{until}"], timeout: 300s, block: ignore}
  switched: {url: "http://gateway/rules", timeout: 10s, block: success}
"#;
    let topic = "
topic: order-events
partitions: 8
routing_key: {json: /buyer/id}
version: {timestamp: true}
copies: same-topic
subscriptions:
  - group: inventory
    mode: center
    regions: [hz, sh]
    start_from: committed
    delivery_topic: order-events-for-inventory
  - group: order-timeline
    mode: unit
    rules: buyers
    idempotency: version
    on_missing_key: dead-letter
    on_missing_version: dead-letter
    idempotency_key: {json: /order/id}
    idempotency_ttl: 7d
  - group: cache-evict
    mode: all-unit
    delivery: direct
  - group: local-audit
    mode: nearby
    idempotency: id
    id_window: 1000
    start_from: 2026-11-21T06:00:00Z
";
    let rules = r#"
rules: buyers
epoch: 1
slots: 10000
hash: crc32
assign:
  - {slots: 0-5999, region: hz}
  - {slots: 6000-9999, region: sh}
exact:  [{keys: ["10086"], region: hz}, {keys_file: vip.txt, region: sh}]
prefix: [{prefix: "us-", region: sh}]
range:  [{from: 1, to: 99999, region: hz}]
"#;
    let files = Files::right()
        .without("topics/orders.yaml")
        .with("longshore.yaml", bridge)
        .with("secret", "0123456789abcdef\n")
        .with("topics/order-events.yaml", topic)
        .with("rules/buyers.yaml", rules)
        .with("rules/vip.txt", "10010\n");
    let config = files.load().unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.warnings.len(), 1, "only that RocketMQ is not run yet: {:?}", config.warnings);
    assert_eq!(config.rules[0].exact.len(), 2);
    assert_eq!(config.deployment.topics[0].subscriptions[0].delivery_topic.as_str(), "order-events-for-inventory");
}

/// Editing a file must never end in anything but a report.
#[test]
fn no_damage_to_a_file_stops_the_reader() {
    let texts = [
        ("longshore.yaml", super::BRIDGE),
        ("topics/orders.yaml", super::ORDERS),
        ("rules/buyers.yaml", super::BUYERS),
    ];
    for (path, text) in texts {
        for at in (0..text.len()).step_by(5) {
            for damage in ["", "\n", "\t", ":", "- ", "{", "]", "'", "*a ", "&a ", "? ", "\u{0}", "${"] {
                let damaged = format!("{}{damage}{}", &text[..at], &text[at + usize::from(damage.is_empty())..]);
                // The outcome is free; that there is one is what counts.
                let report = Files::right().with(path, damaged).report();
                assert!(report.ends_with("valid") || report.contains(" error"), "{report}");
            }
        }
    }
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = Files::right().load().expect("right files");
    assert_eq!(config.deployment.topology, Topology::Mesh);
    assert_eq!(config.links.guarantee, Guarantee::ExactlyOnce);
    assert_eq!(config.links.start_from, StartFrom::Earliest);
    assert_eq!(config.links.commit_interval.as_millis(), 100);
    assert_eq!((config.links.on_gap, config.links.on_rejected), (OnGap::Stop, OnRejected::DeadLetter));
    assert!(config.create_topics);
    assert_eq!(config.shutdown_timeout.as_secs(), 30);
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9464");
    let files = Files::right();
    let config = files.load().expect("right files");
    assert_eq!(config.state_dir, files.path().join("state"));
    let Some(Cluster::Embedded { dir }) = config.clusters.get("hz") else { panic!("hz is embedded") };
    assert_eq!(*dir, files.path().join("state/embedded/hz"));
}

#[test]
fn the_documentation_holds_every_key() {
    let path = root().join("docs/configuration.md");
    let (begin, end) = ("<!-- tables: begin -->\n", "<!-- tables: end -->\n");
    let text = std::fs::read_to_string(&path).expect("docs/configuration.md");
    let (head, rest) = text.split_once(begin).expect("the mark where the tables begin");
    let (tables, tail) = rest.split_once(end).expect("the mark where the tables end");
    let expected = format!("\n{}", markdown());
    if tables != expected && std::env::var_os("LONGSHORE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{begin}{expected}{end}{tail}")).expect("write docs/configuration.md");
        return;
    }
    assert!(tables == expected, "docs/configuration.md is old: run this test with LONGSHORE_UPDATE_DOCS=1");
}

#[test]
fn a_schema_describes_every_key_and_refuses_unknown_ones() {
    for kind in [FileKind::Bridge, FileKind::Topic, FileKind::Rules] {
        let schema = json_schema(kind);
        let definitions = schema["$defs"].as_object().expect("definitions");
        assert!(definitions.contains_key(schema["$ref"].as_str().expect("a root").trim_start_matches("#/$defs/")));
        for (name, definition) in definitions {
            assert_eq!(definition["additionalProperties"], false, "{name}");
            for (key, property) in definition["properties"].as_object().expect("properties") {
                assert!(property["description"].as_str().is_some_and(|doc| doc.len() > 5), "{name}.{key}");
            }
        }
    }
}

#[test]
fn the_yaml_blocks_of_the_documentation_are_right() {
    let text = std::fs::read_to_string(root().join("docs/configuration.md")).expect("docs/configuration.md");
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block).collect();
    assert!(blocks.len() >= 3, "the bridge file, a topic file and a rule file");
    let mut files = Files::right().without("topics/orders.yaml").without("rules/buyers.yaml");
    for block in blocks {
        let name =
            block.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a comment with the file's name");
        assert!(Path::new(name).extension().is_some_and(|extension| extension == "yaml"), "{name}");
        files = files.with(name, block);
    }
    let report = files.with("secret", "0123456789abcdef").report();
    assert!(report.ends_with("valid"), "{report}");
}

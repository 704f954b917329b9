//! The rights that `longshore acls` prints are enough: bridges run under them on brokers that deny everything else.
//! The brokers' own log of denials is the judge. And what happens to the other topics when a right is taken away.

use std::process::Command;
use std::time::Duration;

use crate::copy_kafka::{COPIED, PARTITIONS, numbered};
use crate::harness::bridge::{Bridge, Setup};
use crate::harness::clusters::{self, KafkaCluster, Options};
use crate::harness::plain::{Out, Writer};
use crate::harness::{eventually, plain};

const LIMIT: Duration = Duration::from_secs(60);

fn strict() -> Options {
    let users = r#"user_longshore-hz="secret" user_longshore-sh="secret""#;
    let login = "org.apache.kafka.common.security.plain.PlainLoginModule";
    Options {
        sasl: Some("nobody:secret".to_owned()),
        settings: vec![
            format!("listener.name.sasl_plaintext.plain.sasl.jaas.config={login} required {users};"),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            // The listener without passwords is the test's own.
            "super.users=User:ANONYMOUS".to_owned(),
        ],
        ..Options::default()
    }
}

fn region(name: &str, cluster: &KafkaCluster) -> String {
    let servers = cluster.sasl_bootstrap.as_deref().expect("asked for");
    format!(
        "  {name}:\n    broker: kafka\n    kafka: {{bootstrap.servers: \"{servers}\", security.protocol: sasl_plaintext, \
         sasl.mechanism: PLAIN, sasl.username: \"${{env:BRIDGE_USER}}\", sasl.password: secret}}\n"
    )
}

/// Runs the printed commands with Kafka's own tool, as the super user.
fn grant(setup: &Setup, addresses: &[(&str, &str)]) {
    let printed = setup.command(&["acls"]).env("BRIDGE_USER", "x").output().expect("the program starts");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let mut script = String::from_utf8(printed.stdout).expect("UTF-8");
    assert!(script.matches("\nkafka-acls ").count() > 10, "{script}");
    for (sasl, open) in addresses {
        script = script.replace(sasl, open);
    }
    acls(&script);
}

/// Runs `kafka-acls` commands.
fn acls(script: &str) {
    let tool = format!(
        "kafka-acls() {{ java -Xmx128m -XX:TieredStopAtLevel=1 -cp '{}/*' org.apache.kafka.tools.AclCommand \"$@\" \
         || exit 1; }}\n",
        clusters::jars().display()
    );
    let done = Command::new("bash").args(["-c", &(tool + script)]).output().expect("bash is there");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{script}\n{out}\n{err}");
}

fn record(value: &str) -> plain::Out {
    plain::Out { value: Some(value.as_bytes().to_vec()), ..plain::Out::default() }
}

fn denials(cluster: &KafkaCluster) -> Vec<String> {
    cluster.log().lines().filter(|line| line.contains(" is Denied ")).map(str::to_owned).collect()
}

#[test]
fn the_printed_rights_are_enough_for_bridges_to_copy() {
    let Some(own) = clusters::own(&["hz", "sh"], &strict()) else { return };
    let (hz, sh) = (own.get("hz"), own.get("sh"));
    let setup = Setup::from_text(&format!(
        "center: hz\nregions:\n{}{}topics: ./topics\nstate_dir: \"${{env:LONGSHORE_TEST_STATE}}\"\n\
         admin:\n  listen: \"${{env:LONGSHORE_TEST_ADMIN}}\"\n",
        region("hz", hz),
        region("sh", sh)
    ));
    setup.topic_for_all("orders", 2);
    let sasl = |cluster: &KafkaCluster| cluster.sasl_bootstrap.clone().expect("asked for");
    let refused = setup.command(&["topics", "diff"]).env("BRIDGE_USER", "longshore-hz").output().expect("it starts");
    assert_eq!(refused.status.code(), Some(1), "without rights nothing can be asked");
    let before = [hz, sh].map(|cluster| denials(cluster).len());
    assert!(before.iter().all(|denied| *denied > 0), "the brokers' log tells of denials");
    grant(&setup, &[(&sasl(hz), &hz.bootstrap), (&sasl(sh), &sh.bootstrap)]);

    let mut bridges = ["hz", "sh"].map(|name| {
        Bridge::start(&setup, name, &format!("{name}-1"), &[("BRIDGE_USER", &format!("longshore-{name}"))])
    });
    bridges.iter_mut().for_each(|bridge| bridge.wait_ready(LIMIT));
    for (cluster, value) in [(hz, "from hz"), (sh, "from sh")] {
        eventually(LIMIT, "the bridge makes its topic", || {
            (plain::partitions_of(&cluster.bootstrap, "orders") == 2).then_some(())
        });
        plain::produce(&cluster.bootstrap, "orders", &[record(value)]);
    }
    for cluster in [hz, sh] {
        eventually(LIMIT, "both records are in both regions", || {
            (plain::read_all(&cluster.bootstrap, "orders").len() == 2).then_some(())
        });
    }
    for (cluster, before) in [hz, sh].into_iter().zip(before) {
        assert_eq!(denials(cluster).split_off(before), Vec::<String>::new());
    }
}

/// Forbids (or no longer forbids) an operation on a topic to the bridge of `sh`, by the way.
fn forbid(cluster: &KafkaCluster, add_or_remove: &str, operation: &str, topic: &str) -> String {
    format!(
        "kafka-acls --bootstrap-server {} {add_or_remove} --force --deny-principal User:longshore-sh --operation \
         {operation} --topic {topic} &\n",
        cluster.bootstrap
    )
}

#[test]
fn a_topic_without_a_right_waits_for_it_and_holds_no_other_up() {
    let Some(own) = clusters::own(&["hz", "sh"], &strict()) else { return };
    let (hz, sh) = (own.get("hz"), own.get("sh"));
    let setup = Setup::from_text(&format!(
        "center: hz\nregions:\n{}{}topics: ./topics\nstate_dir: \"${{env:LONGSHORE_TEST_STATE}}\"\n\
         admin:\n  listen: \"${{env:LONGSHORE_TEST_ADMIN}}\"\n",
        region("hz", hz),
        region("sh", sh)
    ));
    let topics = ["open", "unread", "unwritten"];
    for topic in topics {
        setup.topic_for_all(topic, PARTITIONS);
        for cluster in [hz, sh] {
            plain::create_topic(&cluster.bootstrap, topic, PARTITIONS, &[("retention.ms", "-1")]);
        }
    }
    let sasl = |cluster: &KafkaCluster| cluster.sasl_bootstrap.clone().expect("asked for");
    grant(&setup, &[(&sasl(hz), &hz.bootstrap), (&sasl(sh), &sh.bootstrap)]);
    let rights = |word: &str| {
        let lines = [forbid(hz, word, "Read", "unread"), forbid(sh, word, "Write", "unwritten")];
        acls(&(lines.concat() + "wait -n && wait -n\n"));
    };
    rights("--add");
    let first: Vec<Vec<Out>> = topics.iter().map(|topic| (0..1_000).map(numbered(topic)).collect()).collect();
    for (topic, records) in topics.iter().zip(&first) {
        plain::produce(&hz.bootstrap, topic, records);
    }
    let mut bridge = Bridge::start(&setup, "sh", "sh-1", &[("BRIDGE_USER", "longshore-sh")]);
    let whole = |topic: &str, records: &[Out]| {
        let found = plain::read_at_least(&sh.bootstrap, topic, records.len(), COPIED);
        plain::assert_same_bodies(topic, records, &found);
    };
    let denied = |bridge: &Bridge| {
        eventually(LIMIT, "readyz names the topics that wait, and no other", || {
            let answer: serde_json::Value = serde_json::from_str(&bridge.get("/readyz")?).ok()?;
            let reasons: Vec<String> =
                answer["reasons"].as_array()?.iter().filter_map(|it| Some(it.as_str()?.to_owned())).collect();
            let says = |topic: &str| {
                let start = format!("link hz:sh topic {topic}: stopped: denied");
                reasons.iter().any(|it| it.starts_with(&start) && it.contains("longshore acls"))
            };
            (reasons.len() == 2 && says("unread") && says("unwritten")).then_some(())
        });
    };
    denied(&bridge);
    whole("open", &first[0]);
    assert!(["unread", "unwritten"].iter().all(|topic| plain::read_all(&sh.bootstrap, topic).is_empty()));

    rights("--remove");
    bridge.wait_ready(LIMIT);
    topics.iter().zip(&first).for_each(|(topic, records)| whole(topic, records));

    let writers = topics.map(|topic| Writer::start(&hz.bootstrap, topic, 100, &[], numbered(topic)));
    let copied = |topic: &str| bridge.metric("longshore_link_records_total", &[&format!("topic=\"{topic}\"")]);
    let goes_on = |topic: &str| {
        let before = copied(topic).expect("counted");
        eventually(LIMIT, "the others go on", || (copied(topic)? > before + 500.0).then_some(()));
    };
    topics.into_iter().for_each(goes_on);
    rights("--add");
    denied(&bridge);
    goes_on("open");
    rights("--remove");
    topics.into_iter().for_each(goes_on);
    for ((topic, writer), mut all) in topics.into_iter().zip(writers).zip(first) {
        all.extend(writer.finish().into_iter().map(|(out, _)| out));
        whole(topic, &all);
    }
    bridge.wait_ready(LIMIT);
    assert_eq!(bridge.sigterm(LIMIT), Some(0));
}

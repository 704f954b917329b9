//! A bridge of one region that copies topics of another, on the shared clusters, with an operator who has nothing but
//! the program's commands.

use std::time::Duration;

use serde_json::Value;

use crate::copy_kafka::{COPIED, READY, Regions};
use crate::harness::bridge::{Bridge, Setup};
use crate::harness::clusters::Clusters;
use crate::harness::plain::{self, Out, Read};
use crate::harness::{eventually, unique};

/// How long an operator waits for what should take seconds; the machine may be busy.
pub const SOON: Duration = Duration::from_secs(90);

/// Two regions on real clusters: `there` is read, `here` has a bridge once it was started.
pub struct Way {
    pub setup: Setup,
    pub from: String,
    pub to: String,
    /// Bootstrap address of the source.
    pub there: String,
    /// Bootstrap address of the target.
    pub here: String,
}

impl Way {
    /// The configuration without topics and bridges.
    pub fn new(shared: &'static Clusters, tail: &str) -> Self {
        let regions = Regions::new(shared, &["hz", "sh"]);
        let list: Vec<(&str, &str)> = regions.iter().collect();
        let setup = Setup::new(&format!("center: {}", regions.names[0]), &list, tail);
        let [from, to] = [0, 1].map(|index| regions.names[index].clone());
        let [there, here] = [0, 1].map(|index| regions.clusters[index].bootstrap.clone());
        Self { setup, from, to, there, here }
    }

    /// Declares a topic that both regions need and makes it in both; its name.
    pub fn topic(&self, prefix: &str, partitions: [i32; 2], settings: [&[(&str, &str)]; 2]) -> String {
        let topic = unique(prefix);
        self.setup.topic_for_all(&topic, partitions[0].max(partitions[1]));
        for (index, bootstrap) in [&self.there, &self.here].into_iter().enumerate() {
            make(bootstrap, &topic, partitions[index], settings[index]);
        }
        topic
    }

    /// The bridge of the region that is written, ready.
    #[track_caller]
    pub fn bridge(&self) -> Bridge {
        let mut bridge = self.setup.bridge(&self.to, "only");
        bridge.wait_ready(READY);
        bridge
    }

    /// The bridge of the region that is read, ready: it has to tell copies from what is born in the other.
    #[track_caller]
    pub fn bridge_back(&self) -> Bridge {
        let mut bridge = self.setup.bridge(&self.from, "back");
        bridge.wait_ready(READY);
        bridge
    }

    /// Runs a command that must succeed; what it printed.
    #[track_caller]
    pub fn operate(&self, arguments: &[&str]) -> String {
        let output = self.setup.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Pauses or resumes copying a topic.
    #[track_caller]
    pub fn operate_topic(&self, command: &str, topic: &str) {
        let told = self.operate(&[command, "--link", &format!("{}:{}", self.from, self.to), "--topic", topic]);
        assert!(told.contains(": applied"), "{told}");
    }

    /// The link into the region that is written.
    pub fn link(&self) -> [&str; 2] {
        [&self.from, &self.to]
    }

    /// The link of [`Way::bridge_back`].
    pub fn link_back(&self) -> [&str; 2] {
        [&self.to, &self.from]
    }

    /// Gives up what a partition's source has lost.
    #[track_caller]
    pub fn accept_gap(&self, link: [&str; 2], topic: &str, partition: i32) {
        let (link, partition) = (link.join(":"), partition.to_string());
        let told = self.operate(&["links", "accept-gap", "--link", &link, "--topic", topic, "--partition", &partition]);
        assert!(told.contains(": applied"), "{told}");
    }

    /// Waits until `longshore status` shows a partition of a link in this state for this reason.
    #[track_caller]
    pub fn wait_shown(&self, link: [&str; 2], topic: &str, partition: i32, state: &str, reason: &str) {
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let status: Value = serde_json::from_str(&self.operate(&["status", "-o", "json"])).expect("JSON");
            if let Some(shown) = partition_in(&status, link, topic, partition) {
                last = shown;
            }
            let is_reason = last["reason"].as_str().unwrap_or("").contains(reason);
            if last["state"] == state && is_reason {
                return;
            }
            let in_time = std::time::Instant::now() < deadline;
            assert!(in_time, "{topic}/{partition} is not {state} ({reason}) within {SOON:?}: {last}");
        }
    }

    /// Waits until the target holds `count` records of a topic; all it holds.
    #[track_caller]
    pub fn wait_here(&self, topic: &str, count: usize) -> Vec<Read> {
        plain::read_at_least(&self.here, topic, count, COPIED)
    }
}

fn partition_in(status: &Value, [from, to]: [&str; 2], topic: &str, partition: i32) -> Option<Value> {
    let links = status["regions"][to]["links"].as_array()?;
    let link = links.iter().find(|link| link["topic"] == topic && link["from"] == from)?;
    link["partitions"].as_array()?.iter().find(|it| it["partition"] == partition).cloned()
}

/// Makes a topic that keeps old timestamps.
pub fn make(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    plain::create_topic(bootstrap, topic, partitions, &[&[("retention.ms", "-1")], settings].concat());
}

/// Ends a bridge in good order.
#[track_caller]
pub fn stop(bridge: &mut Bridge) {
    assert_eq!(bridge.sigterm(Duration::from_secs(30)), Some(0), "{}", bridge.log());
}

/// Waits until a bridge has nothing left to copy of a topic, for two looks in a row at least.
#[track_caller]
pub fn wait_copied(bridge: &Bridge, topic: &str) {
    bridge.wait_metric("longshore_link_lag_records", &[&of(topic)], COPIED, |lag| lag == 0.0);
}

/// Waits until a counter of a topic is at `expected`, and fails when it goes beyond.
#[track_caller]
pub fn wait_counted(bridge: &Bridge, name: &str, topic: &str, labels: &[&str], expected: f64) {
    let topic = of(topic);
    let labels = [&[topic.as_str()], labels].concat();
    let counted = eventually(SOON, &format!("{name}{labels:?} at {expected}"), || {
        bridge.metric(name, &labels).filter(|&counted| counted >= expected)
    });
    assert_eq!(counted, expected, "{name}{labels:?}");
}

fn of(topic: &str) -> String {
    format!("topic=\"{topic}\"")
}

/// Numbered records of one partition; the same numbers give the same records but for the writer's name.
pub fn numbered(writer: &str, partition: i32, numbers: std::ops::Range<i64>) -> Vec<Out> {
    numbers
        .map(|number| Out {
            partition,
            key: Some(format!("k{}", number % 7).into_bytes()),
            value: Some(format!("{writer}-{partition}-{number}").into_bytes()),
            headers: vec![("n".into(), Some(number.to_string().into_bytes()))],
            timestamp_ms: Some(1_760_000_000_000 + number),
        })
        .collect()
}

/// Those that carry a provenance.
pub fn copies(records: Vec<Read>) -> Vec<Read> {
    records.into_iter().filter(|read| read.header("ls_origin").is_some()).collect()
}

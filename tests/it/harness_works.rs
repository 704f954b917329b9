//! The harness itself: a measuring device that is wrong proves nothing.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::clusters::{Options, own, shared};
use crate::harness::plain::{self, Out};
use crate::harness::{eventually, process, unique};

#[test]
fn what_is_produced_is_read_back_in_all_shapes() {
    let Some(clusters) = shared() else { return };
    let (hz, topic) = (&clusters.get("hz").bootstrap, unique("shapes"));
    plain::create_topic(hz, &topic, 3, &[]);
    let records = plain::shapes(500, 3);
    let (first, rest) = records.split_at(250);
    plain::produce(hz, &topic, first);
    plain::produce_with(hz, &topic, rest, &[("compression.type", "zstd")]);
    let read = plain::read_all(hz, &topic);
    plain::assert_same_bodies(&topic, &records, &read);
}

#[test]
fn aborted_records_are_not_read() {
    let Some(clusters) = shared() else { return };
    let (sh, topic) = (&clusters.get("sh").bootstrap, unique("aborted"));
    plain::create_topic(sh, &topic, 1, &[]);
    let record = |text: &str| Out { value: Some(text.into()), ..Out::default() };
    plain::produce_in_transaction(sh, &topic, &[record("no")], false);
    plain::produce_in_transaction(sh, &topic, &[record("yes")], true);
    let read = plain::read_all(sh, &topic);
    assert_eq!(read.iter().map(|it| it.value.clone()).collect::<Vec<_>>(), [Some(b"yes".to_vec())]);
}

#[test]
fn topics_can_be_grown_changed_emptied_and_deleted() {
    let Some(clusters) = shared() else { return };
    let (bj, topic) = (&clusters.get("bj").bootstrap, unique("changed"));
    plain::create_topic(bj, &topic, 1, &[("retention.ms", "60000")]);
    plain::produce(bj, &topic, &plain::shapes(10, 1));
    plain::delete_records(bj, &topic, 0, 4);
    assert_eq!(plain::watermarks(bj, &topic, 0), (4, 10));
    plain::alter_topic(bj, &topic, &[("max.message.bytes", "2000")]);
    plain::grow_topic(bj, &topic, 4);
    plain::delete_topic(bj, &topic);
    assert_eq!(plain::partitions_of(bj, &topic), 0);
}

#[test]
fn a_killed_broker_comes_back_with_its_data() {
    let Some(clusters) = own(&["hz"], &Options::default()) else { return };
    let hz = clusters.get("hz");
    plain::create_topic(&hz.bootstrap, "kept", 2, &[]);
    plain::produce(&hz.bootstrap, "kept", &plain::shapes(50, 2));
    hz.kill9();
    hz.start();
    assert_eq!(plain::read_all(&hz.bootstrap, "kept").len(), 50);
}

#[test]
fn brokers_end_with_the_process_that_holds_them() {
    let Some(_) = shared() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("held");
    // A stand-in for the test process: it holds the script's input open and is killed without warning.
    let script = format!(
        "sleep 600 | {} up --free-ports --hold --clusters hz --dir {} >/dev/null & echo $(jobs -p); wait",
        crate::harness::sources().join("deploy/dev/kafka").display(),
        dir.display()
    );
    let mut holder = Command::new("bash").args(["-c", &script]).stdout(Stdio::null()).spawn().expect("bash");
    process::reap(holder.id());
    let pid_file = dir.join("hz/pid");
    let limit = Duration::from_secs(60);
    let broker = eventually(limit, "the broker's process", || {
        dir.join("clusters.json")
            .exists()
            .then(|| std::fs::read_to_string(&pid_file).ok()?.trim().parse::<u32>().ok())?
    });
    let sleeper = eventually(limit, "the holding process", || child_named(holder.id(), "sleep"));
    assert!(process::signal(sleeper, "KILL"));
    eventually(limit, "the broker's end", || (!process::signal(broker, "0")).then_some(()));
    eventually(limit, "the folder's end", || (!dir.exists()).then_some(()));
    let _status = holder.wait();
    process::spare(holder.id());
}

fn child_named(parent: u32, name: &str) -> Option<u32> {
    let listed = Command::new("ps").args(["-o", "pid=,comm=", "--ppid", &parent.to_string()]).output().ok()?;
    let text = String::from_utf8(listed.stdout).ok()?;
    let line = text.lines().find(|line| line.trim_end().ends_with(name))?;
    line.split_whitespace().next()?.parse().ok()
}

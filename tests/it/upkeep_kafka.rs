//! What operators set right around bridges on real Kafka clusters: a wrong password, a full or unwritable disk, topics
//! that are missing or differ. Each is said plainly, holds nothing else up, and costs no record.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::copy_kafka::{COPIED, PARTITIONS, READY, Regions, numbered};
use crate::harness::bridge::{Bridge, Setup};
use crate::harness::clusters::{self, Options};
use crate::harness::plain::{self, Out};
use crate::harness::{eventually, process, skip, unique};

fn kafka(name: &str, properties: &str) -> String {
    format!("  {name}: {{broker: kafka, kafka: {{{properties}}}}}\n")
}

#[test]
fn a_wrong_password_stops_the_links_of_one_peer_until_it_is_corrected() {
    let Some(shared) = clusters::shared() else { return };
    let regions = Regions::new(shared, &["sh", "hz", "bj"]);
    let [here, open, locked] = [0, 1, 2].map(|index| regions.names[index].as_str());
    let [at_here, at_open, at_locked] = [0, 1, 2].map(|index| regions.clusters[index].bootstrap.as_str());
    let topic = unique("password");
    regions.create_topic(&topic);
    let sasl = regions.clusters[2].sasl_bootstrap.as_deref().expect("has such a listener");
    let login = format!(
        "bootstrap.servers: \"{sasl}\", security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, \
         sasl.username: user, sasl.password: \"${{file:password}}\""
    );
    let plainly = |at: &str| format!("bootstrap.servers: \"{at}\"");
    let setup = Setup::from_text(&format!(
        "center: {here}\nregions:\n{}{}{}topics: ./topics\nstate_dir: \"${{env:LONGSHORE_TEST_STATE}}\"\n\
         admin: {{listen: \"${{env:LONGSHORE_TEST_ADMIN}}\"}}\nlinks: {{guarantee: exactly-once}}\n",
        kafka(here, &plainly(at_here)),
        kafka(open, &plainly(at_open)),
        kafka(locked, &login)
    ));
    setup.topic_for_all(&topic, PARTITIONS);
    setup.write("password", "a-wrong-word\n");
    let (of_open, of_locked): (Vec<Out>, Vec<Out>) =
        ((0..800).map(numbered("open")).collect(), (0..800).map(numbered("locked")).collect());
    let half = |all: &[Out], which: usize| all[which * 400..(which + 1) * 400].to_vec();
    plain::produce(at_locked, &topic, &half(&of_locked, 0));

    let mut bridge = setup.bridge(here, "here");
    let mut shut_out = setup.bridge(locked, "shut-out");
    plain::produce(at_open, &topic, &half(&of_open, 0));
    let copies = |writer: &str| -> Vec<plain::Read> {
        let of_writer = |it: &plain::Read| it.value.as_ref().is_some_and(|text| text.starts_with(writer.as_bytes()));
        plain::read_all(at_here, &topic).into_iter().filter(of_writer).collect()
    };
    let whole = |writer: &str, records: &[Out]| {
        eventually(COPIED, "all are copied", || (copies(writer).len() >= records.len()).then_some(()));
        plain::assert_same_bodies(writer, records, &copies(writer));
    };
    whole("open", &half(&of_open, 0));
    let reasons = |bridge: &Bridge| -> Option<Vec<String>> {
        let answer: Value = serde_json::from_str(&bridge.get("/readyz")?).ok()?;
        Some(answer["reasons"].as_array()?.iter().filter_map(|it| Some(it.as_str()?.to_owned())).collect())
    };
    eventually(READY, "readyz names the peer and why", || {
        let reasons = reasons(&bridge)?;
        let fits = |it: &String| it.starts_with(&format!("link {locked}:{here}")) && it.contains("denied");
        (!reasons.is_empty() && reasons.iter().all(fits)).then_some(())
    });
    eventually(READY, "the bridge whose own cluster refuses it says so", || {
        reasons(&shut_out)?.iter().any(|it| it.contains("control topic") && it.contains("denied")).then_some(())
    });
    assert!(shut_out.runs(), "it waits for the cluster to let it in");
    bridge.wait_metric("longshore_region_up", &[&format!("region=\"{locked}\"")], READY, |up| up == 0.0);
    let output = setup.run(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&status["regions"][locked]["reachable"], &status["regions"][here]["reachable"]),
        (&false.into(), &true.into())
    );
    let told = [String::from_utf8_lossy(&output.stdout).into_owned(), bridge.log(), shut_out.log()].concat();
    assert!(!told.contains("a-wrong-word"), "the secret is printed");

    // Secrets of files are read at start.
    setup.write("password", "secret\n");
    for bridge in [&mut bridge, &mut shut_out] {
        assert_eq!(bridge.sigterm(READY), Some(0), "{}", bridge.log());
        bridge.restart();
    }
    plain::produce(at_open, &topic, &half(&of_open, 1));
    plain::produce(at_locked, &topic, &half(&of_locked, 1));
    [bridge, shut_out].iter_mut().for_each(|bridge| bridge.wait_ready(READY));
    whole("open", &of_open);
    whole("locked", &of_locked);
}

/// A small file system in memory, gone with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let arguments = ["-t", "tmpfs", "-o", options, "tmpfs"];
        let mounted = Command::new("mount").args(arguments).arg(at).stderr(Stdio::null()).status();
        mounted.is_ok_and(|it| it.success()).then(|| Self(at.to_owned()))
    }

    fn fill(&self) {
        let mut filler = std::fs::File::create(self.0.join("filler")).expect("created");
        while filler.write_all(&[0; 1 << 16]).is_ok() {}
        assert!(std::fs::write(self.0.join("more"), vec![0; 4096]).is_err(), "the disk is full");
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_state_dir_that_cannot_be_written_is_named_and_a_full_one_costs_no_record() {
    let Some(shared) = clusters::shared() else { return };
    let regions = Regions::new(shared, &["hz", "sh"]);
    let topic = unique("disk");
    regions.create_topic(&topic);
    let (there, here) = (regions.clusters[0].bootstrap.as_str(), regions.clusters[1].bootstrap.as_str());
    let (setup, name) = (regions.setup(&topic, ""), regions.names[1].as_str());
    let run = |state: &Path| -> Output {
        let mut command = setup.command(&["--region", name, "run", "--instance", "x"]);
        command.env("LONGSHORE_TEST_STATE", state).env("LONGSHORE_TEST_ADMIN", "127.0.0.1:0");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        if process::wait(&mut child, READY).is_none() {
            child.kill().expect("it runs");
        }
        child.wait_with_output().expect("the child is ours")
    };
    let refused = |state: &Path, why: &str| {
        let output = run(state);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("error: ") && said.contains(&*state.to_string_lossy()) && said.contains(why), "{said}");
    };
    setup.write("file", "");
    refused(&setup.dir().join("file"), "Not a directory");
    let Some(read_only) = SmallDisk::mount(&setup.dir().join("read-only"), "ro,size=64k") else {
        return skip("only root can mount the small disk that this test fills");
    };
    refused(&read_only.0, "Read-only file system");

    let state = setup.dir().join(format!("state-{name}-only"));
    let disk = SmallDisk::mount(&state, "size=64k").expect("as before");
    let mut bridge = setup.bridge(name, "only");
    bridge.wait_ready(READY);
    disk.fill();
    let records: Vec<Out> = (0..900).map(numbered("hz")).collect();
    let whole = |count: usize| {
        let found = plain::read_at_least(here, &topic, count, COPIED);
        plain::assert_same_bodies(&topic, &records[..count], &found);
    };
    plain::produce(there, &topic, &records[..300]);
    whole(300);
    assert_eq!(bridge.sigterm(READY), Some(0), "a full disk is no reason not to end well: {}", bridge.log());
    plain::produce(there, &topic, &records[300..600]);
    // The bridge took its address away with it, which made room.
    disk.fill();
    refused(&state, "No space left on device");
    disk.free();
    bridge.restart();
    whole(600);
    bridge.wait_ready(READY);
    disk.fill();
    bridge.kill9();
    disk.free();
    plain::produce(there, &topic, &records[600..]);
    bridge.restart();
    whole(900);
}

#[test]
fn a_target_whose_disk_is_full_gets_every_record_once_there_is_room() {
    let Some(shared) = clusters::shared() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(folder.path(), "size=128m") else {
        return skip("only root can mount the small disk that this test fills");
    };
    let options = Options { dir: Some(folder.path().to_owned()), ..Options::default() };
    let Some(own) = clusters::own(&["sh"], &options) else { return };
    let (broker, there, topic) = (own.get("sh"), shared.get("hz").bootstrap.as_str(), unique("full"));
    let regions = Regions {
        names: vec![unique("hz").to_lowercase(), unique("sh").to_lowercase()],
        clusters: vec![shared.get("hz"), broker],
    };
    regions.create_topic(&topic);
    let setup = regions.setup(&topic, "");
    let mut bridge = setup.bridge(&regions.names[1], "only");
    bridge.wait_ready(READY);
    let records: Vec<Out> = (0..6_000).map(numbered("hz")).collect();
    plain::produce(there, &topic, &records[..1_000]);
    plain::read_at_least(&broker.bootstrap, &topic, 1_000, COPIED);
    let pid = broker.pid().expect("it runs");
    disk.fill();
    plain::produce(there, &topic, &records[1_000..5_000]);
    // Kafka ends itself when its only log folder cannot be written.
    eventually(COPIED, "the broker gives up", || (!process::signal(pid, "0")).then_some(()));
    eventually(READY, "the bridge says that it cannot write", || {
        bridge.get("/readyz")?.contains("\"ready\":false").then_some(())
    });
    disk.free();
    broker.start();
    plain::produce(there, &topic, &records[5_000..]);
    let found = plain::read_at_least(&broker.bootstrap, &topic, records.len(), COPIED);
    plain::assert_same_bodies(&topic, &records, &found);
    bridge.wait_ready(COPIED);
}

#[test]
fn topics_are_compared_and_brought_into_shape_in_every_region() {
    let Some(shared) = clusters::shared() else { return };
    let regions = Regions::new(shared, &["hz", "sh"]);
    let (topic, ready) = (unique("shape"), unique("ready"));
    let (at_hz, at_sh) = (regions.clusters[0].bootstrap.as_str(), regions.clusters[1].bootstrap.as_str());
    for (_, at) in regions.iter() {
        if plain::partitions_of(at, "__longshore_control") == 0 {
            plain::create_topic(at, "__longshore_control", 1, &[("cleanup.policy", "compact")]);
        }
        plain::create_topic(at, &ready, PARTITIONS, &[]);
    }
    let (hz, sh) = (regions.names[0].as_str(), regions.names[1].as_str());
    let setup = regions.setup(&topic, "");
    setup.topic_for_all(&ready, PARTITIONS);
    let answer = |arguments: &[&str], code: i32| -> Value {
        let output = setup.run(&[arguments, &["-o", "json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    // What differs: region, what, has, wants. The topic that is in shape is never named.
    let differences = |code: i32| -> Vec<[String; 4]> {
        let found = answer(&["topics", "diff"], code);
        let rows = found["differences"].as_array().expect("a list").clone();
        assert!(rows.iter().all(|row| row["topic"] == topic.as_str()), "{rows:?}");
        rows.iter()
            .map(|row| ["region", "what", "has", "wants"].map(|it| row[it].as_str().unwrap_or("").into()))
            .collect()
    };
    let row = |region: &str, what: &str, has: &str, wants: &str| [region, what, has, wants].map(str::to_owned);

    let missing = |region| row(region, "topic", "missing", "4 partitions");
    assert_eq!(differences(3), [missing(hz), missing(sh)]);
    let tried = answer(&["topics", "sync", "--dry-run"], 0);
    assert_eq!(
        (tried["dry_run"].clone(), tried["changes"].as_array().map(Vec::len)),
        (true.into(), Some(2)),
        "{tried}"
    );
    assert_eq!(plain::partitions_of(at_hz, &topic), 0, "only tried");
    let done = answer(&["topics", "sync"], 0);
    assert_eq!((&done["changes"][0]["action"], &done["changes"][1]["outcome"]), (&"create".into(), &"done".into()));
    assert_eq!([at_hz, at_sh].map(|at| plain::partitions_of(at, &topic)), [PARTITIONS; 2]);
    assert_eq!(differences(0), Vec::<[String; 4]>::new());
    assert_eq!(answer(&["topics", "sync"], 0)["changes"], Value::Array(Vec::new()), "nothing is left to do");

    // A source that has grown, and a setting that the copy's topic does not share.
    plain::grow_topic(at_hz, &topic, 6);
    plain::alter_topic(at_sh, &topic, &[("retention.ms", "1000000")]);
    let found = differences(3);
    assert!(found.contains(&row(sh, "partitions", "4", "6")), "{found:?}");
    assert!(found.contains(&row(sh, "retention.ms", "1000000", "not set")), "{found:?}");
    let grown = answer(&["topics", "sync"], 0);
    let change = &grown["changes"][0];
    assert_eq!((&change["action"], &change["from"], &change["partitions"]), (&"grow".into(), &4.into(), &6.into()));
    assert_eq!(plain::partitions_of(at_sh, &topic), 6);
    let left = differences(3);
    assert!(
        left.iter().any(|it| it[1] == "retention.ms") && !left.contains(&row(sh, "partitions", "4", "6")),
        "{left:?}"
    );
    // Both say how it stands in words, too.
    let table = setup.run(&["topics", "diff"]);
    let said = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.status.code() == Some(3) && said.contains("retention.ms") && said.contains(&topic), "{said}");
}

//! The control topic and dead letters on a real driver: durable, signed, shared by several processes' worth of logs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore::broker::embedded::Embedded;
use longshore::broker::{Class, Cluster, NewTopic, SharedCluster};
use longshore::control::entry::{self, Heartbeat, Pause};
use longshore::control::log::{CONTROL_TOPIC, Creation};
use longshore::control::{ControlLog, dead_letter, survey};
use longshore::model::names::{RegionName, TopicName, TopicPartition};
use longshore::model::record::NewRecord;
use secrecy::SecretString;
use serde_json::json;

const WAIT: Duration = Duration::from_secs(20);

fn secret() -> SecretString {
    SecretString::from("the same everywhere")
}

fn open(cluster: &Arc<Embedded>, region: &str) -> ControlLog {
    let cluster: SharedCluster = cluster.clone();
    let log = ControlLog::open(cluster, &region.into(), Some(&secret()), Some(Creation::default())).expect("opens");
    log.caught_up(WAIT).expect("reads the topic");
    log
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {WAIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn entries_outlive_the_process_and_two_writers_agree() {
    let folder = tempfile::tempdir().expect("temp folder");
    let pause = Pause { by: "ann@desk".into(), at_ms: 7 };
    let (hz, sh) = (RegionName::new("hz"), RegionName::new("sh"));
    let key = entry::pause_key(&sh, &hz, None, None);
    {
        let cluster = Embedded::open(folder.path()).expect("opens");
        let (one, two) = (open(&cluster, "hz"), open(&cluster, "hz"));
        one.write(&key, &pause).expect("written");
        assert_eq!(one.read::<Pause>(&key), Some(pause.clone()));
        eventually("the second reads it", || two.read::<Pause>(&key).as_ref() == Some(&pause));
        for number in 0..50 {
            let writer = if number % 2 == 0 { &one } else { &two };
            writer.put("contested", &json!(number)).expect("written");
            writer.put(&format!("kept/{number}"), &json!(number)).expect("written");
        }
        two.remove("kept/0").expect("removed");
        eventually("both agree", || one.prefix("") == two.prefix("") && one.get("kept/0").is_none());
        assert_eq!(one.get("contested").as_deref(), Some(&json!(49)));
        one.stop();
        two.stop();
    }
    let cluster = Embedded::open(folder.path()).expect("opens again");
    let again = open(&cluster, "hz");
    assert_eq!(again.read::<Pause>(&key), Some(pause));
    assert_eq!(again.prefix("kept/").len(), 49);
    assert_eq!(again.get("contested").as_deref(), Some(&json!(49)));
    assert_eq!(again.refused(), 0);
    again.stop();
}

#[test]
fn entries_of_another_region_or_without_a_signature_are_refused() {
    let folder = tempfile::tempdir().expect("temp folder");
    let cluster = Embedded::open(folder.path()).expect("opens");
    let hz = open(&cluster, "hz");
    hz.put("ours", &json!(1)).expect("written");
    // The same secret, signed for another region's topic: what a copied entry looks like.
    let sh = open(&cluster, "sh");
    sh.put("theirs", &json!(1)).expect("written");
    let partition = TopicPartition::new(&TopicName::new(CONTROL_TOPIC), 0);
    cluster.append(&partition, &[NewRecord::plain(Some(b"ours"), None)]).expect("appended");
    eventually("both are counted", || hz.refused() == 2);
    assert_eq!(hz.get("ours").as_deref(), Some(&json!(1)));
    assert_eq!(hz.get("theirs"), None);
}

#[test]
fn a_peers_topic_is_awaited_not_made_and_found_when_it_appears() {
    let folder = tempfile::tempdir().expect("temp folder");
    let cluster = Embedded::open(folder.path()).expect("opens");
    let shared: SharedCluster = cluster.clone();
    let follower = ControlLog::follow(shared, &"hz".into(), Some(&secret())).expect("opens");
    eventually("it is known to be missing", || follower.health().is_err_and(|error| error.class == Class::Missing));
    let topic = [TopicName::new(CONTROL_TOPIC)];
    assert!(cluster.describe(&topic).expect("described")[0].is_none());
    let owner = open(&cluster, "hz");
    owner.put("a", &json!(1)).expect("written");
    eventually("it is read", || follower.get("a").is_some() && follower.health().is_ok());
    let made = cluster.describe(&topic).expect("described").remove(0).expect("exists");
    assert!(made.compacted && made.partitions == 1);
}

#[test]
fn a_deleted_topic_is_made_anew_and_what_is_known_stays_known() {
    let folder = tempfile::tempdir().expect("temp folder");
    let cluster = Embedded::open(folder.path()).expect("opens");
    let log = open(&cluster, "hz");
    log.put("a", &json!(1)).expect("written");
    log.put("b", &json!(1)).expect("written");
    assert!(cluster.delete(&TopicName::new(CONTROL_TOPIC)).expect("deleted"));
    eventually("writing works again", || log.put("b", &json!(2)).is_ok() && log.health().is_ok());
    assert_eq!(log.get("a").as_deref(), Some(&json!(1)));
    let other = open(&cluster, "hz");
    eventually("others read the new one", || other.get("b").as_deref() == Some(&json!(2)));
}

#[test]
fn a_survey_reads_each_regions_own_topic() {
    let folders = [tempfile::tempdir().expect("temp folder"), tempfile::tempdir().expect("temp folder")];
    let clusters = folders.each_ref().map(|folder| Embedded::open(folder.path()).expect("opens"));
    let hz = open(&clusters[0], "hz");
    let beat = Heartbeat { at_ms: 100, ready: true, guarantee: "exactly-once".into(), ..Heartbeat::default() };
    hz.write(&entry::heartbeat_key(hz.region(), "hz-1"), &beat).expect("written");
    let regions = vec![("hz".into(), Ok(clusters[0].clone() as _)), ("sh".into(), Ok(clusters[1].clone() as _))];
    let status = survey::status(regions, Some(&secret()), WAIT, || 200);
    assert!(status.regions["hz"].ready && status.regions["hz"].reachable);
    assert!(!status.regions["sh"].ready && status.regions["sh"].reachable);
}

#[test]
fn dead_letters_are_listed_without_their_bodies() {
    let folder = tempfile::tempdir().expect("temp folder");
    let cluster = Embedded::open(folder.path()).expect("opens");
    let orders = TopicName::new("orders");
    let list = |max| dead_letter::list(&*cluster, "hz", &orders, max, WAIT).expect("lists");
    assert_eq!(list(10), (Vec::new(), false), "no topic, no letters");
    let name = TopicName::new("orders__dead-letter");
    let topic = NewTopic {
        name: name.clone(),
        partitions: 2,
        replication_factor: None,
        config: std::collections::BTreeMap::new(),
    };
    cluster.create(&topic).expect("created");
    let added: [(&str, &[u8]); 3] =
        [("ls_origin", b"sh/orders/1/42/1700000000000"), ("ls_reason", b"too large"), ("ls_target", b"hz")];
    for (partition, bodies) in [(1, 3), (0, 1)] {
        for _ in 0..bodies {
            let record = NewRecord { timestamp_ms: 5, added: &added, ..NewRecord::plain(Some(b"k"), Some(b"private")) };
            cluster.append(&TopicPartition::new(&name, partition), &[record]).expect("appended");
        }
    }
    let (letters, more) = list(10);
    assert!(!more);
    let places: Vec<(i32, i64)> = letters.iter().map(|letter| (letter.partition, letter.offset)).collect();
    assert_eq!(places, [(0, 0), (1, 0), (1, 1), (1, 2)]);
    assert_eq!(letters[0].origin.as_deref(), Some("sh/orders/1/42/1700000000000"));
    assert_eq!((letters[0].reason.as_deref(), letters[0].target.as_deref()), (Some("too large"), Some("hz")));
    assert_eq!((letters[0].size_bytes, letters[0].has_value), (8, true));
    assert!(!serde_json::to_string(&letters).expect("plain data").contains("private"));
    let (letters, more) = list(2);
    assert!(more && letters.len() == 2);
}

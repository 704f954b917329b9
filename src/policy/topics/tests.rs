//! What is missing, what is too small, what differs.

use super::*;
use crate::policy::plan::sample::{deployment, with_groups};
use crate::policy::plan::{copies, creates};
use crate::policy::subscription::{Copies, Deployment, Mode, Topology};

/// Partitions of t per region r0, r1, …: 0 is missing, -1 could not be looked at. The control topics are in order.
fn found(partitions: &[i32]) -> Found {
    let mut found = Found::new();
    for (number, partitions) in partitions.iter().enumerate() {
        let region = RegionName::new(format!("r{number}"));
        let control = Shape { config: text(&[("cleanup.policy", "compact")]), ..shape(1, &[]) };
        found.insert((region.clone(), CONTROL_TOPIC.into()), Some(control));
        match *partitions {
            -1 => {}
            0 => drop(found.insert((region, "t".into()), None)),
            many => drop(found.insert((region, "t".into()), Some(shape(many, &[])))),
        }
    }
    found
}

fn text(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn shape(partitions: i32, config: &[(&str, &str)]) -> Shape {
    Shape { partitions, replication_factor: 1, config: text(config) }
}

fn with_plan<T>(
    deployment: &Deployment,
    settings: &BTreeMap<RegionName, Settings>,
    check: impl FnOnce(&Plan<'_>) -> T,
) -> T {
    let (creates, copies) = (creates(deployment), copies(deployment));
    check(&Plan { creates: &creates, copies: &copies, settings, center: &deployment.center })
}

/// `region topic +partitions` for a new topic, `region topic from>to` for a larger one.
fn changed(deployment: &Deployment, found: &Found, extent: Extent) -> Vec<String> {
    let shown = |change: Change| match change {
        Change::Create { region, topic, partitions, .. } => format!("{region} {topic} +{partitions}"),
        Change::Grow { region, topic, from, to } => format!("{region} {topic} {from}>{to}"),
    };
    with_plan(deployment, &BTreeMap::new(), |plan| changes(plan, found, extent).into_iter().map(shown).collect())
}

fn everywhere() -> Deployment {
    // Topic t is declared with 4 partitions.
    with_groups(&[(Mode::AllUnit, vec![0, 1, 2])])
}

#[test]
fn a_missing_topic_gets_what_is_declared_or_what_others_have_already() {
    let none = Vec::<String>::new();
    assert_eq!(changed(&everywhere(), &found(&[4, 4, 4]), Extent::Declared), none);
    assert_eq!(changed(&everywhere(), &found(&[0, 0, 0]), Extent::Copies), ["r0 t +4", "r1 t +4", "r2 t +4"]);
    assert_eq!(changed(&everywhere(), &found(&[6, 0, 6]), Extent::Copies), ["r1 t +6"]);
}

#[test]
fn a_target_grows_with_its_source_and_what_is_declared_only_counts_when_an_operator_asks() {
    assert_eq!(changed(&everywhere(), &found(&[6, 4, 6]), Extent::Copies), ["r1 t 4>6"]);
    let small = found(&[2, 2, 2]);
    assert_eq!(changed(&everywhere(), &small, Extent::Copies), Vec::<String>::new());
    assert_eq!(changed(&everywhere(), &small, Extent::Declared), ["r0 t 2>4", "r1 t 2>4", "r2 t 2>4"]);
}

#[test]
fn a_source_that_receives_nothing_does_not_grow_with_its_targets() {
    // Only r0 consumes: r1 and r2 are read from.
    let one_way = with_groups(&[(Mode::AllUnit, vec![0])]);
    assert_eq!(changed(&one_way, &found(&[9, 4, 4]), Extent::Copies), Vec::<String>::new());
    assert_eq!(changed(&one_way, &found(&[4, 9, 5]), Extent::Copies), ["r0 t 4>9"]);
}

#[test]
fn growth_goes_through_the_center_of_a_star() {
    let star = deployment(3, &[], Topology::Star, Copies::SameTopic, &[(Mode::AllUnit, vec![2])]);
    assert_eq!(changed(&star, &found(&[4, 8, 4]), Extent::Copies), ["r0 t 4>8", "r2 t 4>8"]);
    let own = deployment(3, &[], Topology::Star, Copies::OwnTopic, &[(Mode::AllUnit, vec![2])]);
    let mut own_found = found(&[4, 8, 4]);
    for (region, topic) in [("r0", "t__from__r1"), ("r2", "t__from__r0"), ("r2", "t__from__r1")] {
        own_found.insert((region.into(), topic.into()), None);
    }
    assert_eq!(
        changed(&own, &own_found, Extent::Copies),
        ["r0 t__from__r1 +8", "r2 t__from__r0 +4", "r2 t__from__r1 +8"]
    );
}

#[test]
fn a_region_that_does_not_answer_is_left_alone_and_holds_nobody_up() {
    assert_eq!(changed(&everywhere(), &found(&[-1, 0, 6]), Extent::Declared), ["r1 t +6"]);
}

fn created_config(deployment: &Deployment, found: &Found, settings: &BTreeMap<RegionName, Settings>) -> Change {
    with_plan(deployment, settings, |plan| changes(plan, found, Extent::Copies).pop().expect("one change"))
}

#[test]
fn a_new_topic_takes_the_sources_settings_under_the_regions_own() {
    let mut found = found(&[4, 0, 4]);
    let source = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "1000"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", "2"),
    ];
    found.insert(("r0".into(), "t".into()), Some(shape(4, &source)));
    let own = Settings { replication_factor: Some(3), config: text(&[("retention.ms", "5000"), ("x", "y")]) };
    let created = created_config(&everywhere(), &found, &BTreeMap::from([("r1".into(), own)]));
    assert_eq!(
        created,
        Change::Create {
            region: "r1".into(),
            topic: "t".into(),
            partitions: 4,
            replication_factor: Some(3),
            config: text(&[("cleanup.policy", "compact,delete"), ("retention.ms", "5000"), ("x", "y")]),
        }
    );
}

#[test]
fn the_control_topic_is_compacted_whatever_a_region_says() {
    let mut found = found(&[4, 4, 4]);
    found.insert(("r2".into(), CONTROL_TOPIC.into()), None);
    let own = Settings { replication_factor: None, config: text(&[("cleanup.policy", "delete"), ("x", "y")]) };
    match created_config(&everywhere(), &found, &BTreeMap::from([("r2".into(), own)])) {
        Change::Create { partitions, config, .. } => {
            assert_eq!((partitions, config["cleanup.policy"].as_str(), config["x"].as_str()), (1, "compact", "y"));
        }
        other => panic!("{other:?}"),
    }
}

/// `region topic what: has, wants (says)`
fn differing(deployment: &Deployment, found: &Found, settings: &BTreeMap<RegionName, Settings>) -> Vec<String> {
    let shown = |d: Difference| format!("{} {} {}: {}, {} ({})", d.region, d.topic, d.what, d.has, d.wants, d.says);
    with_plan(deployment, settings, |plan| differences(plan, found).into_iter().map(shown).collect())
}

#[test]
fn equal_regions_do_not_differ() {
    assert_eq!(differing(&everywhere(), &found(&[4, 4, 4]), &BTreeMap::new()), Vec::<String>::new());
}

#[test]
fn what_is_missing_small_or_large_differs() {
    assert_eq!(
        differing(&everywhere(), &found(&[0, 3, 6]), &BTreeMap::new()),
        [
            "r0 t topic: missing, 6 partitions (declared)",
            "r1 t partitions: 3, 6 (its source)",
            "r2 t partitions: 6, 4 (declared)",
        ]
    );
}

#[test]
fn settings_differ_from_the_center_unless_a_region_chose_them() {
    let mut found = found(&[4, 4, 4]);
    found.insert(("r0".into(), "t".into()), Some(shape(4, &[("retention.ms", "1000")])));
    found.insert(("r1".into(), "t".into()), Some(shape(4, &[("message.timestamp.type", "LogAppendTime")])));
    found.insert(("r2".into(), "t".into()), Some(shape(4, &[("retention.ms", "9000"), ("min.insync.replicas", "2")])));
    let chosen = Settings { replication_factor: Some(2), config: text(&[("retention.ms", "9000")]) };
    assert_eq!(
        differing(&everywhere(), &found, &BTreeMap::from([("r2".into(), chosen)])),
        [
            "r2 __longshore_control replication_factor: 1, 2 (replication_factor)",
            "r1 t message.timestamp.type: LogAppendTime, not set (r0)",
            "r1 t retention.ms: not set, 1000 (r0)",
            "r2 t replication_factor: 1, 2 (replication_factor)",
        ]
    );
    let declared = Settings { replication_factor: None, config: text(&[("retention.ms", "7000")]) };
    let differing = differing(&everywhere(), &found, &BTreeMap::from([("r2".into(), declared)]));
    assert!(differing.contains(&"r2 t retention.ms: 9000, 7000 (topic_config)".to_owned()), "{differing:?}");
}

#[test]
fn a_control_topic_that_is_not_compacted_differs() {
    let mut found = found(&[4, 4, 4]);
    found.insert(("r1".into(), CONTROL_TOPIC.into()), Some(shape(3, &[])));
    assert_eq!(
        differing(&everywhere(), &found, &BTreeMap::new()),
        [
            "r1 __longshore_control cleanup.policy: not set, compact (declared)",
            "r1 __longshore_control partitions: 3, 1 (declared)",
        ]
    );
}

#[test]
fn a_compacted_topic_that_is_copied_both_ways_is_noted() {
    let mut found = found(&[4, 4, 4]);
    assert_eq!(compacted_notes(&everywhere(), &found), Vec::<String>::new());
    found.insert(("r1".into(), "t".into()), Some(shape(4, &[("cleanup.policy", "compact,delete")])));
    assert!(compacted_notes(&everywhere(), &found)[0].starts_with("t: is compacted and copied both ways"));
}

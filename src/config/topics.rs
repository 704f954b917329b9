//! What a topic file means: the topic, where its key and version are, and its subscriptions (semantics §2, §4, §6).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::bridge::{known_region, or, start_from};
use super::names;
use super::raw;
use super::report::{At, Place, Problems, did_you_mean};
use super::rules::Checked;
use super::values::Word;
use crate::model::names::{GroupName, RegionName, TopicName, is_topic_name};
use crate::model::time::parse_duration;
use crate::policy::subscription::{
    Copies, Delivery, Extract, IdWindow, Idempotency, Mode, OnMissingKey, OnMissingVersion, Subscription, Topic,
};

/// What topics are checked against.
pub(super) struct Scene<'a> {
    pub regions: &'a [At<RegionName>],
    pub center: Option<&'a RegionName>,
    pub standby: &'a [RegionName],
    pub rules: &'a [Checked],
    /// Some rule file could not be read: a name that is not known may be in it.
    pub rules_missing: bool,
}

/// A topic, and where its parts stand.
pub(super) struct Declared {
    pub topic: Topic,
    pub place: Place,
    /// Of each subscription: its group and, when given, its delivery topic.
    pub groups: Vec<(Place, Option<Place>)>,
}

/// Checks every topic file; those without a name are left out.
pub(super) fn all(files: &[At<raw::TopicFile>], scene: &Scene<'_>, problems: &mut Problems) -> Vec<Declared> {
    let mut declared: Vec<Declared> = Vec::new();
    let mut used = BTreeSet::new();
    for file in files {
        let Some(topic) = one(&file.value, scene, &mut used, problems) else { continue };
        if let Some(other) = declared.iter().find(|other| other.topic.name == topic.topic.name) {
            let message = format!("topic `{}` is declared twice", topic.topic.name);
            let hint = format!("the other one is at {}", problems.describe(other.place));
            problems.error_with(topic.place, message, Some(hint));
            continue;
        }
        declared.push(topic);
    }
    declared.sort_by(|a, b| a.topic.name.cmp(&b.topic.name));
    names::check(&declared, scene.regions, problems);
    if !problems.has_errors() {
        super::rules::warn_unused(scene.rules, &used, problems);
    }
    declared
}

/// Most partitions that a topic may be created with.
const PARTITIONS_MAX: i32 = 10_000;

fn one(
    file: &raw::TopicFile,
    scene: &Scene<'_>,
    used: &mut BTreeSet<String>,
    problems: &mut Problems,
) -> Option<Declared> {
    let name = file.topic.as_ref();
    if let Some(name) = name {
        check_topic_name(name, "topic", problems);
    }
    if let Some(at) = file.partitions.as_ref().filter(|at| !(1..=PARTITIONS_MAX).contains(&at.value)) {
        problems.error(at.place, format!("`partitions` is between 1 and {PARTITIONS_MAX}"));
    }
    let routing_key = file.routing_key.as_ref().map(|at| (key_source(at, problems), at.place));
    let version = file.version.as_ref().map(|at| (version_source(at, problems), at.place));
    let around = Around {
        scene,
        topic: name.map(|name| name.value.as_str()),
        copies: or(&file.copies, Copies::SameTopic),
        keyed: routing_key.is_some() || file.faulty.contains(&"routing_key"),
        versioned: version.is_some() || file.faulty.contains(&"version"),
        all_nearby: subscriptions(file).all(|at| at.value.mode.as_ref().is_none_or(|m| m.value == Mode::Nearby)),
    };
    let mut groups: BTreeMap<&str, Place> = BTreeMap::new();
    let mut places = Vec::new();
    let mut checked = Vec::new();
    for at in subscriptions(file) {
        if let Some(group) = &at.value.group
            && let Some(first) = groups.insert(&group.value, group.place)
        {
            let hint = format!("the other one is at {}", problems.describe(first));
            problems.error_with(group.place, format!("group `{}` stands here twice", group.value), Some(hint));
        }
        used.extend(at.value.rules.as_ref().map(|rules| rules.value.clone()));
        if let Some((subscription, place)) = subscription(at, &around, problems) {
            checked.push(subscription);
            places.push((place, at.value.delivery_topic.as_ref().map(|at| at.place)));
        }
    }
    let name = name?;
    if subscriptions(file).next().is_none() {
        problems.warn(
            name.place,
            format!("topic `{}` has no subscription, so nothing is copied", name.value),
            "add its consumer groups under `subscriptions:`",
        );
    }
    let topic = Topic {
        name: TopicName::new(&name.value),
        partitions: or(&file.partitions, 1),
        routing_key: routing_key.and_then(|(source, _)| source),
        version: version.and_then(|(source, _)| source),
        copies: around.copies,
        subscriptions: checked,
    };
    Some(Declared { topic, place: name.place, groups: places })
}

fn subscriptions(file: &raw::TopicFile) -> impl Iterator<Item = &At<raw::Subscription>> {
    file.subscriptions.iter().flat_map(|list| &list.value)
}

/// Shape of a topic's name, and the names that Longshore keeps for itself.
fn check_topic_name(name: &At<String>, what: &str, problems: &mut Problems) {
    if name.value.starts_with("__longshore") {
        problems
            .error(name.place, format!("`{}`: names that begin with `__longshore` are Longshore's own", name.value));
    } else if !is_topic_name(&name.value) {
        problems.error_with(
            name.place,
            format!("`{}` is no name of a {what}", name.value),
            Some("1 to 249 letters, digits, `.`, `_` and `-`".into()),
        );
    }
}

/// What a subscription is checked against.
struct Around<'a> {
    scene: &'a Scene<'a>,
    topic: Option<&'a str>,
    copies: Copies,
    keyed: bool,
    versioned: bool,
    all_nearby: bool,
}

fn subscription(
    at: &At<raw::Subscription>,
    around: &Around<'_>,
    problems: &mut Problems,
) -> Option<(Subscription, Place)> {
    let raw = &at.value;
    if let Some(group) = raw.group.as_ref().filter(|group| !names::is_plain(&group.value)) {
        problems.error_with(
            group.place,
            format!("`{}` is no name of a group", group.value),
            Some("letters, digits, `.`, `_` and `-`".into()),
        );
    }
    if let Some(topic) = &raw.delivery_topic {
        check_topic_name(topic, "delivery topic", problems);
    }
    let regions = regions(raw, around.scene, problems);
    if let Some(mode) = &raw.mode {
        check_mode(raw, mode, &regions, around, problems);
    }
    let idempotency_key = raw.idempotency_key.as_ref().and_then(|at| key_source(at, problems));
    check_idempotency(raw, around, problems);
    check_direct(raw, around, problems);
    let id_window = raw.id_window.as_ref().and_then(|at| id_window(at, problems));
    let start = start_from(raw.start_from.as_ref(), true, problems);
    let (group, mode) = (raw.group.as_ref()?, raw.mode.as_ref()?);
    let default_topic = || format!("{}__{}", around.topic.unwrap_or_default(), group.value);
    let delivery_topic = raw.delivery_topic.as_ref().map_or_else(default_topic, |at| at.value.clone());
    let ttl = or(&raw.idempotency_ttl, Duration::from_secs(7 * 86_400));
    let subscription = Subscription {
        group: GroupName::new(&group.value),
        mode: mode.value,
        rules: raw.rules.as_ref().map(|rules| rules.value.clone()),
        regions,
        delivery: or(&raw.delivery, Delivery::Topic),
        delivery_topic: TopicName::new(delivery_topic),
        idempotency: or(&raw.idempotency, Idempotency::None),
        idempotency_key,
        idempotency_ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        id_window,
        start_from: start,
        on_missing_key: or(&raw.on_missing_key, OnMissingKey::Origin),
        on_missing_version: or(&raw.on_missing_version, OnMissingVersion::Deliver),
    };
    Some((subscription, group.place))
}

/// Where the group is deployed, sorted.
fn regions(raw: &raw::Subscription, scene: &Scene<'_>, problems: &mut Problems) -> Vec<RegionName> {
    let mut regions: Vec<RegionName> = match &raw.regions {
        None => scene.regions.iter().map(|region| region.value.clone()).collect(),
        Some(list) => {
            if list.value.is_empty() {
                problems.error_with(
                    list.place,
                    "this group is deployed nowhere",
                    Some("leave `regions` out for all of them".into()),
                );
            }
            let mut regions: Vec<RegionName> = Vec::new();
            for region in &list.value {
                known_region(region, scene.regions, problems);
                if regions.iter().any(|earlier| earlier.as_str() == region.value) {
                    problems.error(region.place, format!("`{}` stands here twice", region.value));
                }
                regions.push(RegionName::new(&region.value));
            }
            regions
        }
    };
    regions.sort();
    regions.dedup();
    regions
}

fn check_mode(
    raw: &raw::Subscription,
    mode: &At<Mode>,
    regions: &[RegionName],
    around: &Around<'_>,
    problems: &mut Problems,
) {
    match mode.value {
        Mode::Unit => check_unit(raw, mode.place, regions, around, problems),
        Mode::Center => check_center(raw, regions, around.scene, problems),
        Mode::Nearby | Mode::AllUnit => {}
    }
    if mode.value != Mode::Unit {
        let only = |place: Place, key: &str, problems: &mut Problems| {
            let message = format!("`{key}` has no meaning with `mode: {}`", mode.value.as_str());
            problems.error_with(place, message, Some(format!("remove it; only `mode: unit` has `{key}`")));
        };
        if let Some(rules) = &raw.rules {
            only(rules.place, "rules", problems);
        }
        if let Some(missing) = &raw.on_missing_key {
            only(missing.place, "on_missing_key", problems);
        }
    }
}

fn check_unit(
    raw: &raw::Subscription,
    place: Place,
    regions: &[RegionName],
    around: &Around<'_>,
    problems: &mut Problems,
) {
    if !around.keyed {
        problems.error_with(
            place,
            "`mode: unit` needs the topic's `routing_key`",
            Some("say where it is: `routing_key: {header: ls_key}`, `{key: true}` or `{json: /buyer/id}`".into()),
        );
    }
    let scene = around.scene;
    let Some(rules) = &raw.rules else {
        if raw.faulty.contains(&"rules") {
            return;
        }
        let names: Vec<&str> = scene.rules.iter().map(|set| set.rules.name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "add a rule file, and name its rule set here with `rules:`".to_owned(),
            names => format!("name a rule set with `rules:`: {}", super::report::listed(names.iter().copied())),
        };
        problems.error_with(place, "`mode: unit` needs `rules`", Some(hint));
        return;
    };
    let Some(set) = scene.rules.iter().find(|set| set.rules.name == rules.value) else {
        if !scene.rules_missing {
            let hint = did_you_mean(&rules.value, scene.rules.iter().map(|set| set.rules.name.as_str()))
                .unwrap_or_else(|| "there is no rule file: put one into the folder `rules`".into());
            problems.error_with(rules.place, format!("unknown rule set `{}`", rules.value), Some(hint));
        }
        return;
    };
    for (region, owned_at) in set.owners.iter().filter(|(region, _)| !regions.contains(region)) {
        if scene.regions.iter().any(|known| known.value == *region) {
            let group = raw.group.as_ref().map_or("this group", |group| group.value.as_str());
            problems.error_with(
                raw.regions.as_ref().map_or(rules.place, |regions| regions.place),
                format!("the rule set `{}` sends keys to `{region}`, where `{group}` is not deployed", rules.value),
                Some(format!("add `{region}` to `regions`, or change {}", problems.describe(*owned_at))),
            );
        }
    }
}

fn check_center(raw: &raw::Subscription, regions: &[RegionName], scene: &Scene<'_>, problems: &mut Problems) {
    let Some(list) = &raw.regions else { return };
    if let Some(center) = scene.center.filter(|center| !regions.contains(center)) {
        problems.error_with(
            list.place,
            format!("`mode: center` consumes in the center, and this group is not deployed in `{center}`"),
            Some(format!("add `{center}` to `regions`")),
        );
    }
    for standby in scene.standby.iter().filter(|standby| !regions.contains(standby)) {
        problems.warn(
            list.place,
            format!("if `{standby}` becomes the center, nobody consumes there: this group is not deployed in it"),
            "add it to `regions`",
        );
    }
}

fn check_idempotency(raw: &raw::Subscription, around: &Around<'_>, problems: &mut Problems) {
    let kind = or(&raw.idempotency, Idempotency::None);
    if kind == Idempotency::Version && !around.versioned {
        let place = raw.idempotency.as_ref().map(|at| at.place);
        if let Some(place) = place {
            problems.error_with(
                place,
                "`idempotency: version` needs the topic's `version`",
                Some(
                    "say where it is: `version: {header: ls_version}`, `{json: /version}` or `{timestamp: true}`"
                        .into(),
                ),
            );
        }
    }
    let mut only = |place: Option<Place>, key: &str, needed: &str, met: bool| {
        if let Some(place) = place.filter(|_| !met) {
            problems.error_with(
                place,
                format!("`{key}` has no meaning without `idempotency: {needed}`"),
                Some(format!("remove it, or set `idempotency: {needed}`")),
            );
        }
    };
    let some = kind != Idempotency::None;
    only(raw.idempotency_key.as_ref().map(|at| at.place), "idempotency_key", "version", some);
    only(raw.idempotency_ttl.as_ref().map(|at| at.place), "idempotency_ttl", "version", some);
    only(raw.id_window.as_ref().map(|at| at.place), "id_window", "id", kind == Idempotency::Id);
    let version = kind == Idempotency::Version;
    only(raw.on_missing_version.as_ref().map(|at| at.place), "on_missing_version", "version", version);
    if let Some(at) = raw.idempotency_ttl.as_ref().filter(|at| at.value.is_zero()) {
        problems.error(at.place, "`idempotency_ttl` of 0 would remember nothing");
    }
}

/// `direct` only when no record could ever have to be filtered out (semantics §4).
fn check_direct(raw: &raw::Subscription, around: &Around<'_>, problems: &mut Problems) {
    let Some(delivery) = raw.delivery.as_ref().filter(|at| at.value == Delivery::Direct) else { return };
    let because = match raw.mode.as_ref().map(|mode| mode.value) {
        Some(Mode::Center) => Some("with `mode: center` the other regions must not consume"),
        Some(Mode::Unit) => Some("with `mode: unit` records that belong elsewhere must be left out"),
        Some(Mode::Nearby) if around.copies == Copies::SameTopic && !around.all_nearby => {
            Some("with `mode: nearby` the copies that other groups need must be left out")
        }
        _ if or(&raw.idempotency, Idempotency::None) != Idempotency::None => {
            Some("with `idempotency` repeated and stale records must be left out")
        }
        _ => None,
    };
    if let Some(because) = because {
        problems.error_with(
            delivery.place,
            format!("`delivery: direct` filters nothing, and {because}"),
            Some("use `delivery: topic`".into()),
        );
    }
    if let Some(topic) = &raw.delivery_topic {
        problems.error(topic.place, "`delivery_topic` has no meaning with `delivery: direct`");
    }
}

fn key_source(at: &At<raw::KeySource>, problems: &mut Problems) -> Option<Extract> {
    let raw = &at.value;
    let given = [raw.header.is_some(), raw.key.is_some(), raw.json.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        if !raw.faulty.is_empty() {
            return None;
        }
        problems.error(at.place, "exactly one of `header`, `key` and `json` says where the key is");
        return None;
    }
    if let Some(key) = &raw.key {
        return flag(key, "key", problems).then_some(Extract::RecordKey);
    }
    header(raw.header.as_ref(), problems).or_else(|| pointer(raw.json.as_ref(), problems))
}

fn version_source(at: &At<raw::VersionSource>, problems: &mut Problems) -> Option<Extract> {
    let raw = &at.value;
    let given = [raw.header.is_some(), raw.json.is_some(), raw.timestamp.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        if !raw.faulty.is_empty() {
            return None;
        }
        problems.error(at.place, "exactly one of `header`, `json` and `timestamp` says where the version is");
        return None;
    }
    if let Some(timestamp) = &raw.timestamp {
        return flag(timestamp, "timestamp", problems).then_some(Extract::Timestamp);
    }
    header(raw.header.as_ref(), problems).or_else(|| pointer(raw.json.as_ref(), problems))
}

fn flag(at: &At<bool>, key: &str, problems: &mut Problems) -> bool {
    if !at.value {
        problems.error_with(at.place, format!("`{key}` is `true` or left out"), Some("remove the whole key".into()));
    }
    at.value
}

fn header(at: Option<&At<String>>, problems: &mut Problems) -> Option<Extract> {
    let at = at?;
    if at.value.is_empty() {
        problems.error(at.place, "the name of the header is empty");
    } else if matches!(at.value.as_str(), "ls_origin" | "ls_path" | "ls_replay") {
        problems.error(at.place, format!("the header `{}` is written by Longshore", at.value));
    }
    Some(Extract::Header(at.value.clone()))
}

fn pointer(at: Option<&At<Word>>, problems: &mut Problems) -> Option<Extract> {
    let At { value: Word { text, written }, place } = at?;
    let mut escapes = text.split('~').skip(1);
    if !text.starts_with('/') {
        problems.error_with(
            *place,
            format!("`{written}` is no JSON pointer: it begins with `/`"),
            Some(format!("write `/{}`", written.trim_start_matches("$.").replace('.', "/"))),
        );
    } else if !escapes.all(|rest| rest.starts_with('0') || rest.starts_with('1')) {
        problems.error_with(
            *place,
            format!("`{written}` is no JSON pointer: `~` stands alone"),
            Some("write `~0` for `~` and `~1` for `/` in a name (RFC 6901)".into()),
        );
    }
    Some(Extract::Json(text.clone()))
}

fn id_window(at: &At<Word>, problems: &mut Problems) -> Option<IdWindow> {
    let text = &at.value.text;
    if let Some(records) = text.parse().ok().filter(|records| *records > 0) {
        return Some(IdWindow::RecordsPerKey(records));
    }
    if let Some(time) = parse_duration(text).ok().filter(|time| !time.is_zero()) {
        return Some(IdWindow::TimeMs(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
    }
    problems.error_with(
        at.place,
        format!("`{}` is no window of ids", at.value.written),
        Some("records per key (`1000`), or a time (`1h`)".into()),
    );
    None
}

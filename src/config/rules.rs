//! What a rule file means: every key to exactly one region (semantics §5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::bridge::{known_region, or};
use super::load::{reason, tidy};
use super::raw;
use super::report::{At, Place, Problems};
use crate::model::names::RegionName;
use crate::policy::rules::{Hash, Owner as Ruled, RuleSet};

/// A rule set, and where each of its regions is named.
pub(super) struct Checked {
    pub rules: RuleSet,
    pub name_place: Place,
    /// The first place of each region.
    pub owners: BTreeMap<RegionName, Place>,
}

/// Most slots that a rule set may have.
const SLOTS_MAX: u32 = 1_000_000;

/// Checks every rule file; those without a usable name are left out.
pub(super) fn all(files: &[At<raw::RuleFile>], regions: &[At<RegionName>], problems: &mut Problems) -> Vec<Checked> {
    let mut checked: Vec<Checked> = Vec::new();
    for file in files {
        let Some(set) = one(&file.value, regions, problems) else { continue };
        if let Some(other) = checked.iter().find(|other| other.rules.name == set.rules.name) {
            let message = format!("rule set `{}` is declared twice", set.rules.name);
            let hint = format!("the other one is at {}", problems.describe(other.name_place));
            problems.error_with(set.name_place, message, Some(hint));
        }
        checked.push(set);
    }
    checked.sort_by(|a, b| a.rules.name.cmp(&b.rules.name));
    checked
}

fn one(file: &raw::RuleFile, regions: &[At<RegionName>], problems: &mut Problems) -> Option<Checked> {
    let name = file.rules.as_ref();
    if let Some(name) = name {
        check_name(name, problems);
    }
    if let Some(epoch) = file.epoch.as_ref().filter(|epoch| epoch.value == 0) {
        problems.error(epoch.place, "`epoch` is at least 1");
    }
    let slots = or(&file.slots, 10_000);
    if let Some(at) = file.slots.as_ref().filter(|at| !(1..=SLOTS_MAX).contains(&at.value)) {
        problems.error(at.place, format!("`slots` is between 1 and {SLOTS_MAX}"));
    }
    let mut owners = BTreeMap::new();
    let mut owner = |region: &Option<At<String>>, problems: &mut Problems| {
        let region = region.as_ref()?;
        known_region(region, regions, problems);
        let name = RegionName::new(&region.value);
        owners.entry(name.clone()).or_insert(region.place);
        Some(Ruled { region: name, line: u32::try_from(region.place.line).unwrap_or(u32::MAX) })
    };
    let assign = assign(file, slots, &mut owner, problems);
    let exact = exact(file, &mut owner, problems);
    let prefix = prefix(file, &mut owner, problems);
    let range = range(file, &mut owner, problems);
    let name = name?;
    Some(Checked {
        rules: RuleSet {
            name: name.value.clone(),
            file: problems.path(name.place.file).display().to_string(),
            epoch: or(&file.epoch, 1),
            slots,
            hash: or(&file.hash, Hash::Crc32),
            assign,
            exact,
            prefix,
            range,
        },
        name_place: name.place,
        owners,
    })
}

fn check_name(name: &At<String>, problems: &mut Problems) {
    if name.value == "center" {
        problems.error(name.place, "the rule set `center` is built in: its whole keyspace belongs to the center");
    } else if !super::names::is_plain(&name.value) {
        problems.error_with(
            name.place,
            format!("`{}` is no name of a rule set", name.value),
            Some("letters, digits, `.`, `_` and `-`".into()),
        );
    }
}

/// Who a rule's region is, with the rule's line.
type Owner<'a> = dyn FnMut(&Option<At<String>>, &mut Problems) -> Option<Ruled> + 'a;

fn assign(file: &raw::RuleFile, slots: u32, owner: &mut Owner<'_>, problems: &mut Problems) -> Vec<(u32, u32, Ruled)> {
    let Some(list) = &file.assign else { return Vec::new() };
    let mut spans: Vec<(u32, u32, Ruled, Place)> = Vec::new();
    let slots_known = !file.faulty.contains(&"slots");
    let mut complete = slots_known;
    for item in &list.value {
        let region = owner(&item.value.region, problems);
        let span = item.value.slots.as_ref().and_then(|at| {
            let span = span(&at.value.text);
            match span {
                Some((from, to)) if from > to => {
                    problems.error(at.place, format!("`{}` runs backwards", at.value.written));
                }
                Some((_, to)) if to >= slots && slots_known => problems.error(
                    at.place,
                    format!("slot {to} does not exist: {slots} slots are numbered 0 to {}", slots.saturating_sub(1)),
                ),
                Some(_) => return span.map(|(from, to)| (from, to, at.place)),
                None => problems.error_with(
                    at.place,
                    format!("`{}` is no range of slots", at.value.written),
                    Some("`0-5999`, both ends included, or a single slot".into()),
                ),
            }
            None
        });
        match (region, span) {
            (Some(region), Some((from, to, place))) => spans.push((from, to, region, place)),
            _ => complete = false,
        }
    }
    spans.sort_by_key(|(from, ..)| *from);
    if complete {
        check_cover(&spans, slots, list.place, problems);
    }
    spans.into_iter().map(|(from, to, region, _)| (from, to, region)).collect()
}

fn span(text: &str) -> Option<(u32, u32)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Some((from.trim().parse().ok()?, to.trim().parse().ok()?))
}

fn check_cover(spans: &[(u32, u32, Ruled, Place)], slots: u32, whole: Place, problems: &mut Problems) {
    let words = |from: u32, to: u32| if from == to { format!("slot {from}") } else { format!("slots {from}-{to}") };
    let mut next = 0;
    for (from, to, _, place) in spans {
        if *from > next {
            problems.error(*place, format!("{} before these belong to no region", words(next, from - 1)));
        } else if *from < next {
            problems.error(*place, format!("{} are assigned twice", words(*from, (next - 1).min(*to))));
        }
        next = next.max(to + 1);
    }
    if next < slots {
        let place = spans.last().map_or(whole, |(.., place)| *place);
        problems.error(place, format!("{} belong to no region", words(next, slots - 1)));
    }
}

fn exact(file: &raw::RuleFile, owner: &mut Owner<'_>, problems: &mut Problems) -> BTreeMap<String, Ruled> {
    let mut exact: BTreeMap<String, Ruled> = BTreeMap::new();
    for item in file.exact.iter().flat_map(|list| &list.value) {
        let region = owner(&item.value.region, problems);
        let mut keys: Vec<At<String>> = item.value.keys.as_ref().map(|at| at.value.clone()).unwrap_or_default();
        if let Some(path) = &item.value.keys_file {
            keys.extend(keys_of(path, problems));
        } else if item.value.keys.is_none() && item.value.faulty.is_empty() {
            problems.error(item.place, "an exact rule has `keys` or `keys_file`");
        }
        for key in keys {
            let Some(region) = &region else { continue };
            if exact.insert(key.value.clone(), region.clone()).is_some() {
                problems.error(key.place, "a key stands in two exact rules, or twice in one");
            }
        }
    }
    exact
}

/// Keys of a file, all at the place that names it: keys are payload and are not shown.
fn keys_of(path: &At<String>, problems: &mut Problems) -> Vec<At<String>> {
    let folder = problems.path(path.place.file).parent().unwrap_or_else(|| Path::new("")).to_owned();
    match std::fs::read_to_string(tidy(&folder.join(&path.value))) {
        Ok(text) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(|line| At { value: line.to_owned(), place: path.place }).collect()
        }
        Err(error) => {
            let message = format!("the file of keys cannot be read: {}", reason(&error));
            problems.error_with(path.place, message, Some("paths are relative to this file".into()));
            Vec::new()
        }
    }
}

fn prefix(file: &raw::RuleFile, owner: &mut Owner<'_>, problems: &mut Problems) -> BTreeMap<String, Ruled> {
    let mut prefixes = BTreeMap::new();
    for item in file.prefix.iter().flat_map(|list| &list.value) {
        let region = owner(&item.value.region, problems);
        let Some(prefix) = &item.value.prefix else { continue };
        if prefix.value.is_empty() {
            problems.error_with(
                prefix.place,
                "an empty prefix would match every key",
                Some("give the keys that no other rule matches to a region with `assign`".into()),
            );
        }
        if let Some(region) = region
            && prefixes.insert(prefix.value.clone(), region).is_some()
        {
            problems.error(prefix.place, format!("the prefix `{}` stands here twice", prefix.value));
        }
    }
    prefixes
}

fn range(file: &raw::RuleFile, owner: &mut Owner<'_>, problems: &mut Problems) -> Vec<(i64, i64, Ruled)> {
    let mut ranges: Vec<(i64, i64, Ruled, Place)> = Vec::new();
    for item in file.range.iter().flat_map(|list| &list.value) {
        let region = owner(&item.value.region, problems);
        let (Some(from), Some(to)) = (&item.value.from, &item.value.to) else { continue };
        if from.value > to.value {
            problems.error(from.place, format!("the range {} to {} runs backwards", from.value, to.value));
        } else if let Some(region) = region {
            ranges.push((from.value, to.value, region, item.place));
        }
    }
    ranges.sort_by_key(|(from, to, ..)| (*from, *to));
    let mut reached: Option<i64> = None;
    for (from, to, _, place) in &ranges {
        if let Some(last) = reached.filter(|last| last >= from) {
            problems.error(*place, format!("keys {from} to {} are in two ranges", last.min(*to)));
        }
        reached = Some(reached.map_or(*to, |last| last.max(*to)));
    }
    ranges.into_iter().map(|(from, to, region, _)| (from, to, region)).collect()
}

/// Warns of rule sets that no subscription names.
pub(super) fn warn_unused(checked: &[Checked], used: &BTreeSet<String>, problems: &mut Problems) {
    for set in checked.iter().filter(|set| !used.contains(&set.rules.name)) {
        problems.warn(
            set.name_place,
            format!("no subscription uses the rule set `{}`", set.rules.name),
            "name it under `rules:` of a subscription with `mode: unit`, or remove the file",
        );
    }
}

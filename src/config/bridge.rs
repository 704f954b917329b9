//! What the bridge file means: regions and their clusters, links, the HTTP endpoint, hooks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::load::tidy;
use super::raw;
use super::report::{At, Place, Problems, did_you_mean};
use super::values::{Named, Property, Word};
use super::{
    Admin, Cluster, Guarantee, Hook, HookBlock, HookCall, Hooks, Links, OnGap, OnRejected, RateLimit, RocketMq,
};
use crate::broker::kafka::settings::{self, Block, Settings, check_property};
use crate::model::names::{RegionName, is_region_name};
use crate::model::time::parse_time;
use crate::policy::subscription::StartFrom;

/// The value, or what it is when left out.
pub(super) fn or<T: Clone>(field: &Option<At<T>>, default: T) -> T {
    field.as_ref().map_or(default, |at| at.value.clone())
}

/// The names of all regions, whether or not the rest of them is right.
pub(super) fn region_names(bridge: &At<raw::Bridge>, problems: &mut Problems) -> Vec<At<RegionName>> {
    let Some(regions) = &bridge.value.regions else { return Vec::new() };
    if regions.value.0.is_empty() {
        problems.error(regions.place, "`regions` names no region");
    }
    for (name, _) in &regions.value.0 {
        if !is_region_name(&name.value) {
            problems.error_with(
                name.place,
                format!("`{}` is no region name", name.value),
                Some("1 to 32 lower-case letters, digits and `-`".into()),
            );
        }
    }
    regions.value.0.iter().map(|(n, _)| At { value: RegionName::new(&n.value), place: n.place }).collect()
}

/// Checks that a region is one of the configuration. `true` when that cannot be judged.
pub(super) fn known_region(name: &At<String>, regions: &[At<RegionName>], problems: &mut Problems) -> bool {
    let known = regions.is_empty() || regions.iter().any(|region| region.value.as_str() == name.value);
    if !known {
        let hint = did_you_mean(&name.value, regions.iter().map(|region| region.value.as_str()));
        problems.error_with(name.place, format!("unknown region `{}`", name.value), hint);
    }
    known
}

/// The center and its candidates.
pub(super) fn center(
    bridge: &raw::Bridge,
    regions: &[At<RegionName>],
    problems: &mut Problems,
) -> (Option<RegionName>, Vec<RegionName>) {
    let center = bridge.center.as_ref();
    if let Some(center) = center {
        known_region(center, regions, problems);
    }
    let mut standby: Vec<RegionName> = Vec::new();
    for name in bridge.standby.iter().flat_map(|list| &list.value) {
        known_region(name, regions, problems);
        if center.is_some_and(|center| center.value == name.value) {
            problems.error_with(
                name.place,
                format!("`{}` is the center already", name.value),
                Some("`standby` names the other regions that may become it".into()),
            );
        }
        if standby.iter().any(|earlier| earlier.as_str() == name.value) {
            problems.error(name.place, format!("`{}` stands here twice", name.value));
        }
        standby.push(RegionName::new(&name.value));
    }
    (center.map(|center| RegionName::new(&center.value)), standby)
}

/// How each region's cluster is reached.
pub(super) fn clusters(
    bridge: &raw::Bridge,
    state_dir: &Path,
    folder: &Path,
    problems: &mut Problems,
) -> BTreeMap<RegionName, Cluster> {
    let mut clusters = BTreeMap::new();
    let mut addresses: Vec<(String, At<String>)> = Vec::new();
    for (name, region) in bridge.regions.iter().flat_map(|regions| &regions.value.0) {
        let Some(region) = region else { continue };
        let Some((cluster, address)) = cluster(name, region, state_dir, folder, problems) else { continue };
        if let Some((_, other)) = addresses.iter().find(|(known, _)| *known == address.value) {
            problems.error_with(
                address.place,
                format!("regions `{}` and `{}` are the same cluster", other.value, name.value),
                Some("each region has a cluster of its own".into()),
            );
        }
        addresses.push((address.value, name.clone()));
        clusters.insert(RegionName::new(&name.value), cluster);
    }
    clusters
}

/// One region's cluster and its address in a form that can be compared.
fn cluster(
    name: &At<String>,
    region: &At<raw::Region>,
    state_dir: &Path,
    folder: &Path,
    problems: &mut Problems,
) -> Option<(Cluster, At<String>)> {
    if region.value.faulty.contains(&"broker") {
        return None;
    }
    let broker = or(&region.value.broker, raw::Broker::Kafka);
    foreign_blocks(broker, &region.value, problems);
    match broker {
        raw::Broker::Kafka => kafka(name, &region.value, problems),
        raw::Broker::RocketMq => rocketmq(name, &region.value, problems),
        raw::Broker::Embedded => {
            let dir = region.value.embedded.as_ref().and_then(|embedded| embedded.value.dir.as_ref());
            let place = dir.map_or(name.place, |dir| dir.place);
            let default = || state_dir.join("embedded").join(&name.value);
            let dir = dir.map_or_else(default, |dir| tidy(&folder.join(&dir.value)));
            let address = At { value: format!("embedded {}", dir.display()), place };
            Some((Cluster::Embedded { dir }, address))
        }
    }
}

/// Blocks that belong to another broker.
fn foreign_blocks(broker: raw::Broker, region: &raw::Region, problems: &mut Problems) {
    let mut refuse = |place: Option<Place>, key: &str, belongs: &str, own: bool| {
        if let Some(place) = place.filter(|_| !own) {
            let hint = Some(format!("remove it, or set `broker: {belongs}`"));
            problems.error_with(place, format!("`{key}` belongs to `broker: {belongs}`"), hint);
        }
    };
    let kafka = broker == raw::Broker::Kafka;
    refuse(region.kafka.as_ref().map(|at| at.place), "kafka", "kafka", kafka);
    refuse(region.consumer.as_ref().map(|at| at.place), "consumer", "kafka", kafka);
    refuse(region.producer.as_ref().map(|at| at.place), "producer", "kafka", kafka);
    refuse(region.replication_factor.as_ref().map(|at| at.place), "replication_factor", "kafka", kafka);
    refuse(region.topic_config.as_ref().map(|at| at.place), "topic_config", "kafka", kafka);
    let rocketmq = broker == raw::Broker::RocketMq;
    refuse(region.rocketmq.as_ref().map(|at| at.place), "rocketmq", "rocketmq", rocketmq);
    let embedded = broker == raw::Broker::Embedded;
    refuse(region.embedded.as_ref().map(|at| at.place), "embedded", "embedded", embedded);
}

fn kafka(name: &At<String>, region: &raw::Region, problems: &mut Problems) -> Option<(Cluster, At<String>)> {
    let Some(common) = &region.kafka else {
        if region.faulty.contains(&"kafka") {
            return None;
        }
        let hint = "kafka: {bootstrap.servers: \"host:9092\"}".to_owned();
        problems.error_with(name.place, format!("region `{}` has no `kafka` block", name.value), Some(hint));
        return None;
    };
    let servers = common.value.0.iter().find(|(key, _)| is_bootstrap(&key.value));
    if servers.is_none() {
        problems.error(common.place, "`bootstrap.servers` is missing");
    }
    if let Some(factor) = region.replication_factor.as_ref().filter(|at| !(1..=i32::from(i16::MAX)).contains(&at.value))
    {
        problems.error(factor.place, "`replication_factor` is at least 1");
    }
    // Until all of them can be read, what is missing is not known.
    if common.value.0.iter().all(|(_, value)| value.is_some()) {
        let value = |name: &str| {
            let found = common.value.0.iter().find(|(key, _)| key.value == name);
            found.and_then(|(_, value)| value.as_ref()).map(|value| value.value.text.clone())
        };
        if let Some(missing) = settings::check_together(value) {
            problems.error(common.place, missing);
        }
    }
    let empty = Named::default();
    let block =
        |field: &Option<At<Named<Property>>>| field.as_ref().map_or_else(|| empty.clone(), |at| at.value.clone());
    let settings = Settings {
        common: properties(&common.value, Block::Common, problems),
        consumer: properties(&block(&region.consumer), Block::Consumer, problems),
        producer: properties(&block(&region.producer), Block::Producer, problems),
        replication_factor: region.replication_factor.as_ref().map(|at| at.value),
        topic_config: texts(&block(&region.topic_config)),
    };
    let (key, servers) = servers?;
    let servers = servers.as_ref()?;
    let mut list: Vec<&str> = servers.value.text.split(',').map(str::trim).collect();
    list.sort_unstable();
    if list.iter().any(|server| server.is_empty()) {
        problems.error(servers.place, format!("`{}` holds an empty address", key.value));
    }
    let address = At { value: format!("kafka {}", list.join(",")), place: servers.place };
    Some((Cluster::Kafka(settings), address))
}

fn is_bootstrap(name: &str) -> bool {
    matches!(name, "bootstrap.servers" | "metadata.broker.list")
}

fn properties(named: &Named<Property>, block: Block, problems: &mut Problems) -> BTreeMap<String, SecretString> {
    let mut checked = BTreeMap::new();
    for (name, value) in &named.0 {
        let Some(value) = value else { continue };
        if let Err(problem) = check_property(&name.value, &value.value.text, block) {
            // A misspelt name hides that its value is a secret.
            if settings::is_secret(&name.value) || problem.hint.as_deref().is_some_and(settings::is_secret) {
                problems.blank(value.place);
            }
            let place = if problem.about_value { value.place } else { name.place };
            problems.error_with(place, problem.message, problem.hint);
        } else if block != Block::Common && is_bootstrap(&name.value) {
            problems.error_with(
                name.place,
                format!("`{}` must be the same for reading and writing", name.value),
                Some("put it under `kafka:`".into()),
            );
        }
        checked.insert(name.value.clone(), SecretString::from(value.value.text.clone()));
    }
    checked
}

fn texts(named: &Named<Property>) -> BTreeMap<String, String> {
    named.0.iter().filter_map(|(name, value)| Some((name.value.clone(), value.as_ref()?.value.text.clone()))).collect()
}

fn rocketmq(name: &At<String>, region: &raw::Region, problems: &mut Problems) -> Option<(Cluster, At<String>)> {
    let Some(block) = &region.rocketmq else {
        if region.faulty.contains(&"rocketmq") {
            return None;
        }
        let hint = "rocketmq: {name_server: \"host:9876\"}".to_owned();
        problems.error_with(name.place, format!("region `{}` has no `rocketmq` block", name.value), Some(hint));
        return None;
    };
    let (access, secret) = (&block.value.access_key, &block.value.secret_key);
    if access.is_some() != secret.is_some() && block.value.faulty.is_empty() {
        problems.error(block.place, "`access_key` and `secret_key` go together");
    }
    problems.warn(
        name.place,
        format!("region `{}` has RocketMQ: it is checked and planned, but this version cannot run it", name.value),
        "`longshore run` refuses links from and to it",
    );
    let name_server = block.value.name_server.as_ref()?;
    let settings = RocketMq {
        name_server: name_server.value.clone(),
        access_key: access.as_ref().map(|at| at.value.clone()),
        secret_key: secret.as_ref().map(|at| at.value.clone()),
    };
    let address = At { value: format!("rocketmq {}", name_server.value), place: name_server.place };
    Some((Cluster::RocketMq(settings), address))
}

/// The longest commit interval: open transactions time out after 10 s (semantics §4).
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(5);

pub(super) fn links(links: &raw::Links, problems: &mut Problems) -> Links {
    let commit_interval = or(&links.commit_interval, Duration::from_millis(100));
    if let Some(at) = links.commit_interval.as_ref().filter(|at| at.value.is_zero() || at.value > COMMIT_INTERVAL_MAX) {
        problems.error(at.place, "`commit_interval` is between `1ms` and `5s`: open transactions hold readers back");
    }
    let limit = links.rate_limit.as_ref().map(|at| &at.value);
    let mut rate = |field: Option<&At<u64>>| {
        let at = field?;
        let rate = NonZeroU64::new(at.value);
        if rate.is_none() {
            problems.error_with(
                at.place,
                "a rate limit of 0 would stop the link",
                Some("leave it out for no limit, or use `longshore pause`".into()),
            );
        }
        rate
    };
    let rate_limit = RateLimit {
        records_per_second: rate(limit.and_then(|limit| limit.records_per_second.as_ref())),
        bytes_per_second: rate(limit.and_then(|limit| limit.bytes_per_second.as_ref())),
    };
    Links {
        guarantee: or(&links.guarantee, Guarantee::ExactlyOnce),
        start_from: start_from(links.start_from.as_ref(), false, problems),
        commit_interval,
        on_gap: or(&links.on_gap, OnGap::Stop),
        on_rejected: or(&links.on_rejected, OnRejected::DeadLetter),
        rate_limit,
    }
}

/// Where reading begins; `committed` is for subscriptions only.
pub(super) fn start_from(field: Option<&At<Word>>, committed: bool, problems: &mut Problems) -> StartFrom {
    let Some(at) = field else { return StartFrom::Earliest };
    match at.value.text.as_str() {
        "earliest" => StartFrom::Earliest,
        "latest" => StartFrom::Latest,
        "committed" if committed => StartFrom::Committed,
        text => match parse_time(text, 0) {
            // A time before now would be another one at each start.
            Ok(ms) if !text.starts_with('-') => StartFrom::Time(ms),
            _ => {
                let written = &at.value.written;
                let words = if committed { "`earliest`, `latest`, `committed`" } else { "`earliest`, `latest`" };
                let hint = format!("{words}, or a moment such as `2026-11-21T06:00:00Z`");
                problems.error_with(at.place, format!("`{written}` is no place to start from"), Some(hint));
                StartFrom::Earliest
            }
        },
    }
}

pub(super) fn admin(admin: &raw::Admin, problems: &mut Problems) -> Admin {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 9464));
    let token = admin.token.as_ref().map(|at| at.value.clone());
    let Some(at) = &admin.listen else { return Admin { listen: loopback, token } };
    let Ok(listen) = at.value.text.parse::<SocketAddr>() else {
        problems.error_with(
            at.place,
            format!("`{}` is no address to listen on", at.value.written),
            Some("an IP address and a port: `127.0.0.1:9464`, `0.0.0.0:9464`, `[::]:9464`".into()),
        );
        return Admin { listen: loopback, token };
    };
    if !listen.ip().is_loopback() && token.is_none() && !admin.faulty.contains(&"token") {
        problems.error_with(
            at.place,
            format!("`{}` is reachable from other machines, and there is no `token`", at.value.written),
            Some("set `token: \"${env:LONGSHORE_TOKEN}\"`, or listen on 127.0.0.1".into()),
        );
    }
    Admin { listen, token }
}

/// Shorter secrets can be guessed offline from one signed entry.
const SECRET_CHARS_MIN: usize = 16;

pub(super) fn control_secret(bridge: &At<raw::Bridge>, problems: &mut Problems) -> Option<SecretString> {
    let secret = bridge.value.control.as_ref().and_then(|control| control.value.secret.as_ref());
    match secret {
        Some(secret) if secret.value.expose_secret().chars().count() < SECRET_CHARS_MIN => problems.warn(
            secret.place,
            format!("`control.secret` has fewer than {SECRET_CHARS_MIN} characters"),
            "make one with `openssl rand -hex 32`; it must be the same in all regions",
        ),
        None if has_real_cluster(&bridge.value) => problems.warn(
            bridge.value.control.as_ref().map_or(Place { line: 0, column: 0, ..bridge.place }, |control| control.place),
            "without `control.secret` whoever can write to the control topic can steer every bridge",
            "set `control: {secret: \"${file:/run/secrets/longshore}\"}`, the same in all regions",
        ),
        _ => {}
    }
    secret.map(|at| at.value.clone())
}

fn has_real_cluster(bridge: &raw::Bridge) -> bool {
    let mut regions = bridge.regions.iter().flat_map(|regions| &regions.value.0);
    regions.any(|(_, region)| {
        region.as_ref().is_some_and(|region| or(&region.value.broker, raw::Broker::Kafka) != raw::Broker::Embedded)
    })
}

pub(super) fn hooks(hooks: &raw::Hooks, problems: &mut Problems) -> Hooks {
    Hooks {
        secret: hooks.secret.as_ref().map(|at| at.value.clone()),
        ban: hook(hooks.ban.as_ref(), problems),
        seal: hook(hooks.seal.as_ref(), problems),
        gate: hook(hooks.gate.as_ref(), problems),
        switched: hook(hooks.switched.as_ref(), problems),
    }
}

fn hook(hook: Option<&At<raw::Hook>>, problems: &mut Problems) -> Option<Hook> {
    let At { value: hook, place } = hook?;
    let call = match (&hook.url, &hook.exec) {
        (Some(url), None) => {
            if !url.value.text.starts_with("http://") && !url.value.text.starts_with("https://") {
                problems.error(url.place, format!("`{}` is no HTTP address", url.value.written));
            }
            HookCall::Url(url.value.text.clone())
        }
        (None, Some(exec)) => {
            if exec.value.first().is_none_or(|program| program.value.is_empty()) {
                problems.error(exec.place, "`exec` names no program");
            }
            HookCall::Exec(exec.value.iter().map(|part| part.value.clone()).collect())
        }
        _ if hook.faulty.iter().any(|key| matches!(*key, "url" | "exec")) => return None,
        _ => {
            problems.error(*place, "a hook has either `url` or `exec`");
            return None;
        }
    };
    let timeout = or(&hook.timeout, Duration::from_secs(10));
    if let Some(at) = hook.timeout.as_ref().filter(|at| at.value.is_zero()) {
        problems.error(at.place, "a time-out of 0 would never let the call succeed");
    }
    Some(Hook { call, timeout, block: or(&hook.block, HookBlock::Success) })
}

/// The state folder, relative to the bridge file.
pub(super) fn state_dir(bridge: &raw::Bridge, folder: &Path) -> PathBuf {
    tidy(&folder.join(or(&bridge.state_dir, "./state".into())))
}

pub(super) fn shutdown_timeout(bridge: &raw::Bridge, problems: &mut Problems) -> Duration {
    if let Some(at) = bridge.shutdown_timeout.as_ref().filter(|at| at.value.is_zero()) {
        problems.error(at.place, "`shutdown_timeout` of 0 would abort everything in flight");
    }
    or(&bridge.shutdown_timeout, Duration::from_secs(30))
}

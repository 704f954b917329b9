//! From raw files to a [`Config`]: what the values mean together. Goes on after every problem, and stays silent about
//! what only follows from an earlier one.

use std::collections::BTreeSet;

use super::bridge::{self, or};
use super::load::Files;
use super::names;
use super::report::{At, Problems};
use super::rules;
use super::topics::{self, Scene};
use super::{Cluster, Config, Guarantee};
use crate::model::names::RegionName;
use crate::policy::subscription::{Deployment, Topology};

/// `None` when something is missing without which there is no configuration; it has been reported.
pub(super) fn config(files: &Files, problems: &mut Problems) -> Option<Config> {
    let file = files.bridge.as_ref()?;
    let raw = &file.value;
    let regions = bridge::region_names(file, problems);
    let (center, standby) = bridge::center(raw, &regions, problems);
    let state_dir = bridge::state_dir(raw, &files.folder);
    let clusters = bridge::clusters(raw, &state_dir, &files.folder, problems);
    let links = bridge::links(&or(&raw.links, Default::default()), problems);
    let admin = bridge::admin(&or(&raw.admin, Default::default()), problems);
    let control_secret = bridge::control_secret(file, problems);
    let hooks = bridge::hooks(&or(&raw.hooks, Default::default()), problems);
    let shutdown_timeout = bridge::shutdown_timeout(raw, problems);
    let checked = rules::all(&files.rules, &regions, problems);
    let scene = Scene {
        regions: &regions,
        center: center.as_ref().filter(|center| regions.iter().any(|region| region.value == **center)),
        standby: &standby,
        rules: &checked,
        rules_missing: files.rules_missing,
    };
    let declared = topics::all(&files.topics, &scene, problems);
    let deployment = Deployment {
        regions: sorted(&regions),
        center: center?,
        standby,
        topology: or(&raw.topology, Topology::Mesh),
        topics: declared.iter().map(|declared| declared.topic.clone()).collect(),
    };
    if !problems.has_errors() {
        let rocketmq: Vec<RegionName> = clusters
            .iter()
            .filter(|(_, cluster)| matches!(cluster, Cluster::RocketMq(_)))
            .map(|(name, _)| name.clone())
            .collect();
        names::check_portable(&declared, &deployment, &rocketmq, problems);
        warn(file, &links.guarantee, &rocketmq, problems);
    }
    Some(Config {
        deployment,
        clusters,
        links,
        rules: checked.into_iter().map(|set| set.rules).collect(),
        create_topics: or(&raw.create_topics, true),
        state_dir,
        shutdown_timeout,
        admin,
        control_secret,
        hooks,
        files: problems.paths(),
        warnings: Vec::new(),
    })
}

fn sorted(regions: &[At<RegionName>]) -> Vec<RegionName> {
    regions.iter().map(|region| region.value.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn warn(file: &At<super::raw::Bridge>, guarantee: &Guarantee, rocketmq: &[RegionName], problems: &mut Problems) {
    let Some(regions) = &file.value.regions else { return };
    if let [(only, _)] = regions.value.0.as_slice() {
        problems.warn(
            only.place,
            format!("`{}` is the only region, so nothing is copied", only.value),
            "add the other regions",
        );
    }
    let explicit = file.value.links.as_ref().and_then(|links| links.value.guarantee.as_ref());
    if let (Some(at), Guarantee::ExactlyOnce, Some(region)) = (explicit, guarantee, rocketmq.first()) {
        problems.warn(
            at.place,
            format!(
                "copies into `{region}` are at-least-once: RocketMQ has no transactions over records and positions"
            ),
            "a crash there may repeat the last records; a plain restart repeats nothing",
        );
    }
}

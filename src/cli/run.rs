//! `longshore run`: the bridge of one region, until a signal ends it.

use std::process::ExitCode;

use crate::app;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::operator::did_you_mean;
use crate::config::{Cluster, Config};
use crate::model::names::RegionName;

/// Runs the bridge of the named region; of several (`--region hz,sh`) where one process must hold them all.
pub fn run(context: &Context, instance: Option<&str>) -> Result<ExitCode, Failure> {
    let config = context.load()?;
    let regions = match &context.region {
        Some(names) if names.contains(',') => several(names, &config)?,
        _ => vec![context.region(&config)?],
    };
    Ok(app::run(&config, &regions, instance)?)
}

fn several(names: &str, config: &Config) -> Result<Vec<RegionName>, Failure> {
    if !config.clusters.values().all(|cluster| matches!(cluster, Cluster::Embedded { .. })) {
        return Err(Failure::usage("one process runs the bridge of one region")
            .hint("several regions share a process only where all are `broker: embedded`"));
    }
    let known = &config.deployment.regions;
    names
        .split(',')
        .map(|name| match known.iter().find(|region| region.as_str() == name) {
            Some(region) => Ok(region.clone()),
            None => Err(Failure::usage(format!("no region `{name}`"))
                .hint(did_you_mean(name, known.iter().map(RegionName::as_str)))),
        })
        .collect()
}

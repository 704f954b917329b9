//! `acls`: the rights of `policy::acls` as commands that an administrator of each cluster can run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use secrecy::ExposeSecret;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::config::{Cluster, Config, Guarantee, OnRejected};
use crate::model::names::RegionName;
use crate::policy::acls::{Grant, Needs, Operation, Resource, grants};

/// How to write them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The name by which clusters know a region's bridge; `{region}` stands for the region
    #[arg(long, default_value = "User:longshore-{region}")]
    principal: String,
}

/// Prints the rights; `--region` leaves only what that region's cluster must grant.
pub fn run(context: &Context, arguments: &Args) -> Result<ExitCode, Failure> {
    let config = context.load()?;
    let only = context.region_if_named(&config)?;
    let needs = Needs {
        creates_topics: config.create_topics,
        transactional: config.links.guarantee == Guarantee::ExactlyOnce,
        dead_letters: config.links.on_rejected == OnRejected::DeadLetter,
    };
    let mut grants = grants(&config.deployment, needs);
    grants.retain(|grant| only.as_ref().is_none_or(|only| grant.cluster == *only));
    let principal = |region: &RegionName| arguments.principal.replace("{region}", region.as_str());
    let kafka = |grant: &&Grant| matches!(config.clusters.get(&grant.cluster), Some(Cluster::Kafka(_)));
    let value: Vec<_> = grants
        .iter()
        .filter(kafka)
        .map(|grant| {
            let (kind, name, pattern) = resource(&grant.resource);
            json!({
                "cluster": grant.cluster.as_str(), "bridge": grant.bridge.as_str(),
                "principal": principal(&grant.bridge), "resource": kind, "name": name, "pattern": pattern,
                "operations": grant.operations.iter().map(|operation| operation.as_str()).collect::<Vec<_>>(),
            })
        })
        .collect();
    context.answer(&json!({ "acls": value }), || commands(&config, &grants, principal))?;
    Ok(ExitCode::SUCCESS)
}

/// Kind, name and pattern type, in Kafka's words.
fn resource(resource: &Resource) -> (&'static str, &str, &'static str) {
    match resource {
        Resource::Topic(name) => ("topic", name, "literal"),
        Resource::Group(name) => ("group", name, "literal"),
        Resource::Groups(prefix) => ("group", prefix, "prefixed"),
        Resource::TransactionalIds(prefix) => ("transactional-id", prefix, "prefixed"),
    }
}

/// One command for all resources of a kind with the same rights.
fn commands(config: &Config, grants: &[Grant], principal: impl Fn(&RegionName) -> String) -> String {
    type Rights<'a> = (&'a RegionName, &'a RegionName, &'static str, &'static str, &'a BTreeSet<Operation>);
    let mut grouped: BTreeMap<Rights<'_>, Vec<&str>> = BTreeMap::new();
    for grant in grants {
        let (kind, name, pattern) = resource(&grant.resource);
        let rights = (&grant.cluster, &grant.bridge, kind, pattern, &grant.operations);
        grouped.entry(rights).or_default().push(name);
    }
    let mut text = String::new();
    for (region, cluster) in &config.clusters {
        let mine = || grouped.iter().filter(|((cluster, ..), _)| *cluster == region);
        if mine().next().is_none() {
            continue;
        }
        let Cluster::Kafka(settings) = cluster else {
            text.push_str(&format!("# {region} is no Kafka cluster: nothing to grant\n\n"));
            continue;
        };
        let servers = settings.common.get("bootstrap.servers").map(|servers| servers.expose_secret().to_owned());
        // An address that came from the environment or from a file is not printed.
        let servers = match servers.filter(|servers| is_in_the_file(config, servers)) {
            Some(servers) => quoted(&servers),
            None => format!("\"${}_BOOTSTRAP_SERVERS\"", region.as_str().to_uppercase().replace('-', "_")),
        };
        text.push_str(&format!("# The cluster of {region} grants:\n"));
        for ((_, bridge, kind, pattern, operations), names) in mine() {
            text.push_str(&format!("kafka-acls --bootstrap-server {servers} --add"));
            text.push_str(&format!(" --allow-principal {}", quoted(&principal(bridge))));
            operations.iter().for_each(|operation| text.push_str(&format!(" --operation {}", operation.as_str())));
            names.iter().for_each(|name| text.push_str(&format!(" --{kind} {}", quoted(name))));
            if *pattern == "prefixed" {
                text.push_str(" --resource-pattern-type prefixed");
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn is_in_the_file(config: &Config, value: &str) -> bool {
    let text = config.files.first().and_then(|file| std::fs::read_to_string(file).ok());
    text.is_some_and(|text| text.contains(value))
}

/// For a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:,/=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn what_a_shell_would_read_otherwise_is_quoted() {
        assert_eq!(quoted("127.0.0.1:9092,b:1"), "127.0.0.1:9092,b:1");
        assert_eq!(quoted("User:CN=a b"), "'User:CN=a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}

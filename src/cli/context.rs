//! What every command is given: where the configuration is, which region is meant, how to answer.

use std::path::PathBuf;

use serde::Serialize;

use crate::app;
use crate::broker::{Class, Error, SharedCluster};
use crate::cli::ask;
use crate::cli::failure::Failure;
use crate::cli::operator::{Operator, did_you_mean};
use crate::cli::output::{self, Output};
use crate::config::Config;
use crate::model::names::RegionName;
use crate::policy::plan;

/// The options that stand before or after any command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Context {
    /// The bridge file
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "LONGSHORE_CONFIG",
        hide_env_values = true,
        default_value = "longshore.yaml",
        global = true
    )]
    pub config: PathBuf,
    /// The region that is meant; for `run`, the region whose bridge this is
    #[arg(long, value_name = "REGION", env = "LONGSHORE_REGION", hide_env_values = true, global = true)]
    pub region: Option<String>,
    /// How to answer: `table` for people, `json` for programs
    #[arg(short, long, value_enum, default_value_t, hide_possible_values = true, global = true)]
    pub output: Output,
    /// The shape of log lines on stderr: `text` for people, `json` for collectors
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true, global = true)]
    pub log_format: LogFormat,
    /// Say more on stderr; again for more still
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

impl Context {
    /// Reads the configuration; the failure holds every problem of every file.
    pub fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.config)?)
    }

    /// The region that was named; refused when it is none, or when there is no such region.
    pub fn region(&self, config: &Config) -> Result<RegionName, Failure> {
        let known = || config.deployment.regions.iter().map(RegionName::as_str);
        match &self.region {
            Some(name) => self.region_if_named(config)?.ok_or_else(|| Failure::usage(format!("no region `{name}`"))),
            None => Err(Failure::usage("which region? say --region or set LONGSHORE_REGION")
                .hint(format!("regions: {}", known().collect::<Vec<_>>().join(", ")))),
        }
    }

    /// The region that was named, if one was.
    pub fn region_if_named(&self, config: &Config) -> Result<Option<RegionName>, Failure> {
        let Some(name) = &self.region else { return Ok(None) };
        let regions = &config.deployment.regions;
        match regions.iter().find(|region| region.as_str() == name) {
            Some(region) => Ok(Some(region.clone())),
            None => Err(Failure::usage(format!("no region `{name}` in {}", self.config.display()))
                .hint(did_you_mean(name, regions.iter().map(RegionName::as_str)))),
        }
    }

    /// Whether a program reads the answer.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Prints the answer in the form that was asked for.
    pub fn answer(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = match self.output {
            Output::Json => json(value)?,
            Output::Table => text(),
        };
        Ok(output::print(&format!("{}\n", text.trim_end()))?)
    }

    /// Runs `command` with what commands on running links need.
    pub fn operate<T>(&self, config: &Config, command: impl FnOnce(&Operator<'_>) -> T) -> T {
        let copies = plan::copies(&config.deployment);
        command(&Operator {
            regions: &config.deployment.regions,
            copies: &copies,
            open: &|region| open(config, region),
            creation: &|region| app::creation(config, region),
            secret: config.control_secret.as_ref(),
            bridge: ask::address(config),
            token: config.admin.token.as_ref(),
            json: self.is_json(),
        })
    }
}

/// A value as people and programs can both read it.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(Failure::run_time)
}

fn open(config: &Config, region: &RegionName) -> Result<SharedCluster, Error> {
    let cluster = config.clusters.get(region);
    let cluster = cluster.ok_or_else(|| Error::new(Class::Fatal, format!("open {region}"), "no such region"))?;
    app::open(region, cluster)
}

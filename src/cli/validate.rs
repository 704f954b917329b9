//! `longshore validate`: every problem of every file at once. Opens no broker.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::config::Config;

/// The configuration is wrong (interface §5).
const WRONG_CONFIGURATION: u8 = 2;

/// Checks the bridge file at `path` and all that it names. The report of problems goes to stderr, as JSON to stdout.
pub fn run(path: &Path, json: bool) -> std::io::Result<ExitCode> {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    match Config::load(path) {
        Ok(config) => {
            if json {
                let warnings = config.warnings.len();
                let answer = json!({"valid": true, "errors": 0, "warnings": warnings, "problems": config.warnings});
                writeln!(out, "{answer:#}")?;
            } else {
                config.warnings.iter().try_for_each(|warning| writeln!(err, "{warning}\n"))?;
                writeln!(out, "{}", summary(&config))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(report) => {
            if json {
                let (errors, all) = (report.errors(), report.problems.len());
                let answer =
                    json!({"valid": false, "errors": errors, "warnings": all - errors, "problems": report.problems});
                writeln!(out, "{answer:#}")?;
            } else {
                writeln!(err, "{report}")?;
            }
            Ok(ExitCode::from(WRONG_CONFIGURATION))
        }
    }
}

fn summary(config: &Config) -> String {
    let topics = &config.deployment.topics;
    let groups: usize = topics.iter().map(|topic| topic.subscriptions.len()).sum();
    format!(
        "valid: {}, {}, {}, {} ({})",
        counted(config.deployment.regions.len(), "region"),
        counted(topics.len(), "topic"),
        counted(groups, "subscription"),
        counted(config.rules.len(), "rule set"),
        counted(config.files.len(), "file"),
    )
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

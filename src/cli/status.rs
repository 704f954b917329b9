//! `status`: all regions, each read from its own control topic. Shows what answers in time and names what does not.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::cli::ask;
use crate::cli::operator::{self, Operator};
use crate::control::status::{LinkStatus, RegionStatus, Status};
use crate::control::survey;

/// How long all regions together may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Shows the status of all regions.
pub fn run(operator: &Operator<'_>) -> anyhow::Result<ExitCode> {
    let mut regions = Vec::with_capacity(operator.regions.len());
    for region in operator.regions {
        let cluster = (operator.open)(region);
        // Opening fails for what waiting does not mend, such as a folder that the bridge's process has open.
        if cluster.is_err()
            && let Some(status) = of_running_bridge(operator)
        {
            operator.answer(&status, || table(&status))?;
            return Ok(ExitCode::SUCCESS);
        }
        regions.push((region.clone(), cluster));
    }
    let status = survey::status(regions, operator.secret, ANSWER_TIMEOUT, operator::now_ms);
    operator.answer(&status, || table(&status))?;
    Ok(ExitCode::SUCCESS)
}

/// Embedded clusters are open in the bridge's process alone: then the bridge is asked.
fn of_running_bridge(operator: &Operator<'_>) -> Option<Status> {
    let answer = ask::get(operator.bridge, "/api/v1/status", operator.token).ok()?;
    (answer.code == 200).then(|| serde_json::from_slice(&answer.body).ok()).flatten()
}

/// The status for people.
pub fn table(status: &Status) -> String {
    let mut regions = plain_table(&["REGION", "STATE", "GUARANTEE", "BRIDGE", "WHY"]);
    let mut links = plain_table(&["LINK", "TOPIC", "STATE", "LAG RECORDS", "LAG SECONDS", "WHY"]);
    let mut paused = String::new();
    for (name, region) in &status.regions {
        regions.add_row([
            name.clone(),
            region_word(region).to_owned(),
            region.guarantee.clone().unwrap_or_else(|| "-".to_owned()),
            bridges(region),
            region.reasons.join("; "),
        ]);
        region.links.iter().for_each(|link| {
            links.add_row(link_row(name, link));
        });
        for scope in &region.paused {
            paused.push_str(&format!("paused (in {name}): {scope}\n"));
        }
    }
    let mut text = format!("{}\n", lines(&regions));
    if links.row_count() > 0 {
        text.push_str(&format!("\n{}\n", lines(&links)));
    }
    if !paused.is_empty() {
        text.push_str(&format!("\n{paused}"));
    }
    text
}

fn region_word(region: &RegionStatus) -> &'static str {
    match (region.reachable, region.ready) {
        (false, _) => "unreachable",
        (true, true) => "ready",
        (true, false) => "not ready",
    }
}

fn bridges(region: &RegionStatus) -> String {
    let instances = region.instances.iter().map(|instance| match (instance.stale, instance.ready) {
        (true, _) => format!("{} (silent)", instance.instance),
        (false, false) => format!("{} (not ready)", instance.instance),
        (false, true) => instance.instance.clone(),
    });
    let instances: Vec<String> = instances.collect();
    if instances.is_empty() { "-".to_owned() } else { instances.join(", ") }
}

fn link_row(to: &str, link: &LinkStatus) -> Vec<Cell> {
    let unknown = || "unknown".to_owned();
    let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    vec![
        Cell::new(format!("{}:{to}", link.from)),
        Cell::new(&link.topic),
        Cell::new(&link.state),
        number(link.lag_records.map_or_else(unknown, |lag| lag.to_string())),
        number(link.lag_seconds.map_or_else(unknown, |lag| format!("{lag:.1}"))),
        Cell::new(link.reason.as_deref().unwrap_or("")),
    ]
}

/// A table without rules: for eyes and for `awk`.
pub(super) fn plain_table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The table's lines without blanks at their ends.
pub(super) fn lines(table: &Table) -> String {
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::control::status::InstanceStatus;

    #[test]
    fn the_table_shows_what_is_known_and_says_what_is_not() {
        let link = LinkStatus {
            from: "hz".into(),
            topic: "order-events".into(),
            state: "running".into(),
            lag_records: Some(12),
            lag_seconds: Some(0.25),
            ..LinkStatus::default()
        };
        let lost = LinkStatus {
            topic: "clicks".into(),
            state: "stopped".into(),
            reason: Some("gap: 5 to 9".into()),
            lag_records: None,
            lag_seconds: None,
            ..link.clone()
        };
        let sh = RegionStatus {
            reachable: true,
            ready: true,
            guarantee: Some("exactly-once".into()),
            links: vec![link, lost],
            instances: vec![InstanceStatus { instance: "sh-1".into(), ready: true, ..InstanceStatus::default() }],
            paused: vec!["hz/sh/clicks".into()],
            ..RegionStatus::default()
        };
        let hz = RegionStatus { reasons: vec!["it cannot be read from here".into()], ..RegionStatus::default() };
        let regions = BTreeMap::from([("sh".to_owned(), sh), ("hz".to_owned(), hz)]);
        insta::assert_snapshot!(table(&Status { regions, cutover: None }), @r"
        REGION  STATE        GUARANTEE     BRIDGE  WHY
        hz      unreachable  -             -       it cannot be read from here
        sh      ready        exactly-once  sh-1

        LINK   TOPIC         STATE    LAG RECORDS  LAG SECONDS  WHY
        hz:sh  order-events  running           12          0.2
        hz:sh  clicks        stopped      unknown      unknown  gap: 5 to 9

        paused (in sh): hz/sh/clicks
        ");
    }
}

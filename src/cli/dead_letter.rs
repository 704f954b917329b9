//! `dead-letter list`: what the targets refused, from which record, for which reason. Bodies and keys are never printed.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::cli::operator::{FAILED, Operator, WRONG_USAGE, did_you_mean, refuse};
use crate::cli::status::{lines, plain_table};
use crate::control::dead_letter::{self, DeadLetter};
use crate::model::names::{RegionName, TopicName};

/// How long one region may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// `dead-letter …`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// List the records that a target refused for good
    #[command(after_help = "Example:
  longshore dead-letter list --topic order-events --region sh")]
    List(ListArgs),
}

/// Which to list.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// The topic whose dead letters are listed
    #[arg(long)]
    pub topic: String,
    /// Only those in this region; default: all regions
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// At most this many of each region, the oldest of each partition first
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
}

/// Lists dead letters; a region that cannot be read fails the command after the others were shown.
pub fn run(operator: &Operator<'_>, command: &Command, topics: &[TopicName]) -> anyhow::Result<ExitCode> {
    let Command::List(arguments) = command;
    if !topics.iter().any(|topic| topic.as_str() == arguments.topic) {
        let hint = did_you_mean(&arguments.topic, topics.iter().map(TopicName::as_str));
        return Ok(refuse(WRONG_USAGE, &format!("no topic `{}`", arguments.topic), Some(&hint)));
    }
    let chosen: Vec<&RegionName> = operator
        .regions
        .iter()
        .filter(|region| arguments.region.as_deref().is_none_or(|chosen| chosen == region.as_str()))
        .collect();
    if chosen.is_empty() {
        let name = arguments.region.as_deref().unwrap_or_default();
        let hint = did_you_mean(name, operator.regions.iter().map(RegionName::as_str));
        return Ok(refuse(WRONG_USAGE, &format!("no region `{name}`"), Some(&hint)));
    }
    let topic = TopicName::new(&arguments.topic);
    let (mut found, mut more, mut failed) = (Vec::new(), false, Vec::new());
    for region in chosen {
        let listed = (operator.open)(region)
            .and_then(|cluster| dead_letter::list(&*cluster, region.as_str(), &topic, arguments.limit, READ_TIMEOUT));
        match listed {
            Ok((letters, left_out)) => {
                found.extend(letters);
                more |= left_out;
            }
            Err(error) => failed.push(format!("{region}: {error}")),
        }
    }
    let value = json!({ "dead_letters": found, "more": more, "unreachable": failed });
    operator.answer(&value, || match (found.is_empty(), failed.is_empty()) {
        (true, true) => "No dead letters.".to_owned(),
        (true, false) => "No dead letters in what could be read.".to_owned(),
        (false, _) => table(&found, more),
    })?;
    if failed.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(refuse(FAILED, &format!("could not be read: {}", failed.join("; ")), None))
    }
}

fn table(found: &[DeadLetter], more: bool) -> String {
    let mut table =
        plain_table(&["REGION", "PARTITION", "OFFSET", "TIME", "ORIGIN", "TARGET", "BYTES", "VALUE", "REASON"]);
    for letter in found {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let time = jiff::Timestamp::from_millisecond(letter.timestamp_ms);
        table.add_row([
            letter.region.clone(),
            letter.partition.to_string(),
            letter.offset.to_string(),
            time.map_or_else(|_| "-".to_owned(), |time| time.to_string()),
            text(&letter.origin),
            text(&letter.target),
            letter.size_bytes.to_string(),
            (if letter.has_value { "kept" } else { "not kept" }).to_owned(),
            text(&letter.reason),
        ]);
    }
    let more = if more { "\nThere are more: raise --limit." } else { "" };
    format!("{}{more}", lines(&table))
}

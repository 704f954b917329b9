//! `pause`, `resume`, `links seek`, `links accept-gap`: what an operator orders of a link. Checked against the plan,
//! written into the control topic of the link's target region, and awaited there.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::broker::Class;
use crate::cli::ask;
use crate::cli::operator::{self, FAILED, Operator, TIMED_OUT, WRONG_USAGE, did_you_mean, refuse};
use crate::control::ControlLog;
use crate::control::entry::OrderAction;
use crate::control::orders::{self, Outcome, Scope, Stream, Target};
use crate::control::status::PartitionStatus;
use crate::model::names::{RegionName, TopicName, TopicPartition};
use crate::model::time::parse_time;

/// How long a bridge is waited for.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// A link, written `FROM:TO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    from: RegionName,
    to: RegionName,
}

impl std::str::FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() && !to.contains(':') => {
                Ok(Self { from: from.into(), to: to.into() })
            }
            _ => Err("a link is written FROM:TO, for example hz:sh".to_owned()),
        }
    }
}

/// Which part of a link `pause` and `resume` mean.
#[derive(Clone, Debug, clap::Args)]
pub struct PauseArgs {
    /// The link, `FROM:TO`
    #[arg(long, value_name = "FROM:TO")]
    pub link: Link,
    /// Only this topic of it
    #[arg(long)]
    pub topic: Option<String>,
    /// Only this partition of the topic
    #[arg(long, requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// Do not wait until the bridge has done it
    #[arg(long)]
    pub no_wait: bool,
}

/// One partition of a link's topic.
#[derive(Clone, Debug, clap::Args)]
pub struct StreamArgs {
    /// The link, `FROM:TO`
    #[arg(long, value_name = "FROM:TO")]
    pub link: Link,
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// The partition
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: i32,
    /// Do not wait until the bridge has done it
    #[arg(long)]
    pub no_wait: bool,
}

/// `links …`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Go on copying one partition at another source offset
    #[command(after_help = "Examples:
  longshore links seek --link hz:sh --topic order-events --partition 3 --offset 1200
  longshore links seek --link hz:sh --topic order-events --partition 3 --to -15m

Going back copies again what was copied before: readers see those records twice.")]
    Seek(SeekArgs),
    /// Give up the records that the source has lost, and go on behind them
    #[command(after_help = "Example:
  longshore links accept-gap --link hz:sh --topic order-events --partition 3")]
    AcceptGap(StreamArgs),
}

/// Where to go on.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["offset", "to"])))]
pub struct SeekArgs {
    /// Which stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// The next source offset to be read
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
    pub offset: Option<i64>,
    /// `earliest`, `latest`, or a time: RFC 3339, milliseconds since the epoch, or `-15m`
    #[arg(long, allow_hyphen_values = true, value_name = "earliest|latest|TIME")]
    pub to: Option<String>,
}

/// Why a command was refused: its exit code, the reason, a hint.
type Refusal = (u8, String, Option<String>);

/// `links seek`, `links accept-gap`.
pub fn run(operator: &Operator<'_>, command: &Command) -> anyhow::Result<ExitCode> {
    finish(match command {
        Command::Seek(arguments) => seek(operator, arguments),
        Command::AcceptGap(arguments) => accept_gap(operator, arguments),
    })
}

/// `pause --link …`
pub fn pause(operator: &Operator<'_>, arguments: &PauseArgs) -> anyhow::Result<ExitCode> {
    finish(set_paused(operator, arguments, true))
}

/// `resume --link …`
pub fn resume(operator: &Operator<'_>, arguments: &PauseArgs) -> anyhow::Result<ExitCode> {
    finish(set_paused(operator, arguments, false))
}

fn finish(outcome: Result<anyhow::Result<ExitCode>, Refusal>) -> anyhow::Result<ExitCode> {
    outcome.unwrap_or_else(|(code, why, hint)| Ok(refuse(code, &why, hint.as_deref())))
}

fn seek(operator: &Operator<'_>, arguments: &SeekArgs) -> Result<anyhow::Result<ExitCode>, Refusal> {
    let stream = stream(operator, &arguments.stream)?;
    let target = target(arguments)?;
    let partition = TopicPartition::new(&stream.topic, stream.partition);
    let source = (operator.open)(&stream.from).map_err(failed)?;
    let offset = orders::offset_of(&*source, &partition, target).map_err(|error| match error.class {
        Class::Rejected | Class::Missing => (WRONG_USAGE, error.to_string(), None),
        _ => failed(error),
    })?;
    let log = operator.control(&stream.to).map_err(failed)?;
    give_order(operator, &log, &stream, OrderAction::Seek { offset }, arguments.stream.no_wait)
}

fn target(arguments: &SeekArgs) -> Result<Target, Refusal> {
    match (arguments.offset, arguments.to.as_deref()) {
        (Some(offset), _) => Ok(Target::Offset(offset)),
        (None, Some("earliest")) => Ok(Target::Earliest),
        (None, Some("latest")) => Ok(Target::Latest),
        (None, Some(time)) => {
            let at_ms = parse_time(time, operator::now_ms());
            at_ms.map(Target::Time).map_err(|why| (WRONG_USAGE, why.to_string(), None))
        }
        (None, None) => Err((WRONG_USAGE, "say --offset or --to".to_owned(), None)),
    }
}

fn accept_gap(operator: &Operator<'_>, arguments: &StreamArgs) -> Result<anyhow::Result<ExitCode>, Refusal> {
    let stream = stream(operator, arguments)?;
    let log = operator.control(&stream.to).map_err(failed)?;
    let region = orders::status_of(&log, operator::now_ms());
    let known = orders::stream_status(&region, &stream);
    if !known.is_some_and(orders::has_acceptable_stop) {
        let state = known.map_or_else(|| "not known to any running bridge".to_owned(), described);
        let why = format!("{} is not stopped by lost records: it is {state}", shown(&stream));
        return Err((FAILED, why, Some("`longshore status` shows the state of every link".to_owned())));
    }
    give_order(operator, &log, &stream, OrderAction::AcceptGap, arguments.no_wait)
}

/// Writes the order, waits for it, tells what became of it.
fn give_order(
    operator: &Operator<'_>,
    log: &ControlLog,
    stream: &Stream,
    action: OrderAction,
    no_wait: bool,
) -> Result<anyhow::Result<ExitCode>, Refusal> {
    let now_ms = operator::now_ms();
    let id = orders::order(log, stream, action.clone(), &operator::who(), now_ms).map_err(failed)?;
    let outcome = (!no_wait).then(|| orders::await_order(log, stream, &id, APPLY_TIMEOUT, operator::now_ms));
    let ordered = match action {
        OrderAction::Seek { offset } => format!("{}: to go on at offset {offset}", shown(stream)),
        OrderAction::AcceptGap => format!("{}: to go on behind the gap", shown(stream)),
    };
    Ok(tell(operator, &ordered, Some(&id), outcome))
}

fn set_paused(
    operator: &Operator<'_>,
    arguments: &PauseArgs,
    paused: bool,
) -> Result<anyhow::Result<ExitCode>, Refusal> {
    let PauseArgs { link, topic, partition, no_wait } = arguments;
    let topic = check(operator, link, topic.as_deref())?;
    let scope = Scope { from: link.from.clone(), to: link.to.clone(), topic, partition: *partition };
    let log = match operator.control(&scope.to) {
        Ok(log) => log,
        Err(error) => return ask_bridge(operator, &scope, paused).ok_or_else(|| failed(error)),
    };
    let ordered = if paused {
        orders::pause(&log, &scope, &operator::who(), operator::now_ms()).map_err(failed)?;
        format!("{}: to pause", scope_shown(&scope))
    } else {
        let resumed = orders::resume(&log, &scope).map_err(failed)?;
        if let Some(wider) = resumed.still.first() {
            let why = format!("{} goes on being paused by a wider pause: {wider}", scope_shown(&scope));
            return Err((FAILED, why, Some("resume that one".to_owned())));
        }
        format!("{}: to resume, pauses ended: {}", scope_shown(&scope), resumed.ended.len())
    };
    let outcome = (!no_wait).then(|| orders::await_paused(&log, &scope, paused, APPLY_TIMEOUT, operator::now_ms));
    Ok(tell(operator, &ordered, None, outcome))
}

/// Embedded clusters are open in the bridge's process alone: then the bridge is asked to do it. `None` when it does not.
fn ask_bridge(operator: &Operator<'_>, scope: &Scope, paused: bool) -> Option<anyhow::Result<ExitCode>> {
    let Scope { from, to, topic, partition } = scope;
    let what = json!({
        "from": from.as_str(), "to": to.as_str(), "topic": topic.as_ref().map(TopicName::as_str), "partition": partition,
    });
    let (path, word) = if paused { ("pause", "to pause") } else { ("resume", "to resume") };
    let answer = ask::post(operator.bridge, &format!("/api/v1/links/{path}"), &what, operator.token).ok()?;
    let ordered = format!("{}: {word}", scope_shown(scope));
    (answer.code == 200).then(|| tell(operator, &ordered, None, None))
}

fn tell(
    operator: &Operator<'_>,
    ordered: &str,
    id: Option<&str>,
    outcome: Option<Outcome>,
) -> anyhow::Result<ExitCode> {
    let (word, code, partitions) = match outcome {
        None => ("written", ExitCode::SUCCESS, Vec::new()),
        Some(Outcome::Applied(partitions)) => ("applied", ExitCode::SUCCESS, partitions),
        Some(Outcome::NoBridge) => {
            ("written; no bridge runs there: applied when one starts", ExitCode::SUCCESS, Vec::new())
        }
        Some(Outcome::NotYet) => {
            ("written, but not applied yet: see `longshore status`", ExitCode::from(TIMED_OUT), Vec::new())
        }
    };
    let value = json!({ "ordered": ordered, "id": id, "outcome": word, "partitions": partitions });
    operator.answer(&value, || {
        let mut text = format!("{ordered}: {word}");
        for partition in &partitions {
            text.push_str(&format!("\n  partition {}: {}", partition.beat.partition, described(partition)));
        }
        text
    })?;
    Ok(code)
}

fn described(partition: &PartitionStatus) -> String {
    let mut text = partition.beat.state.clone();
    if let Some(reason) = &partition.beat.reason {
        text.push_str(&format!(" ({reason})"));
    }
    if let Some(position) = partition.beat.position {
        text.push_str(&format!(", at offset {position}"));
    }
    text
}

fn shown(stream: &Stream) -> String {
    format!("{}:{} {}/{}", stream.from, stream.to, stream.topic, stream.partition)
}

fn scope_shown(scope: &Scope) -> String {
    let mut text = format!("{}:{}", scope.from, scope.to);
    if let Some(topic) = &scope.topic {
        text.push_str(&format!(" {topic}"));
    }
    if let Some(partition) = scope.partition {
        text.push_str(&format!("/{partition}"));
    }
    text
}

fn failed(error: crate::broker::Error) -> Refusal {
    (FAILED, error.to_string(), None)
}

fn stream(operator: &Operator<'_>, arguments: &StreamArgs) -> Result<Stream, Refusal> {
    let topic = check(operator, &arguments.link, Some(&arguments.topic))?;
    let topic = topic.unwrap_or_else(|| TopicName::new(&arguments.topic));
    let Link { from, to } = arguments.link.clone();
    Ok(Stream { from, to, topic, partition: arguments.partition })
}

/// The topic as the link names it, if it carries it; else why not.
fn check(operator: &Operator<'_>, link: &Link, topic: Option<&str>) -> Result<Option<TopicName>, Refusal> {
    for region in [&link.from, &link.to] {
        if !operator.regions.contains(region) {
            let hint = did_you_mean(region.as_str(), operator.regions.iter().map(RegionName::as_str));
            return Err((WRONG_USAGE, format!("no region `{region}`"), Some(hint)));
        }
    }
    let name = format!("{}:{}", link.from, link.to);
    let carried: Vec<&TopicName> = operator
        .copies
        .iter()
        .filter(|copy| copy.from == link.from && copy.to == link.to)
        .map(|copy| &copy.source_topic)
        .collect();
    if carried.is_empty() {
        let mut links: Vec<String> = operator.copies.iter().map(|copy| format!("{}:{}", copy.from, copy.to)).collect();
        links.dedup();
        let hint = format!("links: {}", links.join(", "));
        return Err((WRONG_USAGE, format!("nothing is copied over {name}"), Some(hint)));
    }
    let Some(topic) = topic else { return Ok(None) };
    match carried.iter().find(|carried| carried.as_str() == topic) {
        Some(carried) => Ok(Some((*carried).clone())),
        None => {
            let hint = did_you_mean(topic, carried.iter().map(|carried| carried.as_str()));
            Err((WRONG_USAGE, format!("{name} does not carry a topic `{topic}`"), Some(hint)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan::Copy;

    fn copy(topic: &str, from: &str, to: &str) -> Copy {
        Copy {
            topic: topic.into(),
            from: from.into(),
            to: to.into(),
            source_topic: topic.into(),
            target_topic: topic.into(),
            origins: vec![from.into()],
            because: Vec::new(),
        }
    }

    fn checked(link: &str, topic: Option<&str>) -> Result<Option<TopicName>, Refusal> {
        let regions = [RegionName::new("hz"), RegionName::new("sh"), RegionName::new("sz")];
        let copies = [copy("order-events", "hz", "sh"), copy("clicks", "hz", "sh"), copy("clicks", "sh", "hz")];
        let operator = Operator {
            regions: &regions,
            copies: &copies,
            open: &|_| unreachable!("nothing is opened"),
            creation: &|_| None,
            secret: None,
            bridge: ([127, 0, 0, 1], 9464).into(),
            token: None,
            json: false,
        };
        check(&operator, &link.parse().expect("a link"), topic)
    }

    #[test]
    fn what_the_plan_does_not_know_is_refused_with_a_hint() {
        assert_eq!(checked("hz:sh", None), Ok(None));
        assert_eq!(checked("hz:sh", Some("clicks")), Ok(Some("clicks".into())));
        let refusals = [
            (checked("hx:sh", None), "no region `hx`", "did you mean `hz`?"),
            (checked("hz:sz", None), "nothing is copied over hz:sz", "links: hz:sh, sh:hz"),
            (checked("hz:sh", Some("click")), "hz:sh does not carry a topic `click`", "did you mean `clicks`?"),
        ];
        for (refusal, why, hint) in refusals {
            assert_eq!(refusal, Err((WRONG_USAGE, why.to_owned(), Some(hint.to_owned()))));
        }
    }

    #[test]
    fn a_link_is_two_names() {
        assert!("hz:sh".parse::<Link>().is_ok());
        for wrong in ["", "hz", "hz:", ":sh", "a:b:c"] {
            assert!(wrong.parse::<Link>().is_err(), "{wrong}");
        }
    }
}

//! `owner` and `rules show`: what the rule files say. Opens no broker.

use std::collections::BTreeMap;
use std::process::ExitCode;

use comfy_table::{Cell, CellAlignment, Table as Grid, presets};
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::policy::rules::{By, Hash, RuleSet, Table};

/// Whose key it is.
#[derive(Clone, Debug, clap::Args)]
pub struct OwnerArgs {
    /// The routing key
    #[arg(allow_hyphen_values = true)]
    key: String,
    /// The rule set; may be left out when there is one only. `center` is built in
    #[arg(long, value_name = "NAME")]
    rules: Option<String>,
    /// Refuse to answer by another epoch than this
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
}

/// What to do with rule sets.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Show which share of the keys each region owns
    #[command(after_help = "Examples:
  longshore rules show
  longshore rules show -o json | jq '.rules[0].regions'")]
    Show,
}

/// Runs `rules …`.
pub fn run(context: &Context, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Show => show(&context.load()?, context),
    }
}

/// The built-in rule set: its whole keyspace belongs to the center.
const CENTER: &str = "center";

/// Says which region owns a key, and by which line.
pub fn owner(context: &Context, arguments: &OwnerArgs) -> Result<ExitCode, Failure> {
    let config = context.load()?;
    let OwnerArgs { key, rules, epoch } = arguments;
    if rules.as_deref() == Some(CENTER) {
        if epoch.is_some() {
            return Err(Failure::usage("the built-in rule set `center` has no epoch in the files"));
        }
        let region = config.deployment.center.as_str();
        let value =
            json!({"key": key, "rules": CENTER, "epoch": null, "region": region, "by": "the center owns every key"});
        context.answer(&value, || format!("{region} owns it: the center owns every key"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let set = chosen(&config.rules, rules.as_deref())?;
    if let Some(epoch) = epoch.filter(|epoch| *epoch != set.epoch) {
        return Err(Failure::usage(format!("{} is epoch {} of `{}`, not {epoch}", set.file, set.epoch, set.name)));
    }
    let table = Table::new(set);
    let found = table.owner(key.as_bytes());
    let by = format!("{}:{}: {}", set.file, found.line, said(&found.by, set.hash));
    let region = found.region.as_str();
    let value = json!({"key": key, "rules": set.name, "epoch": set.epoch, "region": region, "by": by});
    context.answer(&value, || format!("{region} owns it, by {by}"))?;
    Ok(ExitCode::SUCCESS)
}

fn chosen<'c>(sets: &'c [RuleSet], name: Option<&str>) -> Result<&'c RuleSet, Failure> {
    let names = || sets.iter().map(|set| format!("`{}`", set.name)).collect::<Vec<_>>().join(", ");
    match (sets, name) {
        ([], _) => Err(Failure::usage("there is no rule set").hint("rule files stand in the folder `rules`")),
        ([only], None) => Ok(only),
        (_, None) => Err(Failure::usage("there are several rule sets").hint(format!("--rules, one of {}", names()))),
        (_, Some(name)) => sets.iter().find(|set| set.name == name).ok_or_else(|| {
            Failure::usage(format!("there is no rule set `{name}`")).hint(format!("rule sets: {}", names()))
        }),
    }
}

/// A rule in words. Keys are payload: none is repeated here.
fn said(by: &By<'_>, hash: Hash) -> String {
    match by {
        By::Exact => "exact".to_owned(),
        By::Prefix(prefix) => format!("prefix `{}`", String::from_utf8_lossy(prefix)),
        By::Range(from, to) => format!("range {from} to {to}"),
        By::Slot(slot, first, last) => {
            let how = if slot.fell_back { "crc32, for the key is no integer:" } else { label(hash) };
            format!("slots {first}-{last} ({how} slot {})", slot.number)
        }
    }
}

const fn label(hash: Hash) -> &'static str {
    match hash {
        Hash::Crc32 => "crc32",
        Hash::Mod => "mod",
    }
}

/// What a region owns.
#[derive(Clone, Copy, Default)]
struct Share {
    slots: u32,
    exact: usize,
    prefix: usize,
    range: usize,
}

fn shares(set: &RuleSet) -> BTreeMap<&str, Share> {
    let mut shares: BTreeMap<&str, Share> = BTreeMap::new();
    for (first, last, owner) in &set.assign {
        shares.entry(owner.region.as_str()).or_default().slots += last - first + 1;
    }
    set.exact.values().for_each(|owner| shares.entry(owner.region.as_str()).or_default().exact += 1);
    set.prefix.values().for_each(|owner| shares.entry(owner.region.as_str()).or_default().prefix += 1);
    set.range.iter().for_each(|(.., owner)| shares.entry(owner.region.as_str()).or_default().range += 1);
    shares
}

fn show(config: &Config, context: &Context) -> Result<ExitCode, Failure> {
    let value: Vec<_> = config
        .rules
        .iter()
        .map(|set| {
            let region = |share: &Share| {
                json!({"slots": share.slots, "exact": share.exact, "prefix": share.prefix, "range": share.range})
            };
            let regions: BTreeMap<_, _> = shares(set).iter().map(|(name, share)| (*name, region(share))).collect();
            json!({
                "rules": set.name, "file": set.file, "epoch": set.epoch, "slots": set.slots, "hash": label(set.hash),
                "regions": regions,
            })
        })
        .collect();
    context.answer(&json!({ "rules": value }), || grid(&config.rules))?;
    Ok(ExitCode::SUCCESS)
}

fn grid(sets: &[RuleSet]) -> String {
    if sets.is_empty() {
        return "no rule set".to_owned();
    }
    let mut grid = Grid::new();
    grid.load_preset(presets::NOTHING);
    grid.set_header(["RULES", "EPOCH", "HASH", "REGION", "SLOTS", "SHARE", "EXACT", "PREFIX", "RANGE"]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for set in sets {
        for (region, share) in shares(set) {
            let percent = f64::from(share.slots) * 100.0 / f64::from(set.slots);
            grid.add_row([
                Cell::new(&set.name),
                right(set.epoch.to_string()),
                Cell::new(label(set.hash)),
                Cell::new(region),
                right(share.slots.to_string()),
                right(format!("{percent:.2} %")),
                right(share.exact.to_string()),
                right(share.prefix.to_string()),
                right(share.range.to_string()),
            ]);
        }
    }
    grid.trim_fmt()
}

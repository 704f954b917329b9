//! `plan`: what would run, without opening a broker. For people, for programs, as a picture.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;

use crate::cli::context::{Context, json};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::status::{lines, plain_table};
use crate::model::names::RegionName;
use crate::policy::plan::{Copy, Cost, copies, costs, creates, deliveries, shown};
use crate::policy::proof::{Proof, notes, proofs};
use crate::policy::subscription::{Deployment, Mode};

/// How to show it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The form of the plan; `-o json` is `--format json`
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// A picture, in the language of mermaid.js
    Mermaid,
}

/// Shows the plan. A plan that cannot be proved fails after it was shown.
pub fn run(context: &Context, arguments: &Args) -> Result<ExitCode, Failure> {
    let config = context.load()?;
    let deployment = &config.deployment;
    let format = arguments.format.unwrap_or(match context.output {
        Output::Table => Format::Table,
        Output::Json => Format::Json,
    });
    let proofs = proofs(deployment);
    let text = match format {
        Format::Table => table(deployment, &proofs),
        Format::Json => json(&shown(deployment))?,
        Format::Mermaid => mermaid(deployment),
    };
    output::print(&format!("{}\n", text.trim_end()))?;
    match proofs.iter().find(|proof| !proof.holds()) {
        None => Ok(ExitCode::SUCCESS),
        Some(proof) => {
            Err(Failure::run_time(format!("the plan breaks its promise: {}", proof.claim))
                .hint(proof.against.join("; ")))
        }
    }
}

fn table(deployment: &Deployment, proofs: &[Proof]) -> String {
    let mut text = String::from("COPIES\n");
    let copies = copies(deployment);
    if copies.is_empty() {
        text.push_str("Nothing is copied: no group consumes records of another region.\n");
    } else {
        text.push_str(&copies_table(&copies));
    }
    text.push_str("\nDELIVERIES: what each group subscribes to\n");
    let mut table = plain_table(&["REGION", "TOPIC", "GROUP", "MODE", "READS", "GETS"]);
    for delivery in deliveries(deployment) {
        let gets = gets(deployment, delivery.mode, &delivery.region);
        let cells = [delivery.region.to_string(), delivery.topic.to_string(), delivery.group.to_string()];
        table.add_row(cells.into_iter().chain([delivery.mode.as_str().to_owned(), delivery.reads.to_string(), gets]));
    }
    text.push_str(&format!("{}\n\nTOPICS that have to exist\n", lines(&table)));
    let mut topics: BTreeMap<(String, i32), Vec<String>> = BTreeMap::new();
    for create in creates(deployment) {
        topics.entry((create.topic.to_string(), create.partitions)).or_default().push(create.region.to_string());
    }
    let mut table = plain_table(&["TOPIC", "PARTITIONS", "IN"]);
    for ((topic, partitions), regions) in topics {
        table.add_row([topic, partitions.to_string(), regions.join(", ")]);
    }
    text.push_str(&format!("{}\n\nCOST\n", lines(&table)));
    costs(deployment).iter().for_each(|cost| text.push_str(&cost_line(cost)));
    text.push_str("\nPROVED\n");
    for proof in proofs {
        let word = if proof.holds() { "yes" } else { "NO " };
        text.push_str(&format!("{word} {} ({} cases)\n", proof.claim, proof.cases));
        proof.against.iter().for_each(|against| text.push_str(&format!("    {against}\n")));
    }
    let notes = notes(deployment, &BTreeSet::new());
    if !notes.is_empty() {
        text.push_str(&format!("\nNOTES\n{}\n", notes.join("\n")));
    }
    text
}

fn copies_table(copies: &[Copy]) -> String {
    // Names that never differ from the topic's would only be in the way.
    let renames = copies.iter().any(|copy| copy.target_topic != copy.topic || copy.source_topic != copy.topic);
    let forwards = copies.iter().any(|copy| copy.origins != std::slice::from_ref(&copy.from));
    let mut head = vec!["TOPIC", "FROM", "TO"];
    head.extend(renames.then_some(["READS", "WRITES"]).into_iter().flatten());
    head.extend(forwards.then_some("BORN IN"));
    head.push("BECAUSE OF");
    let mut table = plain_table(&head);
    for copy in copies {
        let mut row = vec![copy.topic.to_string(), copy.from.to_string(), copy.to.to_string()];
        if renames {
            row.extend([copy.source_topic.to_string(), copy.target_topic.to_string()]);
        }
        if forwards {
            row.push(joined(&copy.origins));
        }
        row.push(joined(&copy.because));
        table.add_row(row);
    }
    format!("{}\n", lines(&table))
}

fn joined(names: &[impl ToString]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What of a topic a group is handed in a region.
fn gets(deployment: &Deployment, mode: Mode, region: &RegionName) -> String {
    match mode {
        Mode::Center if *region == deployment.center => "all".to_owned(),
        Mode::Center if deployment.standby.contains(region) => "all, once it is the center".to_owned(),
        Mode::Center => "nothing".to_owned(),
        Mode::Nearby => format!("what is born in {region}"),
        Mode::Unit => format!("the keys of {region}"),
        Mode::AllUnit => "all".to_owned(),
    }
}

fn cost_line(cost: &Cost) -> String {
    let Cost { topic, born_in, copied_to } = cost;
    match copied_to.len() {
        0 => format!("one record of `{topic}` produced in {born_in} is stored once\n"),
        copies => {
            let times = if copies == 1 { "twice".to_owned() } else { format!("{} times", copies + 1) };
            format!(
                "one record of `{topic}` produced in {born_in} is stored {times}: there and in {}\n",
                joined(copied_to)
            )
        }
    }
}

/// One arrow per link, with the topics that it carries.
fn mermaid(deployment: &Deployment) -> String {
    let mut text = String::from("flowchart LR\n");
    for (number, region) in deployment.regions.iter().enumerate() {
        let role = if *region == deployment.center {
            "<br/>center"
        } else if deployment.standby.contains(region) {
            "<br/>standby"
        } else {
            ""
        };
        writeln!(text, "    r{number}[(\"{region}{role}\")]").ok();
    }
    let number = |region: &RegionName| deployment.regions.iter().position(|known| known == region).unwrap_or_default();
    let mut links: BTreeMap<(usize, usize), BTreeSet<String>> = BTreeMap::new();
    for copy in copies(deployment) {
        links.entry((number(&copy.from), number(&copy.to))).or_default().insert(copy.topic.to_string());
    }
    for ((from, to), topics) in links {
        let topics: Vec<String> = topics.into_iter().collect();
        writeln!(text, "    r{from} -- \"{}\" --> r{to}", topics.join("<br/>")).ok();
    }
    text
}

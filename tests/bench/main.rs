//! `make bench`: what copying costs, on two real clusters in one run: Longshore, a bare loop of the same client calls,
//! and MirrorMaker 2.
//!
//! Two measurements. *Cost*: a topic is filled, then the copier is started and followed to the end: CPU seconds of its
//! process per million records (steady: behind a warm-up; whole: start-up included) and its peak memory. *Latency*: at a
//! fixed rate, from produce to a read_committed reader. The copier is always a process of its own; every system copies a
//! topic of its own, from the same clusters, one after the other. Writes a table and JSON to `target/bench`.
//!
//! `cargo bench --bench bench -- [--quick] [--only cost|latency] [--systems a,b] [--sizes 200,1024] [--rounds N]`

#[path = "../it/harness/mod.rs"]
mod harness;

mod cost;
mod latency;
mod load;
mod report;
mod systems;

use harness::clusters::{self, Clusters};
use systems::System;

/// What is measured.
pub struct Plan {
    /// In order.
    pub systems: Vec<System>,
    /// Value bytes of each record.
    pub sizes: Vec<usize>,
    /// Cost is measured this often; the median counts.
    pub rounds: usize,
    /// Whether to measure it.
    pub cost: bool,
    /// Whether to measure it.
    pub latency: bool,
    /// A tenth of everything: to see that it works, not to quote.
    pub quick: bool,
}

/// Of every topic.
pub const PARTITIONS: i32 = 6;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|it| it == systems::BARE) {
        return systems::run_bare(&arguments[1..]);
    }
    let plan = parse(&arguments);
    let settings = ["log.segment.delete.delay.ms=1000", "log.retention.check.interval.ms=5000"].map(str::to_owned);
    let options = clusters::Options { settings: settings.into(), ..clusters::Options::default() };
    let Some(clusters) = clusters::own(&["src", "dst"], &options) else { return };
    let mut report = report::Report::default();
    if plan.cost {
        measure_cost(&plan, &clusters, &mut report);
    }
    if plan.latency {
        measure_latency(&plan, &clusters, &mut report);
    }
    report.write(&plan);
}

fn measure_cost(plan: &Plan, clusters: &Clusters, report: &mut report::Report) {
    for &size in &plan.sizes {
        // Rounds outside, systems inside: what the machine does meanwhile hits all of them alike.
        for round in 0..plan.rounds {
            for &system in plan.systems.iter().filter(|it| it.has_cost()) {
                eprint!("cost, {size} B, {} ({}/{}) … ", system.name(), round + 1, plan.rounds);
                let cost = cost::measure(clusters, system, size, plan.quick);
                eprintln!(
                    "{:.2} CPU-s/M steady, {:.2} whole, {:.0} MiB, {:.0} k records/s",
                    cost.steady,
                    cost.whole,
                    cost.peak_rss_mib,
                    cost.records_per_second / 1000.0
                );
                report.costs.push(cost);
            }
        }
    }
}

fn measure_latency(plan: &Plan, clusters: &Clusters, report: &mut report::Report) {
    for &system in plan.systems.iter().filter(|it| it.has_latency()) {
        eprint!("latency, {} … ", system.name());
        let latency = latency::measure(clusters, system, plan.quick);
        eprintln!("p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms", latency.p50_ms, latency.p90_ms, latency.p99_ms);
        report.latencies.push(latency);
    }
}

fn parse(arguments: &[String]) -> Plan {
    let mut plan = Plan {
        systems: System::ALL.to_vec(),
        sizes: vec![200, 1024],
        rounds: 3,
        cost: true,
        latency: true,
        quick: false,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().unwrap_or_else(|| panic!("{argument} wants a value"));
        match argument.as_str() {
            "--bench" => {}
            "--quick" => (plan.quick, plan.rounds) = (true, 1),
            "--only" => {
                let only = value();
                (plan.cost, plan.latency) = (only == "cost", only == "latency");
            }
            "--rounds" => plan.rounds = value().parse().expect("a number"),
            "--sizes" => plan.sizes = value().split(',').map(|it| it.parse().expect("bytes")).collect(),
            "--systems" => {
                let named = |name: &str| System::ALL.into_iter().find(|it| it.name() == name);
                let find = |name| named(name).unwrap_or_else(|| panic!("no system {name}; {:?}", System::ALL));
                plan.systems = value().split(',').map(find).collect();
            }
            other => panic!("unknown argument {other}"),
        }
    }
    plan
}

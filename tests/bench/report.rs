//! The table and the JSON: medians over the rounds, and ratios to the bare loop and to MirrorMaker 2.

use std::fmt::Write as _;

use crate::Plan;
use crate::cost::Cost;
use crate::latency::Latency;
use crate::systems::System;

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    /// One for each round.
    pub costs: Vec<Cost>,
    /// One for each system.
    pub latencies: Vec<Latency>,
}

impl Report {
    fn median(&self, system: System, size: usize, of: impl Fn(&Cost) -> f64) -> Option<f64> {
        let runs = self.costs.iter().filter(|it| it.system == system.name() && it.size == size);
        let mut values: Vec<f64> = runs.map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// How many times the steady CPU of `system` goes into that of `other`.
    fn ratio(&self, system: System, other: System, size: usize) -> Option<f64> {
        Some(self.median(system, size, |it| it.steady)? / self.median(other, size, |it| it.steady)?)
    }

    /// Prints the table and writes both files.
    pub fn write(&self, plan: &Plan) {
        let table = self.table(plan);
        println!("{table}");
        let folder = crate::harness::sources().join("target/bench");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("results.md"), &table).expect("written");
        let json = serde_json::to_string_pretty(&self.json(plan)).expect("plain values");
        std::fs::write(folder.join("results.json"), json + "\n").expect("written");
        println!("written to {}", folder.display());
    }

    fn table(&self, plan: &Plan) -> String {
        let mut text = String::new();
        let mut line = |it: String| writeln!(text, "{it}").expect("a string");
        line(format!("{}{} cores", if plan.quick { "QUICK RUN, not to be quoted. " } else { "" }, cores()));
        for &size in plan.sizes.iter().filter(|_| plan.cost) {
            line(format!("\n{size} B values, 6 partitions, median of {} runs\n", plan.rounds));
            line("| system | CPU-s/M steady | ÷ bare loop | CPU-s/M with start-up | peak RSS MiB | records/s |".into());
            line("|---|---|---|---|---|---|".into());
            for &system in plan.systems.iter().filter(|it| it.has_cost()) {
                let number = |of: fn(&Cost) -> f64, digits| shown(self.median(system, size, of), digits);
                line(format!(
                    "| {} | {} | {} | {} | {} | {} |",
                    system.name(),
                    number(|it| it.steady, 2),
                    shown(self.ratio(system, System::Bare, size), 2),
                    number(|it| it.whole, 2),
                    number(|it| it.peak_rss_mib, 0),
                    number(|it| it.records_per_second, 0),
                ));
            }
            let than = |system, digits| shown(self.ratio(System::MirrorTunedExactlyOnce, system, size), digits);
            line(format!(
                "\nTuned exactly-once MirrorMaker 2 takes {} times the CPU of Longshore exactly once.",
                than(System::ExactlyOnce, 1)
            ));
        }
        if plan.latency {
            line("\nFrom produce to a read_committed reader at 2,000 records/s of 200 B\n".into());
            line("| system | p50 ms | p90 ms | p99 ms |".into());
            line("|---|---|---|---|".into());
            for it in &self.latencies {
                line(format!("| {} | {:.1} | {:.1} | {:.1} |", it.system, it.p50_ms, it.p90_ms, it.p99_ms));
            }
        }
        text
    }

    fn json(&self, plan: &Plan) -> serde_json::Value {
        let ratios: Vec<_> = plan
            .sizes
            .iter()
            .map(|&size| {
                let mirror = System::MirrorTunedExactlyOnce;
                serde_json::json!({
                    "size": size,
                    "at_least_once_to_bare": self.ratio(System::AtLeastOnce, System::Bare, size),
                    "exactly_once_to_bare": self.ratio(System::ExactlyOnce, System::Bare, size),
                    "mm2_tuned_exactly_once_to_exactly_once": self.ratio(mirror, System::ExactlyOnce, size),
                })
            })
            .collect();
        serde_json::json!({
            "quick": plan.quick,
            "cores": cores(),
            "costs": self.costs,
            "latencies": self.latencies,
            "ratios": ratios,
        })
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".into(), |it| format!("{it:.digits$}"))
}

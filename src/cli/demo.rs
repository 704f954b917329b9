//! `longshore demo`: three regions on the embedded broker in one process. It produces, copies, stops a bridge in the
//! middle and starts it again, explains each step, and ends with a summary computed by reading the logs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::app;
use crate::broker::{NewTopic, SharedCluster};
use crate::cli::output;
use crate::clock::{SharedClock, SystemClock};
use crate::config::Config;
use crate::control::api::{self, Admin};
use crate::model::names::{RegionName, TopicName, TopicPartition};
use crate::model::record::{Header, Headers, NewRecord};
use crate::policy::plan;
use crate::policy::subscription::Topic;
use crate::runtime::bridge::Bridge;
use crate::telemetry::metrics::Metrics;

mod summary;

use summary::Summary;

/// Records produced per region: orders, clicks.
const PRODUCED: [(&str, usize); 2] = [("orders", 2_000), ("clicks", 1_000)];
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

const FILES: [(&str, &str); 4] = [
    ("longshore.yaml", include_str!("../../examples/quickstart/longshore.yaml")),
    ("topics/orders.yaml", include_str!("../../topics/orders.yaml")),
    ("topics/clicks.yaml", include_str!("../../topics/clicks.yaml")),
    ("rules/buyers.yaml", include_str!("../../examples/quickstart/rules/buyers.yaml")),
];

/// Runs the demo; `keep`: until a signal, with the HTTP endpoint to play with.
pub fn run(keep: bool) -> anyhow::Result<ExitCode> {
    let dir = tempfile::Builder::new().prefix("longshore-demo-").tempdir().context("make a folder for the demo")?;
    let config = write_files(dir.path())?;
    let mut demo = Demo::open(config)?;
    demo.show_plan();
    demo.make_topics()?;
    demo.start_all()?;
    demo.produce_and_restart()?;
    demo.wait_until_copied()?;
    demo.follow_one_record()?;
    let summary = demo.summarise()?;
    if keep {
        demo.keep(dir.path())?;
    }
    demo.stop()?;
    Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The example's files in a folder of the demo's own, so that it runs from anywhere.
fn write_files(dir: &Path) -> anyhow::Result<Config> {
    for (name, text) in FILES {
        let path = dir.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = text.replace("../../topics", "./topics");
        let text = if name == "longshore.yaml" {
            format!("{text}\nstate_dir: {}\n", dir.join("state").display())
        } else {
            text
        };
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(Config::load(&dir.join("longshore.yaml"))?)
}

struct Demo {
    config: Config,
    clusters: BTreeMap<RegionName, SharedCluster>,
    bridges: BTreeMap<RegionName, Bridge>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

/// One line of the explanation.
fn say(text: &str) {
    // Whoever closed the pipe has seen enough; the demo still ends in order.
    output::print(&format!("{text}\n")).ok();
}

fn step(number: usize, text: &str) {
    say(&format!("\n{number}. {text}"));
}

impl Demo {
    fn open(config: Config) -> anyhow::Result<Self> {
        say(
            "Longshore demo: three regions, hz (the center), sh and bj, each with a cluster of its own (the embedded broker).",
        );
        let clusters = app::connect(&config)?;
        let metrics = Metrics::new(&config.deployment.center);
        Ok(Self { config, clusters, bridges: BTreeMap::new(), metrics, clock: SystemClock::start() })
    }

    fn show_plan(&self) {
        step(1, "What is copied follows from who consumes what (topics/*.yaml); nobody lists it:");
        for topic in &self.config.deployment.topics {
            let groups: Vec<String> =
                topic.subscriptions.iter().map(|group| format!("{} ({})", group.group, group.mode.as_str())).collect();
            say(&format!("   {}: consumed by {}", topic.name, groups.join(", ")));
            let copies = plan::copies(&self.config.deployment);
            let mine: Vec<&plan::Copy> = copies.iter().filter(|copy| copy.topic == topic.name).collect();
            if mine.is_empty() {
                say("      copied nowhere: each record matters only where it was produced");
            }
            for copy in mine {
                let because: Vec<&str> = copy.because.iter().map(|group| group.as_str()).collect();
                say(&format!("      {} -> {}   because of {}", copy.from, copy.to, because.join(", ")));
            }
        }
    }

    fn make_topics(&self) -> anyhow::Result<()> {
        for (region, cluster) in &self.clusters {
            for Topic { name, partitions, .. } in &self.config.deployment.topics {
                let topic = NewTopic {
                    name: name.clone(),
                    partitions: *partitions,
                    replication_factor: None,
                    config: BTreeMap::new(),
                };
                cluster.create(&topic).with_context(|| format!("create {name} in {region}"))?;
            }
        }
        Ok(())
    }

    fn start(&mut self, region: &RegionName) -> anyhow::Result<()> {
        let bridge =
            app::start_bridge(&self.config, region, region.as_str(), &self.clusters, &self.metrics, &self.clock)?;
        self.bridges.insert(region.clone(), bridge);
        Ok(())
    }

    fn start_all(&mut self) -> anyhow::Result<()> {
        step(2, "One bridge per region starts; each pulls from its peers what its region needs.");
        for region in self.config.deployment.regions.clone() {
            self.start(&region)?;
        }
        self.wait("the bridges are ready", |demo| {
            demo.bridges.values().all(|bridge| bridge.handle().not_ready().is_empty())
        })?;
        say("   all three are ready");
        Ok(())
    }

    /// Produces in all regions; in the middle one bridge is stopped and started again.
    fn produce_and_restart(&mut self) -> anyhow::Result<()> {
        let counts: Vec<String> = PRODUCED.iter().map(|(topic, count)| format!("{count} {topic}")).collect();
        step(3, &format!("Applications produce {} in every region, all at once.", counts.join(" and ")));
        let (away, half) = (RegionName::new("sh"), 2);
        for round in 0..half {
            if round == 1 {
                say(&format!("   half way, the bridge of {away} is stopped …"));
                if let Some(bridge) = self.bridges.remove(&away) {
                    bridge.stop();
                }
            }
            for region in &self.config.deployment.regions {
                for (topic, count) in PRODUCED {
                    self.produce(region, topic, count * round / half..count * (round + 1) / half)?;
                }
            }
        }
        self.start(&away)?;
        say("   … and started again: it goes on where it stood, nothing is lost and nothing is repeated");
        Ok(())
    }

    fn produce(&self, region: &RegionName, topic: &str, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
        let declared = self.config.deployment.topics.iter().find(|declared| declared.name.as_str() == topic);
        let partitions = declared.map_or(1, |declared| declared.partitions) as usize;
        let (cluster, name) = (&self.clusters[region], TopicName::new(topic));
        for partition in 0..partitions {
            let mine: Vec<usize> = numbers.clone().filter(|number| number % partitions == partition).collect();
            let bodies: Vec<(String, String, Vec<Header>)> = mine
                .iter()
                .map(|number| {
                    let buyer = format!("buyer-{}", number % 300);
                    let body = format!(r#"{{"{topic}":"{region}-{number}","buyer":"{buyer}"}}"#);
                    let headers = vec![Header::text("ls_key", &buyer), Header::text("ls_version", &number.to_string())];
                    (buyer, body, headers)
                })
                .collect();
            let now_ms = self.clock.now_ms();
            let records: Vec<NewRecord<'_>> = bodies
                .iter()
                .map(|(key, body, headers)| NewRecord {
                    timestamp_ms: now_ms,
                    headers: Headers::Listed(headers),
                    ..NewRecord::plain(Some(key.as_bytes()), Some(body.as_bytes()))
                })
                .collect();
            cluster.append(&TopicPartition::new(&name, i32::try_from(partition)?), &records)?;
        }
        Ok(())
    }

    fn wait_until_copied(&self) -> anyhow::Result<()> {
        step(4, "The links catch up:");
        let total = |demo: &Self| -> Option<u64> {
            let beats = demo.bridges.values().flat_map(|bridge| bridge.handle().beats());
            beats.map(|beat| beat.lag_records).sum()
        };
        let bar = indicatif::ProgressBar::new_spinner();
        self.wait("the links have copied everything", |demo| {
            if let Some(lag) = total(demo) {
                bar.set_message(format!("{lag} records to copy"));
            }
            bar.tick();
            let complete = |cluster| summary::counts(cluster, "orders").map(|counts| counts.iter().sum::<usize>());
            let wanted = PRODUCED[0].1 * demo.clusters.len();
            demo.clusters.values().all(|cluster| complete(cluster).is_ok_and(|count| count >= wanted))
        })?;
        bar.finish_and_clear();
        say("   every region has every order");
        Ok(())
    }

    fn follow_one_record(&self) -> anyhow::Result<()> {
        step(
            5,
            "One record, seen in each region. A copy is the record itself and one header that says where it was born:",
        );
        for line in summary::follow(&self.clusters, "orders", r#"{"orders":"bj-42","#)? {
            say(&format!("   {line}"));
        }
        Ok(())
    }

    fn summarise(&self) -> anyhow::Result<Summary> {
        step(6, "Summary, computed by reading every record of every log:");
        let summary = summary::read(&self.clusters, &self.config.deployment, &PRODUCED)?;
        for line in summary.to_string().lines() {
            say(&format!("   {line}"));
        }
        Ok(summary)
    }

    fn keep(&self, dir: &Path) -> anyhow::Result<()> {
        let answers = app::Answers::new(self.bridges.values().map(Bridge::handle).collect(), Arc::clone(&self.clock));
        let admin = Admin { listen: self.config.admin.listen.to_string(), token: None };
        let served = api::serve(&admin, answers)?;
        let address = served.address();
        say(&format!("\nThe bridges keep running (files in {}). Look at", dir.display()));
        for path in ["", "readyz", "metrics", "api/v1/status", "api/v1/plan"] {
            say(&format!("   http://{address}/{path}"));
        }
        say("End with ctrl-c.");
        app::wait_for_signal()?;
        served.stop();
        Ok(())
    }

    fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = self.clock.monotonic() + PATIENCE;
        while !holds(self) {
            if self.clock.monotonic() > deadline {
                let reasons: Vec<String> =
                    self.bridges.values().flat_map(|bridge| bridge.handle().not_ready()).collect();
                bail!("not within {PATIENCE:?}: {what} ({})", reasons.join("; "));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn stop(self) -> anyhow::Result<()> {
        self.bridges.values().for_each(Bridge::ask_stop);
        let clean: Vec<bool> = self.bridges.into_values().map(Bridge::stop).collect();
        if clean.contains(&false) {
            bail!("a bridge panicked");
        }
        Ok(())
    }
}

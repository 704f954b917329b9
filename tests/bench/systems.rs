//! The processes under test, and how each is told to copy one topic from `src` to `dst`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longshore::broker::kafka::bench::{self, Bare};
use longshore::broker::kafka::settings::Settings;

use crate::PARTITIONS;
use crate::harness::bridge::{Bridge, Setup};
use crate::harness::clusters::{self, Clusters};
use crate::harness::process;

/// Makes this program the bare loop.
pub const BARE: &str = "bare";

/// What copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Longshore, `guarantee: exactly-once`.
    ExactlyOnce,
    /// Longshore, `guarantee: at-least-once`.
    AtLeastOnce,
    /// The same client calls and the same header, nothing else.
    Bare,
    /// MirrorMaker 2 as it comes.
    MirrorDefault,
    /// MirrorMaker 2 with larger batches.
    MirrorTuned,
    /// The same, exactly once.
    MirrorTunedExactlyOnce,
    /// As it comes, exactly once: a transaction per poll.
    MirrorDefaultExactlyOnce,
    /// Nothing copies: what the reader sees at the source. The floor of the latencies.
    Nothing,
}

impl System {
    /// In the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Bare,
        Self::AtLeastOnce,
        Self::ExactlyOnce,
        Self::MirrorDefault,
        Self::MirrorTuned,
        Self::MirrorTunedExactlyOnce,
        Self::MirrorDefaultExactlyOnce,
    ];

    /// Also part of topic names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "longshore-exactly-once",
            Self::AtLeastOnce => "longshore-at-least-once",
            Self::Bare => "bare-loop",
            Self::MirrorDefault => "mm2-default",
            Self::MirrorTuned => "mm2-tuned",
            Self::MirrorTunedExactlyOnce => "mm2-tuned-exactly-once",
            Self::MirrorDefaultExactlyOnce => "mm2-default-exactly-once",
            Self::Nothing => "no-copy",
        }
    }

    /// Whether its cost is measured.
    pub const fn has_cost(self) -> bool {
        !matches!(self, Self::Nothing | Self::MirrorDefaultExactlyOnce)
    }

    /// Whether its latency is measured; the bare loop ends by count and is no service.
    pub const fn has_latency(self) -> bool {
        !matches!(self, Self::Bare)
    }

    /// Starts copying `topic`; the bare loop ends after `records`.
    pub fn start(self, clusters: &Clusters, topic: &str, records: u64) -> Running {
        match self {
            Self::ExactlyOnce => longshore(clusters, topic, "exactly-once"),
            Self::AtLeastOnce => longshore(clusters, topic, "at-least-once"),
            Self::Bare => bare(clusters, topic, records),
            Self::MirrorDefault => mirror(clusters, topic, false, false),
            Self::MirrorTuned => mirror(clusters, topic, true, false),
            Self::MirrorTunedExactlyOnce => mirror(clusters, topic, true, true),
            Self::MirrorDefaultExactlyOnce => mirror(clusters, topic, false, true),
            Self::Nothing => Running::Nothing,
        }
    }
}

/// A copier that runs; dropping it ends it.
pub enum Running {
    /// A bridge; its folder lives as long.
    Bridge(Box<Bridge>, Setup),
    /// Any other process, with its folder.
    Process(Child, tempfile::TempDir),
    /// None.
    Nothing,
}

impl Running {
    /// The process under test.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Bridge(bridge, _) => Some(bridge.pid()),
            Self::Process(child, _) => Some(child.id()),
            Self::Nothing => None,
        }
    }

    /// The end of what it said, for a failure's message.
    pub fn log(&self) -> String {
        let text = match self {
            Self::Bridge(bridge, _) => bridge.log(),
            Self::Process(_, dir) => std::fs::read_to_string(dir.path().join("log")).unwrap_or_default(),
            Self::Nothing => String::new(),
        };
        let skip = text.lines().count().saturating_sub(30);
        text.lines().skip(skip).fold(String::new(), |all, line| all + line + "\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Self::Bridge(bridge, _) => drop(bridge.sigterm(Duration::from_secs(60))),
            Self::Process(child, _) => {
                let _gone = child.kill();
                let _status = child.wait();
                process::spare(child.id());
            }
            Self::Nothing => {}
        }
    }
}

fn longshore(clusters: &Clusters, topic: &str, guarantee: &str) -> Running {
    let regions = [("src", clusters.get("src").bootstrap.as_str()), ("dst", clusters.get("dst").bootstrap.as_str())];
    let setup = Setup::new("center: src", &regions, &format!("links:\n  guarantee: {guarantee}"));
    setup.topic_for_all(topic, PARTITIONS);
    let bridge = setup.bridge("dst", "bench");
    Running::Bridge(Box::new(bridge), setup)
}

fn bare(clusters: &Clusters, topic: &str, records: u64) -> Running {
    let dir = tempfile::tempdir().expect("a folder");
    let log = std::fs::File::create(dir.path().join("log")).expect("a log file");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([BARE, &clusters.get("src").bootstrap, &clusters.get("dst").bootstrap, topic, &records.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    let child = command.spawn().expect("starts");
    process::reap(child.id());
    Running::Process(child, dir)
}

/// The bare loop, as a process of its own: `SOURCE TARGET TOPIC RECORDS`. Stays until its input ends, so that it can be
/// measured to the end.
pub fn run_bare(arguments: &[String]) {
    let [source, target, topic, records] = arguments else { panic!("SOURCE TARGET TOPIC RECORDS: {arguments:?}") };
    let settings = |bootstrap: &str| Settings {
        common: [("bootstrap.servers".to_owned(), bootstrap.into())].into(),
        ..Settings::default()
    };
    // As long as the header that a link writes.
    let origin = format!("src/{topic}/0/1000000/1760000000000");
    let bare = Bare {
        topic: topic.clone(),
        partitions: PARTITIONS,
        records: records.parse().expect("a number"),
        header: ("ls_origin".to_owned(), origin.into_bytes()),
        // As src/runtime sets them for a link.
        read_buffer_bytes_max: 16 * 1024 * 1024,
        write_buffer_bytes_max: 24 * 1024 * 1024,
        batch_bytes_max: 1_000_000,
        fetch_records_max: 10_000,
        timeout: Duration::from_secs(600),
    };
    let copied = bench::copy(&settings(source), &settings(target), &bare).expect("copied");
    eprintln!("copied {copied}");
    let mut rest = String::new();
    let _ended = std::io::stdin().read_line(&mut rest);
}

fn mirror(clusters: &Clusters, topic: &str, tuned: bool, exactly_once: bool) -> Running {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("mm2.properties");
    std::fs::write(&file, mirror_properties(clusters, topic, tuned, exactly_once)).expect("written");
    let log = std::fs::File::create(dir.path().join("log")).expect("a log file");
    let jars: PathBuf = clusters::jars();
    let mut command = Command::new("java");
    command.args(["-Xms256m", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(jars.join("*")).arg("org.apache.kafka.connect.mirror.MirrorMaker").arg(&file);
    command.current_dir(dir.path()).stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
    let child = command.spawn().expect("java starts");
    process::reap(child.id());
    Running::Process(child, dir)
}

fn mirror_properties(clusters: &Clusters, topic: &str, tuned: bool, exactly_once: bool) -> String {
    let (src, dst) = (&clusters.get("src").bootstrap, &clusters.get("dst").bootstrap);
    // Internal topics of its own for each run: positions of an earlier one would be taken over.
    let mut text = format!(
        "clusters=s,t\ns.bootstrap.servers={src}\nt.bootstrap.servers={dst}\n\
         s->t.enabled=true\nt->s.enabled=false\ns->t.topics={topic}\n\
         replication.policy.class=org.apache.kafka.connect.mirror.IdentityReplicationPolicy\n\
         replication.factor=1\nconfig.storage.replication.factor=1\nstatus.storage.replication.factor=1\n\
         offset.storage.replication.factor=1\noffset-syncs.topic.replication.factor=1\n\
         checkpoints.topic.replication.factor=1\nheartbeats.topic.replication.factor=1\n\
         sync.topic.acls.enabled=false\nemit.heartbeats.enabled=false\nemit.checkpoints.enabled=false\n\
         config.storage.topic={topic}-configs\nstatus.storage.topic={topic}-status\n\
         offset.storage.topic={topic}-offsets\ngroup.id={topic}\n"
    );
    if tuned {
        text.push_str(
            "s.consumer.fetch.min.bytes=100000\ns.consumer.fetch.max.wait.ms=100\n\
             s.consumer.max.poll.records=5000\ns.consumer.max.partition.fetch.bytes=4194304\n\
             t.producer.batch.size=262144\nt.producer.linger.ms=20\nt.producer.buffer.memory=67108864\n",
        );
    }
    if exactly_once {
        let port = crate::harness::free_port();
        writeln!(text, "t.exactly.once.source.support=enabled").expect("a string");
        writeln!(text, "dedicated.mode.enable.internal.rest=true\nlisteners=http://127.0.0.1:{port}")
            .expect("a string");
    }
    text
}

//! Real Kafka clusters for tests, through `deploy/dev/kafka`: those that all tests of a process share, and those that
//! one test has for itself because it kills brokers.
//!
//! A script holds the brokers and ends them when its standard input closes, which the kernel does for us however this
//! process ends. Tests that share clusters never stop a broker and name their topics with `unique`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};

use super::{process, skip, sources};

/// One running cluster.
#[derive(Clone, Debug)]
pub struct KafkaCluster {
    /// `hz`
    pub name: String,
    /// Where plain clients connect.
    pub bootstrap: String,
    /// Where clients with a password connect, when asked for.
    pub sasl_bootstrap: Option<String>,
    /// Holds `data`, `server.log`, `server.properties`.
    pub dir: PathBuf,
}

impl KafkaCluster {
    /// The process number of the broker.
    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.dir.join("pid")).ok()?.trim().parse().ok()
    }

    /// `kill -9`; returns when the process is gone.
    pub fn kill9(&self) {
        self.script(&["kill", &self.name]);
    }

    /// Stops the broker in good order.
    pub fn stop(&self) {
        self.script(&["stop", &self.name]);
    }

    /// Starts the broker again on its port with its data; returns when it answers.
    pub fn start(&self) {
        self.script(&["start", &self.name]);
    }

    /// Freezes the broker; its connections stay open.
    pub fn sigstop(&self) {
        assert!(process::signal(self.pid().expect("it runs"), "STOP"));
    }

    /// Thaws it.
    pub fn sigcont(&self) {
        assert!(process::signal(self.pid().expect("it runs"), "CONT"));
    }

    /// Everything the broker logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    fn script(&self, arguments: &[&str]) {
        let dir = self.dir.parent().expect("inside the clusters' folder");
        let done = Command::new(script()).args(arguments).arg("--dir").arg(dir).stdin(Stdio::null()).output();
        let done = done.expect("bash is there");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// How clusters differ from the usual.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `user:password` of a second listener that asks for them.
    pub sasl: Option<String>,
    /// Broker properties, `key=value`.
    pub settings: Vec<String>,
    /// Where their data is kept: a folder that exists; a temporary one when `None`.
    pub dir: Option<PathBuf>,
}

/// Clusters that live as long as this value.
pub struct Clusters {
    by_name: BTreeMap<String, KafkaCluster>,
    holder: Child,
    input: Option<ChildStdin>,
}

impl Clusters {
    /// Starts clusters side by side. Panics with the brokers' words when one does not come up.
    pub fn start(names: &[&str], options: &Options) -> Self {
        let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
        // Made and removed by the script, which outlives us.
        let dir = parent.join(super::unique("longshore-kafka"));
        let mut command = Command::new(script());
        command.args(["up", "--free-ports", "--hold", "--clusters", &names.join(",")]).arg("--dir").arg(&dir);
        if let Some(sasl) = &options.sasl {
            command.args(["--sasl", sasl]);
        }
        for setting in &options.settings {
            command.args(["--set", setting]);
        }
        // Its own process group: a ctrl-c for the tests must not end the script that cleans up after them.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
        let mut holder = command.spawn().expect("bash is there");
        let input = holder.stdin.take();
        let output = BufReader::new(holder.stdout.take().expect("asked for"));
        let ready = output.lines().map_while(Result::ok).any(|line| line == "ready");
        assert!(ready, "the clusters {names:?} did not start");
        let by_name = read_addresses(&dir);
        Self { by_name, holder, input }
    }

    /// One of them.
    #[track_caller]
    pub fn get(&self, name: &str) -> &KafkaCluster {
        self.by_name.get(name).unwrap_or_else(|| panic!("no cluster {name}"))
    }
}

impl Drop for Clusters {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ended = self.holder.wait();
    }
}

/// The clusters `hz`, `sh`, `bj` (the last two with `user:secret` on their SASL listener as well) that all tests of
/// this process share. `None` after saying so when Kafka cannot run here.
pub fn shared() -> Option<&'static Clusters> {
    static SHARED: OnceLock<Option<Clusters>> = OnceLock::new();
    let clusters = SHARED.get_or_init(|| {
        available().then(|| {
            // Nobody kills these, so that a broker that is slow for a moment need not be taken for dead at once.
            let settings = vec!["broker.session.timeout.ms=9000".into()];
            let options = Options { sasl: Some("user:secret".into()), settings, ..Options::default() };
            Clusters::start(&["hz", "sh", "bj"], &options)
        })
    });
    if clusters.is_none() {
        skip("Kafka cannot run here: Java 17 and Maven are needed");
    }
    clusters.as_ref()
}

/// Clusters for one test alone; one such test runs at a time.
pub struct Own {
    clusters: Clusters,
    _turn: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Own {
    type Target = Clusters;

    fn deref(&self) -> &Clusters {
        &self.clusters
    }
}

/// Clusters that the caller may kill. `None` after saying so when Kafka cannot run here.
pub fn own(names: &[&str], options: &Options) -> Option<Own> {
    if !available() {
        skip("Kafka cannot run here: Java 17 and Maven are needed");
        return None;
    }
    let turn = turn();
    Some(Own { clusters: Clusters::start(names, options), _turn: turn })
}

/// One test at a time has clusters beyond the shared ones: this is its turn, as long as the guard lives.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether Kafka is here or can be fetched; installs no system package.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let fetched = Command::new(script()).arg("jars").env("LONGSHORE_INSTALL", "0").stdout(Stdio::null()).status();
        fetched.is_ok_and(|it| it.success())
    })
}

/// The folder of Kafka's jars, for running its own programs beside ours.
pub fn jars() -> PathBuf {
    let printed = Command::new(script()).arg("jars").output().expect("bash is there").stdout;
    PathBuf::from(String::from_utf8(printed).expect("a path").trim())
}

fn script() -> PathBuf {
    sources().join("deploy/dev/kafka")
}

fn read_addresses(dir: &Path) -> BTreeMap<String, KafkaCluster> {
    let text = std::fs::read_to_string(dir.join("clusters.json")).expect("written by the script");
    let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    let text_of = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    parsed
        .iter()
        .map(|(name, it)| {
            let cluster = KafkaCluster {
                name: name.clone(),
                bootstrap: text_of(&it["bootstrap"]).expect("an address"),
                sasl_bootstrap: text_of(&it["sasl_bootstrap"]),
                dir: text_of(&it["dir"]).expect("a folder").into(),
            };
            (name.clone(), cluster)
        })
        .collect()
}

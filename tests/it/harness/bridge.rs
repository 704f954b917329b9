//! The built program as a process: a folder with `longshore.yaml` and topic files, bridges that run from it, commands
//! that are run on it.
//!
//! What differs between bridges of one file (admin address, state folder) comes from the environment, so that the file
//! is the same for all, as in a real deployment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::{eventually, free_port, process};

/// A folder with configuration, and what is run on it.
pub struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    /// Writes `longshore.yaml`: `head` (center, topology …), the regions with their bootstrap addresses, and `tail`
    /// (links, control …). Admin address and state folder are added.
    pub fn new(head: &str, regions: &[(&str, &str)], tail: &str) -> Self {
        let list: String = regions
            .iter()
            .map(|(name, bootstrap)| {
                format!("  {name}:\n    broker: kafka\n    kafka:\n      bootstrap.servers: \"{bootstrap}\"\n")
            })
            .collect();
        Self::from_text(&format!(
            "{head}\nregions:\n{list}topics: ./topics\nstate_dir: \"${{env:LONGSHORE_TEST_STATE}}\"\n\
             admin:\n  listen: \"${{env:LONGSHORE_TEST_ADMIN}}\"\n{tail}\n"
        ))
    }

    /// Writes `longshore.yaml` with this text.
    pub fn from_text(text: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("longshore-test-").tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("topics")).expect("a folder");
        let setup = Self { dir };
        setup.write("longshore.yaml", text);
        setup
    }

    /// Writes a file below the folder.
    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.dir.path().join(path), text).expect("written");
    }

    /// Adds a topic file.
    pub fn topic(&self, topic: &str, yaml: &str) -> &Self {
        self.write(&format!("topics/{topic}.yaml"), yaml);
        self
    }

    /// Adds a topic that all regions need: one group in mode all-unit.
    pub fn topic_for_all(&self, topic: &str, partitions: i32) -> &Self {
        let yaml = format!(
            "topic: {topic}\npartitions: {partitions}\nsubscriptions:\n  - group: everyone\n    mode: all-unit\n"
        );
        self.topic(topic, &yaml)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `longshore -c longshore.yaml ARGUMENTS`, to be run or changed first.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.current_dir(self.dir.path()).arg("-c").arg("longshore.yaml").args(arguments).stdin(Stdio::null());
        command
            .env("LONGSHORE_TEST_ADMIN", "127.0.0.1:9464")
            .env("LONGSHORE_TEST_STATE", self.dir.path().join("state"));
        command.env_remove("LONGSHORE_CONFIG").env_remove("LONGSHORE_REGION").env_remove("LONGSHORE_INSTANCE");
        command
    }

    /// Runs a command to its end; panics when it takes longer than two minutes.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        process::reap(child.id());
        let (pid, slow) = (child.id(), Duration::from_secs(120));
        let (sender, receiver) = std::sync::mpsc::sync_channel::<()>(1);
        let watch = std::thread::spawn(move || {
            let late = matches!(receiver.recv_timeout(slow), Err(std::sync::mpsc::RecvTimeoutError::Timeout));
            if late {
                process::signal(pid, "KILL");
            }
            late
        });
        drop(child.stdin.take());
        let output = child.wait_with_output().expect("the child is ours");
        drop(sender);
        assert!(!watch.join().expect("does not panic"), "{arguments:?} did not end within {slow:?}");
        process::spare(pid);
        output
    }

    /// Starts the bridge of a region; does not wait for it.
    pub fn bridge(&self, region: &str, instance: &str) -> Bridge {
        Bridge::start(self, region, instance, &[])
    }
}

/// A running (or killed) bridge.
pub struct Bridge {
    child: Option<Child>,
    command: BridgeCommand,
    log: PathBuf,
    admin: String,
}

struct BridgeCommand {
    program: PathBuf,
    dir: PathBuf,
    region: String,
    instance: String,
    environment: Vec<(String, String)>,
}

impl Bridge {
    /// Starts `longshore run` for a region with environment variables of its own.
    pub fn start(setup: &Setup, region: &str, instance: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_longshore")), setup, region, instance, environment)
    }

    /// The same with another build of the program.
    pub fn start_program(
        program: &Path,
        setup: &Setup,
        region: &str,
        instance: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let command = BridgeCommand {
            program: program.into(),
            dir: setup.dir().into(),
            region: region.into(),
            instance: instance.into(),
            environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        };
        let mut bridge = Self {
            child: None,
            log: setup.dir().join(format!("{region}-{instance}.log")),
            admin: format!("127.0.0.1:{}", free_port()),
            command,
        };
        bridge.restart();
        bridge
    }

    /// Starts it (again), under the same name and with the same state folder; ends the running process first.
    pub fn restart(&mut self) {
        self.kill9();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let state = self.command.dir.join(format!("state-{}-{}", self.command.region, self.command.instance));
        let mut command = Command::new(&self.command.program);
        command.current_dir(&self.command.dir).args(["-c", "longshore.yaml"]);
        command.args(["--region", &self.command.region, "run", "--instance", &self.command.instance]);
        command.env("LONGSHORE_TEST_ADMIN", &self.admin).env("LONGSHORE_TEST_STATE", state);
        command.env_remove("LONGSHORE_CONFIG").env_remove("LONGSHORE_REGION").env_remove("LONGSHORE_INSTANCE");
        command.envs(self.command.environment.iter().map(|(name, value)| (name, value)));
        let errors = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("starts");
        process::reap(child.id());
        self.child = Some(child);
    }

    /// Waits until `/readyz` says 200. Panics with the end of the log when the process ends first.
    #[track_caller]
    pub fn wait_ready(&mut self, limit: Duration) {
        let url = self.url("/readyz");
        let tail = |log: &Path| {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            text.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        let deadline = std::time::Instant::now() + limit;
        loop {
            if status_of(&url) == Some(200) {
                return;
            }
            let child = self.child.as_mut().expect("started");
            let ended = child.try_wait().expect("the child is ours");
            assert!(ended.is_none(), "bridge {} ended: {ended:?}\n{}", self.command.region, tail(&self.log));
            let in_time = std::time::Instant::now() < deadline;
            assert!(in_time, "bridge {} not ready within {limit:?}\n{}", self.command.region, tail(&self.log));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("started").id()
    }

    /// Whether the process runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|it| it.try_wait().expect("the child is ours").is_none())
    }

    /// `kill -9`, if it runs.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
            process::spare(child.id());
        }
    }

    /// SIGTERM, and waits for its end: the exit code.
    #[track_caller]
    pub fn sigterm(&mut self, limit: Duration) -> Option<i32> {
        self.signal("TERM");
        self.wait_end(limit)
    }

    /// Sends a signal by name, `TERM` or `INT`, and does not wait.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        assert!(process::signal(self.pid(), name), "SIG{name} to a bridge that has ended: {}", self.log());
    }

    /// Waits for its end: the exit code.
    #[track_caller]
    pub fn wait_end(&mut self, limit: Duration) -> Option<i32> {
        let mut child = self.child.take().expect("started");
        let status = process::wait(&mut child, limit);
        if status.is_none() {
            let _gone = child.kill();
            let _status = child.wait();
        }
        process::spare(child.id());
        status.unwrap_or_else(|| panic!("no end within {limit:?}; log: {}", self.log())).code()
    }

    /// Freezes it.
    pub fn sigstop(&self) {
        assert!(process::signal(self.pid(), "STOP"));
    }

    /// Thaws it.
    pub fn sigcont(&self) {
        assert!(process::signal(self.pid(), "CONT"));
    }

    /// All it logged, over restarts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// An address of its admin endpoint: `url("/metrics")`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// The body of an admin page, whatever its status; `None` when it cannot be reached.
    pub fn get(&self, path: &str) -> Option<String> {
        agent().get(&self.url(path)).call().ok()?.body_mut().read_to_string().ok()
    }

    /// `/api/v1/status`.
    pub fn status(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.get("/api/v1/status")?).ok()
    }

    /// The sum of a metric over its series whose labels hold all of `labels`, e.g. `&[r#"topic="orders""#]`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.get("/metrics")?;
        let mut values = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// Waits for a metric to satisfy a condition.
    #[track_caller]
    pub fn wait_metric(&self, name: &str, labels: &[&str], limit: Duration, enough: impl Fn(f64) -> bool) -> f64 {
        eventually(limit, &format!("{name}{labels:?} of {}", self.command.region), || {
            self.metric(name, labels).filter(|&it| enough(it))
        })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for path in ["/readyz", "/api/v1/status"] {
                eprintln!("---- {path} of {}\n{}", self.command.region, self.get(path).unwrap_or_default());
            }
        }
        self.kill9();
        if std::thread::panicking() {
            let text = self.log();
            let skipped = text.lines().count().saturating_sub(60);
            let tail: Vec<&str> = text.lines().skip(skipped).collect();
            eprintln!("---- log of {}-{}\n{}", self.command.region, self.command.instance, tail.join("\n"));
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(5)));
    config.build().into()
}

fn status_of(url: &str) -> Option<u16> {
    Some(agent().get(url).call().ok()?.status().as_u16())
}

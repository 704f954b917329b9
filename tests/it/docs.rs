//! Every command that the README, the documentation and the examples show is run here, or said why not.
//!
//! A command without an entry fails the test, so that none is written down without having been run.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{clusters, process, skip, sources};

/// How a command of README.md or docs/ is covered.
enum Covered {
    /// Run as it stands, at the top of the repository, with the built program in place of `cargo run --locked --`.
    Run,
    /// A make target: it is defined, and this is what runs it.
    Make(&'static str),
}

const COMMANDS: &[(&str, Covered)] = &[
    ("make demo", Covered::Make("the_demo_of_the_readme_explains_itself_and_ends")),
    ("make test", Covered::Make("this very run")),
    ("cargo run --locked -- -c examples/quickstart/longshore.yaml validate", Covered::Run),
    ("cargo run --locked -- -c examples/quickstart/longshore.yaml plan", Covered::Run),
];

/// The commands in the `sh` blocks of a page, in order; a backslash joins lines.
fn commands(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("readable");
    let (mut inside, mut found, mut joined) = (false, Vec::new(), String::new());
    for line in text.lines() {
        let line = line.trim_end();
        match line.trim_start() {
            "```sh" | "```bash" | "```console" | "```shell" if !inside => inside = true,
            "```" => inside = false,
            _ if !inside || line.trim().is_empty() || line.trim_start().starts_with('#') => {}
            command => {
                let command = command.strip_prefix("$ ").unwrap_or(command);
                if let Some(part) = command.strip_suffix('\\') {
                    joined.push_str(part);
                } else {
                    found.push(std::mem::take(&mut joined) + command);
                }
            }
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let markdown = |folder: &str| {
        let entries = std::fs::read_dir(sources().join(folder)).into_iter().flatten().flatten().map(|it| it.path());
        entries.filter(|it| it.extension().is_some_and(|it| it == "md")).collect::<Vec<_>>()
    };
    [markdown("."), markdown("docs"), markdown("deploy")].concat()
}

/// With the folder of the built program in front of the path.
fn shell(script: &str, folder: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_longshore")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(folder).env("PATH", path).stdin(Stdio::null());
    command.env_remove("LONGSHORE_CONFIG").env_remove("LONGSHORE_REGION").env_remove("LONGSHORE_INSTANCE");
    command
}

#[test]
fn every_command_of_readme_and_docs_is_run() {
    let makefile = std::fs::read_to_string(sources().join("Makefile")).expect("readable");
    let mut seen = 0;
    for page in pages() {
        for command in commands(&page) {
            let place = format!("{}: `{command}`", page.display());
            let Some((_, covered)) = COMMANDS.iter().find(|(it, _)| *it == command) else {
                panic!("{place} is covered by no test: add it to COMMANDS in tests/it/docs.rs");
            };
            seen += 1;
            match covered {
                Covered::Make(by) => {
                    let target = command.split_whitespace().nth(1).expect("make TARGET");
                    assert!(makefile.contains(&format!("\n{target}: ## ")), "{place} ({by}): no such target");
                }
                Covered::Run => {
                    let script = command.replace("cargo run --locked --", "longshore");
                    let done = shell(&script, &sources()).output().expect("bash");
                    assert!(done.status.success(), "{place}: {}", String::from_utf8_lossy(&done.stderr));
                    assert!(!done.stdout.is_empty() || !done.stderr.is_empty(), "{place} says something");
                }
            }
        }
    }
    assert!(seen >= COMMANDS.len(), "every entry of COMMANDS is still on a page");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let examples = std::fs::read_dir(sources().join("examples")).expect("examples").flatten();
    let readmes = examples.map(|it| it.path().join("README.md")).filter(|it| it.exists());
    for page in pages().into_iter().chain(readmes) {
        let text = std::fs::read_to_string(&page).expect("readable");
        for target in text.split("](").skip(1).filter_map(|it| it.split(')').next()) {
            let file = target.split('#').next().expect("split gives one");
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let found = page.parent().expect("a folder").join(file);
            assert!(found.exists(), "{}: link to {target} leads nowhere", page.display());
        }
    }
}

#[test]
fn the_demo_of_the_readme_explains_itself_and_ends() {
    let mut demo = shell("timeout 100 longshore demo", &sources());
    let folder = tempfile::tempdir().expect("a folder");
    let done = demo.current_dir(folder.path()).output().expect("bash");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.lines().count() > 10, "{said}");
}

#[test]
fn the_example_of_two_regions_works_from_top_to_bottom() {
    run_example("two-kafka-regions");
}

#[test]
fn the_example_of_three_regions_works_from_top_to_bottom() {
    run_example("three-kafka-regions");
}

/// Runs the page's commands in one shell, in a copy of the tree whose ports are free ones.
fn run_example(name: &str) {
    if !clusters::available() {
        skip("Kafka cannot run here: Java 17 and Maven are needed");
        return;
    }
    let _turn = clusters::turn();
    let tree = tempfile::tempdir().expect("a folder");
    let (example, root) = (tree.path().join("examples").join(name), sources());
    copy(&root.join("examples").join(name), &example);
    copy(&root.join("deploy/dev"), &tree.path().join("deploy/dev"));
    let base = free_base();
    for (offset, usual) in [(0, "19092"), (10, "19102"), (20, "19112")] {
        let file = example.join("longshore.yaml");
        let text = std::fs::read_to_string(&file).expect("readable").replace(usual, &(base + offset).to_string());
        std::fs::write(file, text).expect("written");
    }
    let mut script = format!(
        "trap 'code=$?; kill $(jobs -p) 2>/dev/null || true; {}/deploy/dev/kafka down || true; exit $code' EXIT\n",
        tree.path().display()
    );
    let listed = commands(&example.join("README.md"));
    assert!(listed.len() > 10, "the page has commands");
    for command in listed {
        let ports =
            if command.starts_with("deploy/dev/kafka up") { format!(" --base-port {base}") } else { String::new() };
        // The program is built already; `set -m` is what gives a shell at a terminal its `%1`.
        let command = command.replace("cargo build --locked", "set -m").replace("wait", "wait || true");
        script.push_str(&format!("echo '+ {}'\n{command}{ports}\n", command.replace('\'', "")));
    }
    let output = tree.path().join("output");
    let log = std::fs::File::create(&output).expect("a file");
    let mut shell = shell(&script, tree.path());
    shell.stdout(log.try_clone().expect("a handle")).stderr(log).process_group(0);
    let mut child = shell.spawn().expect("bash");
    process::reap(child.id());
    let status = process::wait(&mut child, Duration::from_secs(180));
    if status.is_none() {
        process::signal(child.id(), "TERM");
        process::wait(&mut child, Duration::from_secs(30));
    }
    process::spare(child.id());
    let said = std::fs::read_to_string(&output).unwrap_or_default();
    assert!(status.is_some_and(|it| it.success()), "{name}: {status:?}\n{said}\n{}", logs(&example));
}

fn logs(example: &Path) -> String {
    let files = std::fs::read_dir(example).into_iter().flatten().flatten().map(|it| it.path());
    files
        .filter(|it| it.extension().is_some_and(|it| it == "log"))
        .map(|it| format!("---- {}\n{}", it.display(), std::fs::read_to_string(&it).unwrap_or_default()))
        .collect()
}

/// The first of 30 ports that nobody listens on.
fn free_base() -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = u16::try_from(std::process::id() % 300).expect("below 300");
    let bases = (0..300).map(|it| 3000 + (start + it) % 300 * 20);
    bases.into_iter().find(|&base| (base..base + 23).all(free)).expect("30 free ports in a row")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("readable").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

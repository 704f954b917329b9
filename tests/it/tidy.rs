//! Invariants of the sources, held by reading them: who may import whom, how files begin, how long they are, where
//! unsafe code and clocks are allowed, which licences come in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::sources;

/// What a folder (or file) directly below `src` may name of this crate besides itself. `broker` and `store` mean their
/// traits and values; a concrete driver is written out.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("policy", &["model"]),
    ("machine", &["model", "policy"]),
    ("clock", &[]),
    ("broker", &["model"]),
    ("store", &["model"]),
    ("telemetry", &["model", "policy", "machine", "broker"]),
    ("control", &["model", "policy", "machine", "broker", "telemetry"]),
    ("runtime", &["model", "policy", "machine", "broker", "store", "clock", "control", "telemetry"]),
    ("config", &["model", "policy", "broker", "broker::kafka", "broker::embedded"]),
    ("cli", &["app", "config", "policy", "control", "model", "broker", "clock", "runtime", "telemetry"]),
    ("main", &["cli"]),
];

/// May name everything: the root, and the demo, which is an application of the root.
const ROOTS: &[&str] = &["app", "demo", "lib"];

const LINES_MAX: usize = 600;
/// Tables of cases make tests long.
const TEST_LINES_MAX: usize = 900;

/// Licences that come in; a crate needs one of its alternatives to be here.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

struct Source {
    /// Relative to the sources' root, `src/policy/plan.rs`.
    path: String,
    text: String,
}

impl Source {
    /// `policy` for `src/policy/plan.rs`, `app` for `src/app.rs`; nothing outside `src`.
    fn layer(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        below.split(['/', '.']).next()
    }

    /// The lines of code with their numbers: no comments, and nothing from the first test module on.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn is_tests(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn rust_sources() -> Vec<Source> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|it| it == "rs") {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (sources(), Vec::new());
    ["src", "tests", "examples"].iter().for_each(|it| visit(&root.join(it), &mut found));
    found.sort();
    assert!(found.len() > 20, "the sources were found");
    found
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("readable");
            let path = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
            Source { path, text }
        })
        .collect()
}

#[track_caller]
fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// `model`, `broker`, `broker::kafka`, … as a line names them.
fn named_modules(line: &str) -> Vec<String> {
    let ident = |text: &str| text.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect::<String>();
    let places = line.match_indices("crate::").filter(|(at, _)| !line[..*at].ends_with("$"));
    places
        .map(|(at, pattern)| {
            let rest = &line[at + pattern.len()..];
            let first = ident(rest);
            let second = rest[first.len()..].strip_prefix("::").map(ident).unwrap_or_default();
            match (first.as_str(), second.as_str()) {
                ("broker", "kafka" | "rocketmq" | "embedded") | ("store", "sled") => format!("{first}::{second}"),
                _ => first,
            }
        })
        .collect()
}

#[test]
fn layers_import_only_what_the_table_allows() {
    let mut broken = Vec::new();
    for source in rust_sources() {
        let Some(layer) = source.layer() else { continue };
        if ROOTS.contains(&layer) || source.is_tests() {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(it, _)| *it == layer) else {
            broken.push(format!("{}: `{layer}` is not in the table", source.path));
            continue;
        };
        for (number, line) in source.code() {
            for named in named_modules(line) {
                let own = named.split("::").next() == Some(layer);
                if !own && !allowed.contains(&named.as_str()) {
                    broken.push(format!("{}:{number}: {layer} names {named}", source.path));
                }
            }
        }
    }
    assert_none("layering (architecture: who may import whom)", &broken);
}

#[test]
fn drivers_are_named_by_the_root_alone() {
    let mut broken = Vec::new();
    for source in rust_sources() {
        let Some(layer) = source.layer() else { continue };
        if ["broker", "store", "config"].contains(&layer) || ROOTS.contains(&layer) || source.is_tests() {
            continue;
        }
        let crates = ["rdkafka::", "sled::", "rdkafka_sys::"];
        let lines = source.code().filter(|(_, line)| crates.iter().any(|it| line.contains(it)));
        broken.extend(lines.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())));
    }
    assert_none("client libraries stay in their drivers", &broken);
}

#[test]
fn files_begin_by_saying_what_they_are() {
    let silent = rust_sources().into_iter().filter(|it| !it.text.starts_with("//!")).map(|it| it.path);
    assert_none("every file begins with //!", &silent.collect::<Vec<_>>());
}

#[test]
fn files_stay_short() {
    let long = rust_sources().into_iter().filter_map(|it| {
        let lines = it.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        let limit = if it.is_tests() { TEST_LINES_MAX } else { LINES_MAX };
        (lines > limit).then(|| format!("{}: {lines} lines", it.path))
    });
    assert_none(&format!("one file for one duty, at most {LINES_MAX} lines without tests"), &long.collect::<Vec<_>>());
}

#[test]
fn unsafe_code_is_in_one_module() {
    let mut broken = Vec::new();
    let raw = |path: &str| path == "src/broker/kafka/raw.rs" || path.starts_with("src/broker/kafka/raw/");
    for source in rust_sources().iter().filter(|it| !raw(&it.path)) {
        let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code)"];
        // This list names what it forbids.
        let lines = source.code().filter(|(_, line)| words.iter().any(|it| line.contains(it)));
        let lines = lines.filter(|_| source.path != "tests/it/tidy.rs");
        broken.extend(lines.map(|(number, _)| format!("{}:{number}", source.path)));
    }
    assert_none("unsafe code outside broker/kafka/raw", &broken);
}

#[test]
fn decisions_read_no_clock_no_chance_and_no_unordered_maps() {
    let words = ["Instant::now", "SystemTime::now", "HashMap", "HashSet", "rand::", "async ", "std::fs", "std::net"];
    let mut broken = Vec::new();
    for source in rust_sources().iter().filter(|it| matches!(it.layer(), Some("model" | "policy" | "machine"))) {
        for (number, line) in source.code() {
            let found = words.iter().filter(|it| line.contains(**it));
            broken.extend(found.map(|word| format!("{}:{number}: {word}", source.path)));
        }
    }
    assert_none("model, policy and machine are functions of what they are handed", &broken);
}

#[test]
fn nothing_is_left_to_be_done_later() {
    let words = ["todo!(", "unimplemented!(", "dbg!(", concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut broken = Vec::new();
    for source in rust_sources().iter().filter(|it| !it.is_tests()) {
        for (number, line) in source.text.lines().enumerate() {
            let found = words.iter().filter(|it| line.contains(**it));
            broken.extend(found.map(|word| format!("{}:{}: {word}", source.path, number + 1)));
        }
    }
    assert_none("left for later", &broken);
}

#[test]
fn tests_are_named_by_sentences_and_none_is_ignored() {
    let mut broken = Vec::new();
    for source in rust_sources().iter().filter(|it| it.path != "tests/it/tidy.rs") {
        for (number, line) in source.text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with("fn test_") || line.starts_with("#[ignore") || line.starts_with("#[should_panic") {
                broken.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    assert_none("test names are sentences; no test is ignored or passes by panicking", &broken);
}

#[test]
fn dependencies_have_licences_that_we_may_use() {
    let host = Command::new(env!("CARGO")).args(["-vV"]).output().expect("cargo is there").stdout;
    let host = String::from_utf8(host).expect("text");
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host])
        .current_dir(sources())
        .output()
        .expect("cargo is there");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let allowed: BTreeSet<&str> = LICENCES.iter().copied().collect();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "the dependencies were listed");
    let broken = packages.iter().filter_map(|package| {
        let expression = package["license"].as_str().unwrap_or("none").replace('/', " OR ").replace(['(', ')'], "");
        // All the expressions in use are conjunctions of alternatives.
        let fine = expression.split(" AND ").all(|all| all.split(" OR ").any(|one| allowed.contains(one.trim())));
        (!fine).then(|| format!("{} {}: {expression}", package["name"], package["version"]))
    });
    assert_none("licences (see deny.toml)", &broken.collect::<Vec<_>>());
}

#[test]
fn the_licences_of_deny_toml_are_those_checked_here() {
    let text = std::fs::read_to_string(sources().join("deny.toml")).expect("readable");
    let list = text.split("allow = [").nth(1).and_then(|it| it.split(']').next()).expect("the list");
    let listed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    assert_eq!(listed, LICENCES.iter().copied().collect());
}

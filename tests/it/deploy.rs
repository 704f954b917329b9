//! What lies in `deploy/` and `examples/` is whole: it parses, names only what exists, and the bridge files are valid.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::sources;

fn read(path: &str) -> String {
    std::fs::read_to_string(sources().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> serde_json::Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every `longshore_…` and `process_…` name in a text.
fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.filter(|it| it.starts_with("longshore_") || it.starts_with("process_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_name_only_documented_metrics() {
    let documented = metric_names(&read("docs/metrics.md"));
    assert!(documented.len() > 20, "the metrics were found");
    for path in ["deploy/prometheus/alerts.yaml", "deploy/grafana/longshore.json"] {
        let named = metric_names(&read(path));
        assert!(named.len() > 5, "{path} names metrics");
        for name in named {
            let known = ["", "_bucket", "_sum", "_count"]
                .iter()
                .any(|it| name.strip_suffix(it).is_some_and(|base| documented.contains(base)));
            assert!(known, "{path}: no metric `{name}` in docs/metrics.md");
        }
    }
}

#[test]
fn the_dashboard_is_json_and_its_panels_do_not_overlap() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/longshore.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && taken.insert((x, y)), "panel {} overlaps at {x},{y}", panel["title"]);
            }
        }
    }
}

#[test]
fn every_alert_has_an_expression_a_severity_and_a_summary() {
    let alerts = yaml("deploy/prometheus/alerts.yaml");
    let rules = alerts["groups"][0]["rules"].as_array().expect("rules");
    assert!(!rules.is_empty());
    for rule in rules {
        let text = |value: &serde_json::Value| value.as_str().is_some_and(|it| !it.is_empty());
        assert!(text(&rule["alert"]) && text(&rule["expr"]), "{rule}");
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("page" | "ticket")), "{rule}");
        assert!(text(&rule["annotations"]["summary"]), "{rule}");
    }
}

#[test]
fn the_compose_file_runs_a_bridge_and_a_cluster_per_region_of_its_bridge_file() {
    let compose = yaml("deploy/compose/compose.yaml");
    let bridges = yaml("deploy/compose/longshore.yaml");
    for (region, settings) in bridges["regions"].as_object().expect("regions") {
        let kafka = format!("kafka-{region}");
        assert_eq!(settings["kafka"]["bootstrap.servers"], format!("{kafka}:9092").as_str());
        let services = compose["services"].as_object().expect("services");
        assert!(services.contains_key(&kafka), "a cluster for {region}");
        let bridge = services.get(&format!("bridge-{region}")).expect("a bridge for the region");
        assert_eq!(bridge["environment"]["LONGSHORE_REGION"], region.as_str());
        let mounts = bridge["volumes"].as_array().expect("merged from the anchor");
        for mount in mounts {
            let host = mount.as_str().and_then(|it| it.split(':').next()).expect("host:container");
            assert!(sources().join("deploy/compose").join(host).exists(), "{host} is mounted and does not exist");
        }
    }
}

#[test]
fn the_image_copies_only_what_exists_and_is_not_run_as_root() {
    let text = read("deploy/container/Containerfile");
    let copied = text.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|it| !it.starts_with("--from"));
    for line in copied {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, from) = words.split_last().expect("a target");
        from.iter().for_each(|it| assert!(sources().join(it).exists(), "COPY {it}"));
    }
    assert!(text.lines().any(|line| line.starts_with("USER ") && line != "USER root" && line != "USER 0"));
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.split('"').nth(1).and_then(|it| it.rsplit_once('.')).expect("1.95.0").0;
    assert!(text.contains(&format!("FROM rust:{channel}-")), "the image builds with the toolchain of this repository");
}

#[test]
fn the_unit_restarts_always_and_waits_longer_than_a_shutdown_takes() {
    let unit = read("deploy/systemd/longshore@.service");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{key} is set"))
    };
    assert_eq!(value("Restart"), "always");
    assert_eq!(value("NoNewPrivileges"), "yes");
    assert!(value("TimeoutStopSec").trim_end_matches('s').parse::<u32>().expect("seconds") > 30);
    assert!(value("ExecStart").contains("--region %i"));
}

fn bridge_files() -> Vec<PathBuf> {
    let examples = std::fs::read_dir(sources().join("examples")).expect("examples").flatten();
    examples.map(|it| it.path().join("longshore.yaml")).filter(|it| it.exists()).collect()
}

#[test]
fn the_bridge_files_of_the_examples_are_valid() {
    let files = bridge_files();
    assert!(files.len() >= 3, "{files:?}");
    files.iter().for_each(|it| assert_valid(it));
}

#[test]
fn the_bridge_file_of_the_compose_file_is_valid() {
    // Its paths are those inside the container.
    let folder = tempfile::tempdir().expect("a folder");
    let example = sources().join("examples/three-kafka-regions");
    let text = read("deploy/compose/longshore.yaml").replace("/etc/longshore", &example.to_string_lossy());
    let file = folder.path().join("longshore.yaml");
    std::fs::write(&file, text).expect("written");
    assert_valid(&file);
}

#[track_caller]
fn assert_valid(file: &Path) {
    let checked = Command::new(env!("CARGO_BIN_EXE_longshore"))
        .arg("-c")
        .arg(file)
        .arg("validate")
        .env("LONGSHORE_TOKEN", "0123456789abcdef0123456789abcdef")
        .env("LONGSHORE_CONTROL_SECRET", "0123456789abcdef0123456789abcdef")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{}: {said}", file.display());
}

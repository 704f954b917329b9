//! The commands as operators and scripts meet them: the built program, its words, its exit codes.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::bridge::Setup;
use crate::harness::sources;

fn longshore(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.args(arguments).current_dir(sources()).stdin(Stdio::null());
    for name in ["LONGSHORE_CONFIG", "LONGSHORE_REGION", "LONGSHORE_INSTANCE", "LONGSHORE_LOG", "COLUMNS"] {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    longshore(arguments).output().expect("the program starts")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// What a command that ends well says on stdout; it says nothing on stderr.
#[track_caller]
fn data(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""), "{arguments:?}");
    out(&output)
}

const COMMANDS: &[&str] = &[
    "run",
    "status",
    "plan",
    "validate",
    "topics",
    "topics sync",
    "topics diff",
    "links",
    "links seek",
    "links accept-gap",
    "pause",
    "resume",
    "dead-letter",
    "dead-letter list",
    "acls",
    "owner",
    "rules",
    "rules show",
    "schema",
    "completions",
    "demo",
];

#[test]
fn help_says_what_each_command_is_for() {
    let mut all = data(&["--help"]);
    for command in COMMANDS {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let text = data(&arguments);
        assert!(text.contains("\nExample"), "{command} has no example");
        // The options of every command are shown once, above.
        let (before, everywhere) = text.split_once("Options of every command:").expect("the heading");
        let after = everywhere.find("\nExample").map_or("", |at| &everywhere[at..]);
        all.push_str(&format!("\n===== {command}\n{}\n{after}", before.trim_end()));
    }
    insta::assert_snapshot!("help", all);
}

const QUICKSTART: &str = "examples/quickstart/longshore.yaml";

#[test]
fn the_plan_of_the_quickstart_for_people_programs_and_pictures() {
    insta::assert_snapshot!("plan_table", data(&["-c", QUICKSTART, "plan"]));
    insta::assert_snapshot!("plan_mermaid", data(&["-c", QUICKSTART, "plan", "--format", "mermaid"]));
    let json = data(&["-c", QUICKSTART, "plan", "-o", "json"]);
    assert_eq!(json, data(&["plan", "--format", "json", "-c", QUICKSTART]));
    let plan: Value = serde_json::from_str(&json).expect("JSON");
    insta::assert_json_snapshot!("plan_json", plan);
}

#[test]
fn the_plan_has_the_names_of_the_interface() {
    let plan: Value = serde_json::from_str(&data(&["-c", QUICKSTART, "plan", "-o", "json"])).expect("JSON");
    let to_hz = plan["copies"].as_array().expect("copies").iter().find(|copy| copy["to"] == "hz").expect("one to hz");
    assert_eq!((&to_hz["topic"], &to_hz["from"]), (&"orders".into(), &"bj".into()));
    assert_eq!(to_hz["because"], serde_json::json!(["cache-evict", "inventory", "order-timeline"]));
    let delivery = &plan["deliveries"][0];
    for name in ["region", "topic", "group", "mode", "reads"] {
        assert!(delivery[name].is_string(), "{name} in {delivery}");
    }
    let create = &plan["creates"][0];
    assert!(create["region"].is_string() && create["topic"].is_string() && create["partitions"].is_i64(), "{create}");
    assert!(plan["proofs"].as_array().expect("proofs").iter().all(|proof| proof["holds"] == true));
}

fn star() -> Setup {
    let setup = Setup::from_text(
        "center: hz
topology: star
regions:
  hz: {broker: kafka, kafka: {bootstrap.servers: \"hz.example:9092\"}, replication_factor: 3}
  sh: {broker: kafka, kafka: {bootstrap.servers: \"${env:SH_BROKERS}\"}}
  bj: {broker: kafka, kafka: {bootstrap.servers: \"bj.example:9092\"}}
topics: ./topics
",
    );
    setup.topic(
        "prices",
        "topic: prices
copies: own-topic
partitions: 4
subscriptions:
  - group: shop
    mode: all-unit
    regions: [sh, bj]
",
    );
    setup
}

fn run_in(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = setup.command(arguments);
    command.env("SH_BROKERS", "secret.example:9092").env_remove("COLUMNS").output().expect("the program starts")
}

#[test]
fn a_star_with_topics_of_their_own_shows_where_records_are_born_and_written() {
    let output = run_in(&star(), &["plan"]);
    assert_eq!(err(&output), "");
    insta::assert_snapshot!("plan_star", out(&output));
}

#[test]
fn rights_are_ready_commands_and_show_no_value_that_came_from_elsewhere() {
    let setup = star();
    let text = out(&run_in(&setup, &["acls"]));
    assert!(!text.contains("secret.example"), "{text}");
    insta::assert_snapshot!("acls", text);
    let only = out(&run_in(&setup, &["acls", "--region", "bj", "--principal", "User:CN={region} bridge"]));
    assert!(only.contains("--allow-principal 'User:CN=sh bridge'") || only.contains("'User:CN=hz bridge'"), "{only}");
    assert!(!only.contains("hz.example"), "{only}");
    let json: Value = serde_json::from_str(&out(&run_in(&setup, &["acls", "-o", "json"]))).expect("JSON");
    let acl = &json["acls"][0];
    for name in ["cluster", "bridge", "principal", "resource", "name", "pattern"] {
        assert!(acl[name].is_string(), "{name} in {acl}");
    }
    for line in text.lines().filter(|line| line.starts_with("kafka-acls")) {
        assert!(parses_as_shell(line), "{line}");
    }
}

fn parses_as_shell(script: &str) -> bool {
    let shell = Command::new("bash").args(["-n", "-c", script]).output().expect("bash is there");
    shell.status.success()
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let bash = data(&["completions", "bash"]);
    assert!(parses_as_shell(&bash) && bash.contains("accept-gap"));
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(data(&["completions", shell]).contains("accept-gap"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let commands: [&[&str]; 5] = [
        &["-c", QUICKSTART, "plan", "-o", "json"],
        &["-c", QUICKSTART, "validate"],
        &["schema"],
        &["completions", "bash"],
        &["--help"],
    ];
    for arguments in commands {
        let mut child =
            longshore(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn wrong_usage_and_wrong_configuration_exit_with_2_and_say_why() {
    let cases: [(&[&str], &str); 9] = [
        (&["ploan"], "a similar subcommand exists: 'plan'"),
        (&["plan", "--format", "dot"], "possible values: table, json, mermaid"),
        (&["-c", "/nowhere/longshore.yaml", "plan"], "/nowhere/longshore.yaml"),
        (&["-c", QUICKSTART, "run"], "hint: regions: bj, hz, sh"),
        (&["-c", QUICKSTART, "run", "--region", "hx"], "hint: did you mean `hz`?"),
        (&["-c", QUICKSTART, "acls", "--region", "hx"], "hint: did you mean `hz`?"),
        (&["-c", QUICKSTART, "pause", "--link", "hz"], "FROM:TO"),
        (&["-c", QUICKSTART, "owner", "1", "--rules", "buyer"], "hint: rule sets: `buyers`"),
        (&["-c", QUICKSTART, "owner", "1", "--epoch", "2"], "is epoch 1 of `buyers`, not 2"),
    ];
    for (arguments, expected) in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(expected), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{arguments:?}");
    }
}

#[test]
fn owner_says_which_region_a_key_belongs_to_and_by_which_line() {
    let by = |key: &str| {
        let answer: Value = serde_json::from_str(&data(&["-c", QUICKSTART, "-o", "json", "owner", key])).expect("JSON");
        assert_eq!((&answer["key"], &answer["rules"], &answer["epoch"]), (&json!(key), &json!("buyers"), &json!(1)));
        let by = answer["by"].as_str().expect("text").replace(&format!("{}/", sources().display()), "");
        (answer["region"].as_str().expect("text").to_owned(), by)
    };
    let rule = |line: &str| format!("examples/quickstart/rules/buyers.yaml:{line}");
    assert_eq!(by("10086"), ("bj".into(), rule("11: exact")));
    assert_eq!(by("sh-1"), ("sh".into(), rule("13: prefix `sh-`")));
    assert_eq!(by("buyer-10086"), ("bj".into(), rule("9: slots 8000-9999 (crc32 slot 9911)")));
    assert_eq!(by("-5"), ("sh".into(), rule("8: slots 5000-7999 (crc32 slot 7075)")));
    assert_eq!(by(""), ("hz".into(), rule("7: slots 0-4999 (crc32 slot 0)")));
    assert_eq!(data(&["-c", QUICKSTART, "owner", "x", "--rules", "center"]), "hz owns it: the center owns every key\n");
}

#[test]
fn rules_show_says_what_each_region_owns() {
    let shown: Value = serde_json::from_str(&data(&["-c", QUICKSTART, "-o", "json", "rules", "show"])).expect("JSON");
    let buyers = &shown["rules"][0];
    assert_eq!(
        (&buyers["rules"], &buyers["slots"], &buyers["hash"]),
        (&json!("buyers"), &json!(10_000), &json!("crc32"))
    );
    assert_eq!(buyers["regions"]["hz"], json!({"slots": 5000, "exact": 0, "prefix": 0, "range": 0}));
    assert_eq!(buyers["regions"]["bj"], json!({"slots": 2000, "exact": 1, "prefix": 0, "range": 0}));
    assert!(data(&["-c", QUICKSTART, "rules", "show"]).contains("50.00 %"));
}

#[test]
fn the_environment_names_the_file_and_the_region() {
    let mut command = longshore(&["plan", "--format", "mermaid"]);
    let output = command.env("LONGSHORE_CONFIG", QUICKSTART).output().expect("the program starts");
    assert_eq!(out(&output), data(&["-c", QUICKSTART, "plan", "--format", "mermaid"]));
    let mut command = longshore(&["-c", QUICKSTART, "run"]);
    let output = command.env("LONGSHORE_REGION", "hx").output().expect("the program starts");
    assert!(err(&output).contains("no region `hx`"), "{}", err(&output));
}

fn embedded() -> Setup {
    let setup = Setup::from_text(
        "center: hz
standby: [sh]
regions: {hz: {broker: embedded}, sh: {broker: embedded}}
topics: ./topics
",
    );
    setup.topic_for_all("orders", 3);
    setup
}

fn json_of(setup: &Setup, arguments: &[&str], code: i32) -> Value {
    let output = setup.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn topics_are_compared_and_brought_into_shape() {
    let setup = embedded();
    let missing = json_of(&setup, &["topics", "diff", "-o", "json"], 3);
    assert_eq!(missing["equal"], false);
    assert_eq!(missing["differences"].as_array().map(Vec::len), Some(4), "{missing}");

    let dry = json_of(&setup, &["topics", "sync", "--dry-run", "-o", "json"], 0);
    assert_eq!(dry["changes"].as_array().map(Vec::len), Some(4), "{dry}");
    assert_eq!(json_of(&setup, &["topics", "diff", "-o", "json"], 3), missing, "a dry run changes nothing");

    let done = json_of(&setup, &["topics", "sync", "-o", "json"], 0);
    let created = done["changes"].as_array().expect("changes").iter();
    assert!(created.clone().all(|change| change["action"] == "create" && change["outcome"] == "done"), "{done}");
    assert!(created.clone().any(|change| change["topic"] == "orders" && change["partitions"] == 3), "{done}");
    assert_eq!(json_of(&setup, &["topics", "diff", "-o", "json"], 0)["equal"], true);
    assert_eq!(json_of(&setup, &["topics", "sync", "-o", "json"], 0)["changes"], serde_json::json!([]));

    setup.topic_for_all("orders", 5);
    let grown = json_of(&setup, &["topics", "sync", "-o", "json"], 0);
    let changes = grown["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), 2, "{grown}");
    assert!(changes.iter().all(|change| change["action"] == "grow" && change["partitions"] == 5), "{grown}");
    assert_eq!(json_of(&setup, &["topics", "diff", "-o", "json"], 0)["equal"], true);
}

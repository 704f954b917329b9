//! Values that are secret, or that came from the environment or from files, are shown nowhere.

use insta::assert_snapshot;
use longshore::config::Cluster;
use secrecy::ExposeSecret;

use super::Files;

const CANARY: &str = "canary-4711-do-not-show";

#[test]
fn a_variable_that_is_not_set() {
    let files = Files::right().append("longshore.yaml", "admin: {token: \"${env:LONGSHORE_TEST_NEVER_SET}\"}\n");
    assert_snapshot!(files.report());
}

#[test]
fn a_file_of_a_secret_that_does_not_exist() {
    let files = Files::right().append("longshore.yaml", "control: {secret: \"${file:secret.txt}\"}\n");
    assert_snapshot!(files.report());
}

#[test]
fn references_that_are_none() {
    let files =
        Files::right().append("longshore.yaml", "control: {secret: \"${vault:x}\"}\nadmin: {token: \"${env:X\"}\n");
    assert_snapshot!(files.report());
}

#[test]
fn a_secret_that_is_empty() {
    let files = Files::right().with("secret.txt", "\n");
    assert_snapshot!(files.append("longshore.yaml", "control: {secret: \"${file:secret.txt}\"}\n").report());
}

#[test]
fn references_are_replaced_and_one_line_end_is_trimmed() {
    let text = "\
admin: {token: \"a-${file:secret.txt}-${env:CARGO_PKG_NAME}-$${env:X}\"}
control: {secret: \"${file:secret.txt}\"}
";
    let files = Files::right().with("secret.txt", format!("{CANARY}\r\n")).append("longshore.yaml", text);
    let config = files.load().expect("right files");
    let token = config.admin.token.as_ref().expect("a token").expose_secret().to_owned();
    assert_eq!(token, format!("a-{CANARY}-longshore-${{env:X}}"));
    assert_eq!(config.control_secret.as_ref().expect("a secret").expose_secret(), CANARY);
}

#[test]
fn a_value_from_elsewhere_is_not_shown_wherever_it_is_wrong() {
    let wrong = "\"${file:secret.txt}\"";
    let text = format!(
        "\
center: {wrong}
standby: [{wrong}]
topology: {wrong}
regions:
  hz: {{broker: {wrong}}}
  sh: {{kafka: {{bootstrap.servers: {wrong}, socket.timeout.ms: {wrong}, security.protocol: {wrong}}}}}
  bj: {{broker: embedded}}
topics: {wrong}
rules: [{wrong}]
links: {{start_from: {wrong}, commit_interval: {wrong}, rate_limit: {{bytes_per_second: {wrong}}}}}
create_topics: {wrong}
admin: {{listen: {wrong}, token: {wrong}}}
control: {{secret: {wrong}}}
hooks: {{secret: {wrong}, ban: {{url: {wrong}, timeout: {wrong}}}, gate: {{exec: [{wrong}]}}}}
"
    );
    let files = Files::right().with("secret.txt", CANARY).with("longshore.yaml", text);
    let report = files.load().expect_err("nearly everything is wrong");
    assert!(!report.to_string().contains(CANARY), "{report}");
    assert!(!format!("{report:?}").contains(CANARY));
    assert!(!serde_json::to_string(&report).expect("a report as JSON").contains(CANARY));
    assert_snapshot!(files.report());
}

#[test]
fn literal_secrets_are_blanked_in_the_lines_shown() {
    let text = format!(
        "\
admin: {{tokn: {CANARY}, token: {CANARY}, colour: blue}}
control: {{secret: {CANARY}, colour: blue}}
hooks:
  secrett: |
    {CANARY}
  colour: {{a: b}}
"
    );
    let region =
        format!("hz: {{kafka: {{bootstrap.servers: a, sasl.password: {CANARY}, sasl.pasword: {CANARY}, color: b}}}}");
    let files =
        Files::right().edit("longshore.yaml", "hz: {broker: embedded}", &region).append("longshore.yaml", &text);
    let report = files.report();
    assert!(!report.contains(CANARY), "{report}");
    assert_snapshot!(report);
}

#[test]
fn debug_output_of_a_configuration_shows_no_value() {
    let text = format!(
        "\
admin: {{token: {CANARY}}}
control: {{secret: {CANARY}}}
hooks: {{secret: {CANARY}, ban: {{url: \"http://u:{CANARY}@x/\"}}, gate: {{exec: [a, {CANARY}]}}}}
"
    );
    let kafka =
        format!("hz: {{kafka: {{bootstrap.servers: a, sasl.password: {CANARY}}}, topic_config: {{x: {CANARY}}}}}");
    let rocketmq = format!(
        "bj: {{broker: rocketmq, rocketmq: {{name_server: {CANARY}, access_key: {CANARY}, secret_key: {CANARY}}}}}"
    );
    let files = Files::right()
        .edit("longshore.yaml", "hz: {broker: embedded}", &kafka)
        .edit("longshore.yaml", "bj: {broker: embedded}", &rocketmq)
        .append("longshore.yaml", &text);
    let config = files.load().expect("right files");
    let parts = [
        format!("{config:#?}"),
        format!("{:#?}", config.clusters),
        format!("{:#?}", config.admin),
        format!("{:#?}", config.hooks),
        format!("{:#?}", config.control_secret),
    ];
    assert!(!parts.concat().contains(CANARY), "{parts:#?}");
    let Some(Cluster::Kafka(settings)) = config.clusters.get("hz") else { panic!("hz is on Kafka") };
    assert_eq!(settings.common["sasl.password"].expose_secret(), CANARY);
}

#[test]
fn a_report_as_json_has_the_place_and_the_hint_of_each_problem() {
    let report = Files::right().edit("longshore.yaml", "center: hz", "center: hzz").load().expect_err("a wrong center");
    let mut json = serde_json::to_value(&report).expect("a report as JSON");
    json["problems"][0]["file"] = "longshore.yaml".into();
    insta::assert_json_snapshot!(json);
}

//! What is wrong with a file as such: it is not there, no YAML, of another shape.

use insta::assert_snapshot;

use super::Files;

#[test]
fn a_bridge_file_that_does_not_exist() {
    assert_snapshot!(Files::right().without("longshore.yaml").report());
}

#[test]
fn an_empty_bridge_file() {
    assert_snapshot!(Files::right().with("longshore.yaml", "").report());
}

#[test]
fn a_bridge_file_of_comments_only() {
    assert_snapshot!(Files::right().with("longshore.yaml", "# later\n").report());
}

#[test]
fn a_file_that_is_no_map() {
    assert_snapshot!(Files::right().with("longshore.yaml", "- center: hz\n").report());
}

#[test]
fn a_file_that_is_not_utf8() {
    assert_snapshot!(Files::right().with("topics/orders.yaml", b"topic: \xff\xfe\n").report());
}

#[test]
fn a_missing_closing_bracket_does_not_hide_the_problems_of_other_files() {
    let files = Files::right()
        .edit("longshore.yaml", "center: hz", "center: hzz")
        .edit("topics/orders.yaml", "{header: ls_key}", "{header: ls_key")
        .edit("rules/buyers.yaml", "epoch: 1", "epoch: 0");
    assert_snapshot!(files.report());
}

#[test]
fn a_tab_as_indentation() {
    assert_snapshot!(Files::right().with("topics/orders.yaml", "topic: orders\nversion:\n\theader: v\n").report());
}

#[test]
fn a_key_that_stands_twice() {
    assert_snapshot!(Files::right().append("longshore.yaml", "center: sh\n").report());
}

#[test]
fn a_second_document() {
    assert_snapshot!(Files::right().append("topics/orders.yaml", "---\ntopic: clicks\n").report());
}

#[test]
fn merge_keys_and_tags() {
    let files = Files::right().append("longshore.yaml", "links:\n  <<: {guarantee: exactly-once}\n").edit(
        "topics/orders.yaml",
        "partitions: 4",
        "partitions: !count 4",
    );
    assert_snapshot!(files.report());
}

#[test]
fn an_alias_is_what_its_anchor_is() {
    let files = Files::right().edit("longshore.yaml", "hz: {broker: embedded}", "hz: &local {broker: embedded}").edit(
        "longshore.yaml",
        "bj: {broker: embedded}",
        "bj: *local",
    );
    assert_eq!(files.report(), "valid");
}

#[test]
fn an_alias_without_an_anchor() {
    assert_snapshot!(Files::right().edit("longshore.yaml", "bj: {broker: embedded}", "bj: *local").report());
}

#[test]
fn aliases_that_unfold_without_end() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for depth in 1..9 {
        let again = vec![format!("*a{}", depth - 1); 10].join(", ");
        text += &format!("a{depth}: &a{depth} [{again}]\n");
    }
    let report = Files::right().with("topics/orders.yaml", text).report();
    assert!(report.contains("more than 500000 values in one file"), "{report}");
}

#[test]
fn several_unknown_keys_in_several_objects() {
    let files = Files::right()
        .edit("longshore.yaml", "center:", "centre:")
        .append("longshore.yaml", "link:\n  garantee: exactly-once\nlinks:\n  on_gaps: skip\n  colour: blue\n")
        .edit("topics/orders.yaml", "partitions:", "partition_count:")
        .edit("topics/orders.yaml", "mode: all-unit", "mod: all-unit");
    assert_snapshot!(files.report());
}

#[test]
fn several_values_of_a_wrong_type() {
    let more = "create_topics: yes\nshutdown_timeout: 30\nlinks: exactly-once\nadmin: [1]\nhooks:\n  ban: {exec: ls}\n";
    let files = Files::right()
        .append("longshore.yaml", more)
        .edit("topics/orders.yaml", "partitions: 4", "partitions: four")
        .edit("topics/orders.yaml", "routing_key: {header: ls_key}", "routing_key: ls_key")
        .edit("rules/buyers.yaml", "slots: 100", "slots: 1.5");
    assert_snapshot!(files.report());
}

#[test]
fn several_words_that_are_no_choice() {
    let files = Files::right()
        .append(
            "longshore.yaml",
            "topology: ring\nlinks: {guarantee: exactly_once, on_gap: stopp, on_rejected: drop}\n",
        )
        .edit("topics/orders.yaml", "mode: center", "mode: centre")
        .edit("topics/orders.yaml", "mode: all-unit", "mode: everywhere")
        .edit("rules/buyers.yaml", "hash: crc32", "hash: md5");
    assert_snapshot!(files.report());
}

#[test]
fn keys_without_values() {
    let files = Files::right().edit("longshore.yaml", "center: hz", "center:").edit(
        "topics/orders.yaml",
        "mode: all-unit",
        "mode:",
    );
    assert_snapshot!(files.report());
}

#[test]
fn a_folder_of_topics_that_does_not_exist() {
    assert_snapshot!(Files::right().edit("longshore.yaml", "./topics", "./topic").report());
}

#[test]
fn a_folder_without_topic_files() {
    assert_snapshot!(Files::right().without("topics/orders.yaml").report());
}

#[test]
fn a_listed_file_that_does_not_exist() {
    let files = Files::right().edit("longshore.yaml", "rules: ./rules", "rules: [rules/buyers.yaml, rules/shops.yaml]");
    assert_snapshot!(files.report());
}

#[test]
fn a_truth_value_as_a_name_stays_text() {
    let files = Files::right().edit("longshore.yaml", "bj:", "no:");
    assert!(files.load().is_ok_and(|config| config.deployment.regions.iter().any(|name| name.as_str() == "no")));
}

//! What is wrong in topic files: names, sources of key and version, subscriptions, names that would collide.

use insta::assert_snapshot;

use super::{Files, ORDERS};

/// The subscriptions of a topic `orders` that has a key and a version.
fn subscriptions(list: &str) -> Files {
    let head = ORDERS.split_inclusive('\n').take(5).collect::<String>();
    let spare = "topic: spare\nrouting_key: {key: true}\nsubscriptions: [{group: spare, mode: unit, rules: buyers}]\n";
    Files::right().with("topics/orders.yaml", head + list).with("topics/spare.yaml", spare)
}

#[test]
fn a_topic_without_a_name_and_a_subscription_without_its_group() {
    let files = Files::right().edit("topics/orders.yaml", "topic: orders\n", "").edit(
        "topics/orders.yaml",
        "- group: inventory\n    mode",
        "- mode",
    );
    assert_snapshot!(files.report());
}

#[test]
fn names_that_no_topic_or_group_may_have() {
    let files = Files::right().edit("topics/orders.yaml", "topic: orders", "topic: order events").edit(
        "topics/orders.yaml",
        "group: inventory",
        "group: in/ventory",
    );
    assert_snapshot!(files.report());
}

#[test]
fn names_that_belong_to_longshore() {
    let files = Files::right().edit("topics/orders.yaml", "topic: orders", "topic: __longshore_control");
    assert_snapshot!(files.report());
}

#[test]
fn partitions_out_of_range() {
    assert_snapshot!(Files::right().edit("topics/orders.yaml", "partitions: 4", "partitions: 0").report());
}

#[test]
fn a_topic_that_is_declared_twice() {
    assert_snapshot!(Files::right().with("topics/orders-2.yaml", "topic: orders\n").report());
}

#[test]
fn a_topic_without_subscriptions_is_warned_about() {
    assert_snapshot!(Files::right().with("topics/clicks.yaml", "topic: clicks\n").report());
}

#[test]
fn a_group_that_stands_twice() {
    assert_snapshot!(Files::right().edit("topics/orders.yaml", "group: cache", "group: inventory").report());
}

#[test]
fn sources_of_the_key_that_say_nothing_or_too_much() {
    let files = Files::right()
        .edit("topics/orders.yaml", "routing_key: {header: ls_key}", "routing_key: {header: ls_key, key: true}")
        .edit("topics/orders.yaml", "version: {header: ls_version}", "version: {timestamp: false}");
    assert_snapshot!(files.report());
}

#[test]
fn json_pointers_that_are_none() {
    let files = Files::right()
        .edit("topics/orders.yaml", "routing_key: {header: ls_key}", "routing_key: {json: $.buyer.id}")
        .edit("topics/orders.yaml", "version: {header: ls_version}", "version: {json: /a~b}");
    assert_snapshot!(files.report());
}

#[test]
fn a_unit_group_without_key_and_rules() {
    let files = Files::right().edit("topics/orders.yaml", "routing_key: {header: ls_key}\n", "").edit(
        "topics/orders.yaml",
        "    rules: buyers\n",
        "",
    );
    assert_snapshot!(files.report());
}

#[test]
fn a_rule_set_that_does_not_exist() {
    assert_snapshot!(Files::right().edit("topics/orders.yaml", "rules: buyers", "rules: buyer").report());
}

#[test]
fn a_rule_set_in_a_file_that_cannot_be_read_is_not_called_unknown() {
    let report = Files::right().with("rules/buyers.yaml", "rules: [\n").report();
    assert!(report.contains("rules/buyers.yaml:") && !report.contains("unknown rule set"), "{report}");
}

#[test]
fn keys_that_only_another_mode_has() {
    let files = subscriptions("  - {group: a, mode: nearby, rules: buyers, on_missing_key: center}\n");
    assert_snapshot!(files.report());
}

#[test]
fn regions_of_a_group_that_are_unknown_repeated_or_none() {
    let files = subscriptions(
        "  - {group: a, mode: nearby, regions: [hz, gz, hz]}\n  - {group: b, mode: nearby, regions: []}\n",
    );
    assert_snapshot!(files.report());
}

#[test]
fn a_center_group_that_is_not_deployed_in_the_center() {
    assert_snapshot!(subscriptions("  - {group: a, mode: center, regions: [bj]}\n").report());
}

#[test]
fn a_unit_group_that_is_not_deployed_where_its_keys_go() {
    assert_snapshot!(subscriptions("  - {group: a, mode: unit, rules: buyers, regions: [hz, bj]}\n").report());
}

#[test]
fn direct_delivery_where_something_must_be_filtered() {
    let files = subscriptions(
        "  - {group: a, mode: center, delivery: direct}
  - {group: b, mode: unit, rules: buyers, delivery: direct}
  - {group: c, mode: nearby, delivery: direct}
  - {group: d, mode: all-unit, delivery: direct, idempotency: id, delivery_topic: x}
",
    );
    assert_snapshot!(files.report());
}

#[test]
fn idempotency_without_what_it_needs() {
    let files = Files::right().edit("topics/orders.yaml", "version: {header: ls_version}\n", "").edit(
        "topics/orders.yaml",
        "    delivery: direct\n",
        "    idempotency: id\n    id_window: 0\n    idempotency_ttl: 0s\n    on_missing_version: deliver\n",
    );
    assert_snapshot!(files.report());
    let files = subscriptions(
        "  - {group: a, mode: nearby, id_window: 0, idempotency_ttl: 1d, on_missing_version: deliver, idempotency_key: {key: true}}\n",
    );
    assert_snapshot!(files.report());
}

#[test]
fn a_subscription_that_starts_nowhere() {
    assert_snapshot!(subscriptions("  - {group: a, mode: nearby, start_from: now}\n").report());
}

#[test]
fn delivery_topics_that_would_be_the_same() {
    let files = Files::right()
        .with("topics/a.yaml", "topic: a\nsubscriptions: [{group: b__c, mode: nearby}]\n")
        .with("topics/a__b.yaml", "topic: a__b\nsubscriptions: [{group: c, mode: nearby}]\n");
    assert_snapshot!(files.report());
}

#[test]
fn made_topics_that_meet_declared_ones() {
    let files = Files::right()
        .with("topics/a.yaml", "topic: orders__inventory\nsubscriptions: [{group: x, mode: nearby}]\n")
        .with("topics/b.yaml", "topic: orders__dead-letter\nsubscriptions: [{group: x, mode: nearby}]\n")
        .with(
            "topics/c.yaml",
            "topic: c\ncopies: own-topic\nsubscriptions:\n  - {group: from__sh, mode: all-unit}\n  - {group: dead-letter, mode: nearby}\n",
        )
        .with("topics/d.yaml", "topic: d\nsubscriptions: [{group: x, mode: nearby, delivery_topic: orders}]\n");
    assert_snapshot!(files.report());
}

#[test]
fn internal_topics_that_would_be_the_same_in_spite_of_delivery_topics() {
    let files = Files::right()
        .with("topics/a.yaml", "topic: a\nsubscriptions: [{group: b__c, mode: nearby, delivery_topic: one}]\n")
        .with("topics/a__b.yaml", "topic: a__b\nsubscriptions: [{group: c, mode: nearby, delivery_topic: two}]\n");
    assert_snapshot!(files.report());
}

#[test]
fn a_topic_and_a_group_that_are_too_long_together() {
    let (topic, group) = ("t".repeat(120), "g".repeat(120));
    let text = format!("topic: {topic}\nsubscriptions: [{{group: {group}, mode: nearby}}]\n");
    assert_snapshot!(Files::right().with("topics/long.yaml", text).report());
}

#[test]
fn names_that_rocketmq_does_not_take() {
    let region = "bj: {broker: rocketmq, rocketmq: {name_server: 'c:9876'}}";
    let files = Files::right().edit("longshore.yaml", "bj: {broker: embedded}", region).edit(
        "topics/orders.yaml",
        "topic: orders",
        "topic: orders.v1",
    );
    assert_snapshot!(files.append("longshore.yaml", "control: {secret: 0123456789abcdef}\n").report());
}

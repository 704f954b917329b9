//! What is wrong in rule files: every key must belong to exactly one region.

use insta::assert_snapshot;

use super::Files;

fn rules(more: &str) -> Files {
    Files::right().append("rules/buyers.yaml", more)
}

#[test]
fn slots_with_gaps() {
    let files = Files::right().edit("rules/buyers.yaml", "0-59", "1-58").edit("rules/buyers.yaml", "60-99", "60-97");
    assert_snapshot!(files.report());
}

#[test]
fn slots_that_overlap() {
    assert_snapshot!(Files::right().edit("rules/buyers.yaml", "60-99", "50-99").report());
}

#[test]
fn slots_that_do_not_exist_or_run_backwards_or_are_no_numbers() {
    let files = Files::right()
        .edit("rules/buyers.yaml", "0-59", "59-0")
        .edit("rules/buyers.yaml", "60-99", "60-100")
        .append("rules/buyers.yaml", "  - {slots: most, region: bj}\n");
    assert_snapshot!(files.report());
}

#[test]
fn unknown_regions_in_every_kind_of_rule() {
    let files = rules(
        "exact: [{keys: [\"1\"], region: shh}]\nprefix: [{prefix: a, region: gz}]\nrange: [{from: 1, to: 2, region: h}]\n",
    );
    assert_snapshot!(files.edit("rules/buyers.yaml", "60-99, region: sh", "60-99, region: s").report());
}

#[test]
fn no_assignment_and_an_epoch_of_zero() {
    let files = Files::right().with("rules/buyers.yaml", "rules: buyers\nepoch: 0\nslots: 0\n");
    assert_snapshot!(files.report());
}

#[test]
fn rule_sets_of_one_name_and_of_a_built_in_name() {
    let again = "rules: buyers\nslots: 1\nassign: [{slots: 0, region: hz}]\n";
    let files = Files::right()
        .with("rules/again.yaml", again)
        .with("rules/center.yaml", again.replace("buyers", "center"))
        .with("rules/odd.yaml", again.replace("buyers", "a b"));
    assert_snapshot!(files.report());
}

#[test]
fn keys_in_two_exact_rules() {
    let files =
        rules("exact:\n  - {keys: [\"1\", \"2\"], region: hz}\n  - {keys: [\"2\"], region: sh}\n  - {region: sh}\n");
    assert_snapshot!(files.report());
}

#[test]
fn a_file_of_keys_that_does_not_exist() {
    assert_snapshot!(rules("exact: [{keys_file: vip.txt, region: sh}]\n").report());
}

#[test]
fn a_file_of_keys_is_looked_for_beside_the_rule_file() {
    let files = rules("exact: [{keys_file: vip.txt, region: sh}]\n").with("rules/vip.txt", "10086\n\n10010\n");
    let config = files.load().expect("right files");
    assert_eq!(config.rules[0].exact.len(), 2);
}

#[test]
fn prefixes_that_are_empty_or_stand_twice() {
    let files = rules(
        "prefix:\n  - {prefix: \"\", region: hz}\n  - {prefix: us-, region: sh}\n  - {prefix: us-, region: hz}\n",
    );
    assert_snapshot!(files.report());
}

#[test]
fn ranges_that_overlap_or_run_backwards() {
    let files = rules(
        "range:\n  - {from: 1, to: 10, region: hz}\n  - {from: 10, to: 20, region: sh}\n  - {from: 9, to: 3, region: sh}\n",
    );
    assert_snapshot!(files.report());
}

#[test]
fn a_rule_set_that_nobody_uses_is_warned_about() {
    let shops = "rules: shops\nassign: [{slots: 0-9999, region: hz}]\n";
    assert_snapshot!(Files::right().with("rules/shops.yaml", shops).report());
}

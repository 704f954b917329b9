//! Owners of keys: the order of rules, slots, and a slow second reading of the same words to compare with.

use proptest::prelude::*;

use super::*;

fn region(name: &str) -> Owner {
    Owner { region: RegionName::new(name), line: 7 }
}

fn sample(hash: Hash) -> RuleSet {
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, owner)| ((*key).to_owned(), region(owner))).collect();
    RuleSet {
        name: "buyers".into(),
        file: "rules/buyers.yaml".into(),
        epoch: 1,
        slots: 100,
        hash,
        assign: vec![(0, 59, region("hz")), (60, 99, region("sh"))],
        exact: owned(&[("10086", "bj"), ("us-vip", "hz")]),
        prefix: owned(&[("us-", "sh"), ("us-east-", "bj"), ("1", "hz")]),
        range: vec![(-50, -10, region("bj")), (20_000, 29_999, region("sh")), (30_000, 30_000, region("bj"))],
    }
}

fn owner_of<'t>(table: &'t Table, key: &str) -> (&'t str, By<'t>) {
    let found = table.owner(key.as_bytes());
    assert_eq!(found.line, 7);
    (found.region.as_str(), found.by)
}

#[test]
fn an_exact_rule_comes_before_a_prefix_and_the_longest_prefix_before_others() {
    let table = Table::new(&sample(Hash::Crc32));
    assert_eq!(owner_of(&table, "10086"), ("bj", By::Exact));
    assert_eq!(owner_of(&table, "us-vip"), ("hz", By::Exact));
    assert_eq!(owner_of(&table, "us-vip2"), ("sh", By::Prefix(b"us-")));
    assert_eq!(owner_of(&table, "us-"), ("sh", By::Prefix(b"us-")));
    assert_eq!(owner_of(&table, "us-east-"), ("bj", By::Prefix(b"us-east-")));
    assert_eq!(owner_of(&table, "us-east-7"), ("bj", By::Prefix(b"us-east-")));
    assert!(matches!(owner_of(&table, "us"), (_, By::Slot(..))));
}

#[test]
fn a_prefix_comes_before_a_range_and_a_range_before_slots() {
    let table = Table::new(&sample(Hash::Mod));
    assert_eq!(owner_of(&table, "12000"), ("hz", By::Prefix(b"1")));
    assert_eq!(owner_of(&table, "20000"), ("sh", By::Range(20_000, 29_999)));
    assert_eq!(owner_of(&table, "29999"), ("sh", By::Range(20_000, 29_999)));
    assert_eq!(owner_of(&table, "30000"), ("bj", By::Range(30_000, 30_000)));
    assert_eq!(owner_of(&table, "+0020000"), ("sh", By::Range(20_000, 29_999)));
    assert_eq!(owner_of(&table, "-10"), ("bj", By::Range(-50, -10)));
    let slot = |number| Slot { number, fell_back: false };
    assert_eq!(owner_of(&table, "30001"), ("hz", By::Slot(slot(1), 0, 59)));
    assert_eq!(owner_of(&table, "-9"), ("sh", By::Slot(slot(91), 60, 99)));
    assert_eq!(
        owner_of(&table, "20000.0").1,
        By::Slot(super::slot(b"20000.0", Hash::Crc32, 100).but_fell_back(), 0, 59)
    );
}

impl Slot {
    fn but_fell_back(self) -> Self {
        Self { fell_back: true, ..self }
    }
}

#[test]
fn integers_beyond_64_bits_have_slots_and_no_range() {
    let rules =
        RuleSet { range: vec![(i64::MIN, i64::MAX, region("bj"))], prefix: BTreeMap::new(), ..sample(Hash::Mod) };
    let table = Table::new(&rules);
    assert_eq!(owner_of(&table, "9223372036854775807"), ("bj", By::Range(i64::MIN, i64::MAX)));
    assert_eq!(owner_of(&table, "-9223372036854775808"), ("bj", By::Range(i64::MIN, i64::MAX)));
    assert_eq!(owner_of(&table, "9223372036854775808"), ("hz", By::Slot(Slot { number: 8, fell_back: false }, 0, 59)));
    assert_eq!(
        owner_of(&table, "-9223372036854775809"),
        ("sh", By::Slot(Slot { number: 91, fell_back: false }, 60, 99))
    );
}

#[test]
fn what_is_no_integer_falls_back_to_crc32_and_says_so() {
    for key in ["", "+", "-", "--1", "+-1", " 1", "1 ", "1.0", "1e3", "0x10", "１２", "一"] {
        let Slot { number, fell_back } = slot(key.as_bytes(), Hash::Mod, 10_000);
        assert!(fell_back, "{key:?}");
        assert_eq!(number, slot(key.as_bytes(), Hash::Crc32, 10_000).number, "{key:?}");
    }
    assert!(!slot(b"x", Hash::Crc32, 10_000).fell_back);
}

#[test]
fn keys_that_are_no_text_have_an_owner_too() {
    let table = Table::new(&sample(Hash::Crc32));
    let expected = super::slot(&[0xff, 0], Hash::Crc32, 100);
    let by = table.owner(&[0xff, 0]).by;
    assert!(matches!(by, By::Slot(slot, ..) if slot == expected), "{by:?}");
}

/// The page's words read slowly: one rule after the other.
fn slow_owner(rules: &RuleSet, key: &str) -> Owner {
    if let Some(region) = rules.exact.get(key) {
        return region.clone();
    }
    let mut fitting: Vec<_> = rules.prefix.iter().filter(|(prefix, _)| key.starts_with(prefix.as_str())).collect();
    fitting.sort_by_key(|(prefix, _)| prefix.len());
    if let Some((_, region)) = fitting.last() {
        return (*region).clone();
    }
    let number: Option<i128> = key.parse().ok();
    let in_range = |(from, to, _): &&(i64, i64, Owner)| {
        number.is_some_and(|number| (i128::from(*from)..=i128::from(*to)).contains(&number))
    };
    if let Some((.., region)) = rules.range.iter().find(in_range) {
        return region.clone();
    }
    let slots = i128::from(rules.slots);
    let crc = i128::from(crc32fast::hash(key.as_bytes()));
    let slot = match rules.hash {
        Hash::Crc32 => crc % slots,
        Hash::Mod => number.unwrap_or(crc).rem_euclid(slots),
    };
    let (.., region) =
        rules.assign.iter().find(|(from, to, _)| (i128::from(*from)..=i128::from(*to)).contains(&slot)).unwrap();
    region.clone()
}

fn any_region() -> impl Strategy<Value = Owner> {
    prop::sample::select(vec!["bj", "hz", "sh"]).prop_map(region)
}

/// Keys and prefixes from few characters, so that they meet.
fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab1]{0,4}",
        "[+-]?[0-9]{1,6}",
        (-200_i64..200).prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\\PC{0,6}",
    ]
}

/// The rows of the page's table: key, slot by crc32, slot by mod.
fn vectors() -> Vec<(String, u32, u32)> {
    let page = include_str!("../../../docs/routing.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| key | bytes")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
            let key = cells[0].trim_start();
            let key = key.strip_prefix('`').and_then(|key| key.strip_suffix('`')).unwrap_or("");
            let number = |index: usize| cells[index].trim().parse::<u32>().unwrap();
            assert_eq!((key.len() as u32, crc32fast::hash(key.as_bytes())), (number(1), number(2)), "{row}");
            (key.to_owned(), number(3), number(4))
        })
        .collect()
}

#[test]
fn the_test_vectors_of_the_page_hold() {
    let vectors = vectors();
    assert!(vectors.len() >= 50, "{}", vectors.len());
    for (key, crc, modulo) in vectors {
        assert_eq!(slot(key.as_bytes(), Hash::Crc32, 10_000).number, crc, "{key:?}");
        assert_eq!(slot(key.as_bytes(), Hash::Mod, 10_000).number, modulo, "{key:?}");
    }
}

prop_compose! {
    fn any_rules()(
        slots in 1_u32..300,
        hash in prop::sample::select(vec![Hash::Crc32, Hash::Mod]),
        cuts in prop::collection::btree_set(1_u32..300, 0..6),
        owners in prop::collection::vec(any_region(), 7),
        exact in prop::collection::btree_map(any_key(), any_region(), 0..6),
        prefix in prop::collection::btree_map("[ab1]{1,3}", any_region(), 0..6),
        ends in prop::collection::btree_set(-200_i64..200, 0..6),
    ) -> RuleSet {
        let mut starts: Vec<u32> = std::iter::once(0).chain(cuts.into_iter().filter(|cut| *cut < slots)).collect();
        starts.push(slots);
        let assign = starts.windows(2).zip(&owners).map(|(ends, owner)| (ends[0], ends[1] - 1, owner.clone())).collect();
        let ends: Vec<i64> = ends.into_iter().collect();
        let range = ends.chunks_exact(2).zip(&owners).map(|(pair, owner)| (pair[0], pair[1], owner.clone())).collect();
        RuleSet { name: "any".into(), file: String::new(), epoch: 1, slots, hash, assign, exact, prefix, range }
    }
}

proptest! {
    #[test]
    fn a_table_answers_as_its_words_read_slowly(rules in any_rules(), keys in prop::collection::vec(any_key(), 1..20)) {
        let table = Table::new(&rules);
        for key in keys.iter().chain(rules.exact.keys()).chain(rules.prefix.keys()) {
            prop_assert_eq!(table.owner(key.as_bytes()).region, &slow_owner(&rules, key).region, "{:?}", key);
        }
    }
}

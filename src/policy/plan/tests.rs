//! The plan against semantics §2: the table written out, and properties held against a simulation that knows only the
//! rules of carrying, not the rules of planning.

use proptest::prelude::*;

use super::sample::deployment;
use super::*;

/// `from>to` of every copy.
fn arrows(deployment: &Deployment) -> Vec<String> {
    copies(deployment).iter().map(|copy| format!("{}>{}", copy.from, copy.to)).collect()
}

#[test]
fn each_mode_is_copied_where_the_table_says() {
    // r0 is the center, r1 a standby, r2 neither.
    for (mode, mesh, star) in [
        (Mode::Center, "r0>r1 r1>r0 r2>r0 r2>r1", "r0>r1 r1>r0 r2>r0"),
        (Mode::Nearby, "", ""),
        (Mode::Unit, "r0>r1 r0>r2 r1>r0 r1>r2 r2>r0 r2>r1", "r0>r1 r0>r2 r1>r0 r2>r0"),
        (Mode::AllUnit, "r0>r1 r0>r2 r1>r0 r1>r2 r2>r0 r2>r1", "r0>r1 r0>r2 r1>r0 r2>r0"),
    ] {
        for (topology, expected) in [(Topology::Mesh, mesh), (Topology::Star, star)] {
            let deployment = deployment(3, &[1], topology, Copies::SameTopic, &[(mode, vec![0, 1, 2])]);
            assert_eq!(arrows(&deployment).join(" "), expected, "{mode:?} {topology:?}");
        }
    }
}

#[test]
fn a_group_that_is_deployed_in_one_region_needs_copies_there_only() {
    let only = |mode, topology| deployment(3, &[1], topology, Copies::SameTopic, &[(mode, vec![2])]);
    assert_eq!(arrows(&only(Mode::Unit, Topology::Mesh)), ["r0>r2", "r1>r2"]);
    assert_eq!(arrows(&only(Mode::Unit, Topology::Star)), ["r0>r2", "r1>r0"]);
    assert_eq!(arrows(&only(Mode::Center, Topology::Mesh)), Vec::<String>::new());
}

#[test]
fn a_copy_says_because_of_whom_and_a_star_names_those_behind_the_center() {
    let groups = [(Mode::Unit, vec![2]), (Mode::Nearby, vec![0, 1, 2]), (Mode::Center, vec![0])];
    let star = deployment(3, &[], Topology::Star, Copies::SameTopic, &groups);
    let because: Vec<String> = copies(&star)
        .iter()
        .map(|copy| format!("{}>{} {:?} {:?}", copy.from, copy.to, copy.because, copy.origins))
        .collect();
    assert_eq!(because, [r#"r0>r2 ["g0"] ["r0", "r1"]"#, r#"r1>r0 ["g0", "g2"] ["r1"]"#, r#"r2>r0 ["g2"] ["r2"]"#,]);
}

#[test]
fn own_topics_name_their_origin_on_every_leg() {
    let star = deployment(3, &[], Topology::Star, Copies::OwnTopic, &[(Mode::AllUnit, vec![0, 1, 2])]);
    let legs: Vec<String> = copies(&star)
        .iter()
        .map(|copy| format!("{}:{} > {}:{}", copy.from, copy.source_topic, copy.to, copy.target_topic))
        .collect();
    assert_eq!(
        legs,
        [
            "r0:t > r1:t__from__r0",
            "r0:t__from__r2 > r1:t__from__r2",
            "r0:t > r2:t__from__r0",
            "r0:t__from__r1 > r2:t__from__r1",
            "r1:t > r0:t__from__r1",
            "r2:t > r0:t__from__r2",
        ]
    );
    let made: Vec<String> = creates(&star).iter().map(|create| format!("{}:{}", create.region, create.topic)).collect();
    assert!(made.contains(&"r0:t__from__r1".to_owned()) && made.contains(&"r2:t".to_owned()));
}

fn deployments() -> impl Strategy<Value = Deployment> {
    (2usize..=6).prop_flat_map(|regions| {
        let mode = prop_oneof![Just(Mode::Center), Just(Mode::Nearby), Just(Mode::Unit), Just(Mode::AllUnit)];
        let group = (mode, prop::collection::btree_set(0..regions, 1..=regions));
        (
            prop::collection::btree_set(1..regions, 0..regions),
            prop_oneof![Just(Topology::Mesh), Just(Topology::Star)],
            prop_oneof![Just(Copies::SameTopic), Just(Copies::OwnTopic)],
            prop::collection::vec(group, 0..4),
        )
            .prop_map(move |(standby, topology, copies, groups)| {
                let groups: Vec<(Mode, Vec<usize>)> =
                    groups.into_iter().map(|(mode, deployed)| (mode, deployed.into_iter().collect())).collect();
                let standby: Vec<usize> = standby.into_iter().collect();
                deployment(regions, &standby, topology, copies, &groups)
            })
    })
}

/// Every arrival of a record born in `origin`, by carrying it along the copies until nothing moves: each link carries
/// what stands in its source topic and whose origin it is to carry, once per arrival.
fn arrivals(copies: &[Copy], origin: &RegionName) -> Vec<RegionName> {
    let mut waiting = vec![(origin.clone(), TopicName::new("t"))];
    let mut arrived = Vec::new();
    while let Some((region, topic)) = waiting.pop() {
        for copy in copies
            .iter()
            .filter(|copy| copy.from == region && copy.source_topic == topic && copy.origins.contains(origin))
        {
            arrived.push(copy.to.clone());
            assert!(arrived.len() <= 64, "a record of {origin} travels in circles: {arrived:?}");
            waiting.push((copy.to.clone(), copy.target_topic.clone()));
        }
    }
    arrived
}

/// Where semantics §2 wants a record of `origin` besides its origin.
fn wanted(deployment: &Deployment, origin: &RegionName) -> BTreeSet<RegionName> {
    let mut wanted = BTreeSet::new();
    for group in &deployment.topics[0].subscriptions {
        for region in group.regions.iter().filter(|region| *region != origin) {
            let is_wanted = match group.mode {
                Mode::Nearby => false,
                Mode::Unit | Mode::AllUnit => true,
                Mode::Center => *region == deployment.center || deployment.standby.contains(region),
            };
            if is_wanted {
                wanted.insert(region.clone());
            }
        }
    }
    wanted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_record_arrives_once_where_it_is_wanted_and_nowhere_else(deployment in deployments()) {
        let copies = copies(&deployment);
        for origin in &deployment.regions {
            let arrived = arrivals(&copies, origin);
            let distinct: BTreeSet<RegionName> = arrived.iter().cloned().collect();
            prop_assert_eq!(distinct.len(), arrived.len(), "{} arrives twice: {:?}", origin, arrived);
            prop_assert!(!distinct.contains(origin), "{} comes home", origin);
            let wanted = wanted(&deployment, origin);
            prop_assert!(wanted.is_subset(&distinct), "{} misses {:?}", origin, wanted.difference(&distinct));
            // In a star the center may get what it only passes on.
            let extra: Vec<&RegionName> = distinct.difference(&wanted).collect();
            let passes_on = deployment.topology == Topology::Star && extra == [&deployment.center] && !wanted.is_empty();
            prop_assert!(extra.is_empty() || passes_on, "{} is copied to {:?} for nobody", origin, extra);
            let cost = costs(&deployment).into_iter().find(|cost| cost.born_in == *origin).map(|cost| cost.copied_to);
            prop_assert_eq!(cost, Some(distinct.into_iter().collect::<Vec<_>>()));
        }
    }

    #[test]
    fn a_star_has_links_to_and_from_its_center_only(deployment in deployments()) {
        for copy in copies(&deployment) {
            prop_assert!(copy.from != copy.to && !copy.origins.contains(&copy.to) && !copy.because.is_empty());
            prop_assert!(deployment.topology == Topology::Mesh || [&copy.from, &copy.to].contains(&&deployment.center));
        }
    }
}

//! Cases: who owns which partition, how it goes from one sink to the next, and that an old owner changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use longshore::broker::Class;
use longshore::model::names::{TopicName, TopicPartition};

use super::world::{Member, STEP, World, at, eventually, fresh, group, insist};

fn all(topic: &TopicName, partitions: i32) -> BTreeSet<TopicPartition> {
    (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect()
}

/// Serves sinks in turn until `done`; no partition ever has two owners.
fn turn(what: &str, members: &mut [&mut Member], mut done: impl FnMut(&[&mut Member]) -> bool) {
    eventually(what, || {
        for member in members.iter_mut() {
            member.step(STEP);
            member.release();
        }
        let owned: Vec<_> = members.iter().flat_map(|member| &member.owned).collect();
        assert_eq!(owned.iter().collect::<BTreeSet<_>>().len(), owned.len(), "two owners: {owned:?}");
        done(members).then_some(())
    });
}

fn counts(members: &[&mut Member]) -> Vec<usize> {
    members.iter().map(|member| member.owned.len()).collect()
}

pub fn a_lone_sink_gains_every_partition(on: &World) {
    let (first, second) = (on.topic(3), on.topic(2));
    let mut member = on.member(&group(), &fresh("instance"), &[first.clone(), second.clone()]);
    member.gain(5);
    assert_eq!(member.owned, &all(&first, 3) | &all(&second, 2));
    member.close();
}

pub fn two_sinks_share_and_hand_over_without_overlap(on: &World) {
    let topic = on.topic(4);
    let group = group();
    let mut first = on.member(&group, "first", std::slice::from_ref(&topic));
    first.gain(4);
    let mut second = on.member(&group, "second", std::slice::from_ref(&topic));
    turn("two halves", &mut [&mut first, &mut second], |members| counts(members) == [2, 2]);
    assert_eq!(&first.owned | &second.owned, all(&topic, 4));
    for (member, text) in [(&mut first, "first"), (&mut second, "second")] {
        for partition in member.owned.clone() {
            member.carry(&partition, &[text], at(1, text));
        }
    }
    first.close();
    second.gain(4);
    for partition in all(&topic, 4) {
        let found = second.position(&partition).expect("a position");
        assert_eq!(on.values(&partition), [found.note]);
    }
    second.close();
}

pub fn a_revoked_partition_stays_owned_until_it_is_released(on: &World) {
    let topic = on.topic(2);
    let group = group();
    let mut first = on.member(&group, "first", std::slice::from_ref(&topic));
    first.gain(2);
    let mut second = on.member(&group, "second", std::slice::from_ref(&topic));
    eventually("a partition to be revoked", || {
        first.step(STEP);
        second.step(STEP);
        (!first.revoked.is_empty()).then_some(())
    });
    let until = Instant::now() + on.fixture.quiet();
    while Instant::now() < until {
        first.step(STEP);
        second.step(STEP);
        assert!(second.owned.is_disjoint(&first.owned), "gained before it was released");
    }
    let revoked = first.revoked[0].clone();
    first.carry(&revoked, &["still mine"], at(9, ""));
    turn("one each", &mut [&mut first, &mut second], |members| counts(members) == [1, 1]);
    assert_eq!(second.owned.first(), Some(&revoked));
    assert_eq!(second.position(&revoked), Some(at(9, "")));
    first.close();
    second.close();
}

pub fn the_last_commit_before_a_release_is_the_first_position_after_it(on: &World) {
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    let group = group();
    let mut owner = on.member(&group, "member-0", std::slice::from_ref(&topic));
    owner.gain(1);
    for round in 1..=3 {
        owner.carry(&partition, &["once"], at(round, ""));
        let mut next = on.member(&group, &format!("member-{round}"), std::slice::from_ref(&topic));
        owner.carry(&partition, &["twice"], at(round * 10, ""));
        owner.close();
        next.gain(1);
        assert_eq!(next.position(&partition), Some(at(round * 10, "")));
        owner = next;
    }
    assert_eq!(on.values(&partition).len(), 6);
    owner.close();
}

pub fn a_closed_sink_gives_way_at_once(on: &World) {
    let topic = on.topic(2);
    let group = group();
    let mut first = on.member(&group, "first", std::slice::from_ref(&topic));
    first.gain(2);
    let mut second = on.member(&group, "second", std::slice::from_ref(&topic));
    turn("one each", &mut [&mut first, &mut second], |members| counts(members) == [1, 1]);
    first.close();
    let begun = Instant::now();
    second.gain(2);
    let limit = on.fixture.session() * 2 / 3;
    assert!(begun.elapsed() < limit, "waited for a time-out: {:?}", begun.elapsed());
    second.close();
}

pub fn a_dropped_sink_gives_way_after_its_session(on: &World) {
    let topic = on.topic(2);
    let partition = TopicPartition::new(&topic, 0);
    let group = group();
    let mut first = on.member(&group, "first", std::slice::from_ref(&topic));
    first.gain(2);
    first.carry(&partition, &["kept"], at(1, ""));
    let to = first.open(&partition);
    first.begin();
    first.append_texts(to, &["never committed"]);
    first.step(STEP);
    drop(first);
    let mut second = on.member(&group, "second", std::slice::from_ref(&topic));
    second.gain(2);
    assert_eq!(second.position(&partition), Some(at(1, "")));
    second.carry(&partition, &["more"], at(2, ""));
    // The cluster has to give up the open transaction of the dropped one before readers get past it.
    eventually("readers to get past what was left open", || (on.values(&partition) == ["kept", "more"]).then_some(()));
    second.close();
}

/// Two sinks of which the first (with a transaction left open, if so asked) falls silent, and loses its partition to the second.
fn silenced(on: &World, left_open: bool) -> (Member, Member, TopicPartition) {
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    let group = group();
    let mut first = on.member(&group, "first", std::slice::from_ref(&topic));
    first.gain(1);
    if left_open {
        let to = first.open(&partition);
        first.begin();
        first.append_texts(to, &["too late"]);
    }
    let mut second = on.member(&group, "second", std::slice::from_ref(&topic));
    second.gain(1);
    (first, second, partition)
}

fn impatient(on: &World, case: fn(&World)) {
    match on.fixture.impatient() {
        Some(fixture) => case(&World::new(fixture)),
        None => eprintln!("not checked here: this driver's time-out for silent sinks is too long to wait for"),
    }
}

pub fn a_silent_sink_loses_its_partitions_and_cannot_commit(on: &World) {
    impatient(on, |on| {
        let (mut first, mut second, partition) = silenced(on, true);
        let error = first.try_commit(&[(partition.clone(), at(5, ""))]).expect_err("not the owner any more");
        assert!(matches!(error.class, Class::Abort | Class::Fenced), "{error}");
        assert_eq!(on.values(&partition), Vec::<String>::new());
        assert_eq!(second.position(&partition), None);
        second.carry(&partition, &["in time"], at(1, ""));
        eventually("readers to get past what was left open", || (on.values(&partition) == ["in time"]).then_some(()));
        second.close();
    });
}

pub fn a_sink_that_lost_its_partitions_joins_again(on: &World) {
    impatient(on, |on| {
        // With nothing open: a cluster may fence a sink whose transaction outlived its time, and then it is opened anew.
        let (mut first, second, partition) = silenced(on, false);
        eventually("the loss to be told", || {
            first.step(STEP);
            (!first.lost.is_empty()).then_some(())
        });
        first.abort();
        first.release();
        second.close();
        first.gain(1);
        first.carry(&partition, &["again"], at(1, ""));
        assert_eq!(on.values(&partition), ["again"]);
        first.close();
    });
}

pub fn the_same_instance_takes_over_at_once_and_fences_the_old(on: &World) {
    let topic = on.topic(2);
    let partition = TopicPartition::new(&topic, 0);
    let group = group();
    let instance = fresh("instance");
    let mut old = on.member(&group, &instance, std::slice::from_ref(&topic));
    old.gain(2);
    old.carry(&partition, &["before"], at(1, ""));
    let to = old.open(&partition);
    old.begin();
    old.append_texts(to, &["never to be seen"]);
    let mut new = on.member(&group, &instance, std::slice::from_ref(&topic));
    new.gain(2);
    assert_eq!(new.position(&partition), Some(at(1, "")));
    let error = old.try_commit(&[(partition.clone(), at(2, ""))]).expect_err("replaced");
    assert_eq!(error.class, Class::Fenced, "{error}");
    assert_eq!(on.values(&partition), ["before"]);
    assert_eq!(new.position(&partition), Some(at(1, "")));
    new.carry(&partition, &["after"], at(3, ""));
    assert_eq!(on.values(&partition), ["before", "after"]);
    drop(old);
    let until = Instant::now() + on.fixture.quiet();
    while Instant::now() < until {
        new.step(STEP);
    }
    assert_eq!(new.owned.len(), 2, "the end of the old one is nothing to the new one");
    new.close();
}

pub fn a_successor_never_reads_around_an_open_transaction(on: &World) {
    let topic = on.topic(1);
    let partition = TopicPartition::new(&topic, 0);
    let group = group();
    let mut owner = on.member(&group, "first", std::slice::from_ref(&topic));
    owner.gain(1);
    let (mut last, mut visible) = (0, 0);
    for round in 1..=5 {
        let to = owner.open(&partition);
        owner.begin();
        owner.append_texts(to, &["x"]);
        let mut next = on.member(&group, "first", std::slice::from_ref(&topic));
        let committed = owner.try_commit(&[(partition.clone(), at(round, ""))]);
        next.gain(1);
        // Whichever was first: what is visible and the position belong together.
        let position = next.position(&partition).map_or(0, |position| position.offset);
        assert!(position == round || (position == last && committed.is_err()), "round {round}: {position}");
        visible += usize::from(position == round);
        last = position;
        assert_eq!(on.values(&partition).len(), visible);
        owner = next;
    }
    owner.close();
}

pub fn a_topic_created_later_is_picked_up(on: &World) {
    let (there, later) = (on.topic(1), TopicName::new(fresh("later")));
    let mut member = on.member(&group(), &fresh("instance"), &[there, later.clone()]);
    member.gain(1);
    on.create(&later, 2, &[]);
    member.gain(3);
    let partition = TopicPartition::new(&later, 1);
    member.carry(&partition, &["a"], at(1, ""));
    assert_eq!(on.values(&partition), ["a"]);
    member.close();
}

pub fn partitions_added_later_are_picked_up(on: &World) {
    let topic = on.topic(1);
    let mut member = on.member(&group(), &fresh("instance"), std::slice::from_ref(&topic));
    member.gain(1);
    on.cluster.grow(&topic, 3).expect("grow");
    member.gain(3);
    let partition = TopicPartition::new(&topic, 2);
    member.carry(&partition, &["a"], at(1, ""));
    assert_eq!(on.values(&partition), ["a"]);
    member.close();
}

pub fn three_sinks_on_two_partitions_leave_one_idle(on: &World) {
    let topic = on.topic(2);
    let group = group();
    let mut members: Vec<_> =
        ["a", "b", "c"].map(|instance| on.member(&group, instance, std::slice::from_ref(&topic))).into();
    turn("two of three to own one", &mut members.iter_mut().collect::<Vec<_>>(), |members| {
        let mut counts = counts(members);
        counts.sort_unstable();
        counts == [0, 1, 1]
    });
    let busy = members.iter().position(|member| !member.owned.is_empty()).expect("somebody owns something");
    members.remove(busy).close();
    turn("the idle one to step in", &mut members.iter_mut().collect::<Vec<_>>(), |members| counts(members) == [1, 1]);
    members.into_iter().for_each(Member::close);
}

pub fn members_are_told_with_what_they_own(on: &World) {
    let topic = on.topic(4);
    let group = group();
    let mut first = on.member(&group, "first", std::slice::from_ref(&topic));
    first.gain(4);
    let mut second = on.member(&group, "second", std::slice::from_ref(&topic));
    turn("two halves", &mut [&mut first, &mut second], |members| counts(members) == [2, 2]);
    let told = eventually("the group to stand", || {
        first.step(STEP);
        second.step(STEP);
        insist(|| on.cluster.members(&group)).filter(|members| members.iter().all(|member| !member.owns.is_empty()))
    });
    let told: BTreeMap<String, BTreeSet<TopicPartition>> =
        told.into_iter().map(|member| (member.instance, member.owns.into_iter().collect())).collect();
    let owned = [("first", &first), ("second", &second)].map(|(name, it)| (name.to_owned(), it.owned.clone()));
    assert_eq!(told, BTreeMap::from(owned));
}

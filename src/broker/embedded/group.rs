//! Who owns which partition: a group's members inside this process, its shares, and the hand-over between members.
//!
//! A share goes from one member to the next only through `Revoked` → release → `Gained`, or is taken away (`Lost`) from
//! a member that stopped polling. A member that opens under the name of another takes all over at once; the other is
//! fenced. Members live in memory, for a folder is open in one process only; positions live in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::log::{Log, lock};
use crate::broker::{Class, Error, Ownership};
use crate::model::names::{TopicName, TopicPartition};

/// After how long a silent member loses its partitions.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// One that was dropped without being closed.
    pub session: Duration,
    /// One that exists and does not poll.
    pub poll_gap_max: Duration,
}

/// Names one member for as long as it lives.
pub type MemberId = u64;

/// One consumer group.
pub struct Group {
    log: Arc<Log>,
    patience: Patience,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    members: BTreeMap<MemberId, Member>,
    shares: BTreeMap<TopicPartition, Share>,
    last_id: MemberId,
    /// The log's shape that the shares were made for.
    shape: u64,
}

struct Member {
    instance: String,
    topics: Vec<TopicName>,
    /// Counts how often the group took everything away from it.
    generation: u64,
    joined: bool,
    polling: bool,
    dropped: bool,
    last_seen: Instant,
    gained: Vec<TopicPartition>,
    revoked: Vec<TopicPartition>,
    lost: Vec<TopicPartition>,
    /// Lost and not released yet: until it is empty, the member gets nothing new.
    lost_held: BTreeSet<TopicPartition>,
}

impl Member {
    fn silent_until(&self, patience: &Patience) -> Option<Instant> {
        let limit = if self.dropped { patience.session } else { patience.poll_gap_max };
        (self.joined && !self.polling).then(|| self.last_seen + limit)
    }

    fn take_news(&mut self) -> Vec<Ownership> {
        let mut news = Vec::new();
        for (list, make) in [
            (&mut self.lost, Ownership::Lost as fn(Vec<TopicPartition>) -> Ownership),
            (&mut self.revoked, Ownership::Revoked),
            (&mut self.gained, Ownership::Gained),
        ] {
            if !list.is_empty() {
                news.push(make(std::mem::take(list)));
            }
        }
        news
    }
}

#[derive(Default)]
struct Share {
    owner: Option<MemberId>,
    target: Option<MemberId>,
    /// The owner has been told to give it up.
    revoking: bool,
}

impl Group {
    /// A group without members.
    pub fn new(log: Arc<Log>, patience: Patience) -> Self {
        Self { log, patience, state: Mutex::default(), news: Condvar::new() }
    }

    /// Adds a member. One of the same instance is fenced, and its partitions go to the new one at once.
    pub fn join(&self, instance: &str, topics: &[TopicName]) -> MemberId {
        let mut state = lock(&self.state);
        state.last_id += 1;
        let id = state.last_id;
        let predecessor = state.members.iter().find(|(_, member)| member.instance == instance).map(|(id, _)| *id);
        if let Some(predecessor) = predecessor {
            state.members.remove(&predecessor);
        }
        state.members.insert(
            id,
            Member {
                instance: instance.to_owned(),
                topics: topics.to_vec(),
                generation: 0,
                joined: true,
                polling: false,
                dropped: false,
                last_seen: Instant::now(),
                gained: Vec::new(),
                revoked: Vec::new(),
                lost: Vec::new(),
                lost_held: BTreeSet::new(),
            },
        );
        for share in state.shares.values_mut().filter(|share| predecessor.is_some() && share.target == predecessor) {
            share.target = Some(id);
        }
        if let Some(predecessor) = predecessor {
            state.disown(predecessor);
        }
        state.rebalance(&self.log);
        self.tell(state);
        id
    }

    /// Serves membership, waiting up to `timeout` for a change.
    pub fn poll(&self, id: MemberId, timeout: Duration) -> Result<Vec<Ownership>, Error> {
        let until = Instant::now() + timeout;
        let mut state = lock(&self.state);
        loop {
            state.member(id)?.polling = true;
            if state.serve(id, &self.log, &self.patience) {
                self.news.notify_all();
            }
            let member = state.member(id)?;
            let news = member.take_news();
            let now = Instant::now();
            if !news.is_empty() || now >= until {
                member.polling = false;
                member.last_seen = now;
                return Ok(news);
            }
            let next = state.members.values().filter_map(|member| member.silent_until(&self.patience)).min();
            let wait = next.map_or(until, |next| next.min(until)).saturating_duration_since(now);
            // Not zero: a silent member's time is over only once it has passed.
            let wait = wait.max(Duration::from_millis(1));
            state = self.news.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets go of partitions.
    pub fn release(&self, id: MemberId, partitions: &[TopicPartition]) -> Result<(), Error> {
        let mut state = lock(&self.state);
        let member = state.member(id)?;
        for partition in partitions {
            member.lost_held.remove(partition);
        }
        for partition in partitions {
            if let Some(share) = state.shares.get_mut(partition).filter(|share| share.owner == Some(id)) {
                share.owner = None;
                share.revoking = false;
            }
        }
        state.settle();
        self.tell(state);
        Ok(())
    }

    /// The member's present generation, to be shown to [`Group::guard`] later.
    pub fn generation(&self, id: MemberId) -> Result<u64, Error> {
        Ok(lock(&self.state).member(id)?.generation)
    }

    /// Proves that the member still owns `partitions` since `generation`. While the guard lives, nobody takes them.
    pub fn guard<'p>(
        &self,
        id: MemberId,
        generation: u64,
        partitions: impl Iterator<Item = &'p TopicPartition>,
    ) -> Result<Guard<'_>, Error> {
        let mut state = lock(&self.state);
        let member = state.member(id)?;
        if !member.joined || member.generation != generation {
            return Err(Error::new(Class::Abort, "commit", "the group has taken the partitions of this member away"));
        }
        for partition in partitions {
            if state.shares.get(partition).and_then(|share| share.owner) != Some(id) {
                return Err(Error::new(Class::Abort, "commit", format!("{partition} is not owned")));
            }
        }
        Ok(Guard { _state: state })
    }

    /// Every member and what it owns; `None` while a share is on its way from one to another.
    pub fn members(&self) -> Option<Vec<crate::broker::Member>> {
        let state = lock(&self.state);
        if state.shares.values().any(|share| share.owner != share.target) {
            return None;
        }
        let owned_by = |id: MemberId| {
            let owned = state.shares.iter().filter(move |(_, share)| share.owner == Some(id));
            owned.map(|(partition, _)| partition.clone()).collect()
        };
        let member = |(id, member): (&MemberId, &Member)| crate::broker::Member {
            instance: member.instance.clone(),
            owns: owned_by(*id),
        };
        Some(state.members.iter().map(member).collect())
    }

    /// Takes a member out at once.
    pub fn leave(&self, id: MemberId) {
        let mut state = lock(&self.state);
        if state.members.remove(&id).is_some() {
            state.disown(id);
            state.rebalance(&self.log);
            self.tell(state);
        }
    }

    /// The member is gone without a word: its session runs from now on.
    pub fn forsake(&self, id: MemberId) {
        let mut state = lock(&self.state);
        if let Ok(member) = state.member(id) {
            member.dropped = true;
            member.polling = false;
            member.last_seen = Instant::now();
            self.tell(state);
        }
    }

    /// Wakes those who wait: topics have changed.
    pub fn wake(&self) {
        self.tell(lock(&self.state));
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.news.notify_all();
    }
}

/// Keeps a group as it is.
pub struct Guard<'a> {
    _state: MutexGuard<'a, State>,
}

impl State {
    fn member(&mut self, id: MemberId) -> Result<&mut Member, Error> {
        let fenced = || Error::new(Class::Fenced, "act for the group", "another instance has taken over this name");
        self.members.get_mut(&id).ok_or_else(fenced)
    }

    /// Brings the shares up to date; whether anything may have changed for others.
    fn serve(&mut self, id: MemberId, log: &Log, patience: &Patience) -> bool {
        let expired = self.expire(patience);
        let rejoined = self.members.get_mut(&id).is_some_and(|member| {
            let rejoins = !member.joined && member.lost_held.is_empty();
            member.joined |= rejoins;
            rejoins
        });
        let stale = expired || rejoined || self.shape != log.shape();
        if stale {
            self.rebalance(log);
        }
        stale
    }

    fn expire(&mut self, patience: &Patience) -> bool {
        let now = Instant::now();
        let over = |member: &Member| member.silent_until(patience).is_some_and(|until| until < now);
        let silent: Vec<_> = self.members.iter().filter(|(_, member)| over(member)).map(|(id, _)| *id).collect();
        for id in &silent {
            let owned = self.disown(*id);
            let Some(member) = self.members.get_mut(id) else { continue };
            if member.dropped {
                self.members.remove(id);
                continue;
            }
            member.joined = false;
            member.generation += 1;
            // What it was never told to own it need not be told to have lost.
            let told: BTreeSet<_> = owned.into_iter().filter(|partition| !member.gained.contains(partition)).collect();
            member.gained.clear();
            member.revoked.clear();
            member.lost.extend(told.iter().cloned());
            member.lost_held.extend(told);
        }
        !silent.is_empty()
    }

    fn disown(&mut self, id: MemberId) -> Vec<TopicPartition> {
        let mut owned = Vec::new();
        for (partition, share) in self.shares.iter_mut().filter(|(_, share)| share.owner == Some(id)) {
            share.owner = None;
            share.revoking = false;
            owned.push(partition.clone());
        }
        owned
    }

    /// Shares all partitions out anew: evenly, and moving as few as possible.
    fn rebalance(&mut self, log: &Log) {
        self.shape = log.shape();
        let joined: BTreeMap<MemberId, BTreeSet<TopicName>> = self
            .members
            .iter()
            .filter(|(_, member)| member.joined)
            .map(|(id, member)| (*id, member.topics.iter().cloned().collect()))
            .collect();
        let topics: BTreeSet<&TopicName> = joined.values().flatten().collect();
        let wanted: BTreeSet<TopicPartition> = topics
            .into_iter()
            .flat_map(|topic| (0..log.partitions(topic)).map(|partition| TopicPartition::new(topic, partition)))
            .collect();
        for share in self.shares.values_mut() {
            share.target = share.target.filter(|target| joined.contains_key(target));
        }
        for (partition, share) in &mut self.shares {
            if !wanted.contains(partition) {
                share.target = None;
            }
        }
        self.assign(&wanted, &joined);
        self.settle();
    }

    fn assign(&mut self, wanted: &BTreeSet<TopicPartition>, joined: &BTreeMap<MemberId, BTreeSet<TopicName>>) {
        if joined.is_empty() {
            return;
        }
        let (least, mut extras) = (wanted.len() / joined.len(), wanted.len() % joined.len());
        let mut loads: BTreeMap<MemberId, usize> = joined.keys().map(|id| (*id, 0)).collect();
        let mut homeless = Vec::new();
        for partition in wanted {
            let share = self.shares.entry(partition.clone()).or_default();
            let kept = share.target.filter(|id| joined.get(id).is_some_and(|topics| topics.contains(&partition.topic)));
            let load = kept.and_then(|id| loads.get_mut(&id));
            match load {
                Some(load) if *load < least => *load += 1,
                Some(load) if *load == least && extras > 0 => {
                    extras -= 1;
                    *load += 1;
                }
                _ => homeless.push(partition),
            }
        }
        for partition in homeless {
            let able = loads.iter_mut().filter(|(id, _)| joined[id].contains(&partition.topic));
            let Some((id, load)) = able.min_by_key(|(_, load)| **load) else { continue };
            *load += 1;
            if let Some(share) = self.shares.get_mut(partition) {
                share.target = Some(*id);
            }
        }
    }

    /// Tells owners what to give up, and hands over what is free.
    fn settle(&mut self) {
        for (partition, share) in &mut self.shares {
            if share.owner == share.target {
                // Not told yet: nothing has happened. Told: it has to be released, and comes back afterwards.
                if let Some(owner) = share.owner.and_then(|id| self.members.get_mut(&id)).filter(|_| share.revoking) {
                    let told = !owner.revoked.contains(partition);
                    owner.revoked.retain(|revoked| revoked != partition);
                    share.revoking = told;
                }
                continue;
            }
            if let Some(owner) = share.owner.and_then(|id| self.members.get_mut(&id)).filter(|_| !share.revoking) {
                let untold = owner.gained.contains(partition);
                owner.gained.retain(|gained| gained != partition);
                if untold {
                    share.owner = None;
                } else {
                    share.revoking = true;
                    owner.revoked.push(partition.clone());
                }
            }
            if let (None, Some(target)) = (share.owner, share.target)
                && let Some(member) = self.members.get_mut(&target)
            {
                share.owner = Some(target);
                member.gained.push(partition.clone());
            }
        }
        self.shares.retain(|_, share| share.owner.is_some() || share.target.is_some());
    }
}

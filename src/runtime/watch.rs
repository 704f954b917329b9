//! Looks at a cluster every few seconds, in a thread of its own, so that flows never wait for administration.
//!
//! A flow takes the newest [`Snapshot`] (a pointer copy) and compares its number; a slow or dead cluster makes the
//! snapshot old and gives it a trouble, and delays nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::broker::{Bounds, Class, Error, SharedCluster, TopicDescription};
use crate::clock::SharedClock;
use crate::model::names::{TopicName, TopicPartition};
use crate::runtime::stop::Stop;

/// How often a cluster is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a cluster looked like.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts looks, from 1; 0 before the first.
    pub number: u64,
    /// When, by the monotone clock.
    pub taken_at: Duration,
    /// The watched topics; `None` for one that does not exist.
    pub topics: HashMap<TopicName, Option<TopicDescription>>,
    /// What can be read of their partitions; absent where it could not be found out.
    pub bounds: HashMap<TopicPartition, Bounds>,
    /// Topics that may not be looked at, and why.
    pub denied: HashMap<TopicName, Error>,
    /// Why this look failed, with what the last good one saw above.
    pub trouble: Option<Error>,
}

impl Snapshot {
    /// The topic, if it was there.
    pub fn topic(&self, name: &TopicName) -> Option<&TopicDescription> {
        self.topics.get(name)?.as_ref()
    }
}

/// The running watch of one cluster.
pub struct Watch {
    latest: Arc<Mutex<Arc<Snapshot>>>,
    thread: Option<JoinHandle<()>>,
    stop: Stop,
}

impl Watch {
    /// Watches `topics` of `cluster` until dropped.
    pub fn start(name: &str, cluster: SharedCluster, topics: Vec<TopicName>, clock: SharedClock) -> Self {
        let latest = Arc::new(Mutex::new(Arc::new(Snapshot::default())));
        let stop = Stop::new();
        let (shared, asked) = (Arc::clone(&latest), stop.clone());
        let thread = std::thread::Builder::new()
            .name(format!("watch-{name}"))
            .spawn(move || {
                loop {
                    let last = current(&shared);
                    let next = look(&cluster, &topics, &last, clock.monotonic());
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
                    if asked.wait(LOOK_EVERY) {
                        return;
                    }
                }
            })
            .ok();
        Self { latest, thread, stop }
    }

    /// The newest look.
    pub fn latest(&self) -> Arc<Snapshot> {
        current(&self.latest)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn current(latest: &Mutex<Arc<Snapshot>>) -> Arc<Snapshot> {
    Arc::clone(&latest.lock().unwrap_or_else(PoisonError::into_inner))
}

fn look(cluster: &SharedCluster, topics: &[TopicName], last: &Snapshot, now: Duration) -> Snapshot {
    match try_look(cluster, topics) {
        Ok(seen) => Snapshot { number: last.number + 1, taken_at: now, ..seen },
        Err(error) => {
            // The driver's connections often know more than the call that timed out: wrong password, no such host.
            let trouble = cluster.trouble().unwrap_or(error);
            Snapshot { number: last.number + 1, trouble: Some(trouble), ..last.clone() }
        }
    }
}

fn try_look(cluster: &SharedCluster, topics: &[TopicName]) -> Result<Snapshot, Error> {
    let mut seen = Snapshot::default();
    match cluster.describe(topics) {
        Ok(described) => seen.topics = topics.iter().cloned().zip(described).collect(),
        // One topic that may not be looked at must not hide the others.
        Err(error) if error.class == Class::Denied && topics.len() > 1 => {
            for topic in topics {
                match cluster.describe(std::slice::from_ref(topic)) {
                    Ok(mut described) => drop(seen.topics.insert(topic.clone(), described.swap_remove(0))),
                    Err(error) if error.class == Class::Denied => drop(seen.denied.insert(topic.clone(), error)),
                    Err(error) => return Err(error),
                }
            }
            if seen.topics.is_empty() {
                return Err(error);
            }
        }
        Err(error) => return Err(error),
    }
    let partitions: Vec<TopicPartition> = seen
        .topics
        .iter()
        .filter_map(|(topic, description)| Some((topic, description.as_ref()?.partitions)))
        .flat_map(|(topic, count)| (0..count).map(|partition| TopicPartition::new(topic, partition)))
        .collect();
    let bounds = if partitions.is_empty() { Vec::new() } else { cluster.bounds(&partitions)? };
    let known = partitions.into_iter().zip(bounds).filter_map(|(partition, bounds)| Some((partition, bounds.ok()?)));
    seen.bounds = known.collect();
    Ok(seen)
}

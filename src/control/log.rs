//! One region's control topic, read whole and followed by a thread of its own, and written entry by entry.
//!
//! ```text
//!   put/remove ──append──▶ __longshore_control (compacted, one partition) ──tail thread──▶ state ──▶ get/prefix
//!        └─────────────────────── applied at once ────────────────────────────────────────▶ ┘
//! ```
//!
//! Readers take a lock for the length of a map look-up and never wait for the network. The topic may be missing or
//! unreachable at first and at any time: the thread tries again, and `health` says why.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use tracing::{error, info, warn};

use crate::broker::{Bounds, Class, Error, Fetched, NewTopic, SharedCluster, Source, SourceSettings};
use crate::control::deadline::Deadline;
use crate::control::entry::{self, Entry};
use crate::control::signature::{SIGNATURE_HEADER, Signer};
use crate::control::state::State;
use crate::model::names::{RegionName, TopicName, TopicPartition};
use crate::model::record::{NewRecord, RecordRef};
use crate::policy::topics::CONTROL_CONFIG;

/// Every region's control topic.
pub const CONTROL_TOPIC: &str = crate::policy::plan::CONTROL_TOPIC;

/// Largest value of an entry in bytes: with key and headers it stays below what clients and brokers take by default.
pub const ENTRY_BYTES_MAX: usize = 900 * 1024;

const FETCH_TIMEOUT: Duration = Duration::from_millis(200);
const FETCH_RECORDS_MAX: usize = 1000;
/// How often a quiet reader is held against the topic's end. One that gives out nothing although there is something, twice
/// in a row, has lost the broker for good (see the Kafka driver) and is replaced.
const CHECK_EVERY: Duration = Duration::from_secs(10);
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How the topic is made when it is missing.
#[derive(Clone, Debug, Default)]
pub struct Creation {
    /// `None` takes the cluster's default.
    pub replication_factor: Option<i32>,
    /// The region's `topic_config`; what the control topic cannot do without is set over it.
    pub config: BTreeMap<String, String>,
}

/// A control topic as it is known here. Shared by reference; dropping it ends the tail without waiting for it.
pub struct ControlLog {
    shared: Arc<Shared>,
    tail: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    cluster: SharedCluster,
    region: RegionName,
    partition: TopicPartition,
    signer: Option<Signer>,
    creation: Option<Creation>,
    state: Mutex<State>,
    changed: Condvar,
    version: AtomicU64,
    refused: AtomicU64,
    stopping: AtomicBool,
}

impl ControlLog {
    /// Opens `region`'s control topic, making it when it is missing (unless `creation` is `None`). Returns at once: the
    /// thread connects by itself, see [`Self::caught_up`]. Without a secret every entry is believed, and a warning says so.
    pub fn open(
        cluster: SharedCluster,
        region: &RegionName,
        secret: Option<&SecretString>,
        creation: Option<Creation>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            cluster,
            region: region.clone(),
            partition: TopicPartition::new(&TopicName::new(CONTROL_TOPIC), 0),
            signer: secret.map(|secret| Signer::new(secret, region)),
            creation,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            version: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let tail = std::thread::Builder::new()
            .name(format!("control-{region}"))
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run()
            })
            .map_err(|error| Error::new(Class::Fatal, "start the control topic's thread", error))?;
        Ok(Self { shared, tail: Mutex::new(Some(tail)) })
    }

    /// Follows a peer's control topic, which is never made from here: it is read when it appears.
    pub fn follow(cluster: SharedCluster, region: &RegionName, secret: Option<&SecretString>) -> Result<Self, Error> {
        Self::open(cluster, region, secret, None)
    }

    /// The region whose topic this is.
    pub fn region(&self) -> &RegionName {
        &self.shared.region
    }

    /// Waits until everything that stood in the topic when it was first reached has been read. The error says why
    /// that was not so within `timeout`; it may still come.
    pub fn caught_up(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Deadline::after(timeout);
        let mut state = self.shared.state();
        while !state.caught_up {
            let Some(left) = deadline.left() else {
                let late = || Error::new(Class::Retry, "read control topic", format!("not done after {timeout:?}"));
                return Err(state.trouble.clone().unwrap_or_else(late));
            };
            state = self.shared.wait(state, left);
        }
        Ok(())
    }

    /// The value of a key as far as it has been read.
    pub fn get(&self, key: &str) -> Option<Arc<Value>> {
        self.shared.state().get(key)
    }

    /// All keys that begin with `prefix` and their values, in the keys' order.
    pub fn prefix(&self, prefix: &str) -> Vec<(String, Arc<Value>)> {
        self.shared.state().prefix(prefix)
    }

    /// A value as what it is; `None` when it is missing, of another shape or of a newer version.
    pub fn read<E: Entry>(&self, key: &str) -> Option<E> {
        self.get(key).as_deref().and_then(entry::decode)
    }

    /// All entries of a kind below `parts` (decoded), with the parts of their keys behind the kind.
    pub fn read_all<E: Entry>(&self, below: &[&str]) -> Vec<(Vec<String>, E)> {
        let mut parts = vec![E::KIND];
        parts.extend(below);
        let prefix = format!("{}/", entry::join(&parts));
        let found = self.prefix(&prefix).into_iter();
        found.filter_map(|(key, value)| Some((entry::split(&key).split_off(1), entry::decode(&value)?))).collect()
    }

    /// Writes a value. Ok: it is durable, and reads here see it (or something newer). An error leaves unknown whether it
    /// was written. Blocks for the broker.
    pub fn put(&self, key: &str, value: &Value) -> Result<(), Error> {
        self.shared.write(key, Some(value))
    }

    /// Writes a typed entry, like [`Self::put`].
    pub fn write<E: Entry>(&self, key: &str, entry: &E) -> Result<(), Error> {
        self.put(key, &entry::encode(entry))
    }

    /// Deletes a key, like [`Self::put`].
    pub fn remove(&self, key: &str) -> Result<(), Error> {
        self.shared.write(key, None)
    }

    /// Rises with every change of what `get` and `prefix` give. Costs nothing.
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// Waits up to `timeout` for a version other than `seen`; the present one.
    pub fn changed_since(&self, seen: u64, timeout: Duration) -> u64 {
        let deadline = Deadline::after(timeout);
        let mut state = self.shared.state();
        while self.version() == seen {
            let Some(left) = deadline.left() else { break };
            state = self.shared.wait(state, left);
        }
        drop(state);
        self.version()
    }

    /// Ok while the topic is being followed; else why it is not. What was read before stays readable.
    pub fn health(&self) -> Result<(), Error> {
        let trouble = self.shared.state().trouble.clone();
        trouble.map_or(Ok(()), Err)
    }

    /// Entries that were refused since the start: unsigned, wrongly signed, too large or no JSON.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Ends the tail and waits for it: as long as the broker call that it is in.
    pub fn stop(&self) {
        self.shared.stop();
        let tail = self.tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(tail) = tail
            && tail.join().is_err()
        {
            error!(region = %self.shared.region, "the control topic's thread panicked");
        }
    }
}

impl Drop for ControlLog {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// How one connection to the topic goes on after a fetch.
struct Session {
    source: Box<dyn Source>,
    /// The end that was seen when it began: from there on the state is current.
    end: i64,
    events: Vec<Fetched>,
    /// When it is held against the end next.
    check: Deadline,
    /// Where it stood when there was more than it had given out.
    behind: Option<i64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _held = self.state();
        self.changed.notify_all();
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn run(&self) {
        if self.signer.is_none() {
            warn!(
                region = %self.region,
                "control.secret is not set: whoever can write to {CONTROL_TOPIC} can pause and move links"
            );
        }
        let mut backoff = BACKOFF_MIN;
        while !self.stopping() {
            match self.connect() {
                Ok(mut session) => {
                    backoff = BACKOFF_MIN;
                    while !self.stopping() {
                        if let Err(error) = self.step(&mut session) {
                            self.troubled(error);
                            break;
                        }
                    }
                }
                Err(error) => self.troubled(error),
            }
            self.pause(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn connect(&self) -> Result<Session, Error> {
        let id = self.find_topic()?;
        let bounds = self.bounds()?;
        let from = {
            let mut state = self.state();
            if state.topic_id.as_ref().is_some_and(|known| *known != id) {
                error!(region = %self.region, "{CONTROL_TOPIC} was deleted and made anew: what is known is kept in memory only");
                state.forget_offsets();
            }
            state.topic_id = Some(id);
            if state.position > bounds.end {
                error!(region = %self.region, "{CONTROL_TOPIC} lost its newest entries: what is known is kept in memory only");
                state.forget_offsets();
            }
            if (bounds.start..=bounds.end).contains(&state.position) { state.position } else { bounds.start }
        };
        let settings = SourceSettings {
            client_id: format!("longshore-control-{}", self.region),
            buffer_bytes_max: BUFFER_BYTES_MAX,
        };
        let mut source = self.cluster.source(&settings)?;
        source.start(0, &self.partition, from)?;
        self.reached(from, bounds.end, None);
        let check = Deadline::after(CHECK_EVERY);
        Ok(Session { source, end: bounds.end, events: Vec::new(), check, behind: None })
    }

    /// The topic's id, after making it if it is ours to make.
    fn find_topic(&self) -> Result<String, Error> {
        let name = &self.partition.topic;
        let described = |found: Vec<Option<crate::broker::TopicDescription>>| found.into_iter().next().flatten();
        let mut found = described(self.cluster.describe(std::slice::from_ref(name))?);
        if found.is_none()
            && let Some(creation) = &self.creation
        {
            if self.cluster.create(&creation.topic(name))? {
                info!(region = %self.region, "created {CONTROL_TOPIC}");
            }
            found = described(self.cluster.describe(std::slice::from_ref(name))?);
        }
        let found = found.ok_or_else(|| Error::new(Class::Missing, "read control topic", "it does not exist yet"))?;
        if !found.compacted && self.state().topic_id.is_none() {
            warn!(region = %self.region, "{CONTROL_TOPIC} is not compacted: set cleanup.policy=compact, or entries get lost");
        }
        Ok(found.id)
    }

    fn bounds(&self) -> Result<Bounds, Error> {
        let none = || Err(Error::new(Class::Retry, "read control topic", "no answer for its partition"));
        self.cluster.bounds(std::slice::from_ref(&self.partition))?.into_iter().next().unwrap_or_else(none)
    }

    fn step(&self, session: &mut Session) -> Result<(), Error> {
        session.source.fetch(FETCH_RECORDS_MAX, FETCH_TIMEOUT, &mut session.events)?;
        if !session.events.is_empty() {
            session.check = Deadline::after(CHECK_EVERY);
            session.behind = None;
        }
        for event in session.events.drain(..) {
            match event {
                Fetched::Records { batch, .. } => {
                    let mut next = 0;
                    for index in 0..batch.len() {
                        let record = batch.record(index);
                        next = record.offset + 1;
                        self.take(&record);
                    }
                    self.reached(next, session.end, None);
                }
                Fetched::End { next, .. } => self.reached(next, session.end, None),
                Fetched::Broken { error, .. } => return Err(error),
            }
        }
        let position = self.state().position;
        self.reached(position, session.end, self.cluster.trouble());
        // What is known to be away is not asked: a stop would wait for the answer.
        if session.check.left().is_none() && self.cluster.trouble().is_none() {
            session.check = Deadline::after(CHECK_EVERY);
            return self.check(session);
        }
        Ok(())
    }

    /// Errs for a reader that is to be replaced.
    fn check(&self, session: &mut Session) -> Result<(), Error> {
        let end = self.bounds().map(|bounds| bounds.end);
        let position = self.state().position;
        let was_behind = session.behind.replace(position);
        match end {
            Ok(end) if end > position && was_behind == Some(position) => {
                Err(Error::new(Class::Retry, "read control topic", "nothing comes although there are entries"))
            }
            Ok(end) if end > position => Ok(()),
            // Nothing missing, or not known.
            _ => {
                session.behind = None;
                Ok(())
            }
        }
    }

    /// Accepts or refuses one entry.
    fn take(&self, record: &RecordRef<'_>) {
        let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok()) else {
            return self.refuse("", "its key is no text");
        };
        if record.value.is_some_and(|value| value.len() > ENTRY_BYTES_MAX) {
            return self.refuse(key, "it is too large");
        }
        if let Some(signer) = &self.signer {
            match record.headers.last(SIGNATURE_HEADER).flatten() {
                None => return self.refuse(key, "it is not signed"),
                Some(signature) if signer.verifies(key.as_bytes(), record.value, signature) => {}
                Some(_) => return self.refuse(key, "its signature is wrong"),
            }
        }
        let value = match record.value.map(serde_json::from_slice::<Value>).transpose() {
            Ok(value) => value,
            Err(_) => return self.refuse(key, "it is no JSON"),
        };
        if self.state().read(key, value, record.offset) {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn refuse(&self, key: &str, why: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if self.state().refuse(key) {
            warn!(region = %self.region, key, "refused an entry of {CONTROL_TOPIC}: {why}");
        }
    }

    fn reached(&self, position: i64, end: i64, trouble: Option<Error>) {
        let mut state = self.state();
        state.position = position;
        state.caught_up |= position >= end;
        state.trouble = trouble;
        self.changed.notify_all();
    }

    fn troubled(&self, error: Error) {
        let mut state = self.state();
        if state.trouble.as_ref().is_none_or(|known| known.reason != error.reason) {
            info!(region = %self.region, class = error.class.label(), "cannot follow {CONTROL_TOPIC}: {error}");
        }
        state.trouble = Some(error);
        self.changed.notify_all();
    }

    fn pause(&self, length: Duration) {
        let deadline = Deadline::after(length);
        let mut state = self.state();
        while !self.stopping() {
            let Some(left) = deadline.left() else { return };
            state = self.wait(state, left);
        }
    }

    fn write(&self, key: &str, value: Option<&Value>) -> Result<(), Error> {
        if self.state().topic_id.is_none() {
            return Err(Error::new(Class::Retry, "write control entry", "the control topic is not reached yet"));
        }
        let bytes = value.map(Value::to_string);
        let bytes = bytes.as_deref().map(str::as_bytes);
        if let Some(length) = bytes.map(<[u8]>::len).filter(|length| *length > ENTRY_BYTES_MAX) {
            let reason = format!("{length} bytes, at most {ENTRY_BYTES_MAX} can be written");
            return Err(Error::new(Class::Rejected, format!("write control entry {key}"), reason));
        }
        let signature = self.signer.as_ref().map(|signer| signer.sign(key.as_bytes(), bytes));
        let header = signature.as_deref().map(|signature| (SIGNATURE_HEADER, signature.as_bytes()));
        let record = NewRecord { added: header.as_slice(), ..NewRecord::plain(Some(key.as_bytes()), bytes) };
        let offsets = self.cluster.append(&self.partition, &[record])?;
        let Some(offset) = offsets.first() else { return Ok(()) };
        let mut state = self.state();
        if state.wrote(key, value.cloned(), *offset) {
            self.version.fetch_add(1, Ordering::AcqRel);
            self.changed.notify_all();
        }
        Ok(())
    }
}

impl Creation {
    fn topic(&self, name: &TopicName) -> NewTopic {
        let mut config = self.config.clone();
        config.extend(CONTROL_CONFIG.iter().map(|(setting, value)| ((*setting).to_owned(), (*value).to_owned())));
        NewTopic { name: name.clone(), partitions: 1, replication_factor: self.replication_factor, config }
    }
}

#[cfg(test)]
mod tests;

//! What librdkafka says outside of calls: its call-backs, on any of its threads, and the box that they leave it in.
//!
//! A call-back copies and goes: it never waits, asks or decides.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::bindings as ffi;
use rdkafka::types::RDKafkaErrorCode;

use super::{Failed, elements, text};

/// Complaints about partitions that wait to be looked at.
const COMPLAINTS_MAX: usize = 1024;

/// A rebalance that waits for its answer.
#[derive(Clone, Debug)]
pub struct Rebalance {
    /// Partitions were added; otherwise they are taken away.
    pub assigned: bool,
    /// They were taken already: the member was too late.
    pub lost: bool,
    /// Which.
    pub partitions: Vec<(String, i32)>,
}

/// A record that was not delivered, or, where asked for, one that was.
#[derive(Clone, Debug)]
pub struct Report {
    /// As given to `produce`.
    pub tag: u64,
    /// Its offset, or why there is none.
    pub outcome: Result<i64, Failed>,
}

/// What a client's call-backs leave for its owner. Shared with librdkafka's threads.
pub struct Inbox {
    observer: Arc<dyn Observer>,
    reports: Mutex<Vec<Report>>,
    rebalances: Mutex<VecDeque<Rebalance>>,
    complaints: Mutex<Vec<Complaint>>,
    complained: AtomicBool,
    recreated: Mutex<Vec<String>>,
    any_recreated: AtomicBool,
}

/// What librdkafka says of one partition outside of what it fetches for it: that it is not there, or not ours to read.
#[derive(Clone, Debug)]
pub struct Complaint {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Why.
    pub failed: Failed,
}

impl Inbox {
    pub(super) fn new(observer: Arc<dyn Observer>) -> Self {
        Self {
            observer,
            reports: Mutex::default(),
            rebalances: Mutex::default(),
            complaints: Mutex::default(),
            complained: AtomicBool::new(false),
            recreated: Mutex::default(),
            any_recreated: AtomicBool::new(false),
        }
    }

    /// Takes the delivery reports that arrived since the last call.
    pub fn reports(&self) -> Vec<Report> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the complaints about partitions that arrived since the last call. Costs nothing when there are none.
    pub fn complaints(&self) -> Vec<Complaint> {
        if !self.complained.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.complaints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a topic has got another id under this client. True before the first record of its new log is fetched,
    /// until [`Inbox::recreated`] takes it. Says nothing unless the client was told to `debug` topics.
    pub fn is_recreated(&self, topic: &str) -> bool {
        self.any_recreated.load(Ordering::Acquire)
            && self.recreated.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|name| name == topic)
    }

    /// Takes the topics that have got another id since the last call. Costs nothing when there are none.
    pub fn recreated(&self) -> Vec<String> {
        if !self.any_recreated.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.recreated.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the oldest rebalance.
    pub fn rebalance(&self) -> Option<Rebalance> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Hears what librdkafka has to say outside of calls, on any of its threads.
pub trait Observer: Send + Sync {
    /// A log line; `level` as in syslog.
    fn log(&self, level: i32, facility: &str, line: &str);
    /// Something is wrong that no call of ours asked about.
    fn complain(&self, code: RDKafkaErrorCode, reason: &str);
}

/// The partition that an error is about: librdkafka tells it in the text only, as `topic [3]: …`.
fn subject(reason: &str) -> Option<(&str, i32)> {
    let (topic, rest) = reason.split_once(" [")?;
    let (partition, _) = rest.split_once("]: ")?;
    (!topic.contains([' ', ':', '/'])).then_some(())?;
    Some((topic, partition.parse().ok()?))
}

pub(super) unsafe extern "C" fn on_log(
    rk: *const ffi::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: the opaque pointer is the inbox given to `Client::start`; null only while the client is being made.
    let inbox = unsafe { ffi::rd_kafka_opaque(rk).cast::<Inbox>().as_ref() };
    if let Some(inbox) = inbox {
        let line = text(line);
        if let Some(topic) = renewed(&line) {
            inbox.recreated.lock().unwrap_or_else(PoisonError::into_inner).push(topic.to_owned());
            inbox.any_recreated.store(true, Ordering::Release);
        }
        inbox.observer.log(level, &text(facility), &line);
    }
}

/// The topic that a line says has got another id; not one that had none before. librdkafka goes on reading the new log at
/// the old offset and tells nobody but the log, on the thread that has yet to send the first fetch of it.
fn renewed(line: &str) -> Option<&str> {
    let (head, ids) = line.split_once(" changed id from ")?;
    let (_, topic) = head.rsplit_once("Topic ")?;
    let (old, _) = ids.split_once(" to ")?;
    (!old.bytes().all(|byte| matches!(byte, b'A' | b'='))).then_some(topic)
}

pub(super) unsafe extern "C" fn on_error(
    rk: *mut ffi::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_log`.
    let Some(inbox) = (unsafe { opaque.cast::<Inbox>().as_ref() }) else { return };
    let code = ffi::rd_kafka_resp_err_t::try_from(code).map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from);
    let mut reason = text(reason);
    if code == RDKafkaErrorCode::Fatal {
        let mut words = [0 as c_char; 512];
        // SAFETY: the client is alive in its own call-back; the buffer's length is given.
        unsafe { ffi::rd_kafka_fatal_error(rk, words.as_mut_ptr(), words.len()) };
        reason = text(words.as_ptr());
    }
    if let Some((topic, partition)) = subject(&reason) {
        let failed = Failed { text: reason.clone(), ..Failed::of(code) };
        let complaint = Complaint { topic: topic.to_owned(), partition, failed };
        let mut complaints = inbox.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        // Only readers look at them; the observer hears all.
        if complaints.len() < COMPLAINTS_MAX {
            complaints.push(complaint);
        }
        drop(complaints);
        inbox.complained.store(true, Ordering::Release);
    }
    inbox.observer.complain(code, &reason);
}

pub(super) unsafe extern "C" fn on_delivery(
    _: *mut ffi::rd_kafka_t,
    message: *const ffi::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: the message is valid through the call-back; the opaque as in `on_log`.
    let (inbox, message) = unsafe { (opaque.cast::<Inbox>().as_ref(), &*message) };
    let Some(inbox) = inbox else { return };
    let outcome = Failed::check(message.err).map(|()| message.offset);
    let report = Report { tag: message._private as usize as u64, outcome };
    inbox.reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
}

pub(super) unsafe extern "C" fn on_rebalance(
    rk: *mut ffi::rd_kafka_t,
    what: ffi::rd_kafka_resp_err_t,
    partitions: *mut ffi::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque as in `on_log`; the list is valid through the call-back.
    let (inbox, elements) = unsafe { (opaque.cast::<Inbox>().as_ref(), elements(partitions)) };
    let Some(inbox) = inbox else { return };
    let rebalance = Rebalance {
        assigned: what == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS,
        // SAFETY: the client is alive in its own call-back.
        lost: unsafe { ffi::rd_kafka_assignment_lost(rk) != 0 },
        partitions: elements.iter().map(|element| (text(element.topic), element.partition)).collect(),
    };
    inbox.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_got_another_id_is_told_from_one_that_got_its_first() {
        let first = "[thrd:main]: Topic orders changed id from AAAAAAAAAAAAAAAAAAAAAA to XChSAeyZQwKAA5uBVW5c/g";
        let other = "[thrd:main]: Topic orders changed id from XChSAeyZQwKAA5uBVW5c/g to AChSAeyZQwKAA5uBVW5c/A";
        assert_eq!((renewed(first), renewed(other)), (None, Some("orders")));
        assert_eq!(renewed("[thrd:main]: Topic orders [0] Leader 1 Epoch 0"), None);
    }

    #[test]
    fn an_error_about_a_partition_names_it() {
        assert_eq!(subject("orders [12]: topic does not exist (Broker: …)"), Some(("orders", 12)));
        assert_eq!(subject("a.b_c-d [0]: desired partition is not available"), Some(("a.b_c-d", 0)));
        for other in
            ["127.0.0.1:9092/1: Connect to [::1]:9092 failed", "[thrd:x]: 1/1 brokers are down", "orders []: x"]
        {
            assert_eq!(subject(other), None, "{other}");
        }
    }
}

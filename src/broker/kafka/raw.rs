//! librdkafka's C interface, made safe: the one place of this program with `unsafe` code.
//!
//! The safe wrapper of the `rdkafka` crate costs a fifth of a copy loop's CPU time (one call and several allocations
//! per record), loses error codes and blocks when it is dropped while the broker is gone; so the hot calls and the
//! life of a client are done here. Knows pointers and their lifetimes, nothing of sources, sinks or positions.

#![allow(unsafe_code)]

mod admin;
mod inbox;
mod read;
mod write;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as ffi;
use rdkafka::config::ClientConfig;
use rdkafka::types::{RDKafkaConfRes, RDKafkaErrorCode};

pub use admin::{TopicConfig, TopicShape};
pub use inbox::{Inbox, Observer, Rebalance, Report};
use inbox::{on_delivery, on_error, on_log, on_rebalance};
pub use read::{Arrival, Queue};
pub use write::{Offsets, Topic, Transaction};

/// Longest wait for a client's threads to end; they go on ending in the background.
const DESTROY_WAIT: Duration = Duration::from_secs(2);

/// What librdkafka said of a call.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The code.
    pub code: RDKafkaErrorCode,
    /// Its text.
    pub text: String,
    /// The client cannot be used any more.
    pub fatal: bool,
    /// The same call may work later.
    pub retriable: bool,
    /// The transaction has to be aborted.
    pub requires_abort: bool,
}

impl Failed {
    /// A failure known by its code alone.
    pub fn of(code: RDKafkaErrorCode) -> Self {
        Self { code, text: code.to_string(), fatal: false, retriable: false, requires_abort: false }
    }

    fn check(code: ffi::rd_kafka_resp_err_t) -> Result<(), Self> {
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => Ok(()),
            code => Err(Self::of(code)),
        }
    }

    /// Takes over the error object of a call; null is success.
    fn take(error: *mut ffi::rd_kafka_error_t) -> Result<(), Self> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: a non-null return value is an error object that the caller owns; it is read before it is destroyed
        // and destroyed once.
        unsafe {
            let failed = Self {
                code: ffi::rd_kafka_error_code(error).into(),
                text: text(ffi::rd_kafka_error_string(error)),
                fatal: ffi::rd_kafka_error_is_fatal(error) != 0,
                retriable: ffi::rd_kafka_error_is_retriable(error) != 0,
                requires_abort: ffi::rd_kafka_error_txn_requires_abort(error) != 0,
            };
            ffi::rd_kafka_error_destroy(error);
            Err(failed)
        }
    }
}

/// A committed offset and its metadata; `None` where none was ever committed.
pub type Committed = Result<Option<(i64, String)>, Failed>;

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads, or is a group's member.
    Consumer,
    /// Writes, or administers.
    Producer,
}

/// A librdkafka client. Dropping it ends its threads without asking the broker, and never takes more than 2 s.
pub struct Client {
    handle: Handle,
    // Declared after the handle only for reading: `Drop` moves both to where the handle is destroyed first.
    inbox: ManuallyDrop<Box<Inbox>>,
    kind: Kind,
}

#[derive(Clone, Copy)]
struct Handle(*mut ffi::rd_kafka_t);

// SAFETY: librdkafka's client handle may be used from any thread (rdkafka.h, "thread-safe"); call-backs only touch the
// inbox, which is behind mutexes.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Client {
    /// Starts a client. Connects in the background; an error is about the configuration only.
    pub fn start(kind: Kind, config: &ClientConfig, observer: Arc<dyn Observer>) -> Result<Self, String> {
        let native = config.create_native_config().map_err(|error| match error {
            // The value may be a secret and librdkafka quotes it.
            rdkafka::error::KafkaError::ClientConfig(outcome, _, name, _) => {
                let unknown = outcome == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN;
                format!("property `{name}` {}", if unknown { "is unknown" } else { "has an invalid value" })
            }
            _ => "invalid configuration".to_owned(),
        })?;
        let inbox = Box::new(Inbox::new(observer));
        let mut reason = [0 as c_char; 512];
        // SAFETY: the configuration is valid and is given up to rd_kafka_new when that succeeds (ManuallyDrop), else it
        // is dropped here. The opaque pointer is the boxed inbox, whose address is stable and which is freed only after
        // the client was destroyed, so every call-back finds it alive.
        unsafe {
            let conf = native.ptr();
            ffi::rd_kafka_conf_set_opaque(conf, std::ptr::from_ref::<Inbox>(&inbox).cast_mut().cast());
            ffi::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            ffi::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            match kind {
                Kind::Consumer => ffi::rd_kafka_conf_set_rebalance_cb(conf, Some(on_rebalance)),
                Kind::Producer => ffi::rd_kafka_conf_set_dr_msg_cb(conf, Some(on_delivery)),
            }
            let kind_native = match kind {
                Kind::Consumer => ffi::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                Kind::Producer => ffi::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            };
            let rk = ffi::rd_kafka_new(kind_native, conf, reason.as_mut_ptr(), reason.len());
            if rk.is_null() {
                return Err(text(reason.as_ptr()));
            }
            std::mem::forget(native);
            if kind == Kind::Consumer {
                ffi::rd_kafka_poll_set_consumer(rk);
            }
            Ok(Self { handle: Handle(rk), inbox: ManuallyDrop::new(inbox), kind })
        }
    }

    /// What arrived through call-backs.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    fn rk(&self) -> *mut ffi::rd_kafka_t {
        self.handle.0
    }

    /// Serves call-backs, waiting up to `timeout` for the first.
    pub fn poll(&self, timeout: Duration) {
        // SAFETY: the handle is alive while `self` is.
        unsafe { ffi::rd_kafka_poll(self.rk(), millis(timeout)) };
    }

    /// Serves a group member's call-backs, waiting up to `timeout` for the first. `Err` is what the group has to say.
    pub fn poll_member(&self, timeout: Duration) -> Result<(), Failed> {
        // SAFETY: the handle is alive; a message that is returned is owned by us, read, and destroyed once.
        unsafe {
            let message = ffi::rd_kafka_consumer_poll(self.rk(), millis(timeout));
            if message.is_null() {
                return Ok(());
            }
            let outcome = Failed::check((*message).err)
                .map_err(|failed| Failed { text: text(ffi::rd_kafka_message_errstr(message)), ..failed });
            ffi::rd_kafka_message_destroy(message);
            outcome
        }
    }

    /// The error that ended this client, if one did.
    pub fn fatal_error(&self) -> Option<Failed> {
        let mut reason = [0 as c_char; 512];
        // SAFETY: the handle is alive; the buffer's length is given.
        let code = unsafe { ffi::rd_kafka_fatal_error(self.rk(), reason.as_mut_ptr(), reason.len()) };
        Failed::check(code).err().map(|failed| Failed { text: text(reason.as_ptr()), fatal: true, ..failed })
    }

    /// Subscribes a member to topics.
    pub fn subscribe(&self, topics: &TopicPartitionList) -> Result<(), Failed> {
        // SAFETY: both are alive; the list is copied.
        Failed::check(unsafe { ffi::rd_kafka_subscribe(self.rk(), topics.ptr()) })
    }

    /// Gives up the subscription. Unlike the end of a client it makes a *static* member leave its group at once.
    pub fn unsubscribe(&self) -> Result<(), Failed> {
        // SAFETY: the handle is alive.
        Failed::check(unsafe { ffi::rd_kafka_unsubscribe(self.rk()) })
    }

    /// Adds partitions to what is read; also the answer to a rebalance.
    pub fn assign(&self, partitions: &TopicPartitionList) -> Result<(), Failed> {
        // SAFETY: both are alive; the list is copied.
        Failed::take(unsafe { ffi::rd_kafka_incremental_assign(self.rk(), partitions.ptr()) })
    }

    /// Takes partitions away from what is read; also the answer to a rebalance. Nothing that was fetched for them is
    /// given out after this returned: librdkafka raises their version before it answers.
    pub fn unassign(&self, partitions: &TopicPartitionList) -> Result<(), Failed> {
        // SAFETY: both are alive; the list is copied.
        Failed::take(unsafe { ffi::rd_kafka_incremental_unassign(self.rk(), partitions.ptr()) })
    }

    /// Begins to end the membership; `poll_member` drives it until [`Client::is_closed`].
    pub fn close(&self) -> Result<(), Failed> {
        // SAFETY: the handle is alive; the queue is our reference, given back once.
        unsafe {
            let queue = ffi::rd_kafka_queue_get_consumer(self.rk());
            let outcome = Failed::take(ffi::rd_kafka_consumer_close_queue(self.rk(), queue));
            ffi::rd_kafka_queue_destroy(queue);
            outcome
        }
    }

    /// Whether the membership has ended.
    pub fn is_closed(&self) -> bool {
        // SAFETY: the handle is alive.
        unsafe { ffi::rd_kafka_consumer_closed(self.rk()) != 0 }
    }

    /// The committed offsets with their metadata, in the order of the list; `None` where there is none.
    pub fn committed(&self, partitions: &TopicPartitionList, timeout: Duration) -> Result<Vec<Committed>, Failed> {
        // SAFETY: both are alive; librdkafka works on a copy and updates ours before it returns. Metadata belongs to
        // the list and is null or as long as its size says.
        unsafe {
            Failed::check(ffi::rd_kafka_committed(self.rk(), partitions.ptr(), millis(timeout)))?;
            let committed = elements(partitions.ptr()).iter().map(|element| {
                Failed::check(element.err)?;
                let note = read::bytes(element.metadata, element.metadata_size).unwrap_or_default();
                Ok((element.offset >= 0).then(|| (element.offset, String::from_utf8_lossy(note).into_owned())))
            });
            Ok(committed.collect())
        }
    }

    /// Whether the group has given this member a place.
    pub fn is_member(&self) -> bool {
        // SAFETY: the handle is alive; the metadata is ours, checked for null and destroyed once.
        unsafe {
            let metadata = ffi::rd_kafka_consumer_group_metadata(self.rk());
            if metadata.is_null() {
                return false;
            }
            let joined = joined(metadata);
            ffi::rd_kafka_consumer_group_metadata_destroy(metadata);
            joined
        }
    }

    /// Commits offsets outside of a transaction, as a member of the current generation.
    pub fn commit(&self, offsets: &TopicPartitionList, timeout: Duration) -> Result<(), Failed> {
        // SAFETY: the queue is ours and destroyed once, after its last use; a late answer finds it closed and is
        // dropped by librdkafka. The list is copied by the call. The event is destroyed once, after it was read, and
        // its list belongs to it.
        unsafe {
            let queue = ffi::rd_kafka_queue_new(self.rk());
            let mut outcome = Failed::check(ffi::rd_kafka_commit_queue(
                self.rk(),
                offsets.ptr(),
                queue,
                Some(on_commit),
                std::ptr::null_mut(),
            ));
            if outcome.is_ok() {
                let event = ffi::rd_kafka_queue_poll(queue, millis(timeout));
                outcome = if event.is_null() {
                    Err(Failed { retriable: true, ..Failed::of(RDKafkaErrorCode::OperationTimedOut) })
                } else {
                    Failed::check(ffi::rd_kafka_event_error(event))
                        .and_then(|()| first_error(ffi::rd_kafka_event_topic_partition_list(event)))
                };
                if !event.is_null() {
                    ffi::rd_kafka_event_destroy(event);
                }
            }
            ffi::rd_kafka_queue_destroy(queue);
            outcome
        }
    }
}

impl Drop for Client {
    /// Destroying waits for librdkafka's threads, which may sit in a name look-up or a connect.
    fn drop(&mut self) {
        let handle = self.handle;
        let consumer = self.kind == Kind::Consumer;
        // SAFETY: `drop` runs once and nothing uses the field afterwards. It stays wrapped until the handle is destroyed:
        // a thread that cannot be started leaks both rather than leave librdkafka a freed inbox.
        let inbox = ManuallyDrop::new(unsafe { ManuallyDrop::take(&mut self.inbox) });
        let (done, ended) = mpsc::sync_channel::<()>(1);
        let destroy = move || {
            let Handle(rk) = { handle };
            let flags = if consumer { ffi::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE } else { 0 };
            // SAFETY: the last use of the handle: messages, queues and topics hold an `Arc` of the client, so none is
            // left. The inbox outlives it.
            unsafe { ffi::rd_kafka_destroy_flags(rk, flags) };
            drop(ManuallyDrop::into_inner(inbox));
            drop(done);
        };
        if std::thread::Builder::new().name("kafka-end".into()).spawn(destroy).is_ok() {
            // Nothing is ever sent: the wait ends when the thread has dropped its sender, or when the time is up.
            if ended.recv_timeout(DESTROY_WAIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                tracing::debug!("a Kafka client goes on ending in the background");
            }
        }
    }
}

/// Whether the group knows this member. The broker takes offsets from one that never joined, which would rewind a live
/// group.
///
/// # Safety
/// `metadata` is valid.
unsafe fn joined(metadata: *const ffi::rd_kafka_consumer_group_metadata_t) -> bool {
    // SAFETY: the caller vouches for it; the string lives as long.
    unsafe {
        !text(ffi::rd_kafka_consumer_group_metadata_member_id(metadata)).is_empty()
            && ffi::rd_kafka_consumer_group_metadata_generation_id(metadata) >= 1
    }
}

/// The first error that an element of a list carries.
///
/// # Safety
/// `list` is null or a valid list.
unsafe fn first_error(list: *const ffi::rd_kafka_topic_partition_list_t) -> Result<(), Failed> {
    if list.is_null() {
        return Ok(());
    }
    // SAFETY: the caller vouches for the list; `cnt` is the length of `elems`.
    let elements = unsafe { elements(list) };
    elements.iter().try_for_each(|element| Failed::check(element.err))
}

/// # Safety
/// `list` is a valid list that outlives the slice.
unsafe fn elements<'a>(list: *const ffi::rd_kafka_topic_partition_list_t) -> &'a [ffi::rd_kafka_topic_partition_t] {
    // SAFETY: `cnt` is the length of `elems`; an empty list may have null elements, which a slice must not.
    unsafe {
        match usize::try_from((*list).cnt) {
            Ok(count) if count > 0 => std::slice::from_raw_parts((*list).elems, count),
            _ => &[],
        }
    }
}

/// A C string as text; null is empty.
fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's strings end with NUL and live through the call that uses this.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().trim().to_owned()
}

/// A name for C; what follows a NUL, which no broker accepts in a name, is cut off.
fn c_string(name: &str) -> CString {
    let end = name.find('\0').unwrap_or(name.len());
    CString::new(&name[..end]).unwrap_or_default()
}

/// Whole milliseconds, rounded up so that a short wait does not become a busy loop.
fn millis(time: Duration) -> c_int {
    c_int::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
}

/// Present so that the answer comes as an event on the queue; events carry all that is needed.
unsafe extern "C" fn on_commit(
    _: *mut ffi::rd_kafka_t,
    _: ffi::rd_kafka_resp_err_t,
    _: *mut ffi::rd_kafka_topic_partition_list_t,
    _: *mut c_void,
) {
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_micros(1)), 1);
        assert_eq!(millis(Duration::from_millis(20)), 20);
        assert_eq!(millis(Duration::MAX), c_int::MAX);
    }

    #[test]
    fn a_name_ends_at_a_nul() {
        assert_eq!(c_string("orders").as_bytes(), b"orders");
        assert_eq!(c_string("or\0ders").as_bytes(), b"or");
    }
}

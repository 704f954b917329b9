//! Writing: `rd_kafka_producev` with the headers built in place, and the transaction calls.
//!
//! Bytes are copied once, into librdkafka's message. A delivered record leaves no trace here: with
//! `delivery.report.only.error` only refused ones are reported. Never retries by itself, and waits by itself only for
//! the one call that may never return.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as ffi;
use rdkafka::types::RDKafkaErrorCode;

use super::{Client, Failed, c_string, joined, millis};

/// A topic that records are written to; spares librdkafka the look-up of its name for each record.
pub struct Topic {
    topic: NonNull<ffi::rd_kafka_topic_t>,
    client: Arc<Client>,
}

// SAFETY: topic handles may be used from any thread, like their client.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    /// The topic of that name; the broker is not asked.
    pub fn open(client: &Arc<Client>, name: &str) -> Result<Self, Failed> {
        // SAFETY: the client is alive; the name is copied; no configuration of its own.
        let topic = unsafe { ffi::rd_kafka_topic_new(client.rk(), c_string(name).as_ptr(), ptr::null_mut()) };
        // SAFETY: reads this thread's last error.
        let failed = || Failed::of(unsafe { ffi::rd_kafka_last_error() }.into());
        Ok(Self { topic: NonNull::new(topic).ok_or_else(failed)?, client: Arc::clone(client) })
    }

    /// Queues a record; its bytes are copied. `timestamp_ms` 0 takes the present time.
    #[inline]
    pub fn produce<'a>(
        &self,
        partition: i32,
        timestamp_ms: i64,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        tag: u64,
    ) -> Result<(), RDKafkaErrorCode> {
        let list = header_list(headers);
        let (key, key_length) = pointer(key);
        let (value, value_length) = pointer(value);
        // SAFETY: arguments follow the table of rd_kafka_vtype_t: each tag with the C types that rdkafka.h names for it.
        // Key and value are copied before the call returns. The header list is librdkafka's on success and ours
        // otherwise.
        unsafe {
            let code = ffi::rd_kafka_producev(
                self.client.rk(),
                ffi::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
                self.topic.as_ptr(),
                ffi::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
                partition,
                ffi::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
                ffi::RD_KAFKA_MSG_F_COPY,
                ffi::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
                value,
                value_length,
                ffi::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
                key,
                key_length,
                ffi::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE,
                tag as usize as *mut c_void,
                ffi::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP,
                timestamp_ms,
                ffi::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                list,
                ffi::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
            );
            if code == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(());
            }
            if !list.is_null() {
                ffi::rd_kafka_headers_destroy(list);
            }
            Err(code.into())
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once while the client is alive.
        unsafe { ffi::rd_kafka_topic_destroy(self.topic.as_ptr()) };
    }
}

/// Names and values are copied; null when there are none.
fn header_list<'a>(headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> *mut ffi::rd_kafka_headers_t {
    let mut list: *mut ffi::rd_kafka_headers_t = ptr::null_mut();
    for (name, value) in headers {
        let (value, length) = pointer(value);
        // SAFETY: the list is ours; sizes are given, so nothing has to end with NUL; lengths of slices fit isize.
        unsafe {
            if list.is_null() {
                list = ffi::rd_kafka_headers_new(4);
            }
            ffi::rd_kafka_header_add(list, name.as_ptr().cast(), name.len() as isize, value, length as isize);
        }
    }
    list
}

/// A null pointer is a null key or value; an empty one points somewhere.
fn pointer(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((ptr::null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut().cast(), bytes.len()))
}

/// The calls of a transactional producer. Those with a time-out may be repeated when they say [`Failed::retriable`].
pub struct Transaction<'a>(pub &'a Client);

impl Transaction<'_> {
    /// Gets a producer id and fences whoever has the same transactional id.
    pub fn init(&self, timeout: Duration) -> Result<(), Failed> {
        // SAFETY: the client is alive.
        Failed::take(unsafe { ffi::rd_kafka_init_transactions(self.0.rk(), millis(timeout)) })
    }

    /// Begins.
    pub fn begin(&self) -> Result<(), Failed> {
        // SAFETY: the client is alive.
        Failed::take(unsafe { ffi::rd_kafka_begin_transaction(self.0.rk()) })
    }

    /// Commits.
    pub fn commit(&self, timeout: Duration) -> Result<(), Failed> {
        // SAFETY: the client is alive.
        Failed::take(unsafe { ffi::rd_kafka_commit_transaction(self.0.rk(), millis(timeout)) })
    }

    /// Aborts.
    pub fn abort(&self, timeout: Duration) -> Result<(), Failed> {
        // SAFETY: the client is alive.
        Failed::take(unsafe { ffi::rd_kafka_abort_transaction(self.0.rk(), millis(timeout)) })
    }
}

/// Makes offsets of a group part of a producer's transaction, on a thread of its own.
///
/// librdkafka's call does not keep its time-out, and never returns when the group's coordinator has left the cluster's
/// metadata meanwhile, as it does when a broker is restarted (librdkafka issues 5456 and 5511). The caller gets its
/// answer in time; the thread keeps the producer until the call returns, which may be never.
pub struct Offsets {
    ask: SyncSender<(TopicPartitionList, Membership, Duration)>,
    answers: Receiver<Result<(), Failed>>,
    is_stuck: bool,
}

/// How much later than asked a call may return.
const LATE_MAX: Duration = Duration::from_secs(1);

impl Offsets {
    /// Starts the thread; it ends with this value.
    pub fn start(producer: &Arc<Client>) -> Result<Self, Failed> {
        let (ask, asked) = sync_channel::<(TopicPartitionList, Membership, Duration)>(1);
        let (answer, answers) = sync_channel(1);
        let producer = Arc::clone(producer);
        let run = move || {
            for (offsets, membership, timeout) in asked {
                // SAFETY: client, list and metadata are alive.
                let outcome = unsafe {
                    let metadata = membership.0.as_ptr();
                    let timeout = millis(timeout);
                    ffi::rd_kafka_send_offsets_to_transaction(producer.rk(), offsets.ptr(), metadata, timeout)
                };
                if answer.send(Failed::take(outcome)).is_err() {
                    return;
                }
            }
        };
        let started = std::thread::Builder::new().name("offsets".into()).spawn(run);
        started.map_err(|error| Failed {
            text: error.to_string(),
            ..Failed::of(RDKafkaErrorCode::CriticalSystemResource)
        })?;
        Ok(Self { ask, answers, is_stuck: false })
    }

    /// Whether a call has not returned: its producer is of no use any more.
    pub const fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Makes offsets of the group of `member`, in its present generation, part of the transaction.
    pub fn send(&mut self, offsets: TopicPartitionList, member: &Client, timeout: Duration) -> Result<(), Failed> {
        let stuck = || Failed {
            text: "the group's coordinator is gone and its successor is not asked".into(),
            requires_abort: true,
            ..Failed::of(RDKafkaErrorCode::OperationTimedOut)
        };
        let membership = Membership::of(member).ok_or_else(|| Failed {
            text: "the group has no place for this member at the moment".into(),
            requires_abort: true,
            ..Failed::of(RDKafkaErrorCode::State)
        })?;
        if self.is_stuck || self.ask.send((offsets, membership, timeout)).is_err() {
            return Err(stuck());
        }
        self.answers.recv_timeout(timeout + LATE_MAX).unwrap_or_else(|_| {
            self.is_stuck = true;
            Err(stuck())
        })
    }
}

/// A member's place in its group.
struct Membership(NonNull<ffi::rd_kafka_consumer_group_metadata_t>);

// SAFETY: plain data of its own, a copy of what the client knew.
unsafe impl Send for Membership {}

impl Membership {
    /// The present one; `None` when the group does not know the member.
    fn of(member: &Client) -> Option<Self> {
        // SAFETY: the client is alive; the metadata is ours.
        let metadata = Self(NonNull::new(unsafe { ffi::rd_kafka_consumer_group_metadata(member.rk()) })?);
        // SAFETY: it is valid.
        unsafe { joined(metadata.0.as_ptr()) }.then_some(metadata)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { ffi::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) };
    }
}

impl Client {
    /// Records queued and not yet done with, and call-backs that wait for `poll`.
    pub fn outstanding(&self) -> usize {
        // SAFETY: the client is alive.
        usize::try_from(unsafe { ffi::rd_kafka_outq_len(self.rk()) }).unwrap_or(0)
    }

    /// Gives up all records that are queued or under way; each is reported as purged.
    pub fn purge(&self) {
        let flags = ffi::RD_KAFKA_PURGE_F_QUEUE | ffi::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the client is alive and a producer. With these flags the call cannot fail.
        unsafe { ffi::rd_kafka_purge(self.rk(), flags) };
    }
}

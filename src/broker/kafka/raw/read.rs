//! Reading in batches: `rd_kafka_consume_batch_queue`, split into runs of one partition.
//!
//! A run keeps librdkafka's own messages and lends out their bytes; nothing is copied and nothing is allocated per
//! record. Headers are parsed by librdkafka when the first one is asked for. Never decides what a message means.

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::RDKafkaErrorCode;

use super::{Client, millis, text};
use crate::model::record::{HeaderList, Headers, RecordBatch, RecordRef, TimestampKind};

/// The queue into which a consumer's partitions deliver.
pub struct Queue {
    queue: NonNull<ffi::rd_kafka_queue_t>,
    taken: Vec<*mut ffi::rd_kafka_message_t>,
    client: Arc<Client>,
}

// SAFETY: a queue handle may be moved between threads like its client; `taken` is empty between calls.
unsafe impl Send for Queue {}

/// What came out of a queue.
pub enum Arrival {
    /// Records of one partition.
    Run(Run),
    /// Something about one partition that is not a record.
    Note {
        /// The topic; empty when the note is about none.
        topic: String,
        /// The partition.
        partition: i32,
        /// The position it is about.
        offset: i64,
        /// What.
        code: RDKafkaErrorCode,
        /// In librdkafka's words.
        text: String,
    },
}

impl Queue {
    /// The queue of a client that was configured with a `group.id`.
    pub fn of(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: the client is alive; null says that it has no such queue.
        let queue = NonNull::new(unsafe { ffi::rd_kafka_queue_get_consumer(client.rk()) })?;
        Some(Self { queue, taken: Vec::new(), client: Arc::clone(client) })
    }

    /// Takes at most `max` messages, waiting up to `timeout` for the first, and hands them out in their order.
    pub fn take(&mut self, max: usize, timeout: Duration, mut each: impl FnMut(Arrival)) {
        // A wait for more than one message lasts until all have come, so only one is waited for.
        if self.fill(max, Duration::ZERO) == 0 && !timeout.is_zero() && self.fill(1, timeout) == 1 && max > 1 {
            self.fill(max - 1, Duration::ZERO);
        }
        // Taken out, so that a panic in `each` leaves no message to be given out twice.
        let mut taken = std::mem::take(&mut self.taken);
        let mut rest = taken.as_slice();
        while let Some((first, others)) = rest.split_first() {
            // SAFETY: messages in `taken` are valid and owned by us until they are given to a run or destroyed.
            let head = unsafe { &**first };
            if RDKafkaErrorCode::from(head.err) != RDKafkaErrorCode::NoError {
                // SAFETY: as above; `first` is not looked at again.
                each(unsafe { note(*first) });
                rest = others;
                continue;
            }
            // SAFETY: as above.
            let same = others.iter().take_while(|next| unsafe {
                (***next).rkt == head.rkt && (***next).partition == head.partition && (***next).err == head.err
            });
            let (run, tail) = rest.split_at(1 + same.count());
            rest = tail;
            let messages = run.iter().filter_map(|message| NonNull::new(*message).map(RawMessage)).collect();
            each(Arrival::Run(Run { messages, _client: Arc::clone(&self.client) }));
        }
        taken.clear();
        self.taken = taken;
    }

    fn fill(&mut self, max: usize, timeout: Duration) -> usize {
        let before = self.taken.len();
        self.taken.reserve(max);
        // SAFETY: `max` pointers fit behind the present length; as many as the call returns are written.
        unsafe {
            let room = self.taken.as_mut_ptr().add(before);
            let count = ffi::rd_kafka_consume_batch_queue(self.queue.as_ptr(), millis(timeout), room, max);
            let count = usize::try_from(count).unwrap_or(0);
            self.taken.set_len(before + count);
            count
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: our reference to the queue, given back once while the client is alive.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// # Safety
/// `message` is valid and owned by the caller, who gives it up.
unsafe fn note(message: *mut ffi::rd_kafka_message_t) -> Arrival {
    // SAFETY: read before it is destroyed; the topic of a message may be null.
    unsafe {
        let rkt = (*message).rkt;
        let arrival = Arrival::Note {
            topic: if rkt.is_null() { String::new() } else { text(ffi::rd_kafka_topic_name(rkt)) },
            partition: (*message).partition,
            offset: (*message).offset,
            code: (*message).err.into(),
            text: text(ffi::rd_kafka_message_errstr(message)),
        };
        ffi::rd_kafka_message_destroy(message);
        arrival
    }
}

/// Messages of one partition, in their order. Keeps librdkafka's fetch buffer alive.
pub struct Run {
    messages: Vec<RawMessage>,
    // Dropped after the messages, which lie in its memory.
    _client: Arc<Client>,
}

impl Run {
    /// The topic.
    pub fn topic(&self) -> &str {
        // SAFETY: a record's topic is never null and lives as long as its message; names are ASCII.
        self.messages.first().map_or("", |first| unsafe {
            std::ffi::CStr::from_ptr(ffi::rd_kafka_topic_name(first.native().rkt)).to_str().unwrap_or("")
        })
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.messages.first().map_or(-1, |first| first.native().partition)
    }

    /// Offsets of the first and the last record; `None` when all were dropped.
    pub fn offsets(&self) -> Option<(i64, i64)> {
        Some((self.messages.first()?.native().offset, self.messages.last()?.native().offset))
    }

    /// Drops the records below `offset`.
    pub fn drop_below(&mut self, offset: i64) {
        self.messages.retain(|message| message.native().offset >= offset);
    }
}

impl RecordBatch for Run {
    fn len(&self) -> usize {
        self.messages.len()
    }

    fn record(&self, index: usize) -> RecordRef<'_> {
        self.messages[index].record()
    }
}

/// One message of librdkafka's, owned. Not `Sync`: headers are parsed in place.
#[repr(transparent)]
pub struct RawMessage(NonNull<ffi::rd_kafka_message_t>);

// SAFETY: messages are handed from librdkafka's threads to ours and carry no thread's state.
unsafe impl Send for RawMessage {}

impl RawMessage {
    fn native(&self) -> &ffi::rd_kafka_message_t {
        // SAFETY: valid until we destroy it.
        unsafe { self.0.as_ref() }
    }

    /// Lends out the record.
    pub fn record(&self) -> RecordRef<'_> {
        let native = self.native();
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid; key and payload are null or point to as many bytes as their lengths say, which
        // live as long as the message.
        unsafe {
            let timestamp_ms = ffi::rd_kafka_message_timestamp(native, &raw mut kind);
            RecordRef {
                offset: native.offset,
                timestamp_ms,
                timestamp_kind: match kind {
                    ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampKind::AppendTime,
                    _ => TimestampKind::CreateTime,
                },
                key: bytes(native.key, native.key_len),
                value: bytes(native.payload, native.len),
                headers: Headers::Listed(self),
            }
        }
    }
}

impl HeaderList for RawMessage {
    fn header(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        let mut list = std::ptr::null_mut();
        let mut name: *const c_char = std::ptr::null();
        let mut value: *const c_void = std::ptr::null();
        let mut size = 0;
        let fine = ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        // SAFETY: the list belongs to the message, is parsed at most once (this type is not Sync) and lives as long;
        // name and value are set when the call succeeds and point into the list.
        unsafe {
            if ffi::rd_kafka_message_headers(self.0.as_ptr(), &raw mut list) != fine
                || ffi::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size) != fine
            {
                return None;
            }
            Some((std::ffi::CStr::from_ptr(name).to_bytes(), bytes(value, size)))
        }
    }
}

impl Drop for RawMessage {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once, before its client (see `Run`).
        unsafe { ffi::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

/// # Safety
/// `start` is null or points to `length` bytes that outlive `'a`.
pub(super) unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for it.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}

//! One partition of a link while this instance owns it: the stream's state with the handles that move it.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Slot;
use crate::control::entry::PartitionBeat;
use crate::machine::backoff::Backoff;
use crate::machine::flow::{Phase, Stop, Stream, Tally};
use crate::machine::note::Note;
use crate::model::names::TopicPartition;
use crate::model::provenance::Stamp;
use crate::model::record::RecordRef;
use crate::policy::decide::{Birth, Place};
use crate::runtime::route::Route;
use crate::telemetry::metrics::{Latency, LinkMeter};

const RETRY_FLOOR: Duration = Duration::from_millis(250);
const RETRY_CEILING: Duration = Duration::from_secs(30);
/// How often a stream that stands still until somebody acts looks whether somebody has.
const STOPPED_LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a record is offered again to a target that refused it: each time costs the link a transaction.
const REFUSED_LOOK_EVERY: Duration = Duration::from_secs(20);

/// One partition of a link while this instance owns it.
pub struct Lane {
    /// Index of its route.
    pub route: usize,
    /// Its number on both sides.
    pub partition: i32,
    /// Where it is read.
    pub source: TopicPartition,
    /// Where it is written.
    pub target: TopicPartition,
    /// The destination's number in the sink, once it was opened.
    pub out: Option<Slot>,
    /// The dead-letter destination's number in the sink and the largest record it takes, once it was needed.
    pub dead_letter: Option<(Slot, usize)>,
    /// The state.
    pub stream: Stream,
    /// What `ls_origin` starts with.
    pub stamp: Stamp,
    /// What its records are held against.
    pub place: Place,
    /// Counts resolutions: an answer to an older one is dropped.
    pub token: u64,
    /// What is waited for next.
    pub wait: Wait,
    /// What the group held when it was asked last.
    pub committed_position: Option<(i64, Note)>,
    /// Id of the source topic that is read.
    pub topic_id: String,
    /// Whether the end of the source was reached and nothing came since.
    pub at_end: bool,
    /// How often the dead-letter topic itself refused the record at hand.
    pub dead_letter_refusals: u8,
    /// Numbers for operators.
    pub meter: Arc<LinkMeter>,
    /// Timestamps of the open transaction's copies, run-length encoded.
    born: Vec<(i64, u64)>,
    backoff: Backoff,
    /// Where the source's log began when it was first looked at, and when.
    retention_seen: Option<(i64, Duration)>,
}

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    None,
    /// The group's committed position.
    Position,
    /// The resolver's answer.
    Answer,
    /// A moment of the monotone clock; then its position is resolved anew.
    Until(Duration),
}

/// Distinct timestamps of one transaction that are told apart for the latency histogram.
const BORN_RUNS_MAX: usize = 1024;

impl Lane {
    /// A lane whose position is still to be asked for.
    pub fn new(index: usize, route: &Route, partition: i32, meter: Arc<LinkMeter>) -> Self {
        Self {
            route: index,
            partition,
            source: route.source(partition),
            target: route.target(partition),
            out: None,
            dead_letter: None,
            stream: Stream::new(),
            stamp: Stamp::new(&route.copy.from, &route.copy.topic, partition, 1),
            place: route.place(partition),
            token: 0,
            wait: Wait::Position,
            committed_position: None,
            topic_id: String::new(),
            at_end: false,
            dead_letter_refusals: 0,
            meter,
            born: Vec::new(),
            backoff: Backoff::new(RETRY_FLOOR, RETRY_CEILING),
            retention_seen: None,
        }
    }

    /// Whether records are being read for it.
    pub fn is_running(&self) -> bool {
        self.stream.phase == Phase::Running
    }

    /// Asks for the position anew; what is not committed is discarded first.
    pub fn restart(&mut self) {
        self.discard();
        self.stream.forget();
        self.stream.phase = Phase::Resolving;
        self.wait = Wait::Position;
        self.token += 1;
    }

    /// Stands still until somebody acts.
    pub fn stop(&mut self, stop: Stop, detail: String, now: Duration) {
        // Somebody may mend the dead-letter topic too before it is tried again.
        self.dead_letter_refusals = 0;
        let look = if stop == Stop::Rejected { REFUSED_LOOK_EVERY } else { STOPPED_LOOK_EVERY };
        self.stream.phase = Phase::Stopped { stop, detail };
        self.wait = Wait::Until(now + look);
        self.token += 1;
    }

    /// Stands still for a while.
    pub fn retry(&mut self, reason: String, now: Duration) {
        self.stream.phase = Phase::Retrying { reason };
        self.wait = Wait::Until(now + self.backoff.failed());
        self.token += 1;
    }

    /// The record has its outcome.
    pub fn worked_off(&mut self, record: &RecordRef<'_>, birth: Birth) {
        self.dead_letter_refusals = 0;
        self.stream.seen.note(birth);
        self.stream.newest_ms = Some(record.timestamp_ms);
        self.stream.resolved(record.offset);
    }

    /// Remembers when a copy was born, for its latency.
    pub fn remember_birth(&mut self, timestamp_ms: i64) {
        let is_full = self.born.len() >= BORN_RUNS_MAX;
        match self.born.last_mut() {
            Some((newest_ms, records)) if *newest_ms == timestamp_ms => *records += 1,
            Some((_, records)) if is_full => *records += 1,
            _ => self.born.push((timestamp_ms, 1)),
        }
    }

    /// What was fetched and resolved of a batch is in flight now.
    pub fn count_fetched(&self, records: u64) {
        self.meter.update(|counters| {
            counters.fetched += records;
            counters.in_flight += records;
        });
    }

    /// The open transaction is committed.
    pub fn committed(&mut self, now_ms: i64) {
        let tally = self.stream.commit();
        self.backoff.succeeded();
        let mut latency = Latency::default();
        for (timestamp_ms, records) in self.born.drain(..) {
            latency.observe(u64::try_from(now_ms - timestamp_ms).unwrap_or(0), records);
        }
        if tally != Tally::default() {
            self.meter.update(|counters| count_committed(counters, &tally, &latency));
        }
    }

    /// Drops what the open transaction holds.
    pub fn discard(&mut self) {
        self.born.clear();
        let tally = self.stream.abort();
        if tally.fetched > 0 {
            self.meter.update(|counters| {
                counters.in_flight -= tally.fetched;
                counters.discarded += tally.fetched;
            });
        }
    }

    /// How long the oldest record that is not copied yet has been waiting, seconds; at least that of the newest copied.
    pub fn lag_seconds(&self, lag_records: u64, now_ms: i64) -> Option<f64> {
        if lag_records == 0 {
            return Some(0.0);
        }
        let newest_ms = self.stream.newest_ms.filter(|newest_ms| *newest_ms >= 0)?;
        Some((now_ms - newest_ms).max(0) as f64 / 1000.0)
    }

    /// When the source deletes records that are not copied, if it goes on deleting as fast as it was seen to.
    pub fn seconds_to_retention_loss(&mut self, log_start: i64, now: Duration) -> Option<f64> {
        let (first_start, first_at) = *self.retention_seen.get_or_insert((log_start, now));
        let deleted = u64::try_from(log_start - first_start).ok().filter(|deleted| *deleted > 0)?;
        let per_second = deleted as f64 / (now - first_at).as_secs_f64().max(1.0);
        let (next, _) = self.stream.position()?;
        Some((next - log_start).max(0) as f64 / per_second)
    }

    /// What operators see.
    pub fn beat(&self, lag_records: Option<u64>) -> PartitionBeat {
        PartitionBeat {
            partition: self.partition,
            state: self.stream.phase.label().to_owned(),
            reason: self.stream.phase.reason(),
            position: self.stream.position().map(|(next, _)| next),
            lag_records,
            order: self.stream.order.clone(),
        }
    }
}

fn count_committed(counters: &mut crate::telemetry::metrics::LinkCounters, tally: &Tally, latency: &Latency) {
    counters.in_flight -= tally.fetched;
    counters.copied += tally.copied;
    counters.bytes += tally.bytes;
    counters.skipped.add("copy", tally.skipped_copy);
    counters.skipped.add("duplicate_copy", tally.skipped_duplicate);
    counters.skipped.add("on_path", tally.skipped_on_path);
    counters.rejected.add("refused", tally.dead_lettered);
    counters.republished += tally.republished;
    counters.duplicates += tally.skipped_duplicate;
    counters.missing_routing_key += tally.missing_key;
    counters.missing_version += tally.missing_version;
    counters.latency.add(latency);
}

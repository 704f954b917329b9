//! The hot path: batches in, verdicts, appends out. No allocation, no lock and no task switch per record.

use std::collections::BTreeSet;

use tracing::warn;

use crate::broker::{Class, Error, Failure, Fetched, NewTopic, Slot};
use crate::machine::flow::Stop;
use crate::model::names::TopicPartition;
use crate::model::provenance;
use crate::model::record::{Headers, NewRecord, RecordBatch, RecordRef};
use crate::policy::decide::{self, Birth, Skip, Verdict};
use crate::runtime::lane::Lane;
use crate::runtime::session::{Session, Unit, Went};
use crate::runtime::stamp::{self, Stamped};

/// A tag names a lane and the low bits of an offset.
const TAG_OFFSET_BITS: u32 = 48;
const TAG_OFFSET_MASK: u64 = (1 << TAG_OFFSET_BITS) - 1;
/// What a dead-letter record needs besides the body of the record that it stands for, bytes.
const DEAD_LETTER_ROOM_BYTES: usize = 4096;
/// Refusals of a dead-letter record itself before the stream stops: the first drops its body, the second its headers.
const DEAD_LETTER_REFUSALS_MAX: u8 = 2;

/// What became of one record.
enum Step {
    /// It has its outcome.
    Done,
    /// What is open must be committed before this record is looked at again.
    CommitFirst,
    /// The stream stands still; this record and those behind it are fetched again later.
    Halt,
    /// The transaction was aborted: every lane was sent back.
    Back,
}

impl Session<'_> {
    /// Works off what was fetched.
    pub(super) fn carry(&mut self, events: &mut Vec<Fetched>) -> Result<Went, Error> {
        for event in events.drain(..) {
            let went = match event {
                Fetched::Records { slot, batch } => self.carry_batch(slot, batch.as_ref())?,
                Fetched::End { slot, next } => {
                    self.reach_end(slot, next);
                    Went::On
                }
                Fetched::Broken { slot, error } => {
                    self.break_lane(slot, &error);
                    Went::On
                }
            };
            if went == Went::Back {
                return Ok(Went::Back);
            }
        }
        Ok(Went::On)
    }

    fn reach_end(&mut self, slot: Slot, next: i64) {
        let now = self.now();
        if let Some(lane) = self.lanes.get_mut(slot).and_then(Option::as_mut) {
            lane.at_end = true;
            if lane.is_running() && next > lane.stream.next() {
                lane.stream.passed(next);
                self.open.moved_since.get_or_insert(now);
            }
        }
    }

    fn break_lane(&mut self, slot: Slot, error: &Error) {
        let now = self.now();
        if let Some(lane) = self.lanes.get_mut(slot).and_then(Option::as_mut) {
            warn!(source = %lane.source, "reading stops: {error}");
            lane.retry(format!("{}: {error}", error.class.label()), now);
        }
    }

    fn carry_batch(&mut self, slot: Slot, batch: &dyn RecordBatch) -> Result<Went, Error> {
        if !self.lanes.get(slot).and_then(Option::as_ref).is_some_and(Lane::is_running) {
            return Ok(Went::On);
        }
        let now = self.now();
        let mut index = 0;
        while index < batch.len() {
            self.open.moved_since.get_or_insert(now);
            let first = index;
            let (mut step, mut bytes) = (Step::Done, 0);
            while index < batch.len() {
                let record = batch.record(index);
                step = self.carry_record(slot, &record)?;
                if !matches!(step, Step::Done) {
                    break;
                }
                bytes += record.body_bytes();
                index += 1;
            }
            if matches!(step, Step::Back) {
                // What the lane held was discarded with it: counting it now would count it for good.
                return Ok(Went::Back);
            }
            self.count(slot, (index - first) as u64, bytes as u64);
            match step {
                Step::Done | Step::Back => {}
                Step::Halt => return Ok(Went::On),
                Step::CommitFirst if self.commit()? == Went::Back => return Ok(Went::Back),
                Step::CommitFirst => {}
            }
        }
        Ok(Went::On)
    }

    fn count(&mut self, slot: Slot, records: u64, bytes: u64) {
        if let Some(lane) = &mut self.lanes[slot]
            && records > 0
        {
            lane.stream.open.fetched += records;
            lane.at_end = false;
            lane.count_fetched(records);
        }
        for (budget, unit) in &mut self.budgets {
            budget.spend(records, if *unit == Unit::Records { records } else { bytes });
        }
    }

    fn carry_record(&mut self, slot: Slot, record: &RecordRef<'_>) -> Result<Step, Error> {
        let Some(lane) = self.lanes[slot].as_mut() else { return Ok(Step::Halt) };
        if record.offset < lane.stream.next() {
            // The contract rules it out. A record that has its outcome must never get a second one.
            return Err(Error::new(Class::Fatal, format!("read {}", lane.source), "the reader went back"));
        }
        if lane.stream.chunk(record.offset) == Some(0) {
            return Ok(Step::CommitFirst);
        }
        if lane.stream.refusal(record.offset).is_some() {
            return self.put_aside(slot, record);
        }
        let route = &self.runner.routes[lane.route];
        let birth = decide::birth(&lane.place, &lane.stream.seen, record);
        let verdict = decide::verdict(birth, &route.forwarded, &route.copy.to, record);
        if let Verdict::Skip(skip) = verdict {
            let tally = &mut lane.stream.open;
            match skip {
                Skip::Copy => tally.skipped_copy += 1,
                Skip::DuplicateCopy => tally.skipped_duplicate += 1,
                Skip::OnPath => tally.skipped_on_path += 1,
            }
            lane.worked_off(record, birth);
            return Ok(Step::Done);
        }
        self.append(slot, record, birth, verdict)
    }

    fn append(&mut self, slot: Slot, record: &RecordRef<'_>, birth: Birth, verdict: Verdict) -> Result<Step, Error> {
        if self.open.since.is_none() {
            self.begin()?;
            self.open.since = Some(self.now());
        }
        let Some(lane) = self.lanes[slot].as_mut() else { return Ok(Step::Halt) };
        let route = &self.runner.routes[lane.route];
        let values = stamp::values(route, record, verdict);
        let origin = lane.stamp.value(record.offset, record.timestamp_ms);
        let stamped = Stamped::new(&values, origin, verdict);
        let Some(out) = lane.out else { return Ok(Step::Halt) };
        match self.sink.append(out, &stamped.record(record), tag(slot, record.offset)) {
            Ok(true) => {}
            Ok(false) if self.open.records > 0 => return Ok(Step::CommitFirst),
            Ok(false) => {
                lane.stream.refuse(record.offset, record.offset, 1, "larger than the buffer for writing".to_owned());
                return self.put_aside(slot, record);
            }
            Err(error) if error.class == Class::Rejected => {
                lane.stream.refuse(record.offset, record.offset, 1, error.reason);
                return self.put_aside(slot, record);
            }
            Err(error) => return self.abort(error).map(|_| Step::Back),
        }
        let tally = &mut lane.stream.open;
        tally.copied += 1;
        tally.bytes += record.body_bytes() as u64;
        tally.republished += u64::from(verdict == Verdict::Born { republished: true });
        tally.missing_key += u64::from(values.missing_key);
        tally.missing_version += u64::from(values.missing_version);
        lane.remember_birth(record.timestamp_ms);
        lane.worked_off(record, birth);
        self.open.records += 1;
        Ok(Step::Done)
    }

    /// Writes a record that the target refuses to the dead-letter topic, or stops the stream there.
    fn put_aside(&mut self, slot: Slot, record: &RecordRef<'_>) -> Result<Step, Error> {
        let now = self.now();
        let Some(lane) = self.lanes[slot].as_mut() else { return Ok(Step::Halt) };
        let Some(reason) = lane.stream.refusal(record.offset).map(str::to_owned) else { return Ok(Step::Halt) };
        let detail = format!("the target refuses the record at offset {}: {reason}", record.offset);
        if self.runner.settings.stops_at_rejected || lane.dead_letter_refusals > DEAD_LETTER_REFUSALS_MAX {
            warn!(source = %lane.source, "stream stops: {detail}");
            lane.stop(Stop::Rejected, detail, now);
            self.source.stop(slot)?;
            return Ok(Step::Halt);
        }
        let (out, body_bytes_max) = match self.dead_letter(slot) {
            Ok(known) => known,
            Err(error) => {
                if let Some(lane) = self.lanes[slot].as_mut() {
                    lane.retry(format!("{}: {detail}, and {error}", error.class.label()), now);
                }
                self.source.stop(slot)?;
                return Ok(Step::Halt);
            }
        };
        self.begin()?;
        self.open.since.get_or_insert(now);
        let Some(lane) = self.lanes[slot].as_mut() else { return Ok(Step::Halt) };
        warn!(source = %lane.source, offset = record.offset, "record put aside: {reason}");
        let target = format!("{}/{}", self.runner.settings.to, lane.target);
        let birth = decide::birth(&lane.place, &lane.stream.seen, record);
        let kept = record.headers.last(provenance::ORIGIN).flatten();
        let origin = match (birth, kept) {
            // A copy that is forwarded keeps the place of its birth, here too.
            (Birth::Copied { .. }, Some(kept)) => kept,
            _ => lane.stamp.value(record.offset, record.timestamp_ms),
        };
        let fits = lane.dead_letter_refusals == 0 && record.body_bytes() + DEAD_LETTER_ROOM_BYTES <= body_bytes_max;
        let has_headers = lane.dead_letter_refusals < 2;
        let dead = NewRecord {
            timestamp_ms: -1,
            key: record.key.filter(|_| fits),
            value: record.value.filter(|_| fits),
            headers: if has_headers { record.headers } else { Headers::Empty },
            without: &[provenance::ORIGIN, provenance::REASON, provenance::TARGET],
            added: &[
                (provenance::ORIGIN, origin),
                (provenance::REASON, reason.as_bytes()),
                (provenance::TARGET, target.as_bytes()),
            ],
        };
        match self.sink.append(out, &dead, tag(slot, record.offset)) {
            Ok(true) => {}
            Ok(false) => return Ok(Step::CommitFirst),
            Err(error) if error.class == Class::Rejected => {
                warn!(source = %lane.source, offset = record.offset, "the dead-letter topic refuses it too: {error}");
                lane.dead_letter_refusals += 1;
                return Ok(Step::CommitFirst);
            }
            Err(error) => return self.abort(error).map(|_| Step::Back),
        }
        lane.stream.open.dead_lettered += 1;
        lane.worked_off(record, birth);
        self.open.records += 1;
        Ok(Step::Done)
    }

    /// The dead-letter destination of a lane and the largest body it takes, bytes. Makes the topic the first time.
    fn dead_letter(&mut self, slot: Slot) -> Result<(Slot, usize), Error> {
        let Some(lane) = self.lanes[slot].as_mut() else { return Ok((0, 0)) };
        if let Some(known) = lane.dead_letter {
            return Ok(known);
        }
        let (settings, target) = (&self.runner.settings, &self.runner.world.target);
        let name = &self.runner.routes[lane.route].dead_letter;
        let describe = || target.describe(std::slice::from_ref(name)).map(|mut found| found.swap_remove(0));
        let mut found = describe()?;
        if found.is_none() && settings.creates_topics {
            let partitions = lane.partition + 1;
            target.create(&NewTopic {
                name: name.clone(),
                partitions,
                replication_factor: settings.creation.replication_factor,
                config: settings.creation.config.clone(),
            })?;
            found = describe()?;
        }
        let topic = found.ok_or_else(|| {
            Error::new(Class::Missing, "write to the dead-letter topic", format!("{name} does not exist"))
        })?;
        let partition = TopicPartition::new(name, lane.partition % topic.partitions.max(1));
        let known = (self.sink.open(&partition)?, topic.record_bytes_max.unwrap_or(1_000_000));
        lane.dead_letter = Some(known);
        Ok(known)
    }

    /// Finds the lanes that made a transaction fail, so that they alone are slowed down. `late_of`: of so many lanes that
    /// had written, those whose records were not acknowledged are at fault, unless it is all of them: that is the
    /// cluster's trouble and no lane's.
    pub(super) fn blame(&mut self, failures: &[Failure], late_of: Option<usize>) {
        let now = self.now();
        let of = |failure: &Failure| (failure.tag >> TAG_OFFSET_BITS) as usize;
        let is_late = |failure: &Failure| failure.error.class == Class::Abort;
        let late: BTreeSet<usize> = failures.iter().filter(|failure| is_late(failure)).map(of).collect();
        let blames_late = late_of.is_some_and(|writers| late.len() < writers);
        for slot in 0..self.lanes.len() {
            let mine: Vec<&Failure> = failures.iter().filter(|failure| of(failure) == slot).collect();
            let Some(lane) = self.lanes[slot].as_mut() else { continue };
            let refused: Vec<&&Failure> =
                mine.iter().filter(|failure| failure.error.class == Class::Rejected).collect();
            let offsets = refused.iter().map(|failure| (failure.tag & TAG_OFFSET_MASK) as i64);
            if let (Some(first), Some(last)) = (offsets.clone().min(), offsets.max()) {
                if lane.stream.refusal(first).is_some() {
                    lane.dead_letter_refusals += 1;
                }
                lane.stream.refuse(first, last, refused.len() as u64, refused[0].error.reason.clone());
            } else if let Some(failure) = mine.iter().find(|failure| !is_late(failure)) {
                lane.retry(format!("{}: {}", failure.error.class.label(), failure.error), now);
            } else if blames_late && late.contains(&slot) {
                lane.retry("retry: the target does not acknowledge its records".to_owned(), now);
            }
        }
    }
}

fn tag(slot: Slot, offset: i64) -> u64 {
    (slot as u64) << TAG_OFFSET_BITS | (offset as u64 & TAG_OFFSET_MASK)
}

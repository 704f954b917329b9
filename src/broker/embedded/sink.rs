//! Writes to the embedded log. What is appended stays in memory until it is committed (a transaction) or polled, so that
//! no reader and no successor can ever meet an undecided transaction.
//!
//! A transaction cannot outgrow the buffer: when `append` says `Ok(false)` with nothing in flight, commit what is open.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::chunk::{Draft, weight};
use super::group::{Group, MemberId};
use super::log::{Outgoing, missing, now_ms};
use crate::broker::{Class, Error, Failure, Ownership, POSITION_NOTE_BYTES_MAX, Position, Sink, SinkSettings, Slot};
use crate::model::names::TopicPartition;
use crate::model::record::NewRecord;

/// A writer of one embedded cluster.
pub struct EmbeddedSink {
    shared: Arc<Shared>,
    group: Arc<Group>,
    member: MemberId,
    settings: SinkSettings,
    destinations: Vec<Destination>,
    numbers: HashMap<TopicPartition, Slot>,
    phase: Phase,
    buffered_bytes: usize,
    /// Something appended since the last abort or commit was refused.
    spoiled: bool,
    failures: Vec<Failure>,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Begun under this generation of the member.
    Open(u64),
}

struct Destination {
    partition: TopicPartition,
    record_bytes_max: usize,
    drafts: Vec<Draft>,
    tags: Vec<u64>,
}

impl EmbeddedSink {
    pub(super) fn new(shared: Arc<Shared>, settings: &SinkSettings) -> Self {
        let group = shared.group(&settings.group);
        let member = group.join(&settings.instance, &settings.topics);
        Self {
            shared,
            group,
            member,
            settings: settings.clone(),
            destinations: Vec::new(),
            numbers: HashMap::new(),
            phase: Phase::Idle,
            buffered_bytes: 0,
            spoiled: false,
            failures: Vec::new(),
            closed: false,
        }
    }

    fn buffered(&self) -> usize {
        self.destinations.iter().map(|destination| destination.tags.len()).sum()
    }

    fn drop_buffered(&mut self) {
        for destination in &mut self.destinations {
            destination.drafts.clear();
            destination.tags.clear();
        }
        self.buffered_bytes = 0;
    }

    /// Turns away what is meant for destinations that are gone; whether there was any.
    fn refuse_homeless(&mut self) -> bool {
        for destination in self.destinations.iter_mut().filter(|destination| !destination.tags.is_empty()) {
            if self.shared.log.view(&destination.partition).is_none() {
                let error = missing("append", &destination.partition);
                let refused = destination.tags.drain(..).map(|tag| Failure { tag, error: error.clone() });
                self.failures.extend(refused);
                destination.drafts.clear();
                self.spoiled = true;
            }
        }
        self.spoiled
    }

    /// Stores what is buffered outside any transaction.
    fn store_buffered(&mut self) -> Result<(), Error> {
        if self.buffered_bytes == 0 {
            return Ok(());
        }
        self.refuse_homeless();
        let written = self.shared.log.write(&outgoing(&self.destinations), None, false)?;
        self.shared.log.publish(written)?;
        self.drop_buffered();
        Ok(())
    }

    fn commit_transaction(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), Error> {
        let Phase::Open(generation) = self.phase else {
            return Err(Error::new(Class::Fatal, "commit", "no transaction was begun"));
        };
        if self.refuse_homeless() {
            return Err(Error::new(Class::Abort, "commit", "records were refused"));
        }
        let written = {
            let _owned = self.group.guard(self.member, generation, positions.iter().map(|(partition, _)| partition))?;
            let positions = Some((&self.settings.group, positions));
            self.shared.log.write(&outgoing(&self.destinations), positions, true)?
        };
        // A successor may see the positions before they are durable: whatever it writes lies behind them in the log.
        self.shared.log.publish(written)
    }

    fn commit_positions(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), Error> {
        let generation = self.group.generation(self.member)?;
        self.store_buffered()?;
        if self.spoiled {
            return Err(Error::new(Class::Abort, "commit", "records were refused"));
        }
        let written = {
            let _owned = self.group.guard(self.member, generation, positions.iter().map(|(partition, _)| partition))?;
            self.shared.log.write(&[], Some((&self.settings.group, positions)), false)?
        };
        self.shared.log.publish(written)
    }
}

fn outgoing(destinations: &[Destination]) -> Vec<Outgoing<'_>> {
    let filled = destinations.iter().filter(|destination| !destination.drafts.is_empty());
    filled.map(|destination| Outgoing { to: destination.partition.clone(), drafts: &destination.drafts }).collect()
}

impl Sink for EmbeddedSink {
    fn poll(&mut self, timeout: Duration) -> Result<Vec<Ownership>, Error> {
        if !self.settings.transactional {
            self.store_buffered()?;
        }
        self.group.poll(self.member, timeout)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.group.release(self.member, partitions)
    }

    fn positions(&mut self, partitions: &[TopicPartition], _: Duration) -> Result<Vec<Option<Position>>, Error> {
        // Fenced before it reads, as every call of a member that was replaced.
        self.group.generation(self.member)?;
        partitions.iter().map(|partition| self.shared.log.position(&self.settings.group, partition)).collect()
    }

    fn open(&mut self, destination: &TopicPartition) -> Result<Slot, Error> {
        let missing = || missing("open a destination", destination);
        self.shared.log.view(destination).ok_or_else(missing)?;
        let topic = self.shared.log.topic(&destination.topic).ok_or_else(missing)?;
        let record_bytes_max = topic.record_bytes_max();
        if let Some(slot) = self.numbers.get(destination) {
            self.destinations[*slot].record_bytes_max = record_bytes_max;
            return Ok(*slot);
        }
        let slot = self.destinations.len();
        let partition = destination.clone();
        self.destinations.push(Destination { partition, record_bytes_max, drafts: Vec::new(), tags: Vec::new() });
        self.numbers.insert(destination.clone(), slot);
        Ok(slot)
    }

    fn begin(&mut self) -> Result<(), Error> {
        if !self.settings.transactional {
            return Ok(());
        }
        if self.phase != Phase::Idle {
            return Err(Error::new(Class::Fatal, "begin", "a transaction is open"));
        }
        self.phase = Phase::Open(self.group.generation(self.member)?);
        Ok(())
    }

    fn append(&mut self, to: Slot, record: &NewRecord<'_>, tag: u64) -> Result<bool, Error> {
        if self.settings.transactional && self.phase == Phase::Idle {
            return Err(Error::new(Class::Fatal, "append", "no transaction was begun"));
        }
        let unknown = || Error::new(Class::Fatal, "append", format!("destination {to} was never opened"));
        let destination = self.destinations.get_mut(to).ok_or_else(unknown)?;
        let weight = weight(record);
        let limit = destination.record_bytes_max;
        if weight > limit {
            let reason = format!("{} takes {limit} bytes, the record has {weight}", destination.partition);
            return Err(Error::new(Class::Rejected, "append", reason));
        }
        // One record always fits, or it could never be sent.
        if self.buffered_bytes > 0 && self.buffered_bytes + weight > self.settings.buffer_bytes_max {
            return Ok(false);
        }
        if destination.drafts.last().is_none_or(|draft| draft.is_full_for(weight)) {
            destination.drafts.push(Draft::new());
        }
        let draft = destination.drafts.last_mut().expect("one was pushed if there was none");
        draft.push(record, now_ms());
        destination.tags.push(tag);
        self.buffered_bytes += weight;
        Ok(true)
    }

    fn commit(&mut self, positions: &[(TopicPartition, Position)], _: Duration) -> Result<(), Error> {
        if positions.iter().any(|(_, position)| position.note.len() > POSITION_NOTE_BYTES_MAX) {
            return Err(Error::new(Class::Fatal, "commit", "the note of a position is too long"));
        }
        if self.settings.transactional {
            self.commit_transaction(positions)
        } else {
            self.commit_positions(positions)
        }?;
        self.drop_buffered();
        self.phase = Phase::Idle;
        Ok(())
    }

    fn abort(&mut self, _: Duration) -> Result<(), Error> {
        self.drop_buffered();
        self.spoiled = false;
        self.phase = Phase::Idle;
        self.group.generation(self.member).map(|_| ())
    }

    fn failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    fn in_flight(&self) -> usize {
        // In a transaction nothing waits for an answer: what is buffered is as good as acknowledged.
        if self.settings.transactional { 0 } else { self.buffered() }
    }

    fn close(mut self: Box<Self>, _: Duration) -> Result<(), Error> {
        self.group.leave(self.member);
        self.closed = true;
        Ok(())
    }
}

impl Drop for EmbeddedSink {
    /// Like the death of a process: the open transaction is gone, the membership runs out.
    fn drop(&mut self) {
        if !self.closed {
            self.group.forsake(self.member);
        }
    }
}

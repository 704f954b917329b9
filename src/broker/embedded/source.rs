//! Reads the embedded log by position. Nothing is fetched ahead: a slot holds at most the chunk that it is in the middle
//! of, so nothing can be stale after a `start`. Waits on the log's news, never in a busy loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use super::chunk::{Cursor, Entries};
use super::log::missing;
use crate::broker::{Class, Error, Fetched, Slot, Source};
use crate::model::names::TopicPartition;

/// A reader of one embedded cluster.
pub struct EmbeddedSource {
    shared: Arc<Shared>,
    slots: Vec<Option<Reading>>,
    /// The slot that is served first next time, so that a full one does not starve the others.
    turn: Slot,
}

struct Reading {
    partition: TopicPartition,
    /// Of the topic that was found first under this name.
    number: Option<u64>,
    next: i64,
    cursor: Option<Cursor>,
    end_said: Option<i64>,
}

impl EmbeddedSource {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, slots: Vec::new(), turn: 0 }
    }

    fn serve(&mut self, slot: Slot, records_max: usize, events: &mut Vec<Fetched>) -> Result<usize, Error> {
        let Some(reading) = self.slots[slot].as_mut() else { return Ok(0) };
        let (fetched, trouble) = match reading.advance(&self.shared, slot, records_max, events) {
            Ok(Progress { fetched, trouble }) => (fetched, trouble),
            Err(error) => return Err(error),
        };
        if let Some(error) = trouble {
            self.slots[slot] = None;
            events.push(Fetched::Broken { slot, error });
        }
        Ok(fetched)
    }
}

struct Progress {
    fetched: usize,
    trouble: Option<Error>,
}

impl Reading {
    fn advance(
        &mut self,
        shared: &Shared,
        slot: Slot,
        records_max: usize,
        events: &mut Vec<Fetched>,
    ) -> Result<Progress, Error> {
        let mut fetched = 0;
        let broken = |error| Ok(Progress { fetched: 0, trouble: Some(error) });
        let Some(view) = shared.log.view(&self.partition) else {
            return broken(missing("read", &self.partition));
        };
        if *self.number.get_or_insert(view.number) != view.number {
            return broken(Error::new(Class::Missing, "read", format!("{} was created anew", self.partition)));
        }
        let (start, end) = (view.bounds.start, view.bounds.end);
        if self.next < start || self.next > end {
            let reason = format!("offset {} of {} is outside {start}..{end}", self.next, self.partition);
            return broken(Error::new(Class::Rejected, "read", reason));
        }
        while self.next < end && fetched < records_max {
            let cursor = match self.cursor.take() {
                Some(cursor) => Some(cursor),
                None => shared.log.seek(view.number, self.partition.partition, self.next, end)?,
            };
            let Some(mut cursor) = cursor else {
                // Only offsets without records are left.
                self.next = end;
                break;
            };
            let mut entries = Vec::new();
            while fetched < records_max {
                let Some(entry) = shared.log.next_entry(&mut cursor, &self.partition)? else { break };
                if entry.offset() >= self.next {
                    fetched += 1;
                    entries.push(entry);
                }
            }
            self.next = entries.last().map_or_else(|| cursor.end(), |entry| entry.offset() + 1);
            self.cursor = (self.next < cursor.end()).then_some(cursor);
            if !entries.is_empty() {
                events.push(Fetched::Records { slot, batch: Box::new(Entries(entries)) });
            }
        }
        if self.next == end && self.end_said != Some(end) {
            self.end_said = Some(end);
            events.push(Fetched::End { slot, next: end });
        }
        Ok(Progress { fetched, trouble: None })
    }
}

impl Source for EmbeddedSource {
    fn start(&mut self, slot: Slot, partition: &TopicPartition, from: i64) -> Result<(), Error> {
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        let partition = partition.clone();
        self.slots[slot] = Some(Reading { partition, number: None, next: from, cursor: None, end_said: None });
        Ok(())
    }

    fn stop(&mut self, slot: Slot) -> Result<(), Error> {
        if let Some(reading) = self.slots.get_mut(slot) {
            *reading = None;
        }
        Ok(())
    }

    fn fetch(&mut self, records_max: usize, timeout: Duration, events: &mut Vec<Fetched>) -> Result<(), Error> {
        let until = Instant::now() + timeout;
        let before = events.len();
        loop {
            // Read first: what happens during the round wakes the wait.
            let seen = self.shared.log.news();
            let mut left = records_max;
            for step in 0..self.slots.len() {
                let slot = (self.turn + step) % self.slots.len();
                left -= self.serve(slot, left, events)?;
            }
            self.turn += 1;
            if events.len() > before || !self.shared.log.wait(seen, until) {
                return Ok(());
            }
        }
    }
}

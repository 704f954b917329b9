//! Reads partitions of a Kafka cluster from positions that the caller knows.
//!
//! A consumer that never joins a group: it is told what to read, and stands nowhere in the cluster. librdkafka fetches
//! ahead in its own threads; `fetch` takes what lies ready, in batches. Records of an earlier position never come out:
//! librdkafka raises a partition's version when it is taken away, and what is below the expected offset is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::health::Health;
use super::raw::{Arrival, Client, Failed, Kind, Observer, Queue};
use super::settings::Settings;
use super::{connection, default_to, errors, fix, start};
use crate::broker::{Class, Error, Fetched, Slot, Source, SourceSettings};
use crate::model::names::{TopicName, TopicPartition};

const MIB: usize = 1024 * 1024;

/// A partition that is being read.
struct Reading {
    partition: TopicPartition,
    /// No record below it is given out.
    next: i64,
}

/// What is being read, by slot and by name.
#[derive(Default)]
struct Readings {
    slots: Vec<Option<Reading>>,
    by_name: HashMap<TopicName, HashMap<i32, Slot>>,
}

impl Readings {
    fn slot_of(&self, topic: &str, partition: i32) -> Option<Slot> {
        self.by_name.get(topic)?.get(&partition).copied()
    }

    fn find(&mut self, topic: &str, partition: i32) -> Option<(Slot, &mut Reading)> {
        let slot = self.slot_of(topic, partition)?;
        Some((slot, self.slots.get_mut(slot)?.as_mut()?))
    }

    /// The partitions of a topic that are read.
    fn of(&self, topic: &str) -> impl Iterator<Item = (i32, Slot)> {
        self.by_name.get(topic).into_iter().flatten().map(|(partition, slot)| (*partition, *slot))
    }

    fn insert(&mut self, slot: Slot, reading: Reading) {
        let name = &reading.partition;
        self.by_name.entry(name.topic.clone()).or_default().insert(name.partition, slot);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some(reading);
    }

    fn remove(&mut self, slot: Slot) -> Option<TopicPartition> {
        let reading = self.slots.get_mut(slot)?.take()?;
        if let Some(partitions) = self.by_name.get_mut(reading.partition.topic.as_str()) {
            partitions.remove(&reading.partition.partition);
        }
        Some(reading.partition)
    }
}

/// The reader.
pub struct KafkaSource {
    // Before the client, whose memory it lies in.
    queue: Queue,
    readings: Readings,
    client: Arc<Client>,
    health: Arc<Health>,
}

impl KafkaSource {
    pub(super) fn open(cluster: &Settings, settings: &SourceSettings, health: &Arc<Health>) -> Result<Self, Error> {
        let client = Arc::new(start(Kind::Consumer, &reader_config(cluster, settings), health)?);
        let queue =
            Queue::of(&client).ok_or_else(|| Error::new(Class::Fatal, "open a source", "librdkafka has no queue"))?;
        Ok(Self { queue, readings: Readings::default(), client, health: Arc::clone(health) })
    }

    /// One round: what lies ready, or else what comes within `timeout`.
    fn take(&mut self, records_max: usize, timeout: Duration, events: &mut Vec<Fetched>) {
        let Self { queue, readings, health, client } = self;
        let mut broken: Vec<(Slot, Error)> = Vec::new();
        let is_broken = |broken: &[(Slot, Error)], slot| broken.iter().any(|(it, _)| *it == slot);
        queue.take(records_max, timeout, |arrival| match arrival {
            Arrival::Run(mut run) => {
                if client.inbox().is_recreated(run.topic()) {
                    return;
                }
                let Some((slot, reading)) = readings.find(run.topic(), run.partition()) else { return };
                if is_broken(&broken, slot) {
                    return;
                }
                if run.offsets().is_some_and(|(first, _)| first < reading.next) {
                    run.drop_below(reading.next);
                }
                if let Some((_, last)) = run.offsets() {
                    reading.next = last + 1;
                    health.well();
                    events.push(Fetched::Records { slot, batch: Box::new(run) });
                }
            }
            Arrival::Note { topic, partition, offset, code: Code::PartitionEOF, .. } => {
                if let Some((slot, reading)) = readings.find(&topic, partition)
                    && offset >= reading.next
                    && !client.inbox().is_recreated(&topic)
                    && !is_broken(&broken, slot)
                {
                    reading.next = offset;
                    health.well();
                    events.push(Fetched::End { slot, next: offset });
                }
            }
            Arrival::Note { topic, partition, code, text, .. } => {
                let failed = Failed { text, ..Failed::of(code) };
                let class = errors::class_of(code);
                match readings.slot_of(&topic, partition) {
                    // Records that cannot be parsed are passed over by librdkafka: nothing behind them may count.
                    Some(slot)
                        if matches!(class, Class::Missing | Class::Denied | Class::Rejected)
                            || matches!(code, Code::BadMessage | Code::NotImplemented) =>
                    {
                        broken.push((slot, Error::new(class, format!("read {topic}/{partition}"), &failed.text)));
                    }
                    _ => health.complain(code, &failed.text),
                }
            }
        });
        for complaint in client.inbox().complaints() {
            let class = errors::class_of(complaint.failed.code);
            if let Some(slot) = readings.slot_of(&complaint.topic, complaint.partition)
                && matches!(class, Class::Missing | Class::Denied)
            {
                let context = format!("read {}/{}", complaint.topic, complaint.partition);
                broken.push((slot, Error::new(class, context, complaint.failed.text)));
            }
        }
        for topic in client.inbox().recreated() {
            let reason = "the topic was deleted and created anew";
            let error = |partition| Error::new(Class::Missing, format!("read {topic}/{partition}"), reason);
            broken.extend(readings.of(&topic).map(|(partition, slot)| (slot, error(partition))));
        }
        for (slot, error) in broken {
            // The partition stays as it is in librdkafka when this fails; nothing of it is given out in any case.
            if let Err(failed) = self.stop(slot) {
                tracing::debug!(%failed, "a broken partition could not be taken away");
            }
            events.push(Fetched::Broken { slot, error });
        }
    }
}

impl Source for KafkaSource {
    fn start(&mut self, slot: Slot, partition: &TopicPartition, from: i64) -> Result<(), Error> {
        self.stop(slot)?;
        let context = || format!("read {partition} from {from}");
        if self.readings.slot_of(partition.topic.as_str(), partition.partition).is_some() {
            return Err(Error::new(Class::Fatal, context(), "another slot reads it already"));
        }
        let list =
            list(partition, Offset::Offset(from)).map_err(|reason| Error::new(Class::Fatal, context(), reason))?;
        self.client.assign(&list).map_err(|failed| errors::error(context(), &failed))?;
        self.readings.insert(slot, Reading { partition: partition.clone(), next: from });
        Ok(())
    }

    fn stop(&mut self, slot: Slot) -> Result<(), Error> {
        let Some(partition) = self.readings.remove(slot) else { return Ok(()) };
        let context = || format!("stop reading {partition}");
        let list = list(&partition, Offset::Invalid).map_err(|reason| Error::new(Class::Fatal, context(), reason))?;
        self.client.unassign(&list).map_err(|failed| errors::error(context(), &failed))
    }

    fn fetch(&mut self, records_max: usize, timeout: Duration, events: &mut Vec<Fetched>) -> Result<(), Error> {
        let before = events.len();
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.take(records_max.max(1), left, events);
            if events.len() > before || Instant::now() >= deadline {
                return Ok(());
            }
        }
    }
}

/// A reader's client: bounded in memory, and it never moves a position by itself.
pub(super) fn reader_config(cluster: &Settings, settings: &SourceSettings) -> ClientConfig {
    let mut config = connection(cluster.for_consumer());
    let buffer = settings.buffer_bytes_max.max(MIB);
    // What is under way comes on top of what is queued, once per broker.
    let fetch = (buffer / 4).clamp(MIB, 8 * MIB);
    default_to(
        &mut config,
        &[
            ("client.id", &settings.client_id),
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.error.backoff.ms", "100"),
            // A fetch that waits at an idle broker holds up partitions that are started or moved meanwhile.
            ("fetch.wait.max.ms", "100"),
            ("fetch.max.bytes", &fetch.to_string()),
            ("fetch.message.max.bytes", &(fetch / 2).min(MIB).to_string()),
            ("queued.max.messages.kbytes", &(buffer / 1024).to_string()),
            // Small records weigh more in librdkafka's queue than their bytes say.
            ("queued.min.messages", "20000"),
            ("topic.metadata.refresh.interval.ms", "5000"),
        ],
    );
    fix(
        &mut config,
        &[
            // Never joined; librdkafka wants a name before it hands out a consumer's queue. `acls` grants to
            // describe it.
            ("group.id", "longshore-reader"),
            ("session.timeout.ms", "6000"),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("allow.auto.create.topics", "false"),
            ("topic.metadata.propagation.max.ms", "3000"),
        ],
    );
    // Nothing but this tells that a topic is another under the same name: see `Inbox::is_recreated`.
    let debug = config.get("debug").filter(|wanted| !wanted.is_empty()).map_or(String::new(), |it| format!("{it},"));
    config.set("debug", format!("{debug}topic"));
    config
}

fn list(partition: &TopicPartition, offset: Offset) -> Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(partition.topic.as_str(), partition.partition, offset)
        .map_err(|error| error.to_string())?;
    Ok(list)
}

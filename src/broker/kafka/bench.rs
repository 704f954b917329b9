//! The bare loop that the benchmark compares a link with: the very client calls that a link uses, with one header added,
//! and nothing else. No decisions, no transactions, no positions. No promise to anyone but the benchmark.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::health::Health;
use super::raw::{Arrival, Client, Failed, Kind, Queue, Topic};
use super::settings::Settings;
use super::{errors, sink, source, start};
use crate::broker::{Class, Error, SinkSettings, SourceSettings};
use crate::model::names::GroupName;
use crate::model::record::RecordBatch;

/// What is copied, and how it is buffered.
#[derive(Clone, Debug)]
pub struct Bare {
    /// Read from here and written to the topic of the same name, partition by partition.
    pub topic: String,
    /// Partitions `0..partitions`, from their first record.
    pub partitions: i32,
    /// Ends after this many records.
    pub records: u64,
    /// The header that every copy gets: name and value.
    pub header: (String, Vec<u8>),
    /// As a link sets them.
    pub read_buffer_bytes_max: usize,
    /// As a link sets them.
    pub write_buffer_bytes_max: usize,
    /// As a link sets them.
    pub batch_bytes_max: usize,
    /// Records taken at a time.
    pub fetch_records_max: usize,
    /// Give up after this long.
    pub timeout: Duration,
}

/// Copies, and returns the number of records once all are acknowledged.
pub fn copy(from: &Settings, to: &Settings, bare: &Bare) -> Result<u64, Error> {
    let health = Arc::new(Health::new("bench"));
    let reading = SourceSettings { client_id: "bare".into(), buffer_bytes_max: bare.read_buffer_bytes_max };
    let writing = SinkSettings {
        group: GroupName::new("bare"),
        instance: "bare".into(),
        topics: Vec::new(),
        transactional: false,
        buffer_bytes_max: bare.write_buffer_bytes_max,
        batch_bytes_max: bare.batch_bytes_max,
    };
    let consumer = Arc::new(start(Kind::Consumer, &source::reader_config(from, &reading), &health)?);
    let producer = Arc::new(start(Kind::Producer, &sink::producer_config(to, &writing), &health)?);
    let failed = |failed: &Failed| errors::error("copy", failed);
    let mut queue = Queue::of(&consumer).ok_or_else(|| Error::new(Class::Fatal, "copy", "no queue"))?;
    let topic = Topic::open(&producer, &bare.topic).map_err(|error| failed(&error))?;
    let mut list = TopicPartitionList::new();
    for partition in 0..bare.partitions {
        list.add_partition_offset(&bare.topic, partition, Offset::Beginning)
            .map_err(|error| Error::new(Class::Fatal, "copy", error))?;
    }
    consumer.assign(&list).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + bare.timeout;
    let late = || Error::new(Class::Retry, "copy", "the time is up");
    let (mut copied, mut refused) = (0, None);
    while copied < bare.records && refused.is_none() {
        if Instant::now() > deadline {
            return Err(late());
        }
        queue.take(bare.fetch_records_max, Duration::from_millis(100), |arrival| {
            let Arrival::Run(run) = arrival else { return };
            for index in 0..run.len() {
                let record = run.record(index);
                let headers = || {
                    let added = (bare.header.0.as_bytes(), Some(bare.header.1.as_slice()));
                    record.headers.iter().chain(std::iter::once(added))
                };
                let body = (record.key, record.value);
                while let Err(code) = topic.produce(run.partition(), record.timestamp_ms, body, headers(), copied) {
                    if code != Code::QueueFull {
                        refused = Some(code);
                        return;
                    }
                    producer.poll(Duration::from_millis(1));
                }
                copied += 1;
            }
        });
        producer.poll(Duration::ZERO);
    }
    settle(&producer, deadline).ok_or_else(late)?;
    let report = producer.inbox().reports().into_iter().find_map(|report| report.outcome.err());
    match report.or_else(|| refused.map(Failed::of)) {
        Some(error) => Err(failed(&error)),
        None => Ok(copied),
    }
}

fn settle(producer: &Client, deadline: Instant) -> Option<()> {
    while producer.outstanding() > 0 {
        if Instant::now() > deadline {
            return None;
        }
        producer.poll(Duration::from_millis(1));
    }
    Some(())
}

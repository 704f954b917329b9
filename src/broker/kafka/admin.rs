//! Administration of a Kafka cluster: what topics there are, where their partitions begin and end, records of our own.
//!
//! Every question has its own time-out of 10 s, since callers give none. What one partition or topic answers never
//! hides what the others do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::raw::{Client, Failed, Kind, Report, Topic, TopicConfig, TopicShape};
use super::{Kafka, connection, default_to, errors, fix, start};
use crate::broker::{Bounds, Class, Error, Member, NewTopic, TopicDescription};
use crate::model::names::{GroupName, TopicName, TopicPartition};
use crate::model::record::NewRecord;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever asks has other things to do.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(3);

/// Looked-up offsets by topic and partition.
type Offsets = HashMap<(String, i32), Result<i64, Failed>>;

impl Kafka {
    pub(super) fn describe_topics(&self, topics: &[TopicName]) -> Result<Vec<Option<TopicDescription>>, Error> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let names: BTreeSet<&str> = topics.iter().map(TopicName::as_str).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let shapes = self
            .administrator
            .client()
            .describe_topics(&names, TIMEOUT)
            .map_err(|e| self.failed("describe topics", &e))?;
        self.administrator.well();
        let mut present = BTreeMap::new();
        for (name, shape) in shapes {
            match shape {
                Ok(shape) => drop(present.insert(name, shape)),
                Err(failed) if errors::class_of(failed.code) == Class::Missing => {}
                Err(failed) => return Err(self.failed(&format!("describe topic {name}"), &failed)),
            }
        }
        let configs = self.topic_configs(&present)?;
        Ok(topics
            .iter()
            .map(|topic| {
                let config = configs.get(topic.as_str())?;
                Some(description(present.get(topic.as_str())?, config))
            })
            .collect())
    }

    /// The settings of those topics; one that is gone by now is left out.
    fn topic_configs(&self, present: &BTreeMap<String, TopicShape>) -> Result<BTreeMap<String, TopicConfig>, Error> {
        if present.is_empty() {
            return Ok(BTreeMap::new());
        }
        let names: Vec<&str> = present.keys().map(String::as_str).collect();
        let answer = self
            .administrator
            .client()
            .describe_configs(&names, TIMEOUT)
            .map_err(|failed| self.failed("describe topic settings", &failed))?;
        let mut configs = BTreeMap::new();
        for (name, config) in answer {
            match config {
                Ok(config) => drop(configs.insert(name, config)),
                Err(failed) if errors::class_of(failed.code) == Class::Missing => {}
                Err(failed) => return Err(self.failed(&format!("describe the settings of topic {name}"), &failed)),
            }
        }
        Ok(configs)
    }

    pub(super) fn create_topic(&self, topic: &NewTopic) -> Result<bool, Error> {
        let mut config = self.settings.topic_config.clone();
        config.extend(topic.config.clone());
        let replicas = topic.replication_factor.or(self.settings.replication_factor);
        let name = topic.name.as_str();
        match self.administrator.client().create_topic(name, topic.partitions, replicas, &config, TIMEOUT) {
            Ok(()) => Ok(true),
            Err(failed) if failed.code == Code::TopicAlreadyExists => Ok(false),
            Err(failed) => Err(self.failed(&format!("create topic {name}"), &failed)),
        }
        .inspect(|_| self.administrator.well())
    }

    pub(super) fn grow_topic(&self, topic: &TopicName, partitions: i32) -> Result<(), Error> {
        let context = format!("grow topic {topic} to {partitions} partitions");
        let enough = || -> Result<bool, Error> {
            let found = self.describe_topics(std::slice::from_ref(topic))?;
            match found.first() {
                Some(Some(description)) => Ok(description.partitions >= partitions),
                _ => Err(Error::new(Class::Missing, &context, "there is no such topic")),
            }
        };
        if enough()? {
            return Ok(());
        }
        let wanted = usize::try_from(partitions).unwrap_or(0);
        match self.administrator.client().create_partitions(topic.as_str(), wanted, TIMEOUT) {
            Ok(()) => Ok(()),
            // Another instance was faster.
            Err(failed) if failed.code == Code::InvalidPartitions && enough()? => Ok(()),
            Err(failed) => Err(self.failed(&context, &failed)),
        }
    }

    pub(super) fn list_bounds(&self, partitions: &[TopicPartition]) -> Result<Vec<Result<Bounds, Error>>, Error> {
        let starts = self.offsets(partitions, Offset::Beginning, "find the start of partitions")?;
        let ends = self.offsets(partitions, Offset::End, "find the end of partitions")?;
        Ok(partitions
            .iter()
            .map(|partition| {
                let start = self.offset_of(&starts, partition, "find the start of")?;
                let end = self.offset_of(&ends, partition, "find the end of")?;
                Ok(Bounds { start: start.min(end), end })
            })
            .collect())
    }

    pub(super) fn list_members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, Error> {
        let described = self.administrator.client().list_group(group.as_str(), MEMBERS_TIMEOUT);
        let members = described.map_err(|failed| self.failed(&format!("describe group {group}"), &failed))?;
        self.administrator.well();
        let named = |(topic, partition): (String, i32)| TopicPartition { topic: TopicName::new(topic), partition };
        Ok(members.map(|members| {
            members
                .into_iter()
                .map(|it| Member { instance: it.instance, owns: it.owns.into_iter().map(named).collect() })
                .collect()
        }))
    }

    pub(super) fn list_offsets_at(
        &self,
        partitions: &[TopicPartition],
        at_ms: i64,
    ) -> Result<Vec<Result<i64, Error>>, Error> {
        let found = self.offsets(partitions, Offset::Offset(at_ms.max(0)), "find offsets by time")?;
        let context = "find an offset by time in";
        let newer: Vec<_> = partitions.iter().map(|partition| self.offset_of(&found, partition, context)).collect();
        let beyond: Vec<TopicPartition> = partitions
            .iter()
            .zip(&newer)
            .filter(|(_, offset)| matches!(offset, Ok(offset) if *offset < 0))
            .map(|(partition, _)| partition.clone())
            .collect();
        let ends = self.offsets(&beyond, Offset::End, "find the end of partitions")?;
        let or_end = |(partition, offset): (&TopicPartition, Result<i64, Error>)| match offset {
            Ok(offset) if offset < 0 => self.offset_of(&ends, partition, "find the end of"),
            other => other,
        };
        Ok(partitions.iter().zip(newer).map(or_end).collect())
    }

    /// Looks up one kind of offset. The end is the last stable offset.
    fn offsets(&self, partitions: &[TopicPartition], spec: Offset, context: &str) -> Result<Offsets, Error> {
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        let mut list = TopicPartitionList::new();
        for partition in partitions.iter().collect::<BTreeSet<_>>() {
            list.add_partition_offset(partition.topic.as_str(), partition.partition, spec)
                .map_err(|error| Error::new(Class::Fatal, context, error))?;
        }
        let mut offsets = self.list(&list, context)?;
        // librdkafka remembers for long which partitions there are, and who led them in which epoch: what fails is asked
        // for once more after a look at the cluster.
        let fails = |offset: Option<&Result<i64, Failed>>| {
            offset.is_none_or(|offset| {
                offset.as_ref().is_err_and(|failed| errors::class_of(failed.code) != Class::Denied)
            })
        };
        let doubtful: Vec<(String, i32)> = list
            .elements()
            .iter()
            .map(|element| (element.topic().to_owned(), element.partition()))
            .filter(|name| fails(offsets.get(name)))
            .collect();
        let mut again = TopicPartitionList::new();
        let mut counts = HashMap::new();
        for (topic, partition) in doubtful {
            let count = counts
                .entry(topic.clone())
                .or_insert_with(|| self.administrator.client().partitions_of(&topic, TIMEOUT));
            match count {
                Ok(count) if partition < *count => {
                    again
                        .add_partition_offset(&topic, partition, spec)
                        .map_err(|error| Error::new(Class::Fatal, context, error))?;
                }
                Ok(_) => drop(offsets.insert((topic, partition), Err(Failed::of(Code::UnknownPartition)))),
                Err(failed) => drop(offsets.insert((topic, partition), Err(failed.clone()))),
            }
        }
        if again.count() > 0 {
            offsets.extend(self.list(&again, context)?);
        }
        self.administrator.well();
        Ok(offsets)
    }

    /// One look-up. Empty when librdkafka knows of none of the partitions.
    fn list(&self, list: &TopicPartitionList, context: &str) -> Result<Offsets, Error> {
        match self.administrator.client().list_offsets(list, true, TIMEOUT) {
            Ok(found) => Ok(found.into_iter().map(|found| ((found.topic, found.partition), found.offset)).collect()),
            Err(failed) if failed.code == Code::NoEnt => Ok(Offsets::new()),
            Err(failed) => Err(self.failed(context, &failed)),
        }
    }

    fn offset_of(&self, offsets: &Offsets, partition: &TopicPartition, context: &str) -> Result<i64, Error> {
        match offsets.get(&(partition.topic.as_str().to_owned(), partition.partition)) {
            Some(Ok(offset)) => Ok(*offset),
            Some(Err(failed)) => Err(self.failed(&format!("{context} {partition}"), failed)),
            None => Err(Error::new(Class::Retry, format!("{context} {partition}"), "the broker did not answer for it")),
        }
    }

    pub(super) fn append_records(&self, to: &TopicPartition, records: &[NewRecord<'_>]) -> Result<Vec<i64>, Error> {
        let context = format!("append to {to}");
        let mut appender = self.appender.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &*appender {
            Some(client) => Arc::clone(client),
            None => Arc::clone(appender.insert(Arc::new(self.open_appender()?))),
        };
        let outcome = append_all(&client, to, records);
        if outcome.is_err() {
            // What is left of a failed call must not turn up in the next one.
            *appender = None;
        }
        outcome.map_err(|failed| self.health.error(&context, &failed)).inspect(|_| self.health.well())
    }

    fn open_appender(&self) -> Result<Client, Error> {
        let mut config = connection(self.settings.for_producer());
        // Small batches: a topic may take no more, and the broker refuses a batch for its size as a whole.
        default_to(
            &mut config,
            &[("client.id", "longshore"), ("message.max.bytes", "1000000000"), ("batch.size", "16384")],
        );
        let propagation = ("topic.metadata.propagation.max.ms", "5000");
        fix(
            &mut config,
            &[("enable.idempotence", "true"), ("message.timeout.ms", "10000"), ("linger.ms", "0"), propagation],
        );
        start(Kind::Producer, &config, &self.health)
    }

    fn failed(&self, context: &str, failed: &Failed) -> Error {
        if errors::class_of(failed.code) == Class::Retry {
            self.administrator.is_late();
        }
        self.health.error(context, failed)
    }
}

/// Appends and waits for every acknowledgement; the lock on the appender makes calls take turns.
fn append_all(client: &Arc<Client>, to: &TopicPartition, records: &[NewRecord<'_>]) -> Result<Vec<i64>, Failed> {
    let deadline = Instant::now() + TIMEOUT + Duration::from_secs(1);
    let topic = Topic::open(client, to.topic.as_str())?;
    // Also has the client learn of partitions that were added since it last looked.
    if to.partition >= client.partitions_of(to.topic.as_str(), TIMEOUT)? {
        return Err(Failed::of(Code::UnknownPartition));
    }
    let mut offsets = vec![-1; records.len()];
    let mut acknowledged = 0;
    let mut settle = |reports: Vec<Report>| -> Result<usize, Failed> {
        for report in reports {
            let slot = usize::try_from(report.tag).ok().and_then(|index| offsets.get_mut(index));
            *slot.ok_or_else(|| Failed::of(Code::Fail))? = report.outcome?;
            acknowledged += 1;
        }
        Ok(acknowledged)
    };
    let late = || Failed { retriable: true, ..Failed::of(Code::OperationTimedOut) };
    for (tag, record) in (0..).zip(records) {
        let body = (record.key, record.value);
        while let Err(code) =
            topic.produce(to.partition, timestamp(record.timestamp_ms), body, record.written_headers(), tag)
        {
            if code != Code::QueueFull {
                return Err(Failed::of(code));
            }
            if Instant::now() > deadline {
                return Err(late());
            }
            client.poll(Duration::from_millis(1));
            settle(client.inbox().reports())?;
        }
    }
    while settle(client.inbox().reports())? < records.len() {
        if Instant::now() > deadline {
            return Err(late());
        }
        client.poll(Duration::from_millis(50));
    }
    Ok(offsets)
}

/// A timestamp as `producev` takes it, for which 0 is the present time: a record with none gets that, and one of the
/// very first millisecond of 1970 moves to the second.
pub(super) const fn timestamp(timestamp_ms: i64) -> i64 {
    match timestamp_ms {
        -1 => 0,
        0 => 1,
        other => other,
    }
}

fn description(shape: &TopicShape, config: &TopicConfig) -> TopicDescription {
    let value = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref());
    let append_time = value("message.timestamp.type") == Some("LogAppendTime");
    let compacted = value("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
    let record_bytes_max = value("max.message.bytes").and_then(|bytes| bytes.parse().ok());
    let own = config.iter().filter(|(_, entry)| entry.own);
    TopicDescription {
        id: shape.id.clone(),
        partitions: shape.partitions,
        replication_factor: shape.replication_factor,
        may_read: shape.rights.is_none_or(|rights| rights.read),
        may_write: shape.rights.is_none_or(|rights| rights.write),
        append_time,
        compacted,
        record_bytes_max,
        config: own.filter_map(|(name, entry)| Some((name.clone(), entry.value.clone()?))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_keep_their_value_but_for_the_one_that_means_now() {
        assert_eq!(timestamp(-1), 0);
        assert_eq!(timestamp(0), 1);
        assert_eq!(timestamp(1_700_000_000_000), 1_700_000_000_000);
    }
}

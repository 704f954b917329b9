//! A Kafka client that knows nothing of Longshore: what tests produce with, and read the truth with.
//!
//! The reader is read_committed and goes to the end of each partition as it is at that moment; records keep the order
//! of their partition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const CALL: Duration = Duration::from_secs(20);

/// A record to be produced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Out {
    /// Where to.
    pub partition: i32,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch; the time of sending when `None`.
    pub timestamp_ms: Option<i64>,
}

/// A record as it lies in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Where it lies.
    pub partition: i32,
    /// Where it lies.
    pub offset: i64,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Whether the broker set the timestamp.
    pub append_time: bool,
}

impl Read {
    /// The text of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(it, _)| it == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// What the application wrote: everything but the headers whose name begins with `ls_`.
    pub fn body(&self) -> Out {
        let headers = self.headers.iter().filter(|(name, _)| !name.starts_with("ls_")).cloned().collect();
        Out {
            partition: self.partition,
            key: self.key.clone(),
            value: self.value.clone(),
            headers,
            timestamp_ms: Some(self.timestamp_ms),
        }
    }
}

/// Client properties for `bootstrap` that suit tests.
pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("broker.address.family", "v4");
    config.set("reconnect.backoff.max.ms", "500").set("log_level", "0");
    config
}

// ---- administration ----

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap).create().expect("an admin client")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL))
}

/// Creates a topic and waits until each partition has a leader.
#[track_caller]
pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let results = block_on(admin(bootstrap).create_topics([&new], &admin_options())).expect("create topic");
    results.into_iter().for_each(|it| drop(it.expect("create topic")));
    wait_for_partitions(bootstrap, topic, partitions);
}

/// Creates the topic on several clusters.
#[track_caller]
pub fn create_topic_everywhere(bootstraps: &[&str], topic: &str, partitions: i32) {
    bootstraps.iter().for_each(|it| create_topic(it, topic, partitions, &[]));
}

/// Creates a topic that other tests may create at the same time.
#[track_caller]
pub fn ensure_topic(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    for result in block_on(admin(bootstrap).create_topics([&new], &admin_options())).expect("create topic") {
        assert!(matches!(result, Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))), "{result:?}");
    }
    wait_for_partitions(bootstrap, topic, partitions);
}

/// Deletes a topic and waits until it is gone.
#[track_caller]
pub fn delete_topic(bootstrap: &str, topic: &str) {
    let results = block_on(admin(bootstrap).delete_topics(&[topic], &admin_options())).expect("delete topic");
    results.into_iter().for_each(|it| drop(it.expect("delete topic")));
    super::eventually(CALL, "topic deleted", || (partitions_of(bootstrap, topic) == 0).then_some(()));
}

/// Deletes a topic and creates it anew as fast as the cluster can, so that other clients may never see it gone.
#[track_caller]
pub fn recreate_topic(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let (admin, options) = (admin(bootstrap), admin_options());
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    block_on(async {
        let deleted = admin.delete_topics(&[topic], &options).await.expect("delete topic");
        deleted.into_iter().for_each(|it| drop(it.expect("delete topic")));
        let deadline = Instant::now() + CALL;
        while let Err((_, code)) = &admin.create_topics([&new], &options).await.expect("create topic")[0] {
            assert!(*code == RDKafkaErrorCode::TopicAlreadyExists && Instant::now() < deadline, "create topic: {code}");
        }
    });
}

/// Grows a topic to `partitions`.
#[track_caller]
pub fn grow_topic(bootstrap: &str, topic: &str, partitions: usize) {
    let grown = NewPartitions::new(topic, partitions);
    let results = block_on(admin(bootstrap).create_partitions([&grown], &admin_options())).expect("grow topic");
    results.into_iter().for_each(|it| drop(it.expect("grow topic")));
    wait_for_partitions(bootstrap, topic, i32::try_from(partitions).expect("few"));
}

/// Sets properties of a topic (the others fall back to the cluster's defaults).
#[track_caller]
pub fn alter_topic(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) {
    let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (key, value) in settings {
        change = change.set(key, value);
    }
    let results = block_on(admin(bootstrap).alter_configs([&change], &admin_options())).expect("alter topic");
    results.into_iter().for_each(|it| drop(it.expect("alter topic")));
}

/// Deletes a consumer group with its positions, once its members have left.
#[track_caller]
pub fn delete_group(bootstrap: &str, group: &str) {
    super::eventually(Duration::from_secs(30), "the group can be deleted", || {
        let outcome = block_on(admin(bootstrap).delete_groups(&[group], &admin_options())).ok()?;
        outcome.into_iter().all(|it| it.is_ok()).then_some(())
    });
}

/// Deletes the records of a partition below `offset`, as retention would.
#[track_caller]
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
    block_on(admin(bootstrap).delete_records(&list, &admin_options())).expect("delete records");
}

/// How many partitions a topic has; 0 when it does not exist.
pub fn partitions_of(bootstrap: &str, topic: &str) -> i32 {
    let consumer: BaseConsumer = config(bootstrap).create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), CALL).expect("metadata");
    metadata.topics().first().map_or(0, |it| i32::try_from(it.partitions().len()).expect("few"))
}

fn wait_for_partitions(bootstrap: &str, topic: &str, partitions: i32) {
    let consumer: BaseConsumer = config(bootstrap).create().expect("a consumer");
    super::eventually(CALL, "leaders of the topic's partitions", || {
        let metadata = consumer.fetch_metadata(Some(topic), CALL).ok()?;
        let found = metadata.topics().first()?.partitions();
        let led = found.iter().filter(|it| it.leader() >= 0).count();
        (led == usize::try_from(partitions).expect("positive")).then_some(())
    });
}

/// Start and end (high watermark) of a partition.
#[track_caller]
pub fn watermarks(bootstrap: &str, topic: &str, partition: i32) -> (i64, i64) {
    let consumer: BaseConsumer = config(bootstrap).create().expect("a consumer");
    consumer.fetch_watermarks(topic, partition, CALL).expect("watermarks")
}

/// The ends of a topic's partitions; `None` when its cluster does not say, or the topic is not there.
pub fn ends(bootstrap: &str, topic: &str) -> Option<Vec<i64>> {
    let consumer: BaseConsumer = config(bootstrap).create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), CALL).ok()?;
    let partitions = metadata.topics().first()?.partitions();
    partitions.iter().map(|it| Some(consumer.fetch_watermarks(topic, it.id(), CALL).ok()?.1)).collect()
}

// ---- producing ----

/// Collects what became of each record: its index, and its offset or the error.
#[derive(Default)]
pub struct Acknowledged {
    outcomes: std::sync::Mutex<Vec<(usize, Result<i64, KafkaError>)>>,
}

impl rdkafka::ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        self.outcomes.lock().expect("short").push((*index, outcome));
    }
}

/// A producer with acks=all and idempotence, so that what is acknowledged is there once and in order.
pub fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> BaseProducer<Acknowledged> {
    let mut config = config(bootstrap);
    config.set("enable.idempotence", "true").set("linger.ms", "5").set("queue.buffering.max.messages", "200000");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create_with_context(Acknowledged::default()).expect("a producer")
}

fn send(producer: &BaseProducer<Acknowledged>, topic: &str, index: usize, out: &Out) {
    let headers = out
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |all, (name, value)| all.insert(Header { key: name, value: value.as_deref() }));
    let mut record = BaseRecord::with_opaque_to(topic, Box::new(index)).partition(out.partition).headers(headers);
    record.key = out.key.as_deref();
    record.payload = out.value.as_deref();
    record.timestamp = out.timestamp_ms;
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("send to {topic}: {error}"),
        }
    }
}

/// Produces records and waits for their acknowledgement; their offsets in the order given.
#[track_caller]
pub fn produce(bootstrap: &str, topic: &str, records: &[Out]) -> Vec<i64> {
    produce_with(bootstrap, topic, records, &[])
}

/// The same with producer properties, for example `("compression.type", "zstd")`.
#[track_caller]
pub fn produce_with(bootstrap: &str, topic: &str, records: &[Out], settings: &[(&str, &str)]) -> Vec<i64> {
    let producer = producer(bootstrap, settings);
    for (index, out) in records.iter().enumerate() {
        send(&producer, topic, index, out);
    }
    producer.flush(Duration::from_secs(120)).expect("all acknowledged in time");
    let outcomes = std::mem::take(&mut *producer.context().outcomes.lock().expect("short"));
    let by_index: BTreeMap<usize, i64> =
        outcomes.into_iter().map(|(index, outcome)| (index, outcome.expect("acknowledged"))).collect();
    assert_eq!(by_index.len(), records.len(), "every record has an outcome");
    by_index.into_values().collect()
}

/// Produces records in one transaction and commits or aborts it.
#[track_caller]
pub fn produce_in_transaction(bootstrap: &str, topic: &str, records: &[Out], commit: bool) {
    let id = super::unique("transaction");
    let producer = producer(bootstrap, &[("transactional.id", &id)]);
    producer.init_transactions(CALL).expect("init transactions");
    producer.begin_transaction().expect("begin");
    for (index, out) in records.iter().enumerate() {
        send(&producer, topic, index, out);
    }
    producer.flush(Duration::from_secs(60)).expect("all acknowledged in time");
    if commit {
        producer.commit_transaction(CALL).expect("commit");
    } else {
        producer.abort_transaction(CALL).expect("abort");
    }
}

/// A producer that keeps on writing in a thread, through broker failures, until stopped.
pub struct Writer {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<Vec<(Out, i64)>>,
}

impl Writer {
    /// Sends `make(0)`, `make(1)`, … at about `per_second` records a second.
    pub fn start(
        bootstrap: &str,
        topic: &str,
        per_second: u32,
        settings: &[(&str, &str)],
        make: impl Fn(usize) -> Out + Send + 'static,
    ) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (stopped, topic) = (stop.clone(), topic.to_owned());
        let producer = producer(bootstrap, &[&[("message.timeout.ms", "300000")], settings].concat());
        let thread = std::thread::spawn(move || {
            let (start, mut sent) = (Instant::now(), Vec::new());
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let due = (start.elapsed().as_secs_f64() * f64::from(per_second)) as usize;
                while sent.len() < due {
                    let out = make(sent.len());
                    send(&producer, &topic, sent.len(), &out);
                    sent.push(out);
                }
                producer.poll(Duration::from_millis(5));
            }
            // Not all may be, in the end: a client that has lost its cluster for good is no matter of ours.
            if let Err(error) = producer.flush(Duration::from_secs(60)) {
                eprintln!("{topic}: some records stay without an answer: {error}");
            }
            let outcomes = std::mem::take(&mut *producer.context().outcomes.lock().expect("short"));
            let mut acknowledged: Vec<(usize, i64)> =
                outcomes.into_iter().filter_map(|(index, outcome)| Some((index, outcome.ok()?))).collect();
            acknowledged.sort_unstable();
            acknowledged.into_iter().map(|(index, offset)| (sent[index].clone(), offset)).collect()
        });
        Self { stop, thread }
    }

    /// Stops sending; the records that were acknowledged with their offsets, in the order sent. Others may have been
    /// written too when brokers went away meanwhile: see [`births`].
    pub fn finish(self) -> Vec<(Out, i64)> {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().expect("the writer does not panic")
    }
}

// ---- reading ----

/// A read_committed consumer of every partition of `topic` from its start. It joins no group.
pub fn reader(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = config(bootstrap);
    config.set("group.id", "nobody").set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    config.set("fetch.queue.backoff.ms", "5").set("fetch.wait.max.ms", "20").set("check.crcs", "true");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions_of(bootstrap, topic) {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assign");
    consumer
}

/// Copies what a message holds.
pub fn to_read(message: &impl Message) -> Read {
    let headers = message
        .headers()
        .map_or_else(Vec::new, |all| all.iter().map(|it| (it.key.to_owned(), it.value.map(<[u8]>::to_vec))).collect());
    let (timestamp_ms, append_time) = match message.timestamp() {
        Timestamp::CreateTime(at) => (at, false),
        Timestamp::LogAppendTime(at) => (at, true),
        Timestamp::NotAvailable => (-1, false),
    };
    Read {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp_ms,
        append_time,
    }
}

/// A reader that gets nothing for so long is replaced: librdkafka forgets brokers for good now and then.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Every committed record of a topic up to the ends that its partitions have now. A missing topic reads as empty.
#[track_caller]
pub fn read_all(bootstrap: &str, topic: &str) -> Vec<Read> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let consumer = reader(bootstrap, topic, &[]);
        let partitions = consumer.assignment().expect("assigned").count();
        let (mut ended, mut records) = (std::collections::BTreeSet::new(), Vec::new());
        let mut heard_at = Instant::now();
        while ended.len() < partitions && heard_at.elapsed() < SILENCE_MAX {
            let in_time = Instant::now() < deadline;
            assert!(in_time, "{topic} could not be read to its end: {ended:?} of {partitions} ended");
            match consumer.poll(Duration::from_millis(500)) {
                None | Some(Err(KafkaError::MessageConsumption(_))) => continue,
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                Some(Err(error)) => panic!("read {topic}: {error}"),
                Some(Ok(message)) => records.push(to_read(&message)),
            }
            heard_at = Instant::now();
        }
        if ended.len() == partitions {
            records.sort_by_key(|it| (it.partition, it.offset));
            return records;
        }
    }
}

/// Reads a topic until it holds at least `count` records and then once more, so that surplus is seen too.
#[track_caller]
pub fn read_at_least(bootstrap: &str, topic: &str, count: usize, limit: Duration) -> Vec<Read> {
    let deadline = Instant::now() + limit;
    let mut seen = 0;
    while seen < count {
        let consumer = reader(bootstrap, topic, &[]);
        let mut heard_at = Instant::now();
        seen = 0;
        while seen < count && heard_at.elapsed() < SILENCE_MAX {
            assert!(Instant::now() < deadline, "{topic} holds {seen} of {count} records after {limit:?}");
            if let Some(Ok(_)) = consumer.poll(Duration::from_millis(100)) {
                seen += 1;
                heard_at = Instant::now();
            }
        }
    }
    read_all(bootstrap, topic)
}

/// The records that a region's own log holds of its own applications, which must include those acknowledged and nothing
/// of another writer. A producer whose broker was killed may leave some twice, or some that it was never told of.
pub fn births(bootstrap: &str, topic: &str, acknowledged: &[(Out, i64)]) -> Vec<(Out, i64)> {
    let own = read_all(bootstrap, topic).into_iter().filter(|read| read.header("ls_origin").is_none());
    let own: Vec<(Out, i64)> = own.map(|read| (read.body(), read.offset)).collect();
    let places: std::collections::HashSet<(i32, i64)> =
        own.iter().map(|(out, offset)| (out.partition, *offset)).collect();
    let lost = acknowledged.iter().filter(|(out, offset)| !places.contains(&(out.partition, *offset))).count();
    assert_eq!(lost, 0, "the broker lost acknowledged records: nothing can be proven");
    // Of `numbered`: what its keys begin with. A copy that had lost its header would be another's.
    let writer = |out: &Out| {
        let key = String::from_utf8(out.key.clone().unwrap_or_default()).expect("a key of `numbered`");
        key.rsplit_once('-').map_or(String::new(), |(writer, _)| writer.to_owned())
    };
    let writers =
        |all: &[(Out, i64)]| all.iter().map(|(out, _)| writer(out)).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(writers(&own), writers(acknowledged), "{topic} holds records of others without a header");
    if own.len() != acknowledged.len() {
        eprintln!("{topic}: {} records written, {} acknowledged", own.len(), acknowledged.len());
    }
    own
}

// ---- records of all shapes ----

/// Record number `index`, of a shape that its number decides: plain, empty, tombstone, binary, duplicate headers,
/// headers without value, large, no key, old timestamp. Its key or first header names it, so that order can be checked.
pub fn shape(index: usize, partitions: i32) -> Out {
    let partition = i32::try_from(index).expect("few") % partitions;
    let name = format!("{index:07}");
    let text = |value: &str| Some(value.as_bytes().to_vec());
    let mut out = Out {
        partition,
        key: text(&name),
        value: text(&format!("{{\"id\":{index},\"buyer\":{{\"id\":\"{}\"}}}}", index % 97)),
        headers: vec![("n".into(), text(&name))],
        timestamp_ms: Some(1_760_000_000_000 + i64::try_from(index).expect("few")),
    };
    match index % 10 {
        1 => out.value = None,
        2 => out.value = Some(Vec::new()),
        3 => out.key = None,
        4 => out.key = Some(Vec::new()),
        5 => out.value = Some((0..=255).cycle().skip(index % 256).take(300).collect()),
        6 => out.key = Some(vec![0, 0xff, 0xc3, 0x28, (index % 256) as u8]),
        7 => {
            out.headers.push(("trace".into(), text("a")));
            out.headers.push(("empty".into(), Some(Vec::new())));
            out.headers.push(("null".into(), None));
            out.headers.push(("trace".into(), text("b")));
            out.headers.push(("n".into(), text("again")));
        }
        8 => out.value = Some(name.bytes().cycle().take(20_000 * usize::from(index % 100 == 8) + 10).collect()),
        9 => out.timestamp_ms = Some(1),
        _ => {}
    }
    out
}

/// Records `0..count` of all shapes.
pub fn shapes(count: usize, partitions: i32) -> Vec<Out> {
    (0..count).map(|index| shape(index, partitions)).collect()
}

/// Asserts that `region_records` holds exactly `produced` (born there or copied, whatever their `ls_` headers), per
/// partition in the order produced. `topic` names them in the failure.
#[track_caller]
pub fn assert_same_bodies(topic: &str, produced: &[Out], found: &[Read]) {
    let per_partition = |all: Vec<Out>| {
        let mut map: BTreeMap<i32, Vec<Out>> = BTreeMap::new();
        all.into_iter().for_each(|it| map.entry(it.partition).or_default().push(it));
        map
    };
    let (want, have) = (per_partition(produced.to_vec()), per_partition(found.iter().map(Read::body).collect()));
    for (partition, want) in &want {
        let have = have.get(partition).map_or(&[][..], Vec::as_slice);
        if let Some(at) = (0..want.len().max(have.len())).find(|&at| want.get(at) != have.get(at)) {
            panic!(
                "{topic}/{partition}: {} produced, {} found; first difference at {at}:\n  want {:?}\n  have {:?}",
                want.len(),
                have.len(),
                want.get(at),
                have.get(at)
            );
        }
    }
    assert_eq!(want.len(), have.len(), "{topic}: records in partitions that nothing was produced to");
}

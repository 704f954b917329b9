//! The load: records of one size into a topic, as fast as it goes or at a rate, and a reader that counts.

use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::PARTITIONS;
use crate::harness::plain;

fn producer(bootstrap: &str, linger_ms: &str) -> BaseProducer {
    let mut config = plain::config(bootstrap);
    config.set("acks", "1").set("linger.ms", linger_ms).set("batch.size", "1000000");
    config.set("queue.buffering.max.messages", "500000").set("queue.buffering.max.kbytes", "262144");
    config.create().expect("a producer")
}

/// Bytes that no codec or page can make smaller.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(step).take(size).collect()
}

fn send(producer: &BaseProducer, topic: &str, number: u64, key: &[u8], value: &[u8]) {
    let partition = i32::try_from(number % PARTITIONS.unsigned_abs() as u64).expect("few");
    let mut record = BaseRecord::to(topic).partition(partition).key(key).payload(value);
    while let Err((_, back)) = producer.send(record) {
        record = back;
        producer.poll(Duration::from_millis(5));
    }
}

/// Fills a topic with `records` records of `size` value bytes and waits for their acknowledgement.
pub fn fill(bootstrap: &str, topic: &str, records: u64, size: usize) {
    let producer = producer(bootstrap, "20");
    let value = noise(size);
    for number in 0..records {
        send(&producer, topic, number, &number.to_be_bytes(), &value);
        if number % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(300)).expect("all acknowledged in time");
}

/// Sends `rate` records a second for `length`; each value begins with its time of sending, nanoseconds since `start`.
pub fn pace(bootstrap: &str, topic: &str, size: usize, rate: u64, length: Duration, start: Instant) -> u64 {
    let producer = producer(bootstrap, "0");
    let mut value = noise(size);
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < length {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        while sent < due {
            let now = u64::try_from(start.elapsed().as_nanos()).expect("centuries");
            value[..8].copy_from_slice(&now.to_be_bytes());
            send(&producer, topic, sent, &sent.to_be_bytes(), &value);
            sent += 1;
        }
        producer.poll(Duration::ZERO);
        // Finer than the gap between two records would cost a core.
        std::thread::sleep(Duration::from_micros(500));
    }
    producer.flush(Duration::from_secs(60)).expect("all acknowledged in time");
    sent
}

/// A read_committed reader of the whole topic that takes what is there at once.
pub fn reader(bootstrap: &str, topic: &str) -> BaseConsumer {
    plain::reader(
        bootstrap,
        topic,
        &[
            ("enable.partition.eof", "false"),
            ("fetch.wait.max.ms", "500"),
            ("fetch.queue.backoff.ms", "1"),
            ("check.crcs", "false"),
        ],
    )
}

/// Takes one record if it comes within `timeout`; its value goes to `look`.
pub fn take(reader: &BaseConsumer, timeout: Duration, look: impl FnOnce(&[u8])) -> bool {
    match reader.poll(timeout) {
        Some(Ok(message)) => {
            look(message.payload().unwrap_or_default());
            true
        }
        Some(Err(_)) | None => false,
    }
}

/// How many committed records a topic holds; waits for `expected` and then a second for more.
pub fn count(bootstrap: &str, topic: &str, expected: u64) -> u64 {
    let reader = reader(bootstrap, topic);
    let (mut seen, mut last) = (0, Instant::now());
    while last.elapsed() < Duration::from_secs(if seen < expected { 20 } else { 1 }) {
        if take(&reader, Duration::from_millis(100), |_| {}) {
            seen += 1;
            last = Instant::now();
        }
    }
    seen
}

/// Sends one record that no measurement counts.
pub fn probe(bootstrap: &str, topic: &str) {
    let producer = producer(bootstrap, "0");
    send(&producer, topic, 0, b"probe", &[0; 8]);
    producer.flush(Duration::from_secs(60)).expect("acknowledged in time");
}

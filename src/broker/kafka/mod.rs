//! The Kafka driver, on librdkafka.

pub mod settings;

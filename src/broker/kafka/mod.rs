//! The Kafka driver, on librdkafka.

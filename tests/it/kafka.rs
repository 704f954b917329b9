//! The Kafka driver: the contract on a real broker, and what only Kafka has: codecs, aborted records, passwords,
//! brokers that die in the middle of a transaction.

use std::sync::Arc;
use std::time::Duration;

use longshore::broker::SharedCluster;
use longshore::broker::kafka::Kafka;
use longshore::broker::kafka::settings::Settings;
use longshore::model::names::{TopicName, TopicPartition};

use crate::contract::{Fixture, contract};
use crate::harness::{clusters, plain};

/// A cluster that all cases share.
struct Shared {
    bootstrap: String,
    consumer: Vec<(&'static str, String)>,
}

fn settings(properties: &[(&str, &str)]) -> Settings {
    let common = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    Settings { common, ..Settings::default() }
}

impl Fixture for Shared {
    fn make() -> Result<Self, String> {
        // For runs one after the other, without a start of the brokers each time.
        if let Ok(bootstrap) = std::env::var("LONGSHORE_TEST_KAFKA") {
            return Ok(Self { bootstrap, consumer: Vec::new() });
        }
        let clusters = clusters::shared().ok_or("Kafka cannot run here")?;
        Ok(Self { bootstrap: clusters.get("hz").bootstrap.clone(), consumer: Vec::new() })
    }

    fn handle(&self) -> SharedCluster {
        let mut settings = settings(&[("bootstrap.servers", &self.bootstrap)]);
        settings.consumer =
            self.consumer.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        Arc::new(Kafka::open("hz", &settings).expect("valid settings"))
    }

    fn delete(&self, topic: &TopicName) {
        plain::delete_topic(&self.bootstrap, topic.as_str());
    }

    fn trim(&self, partition: &TopicPartition, before: i64) {
        plain::delete_records(&self.bootstrap, partition.topic.as_str(), partition.partition, before);
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(1500)
    }

    fn impatient(&self) -> Option<Box<dyn Fixture>> {
        let consumer = vec![("max.poll.interval.ms", "7000".to_owned())];
        Some(Box::new(Self { bootstrap: self.bootstrap.clone(), consumer }))
    }
}

contract! { crate::kafka::Shared }

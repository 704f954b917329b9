//! The Kafka driver, on librdkafka.
//!
//! `admin` asks and creates, `source` reads, `sink` writes; `raw` makes librdkafka's C calls safe, `errors` says what
//! can be done about its codes, `health` keeps what its background threads complain about. How copies become exactly
//! once is told in `sink`. Knows nothing of regions' roles, rules or configuration files.

mod admin;
mod administrator;
mod errors;
mod health;
mod raw;
pub mod settings;
mod sink;
mod source;

#[doc(hidden)]
pub mod bench;

use std::sync::{Arc, Mutex};

use rdkafka::config::ClientConfig;

use self::administrator::Administrator;
use self::health::Health;
use self::raw::{Client, Kind};
use self::settings::Settings;
use crate::broker::{
    Bounds, Capabilities, Class, Cluster, Error, Member, NewTopic, Sink, SinkSettings, Source, SourceSettings,
    TopicDescription,
};
use crate::model::names::{GroupName, TopicName, TopicPartition};
use crate::model::record::NewRecord;

/// One region's Kafka cluster.
pub struct Kafka {
    settings: Settings,
    health: Arc<Health>,
    administrator: Administrator,
    appender: Mutex<Option<Arc<Client>>>,
}

impl Kafka {
    /// Prepares to reach the cluster; connects in the background. [`Class::Fatal`] when librdkafka refuses the settings.
    /// `region` is for log lines only.
    pub fn open(region: &str, settings: &Settings) -> Result<Self, Error> {
        let health = Arc::new(Health::new(region));
        let mut config = connection(settings.for_admin());
        default_to(&mut config, &[("client.id", "longshore")]);
        // A producer's questions about a topic could create it.
        fix(&mut config, &[("allow.auto.create.topics", "false")]);
        let administrator = Administrator::start(config, &health)?;
        Ok(Self { settings: settings.clone(), health, administrator, appender: Mutex::new(None) })
    }
}

impl Cluster for Kafka {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_commit: true }
    }

    fn describe(&self, topics: &[TopicName]) -> Result<Vec<Option<TopicDescription>>, Error> {
        self.describe_topics(topics)
    }

    fn create(&self, topic: &NewTopic) -> Result<bool, Error> {
        self.create_topic(topic)
    }

    fn grow(&self, topic: &TopicName, partitions: i32) -> Result<(), Error> {
        self.grow_topic(topic, partitions)
    }

    fn bounds(&self, partitions: &[TopicPartition]) -> Result<Vec<Result<Bounds, Error>>, Error> {
        self.list_bounds(partitions)
    }

    fn offsets_at(&self, partitions: &[TopicPartition], at_ms: i64) -> Result<Vec<Result<i64, Error>>, Error> {
        self.list_offsets_at(partitions, at_ms)
    }

    fn members(&self, group: &GroupName) -> Result<Option<Vec<Member>>, Error> {
        self.list_members(group)
    }

    fn append(&self, to: &TopicPartition, records: &[NewRecord<'_>]) -> Result<Vec<i64>, Error> {
        self.append_records(to, records)
    }

    fn source(&self, settings: &SourceSettings) -> Result<Box<dyn Source>, Error> {
        Ok(Box::new(source::KafkaSource::open(&self.settings, settings, &self.health)?))
    }

    fn sink(&self, settings: &SinkSettings) -> Result<Box<dyn Sink>, Error> {
        Ok(Box::new(sink::KafkaSink::open(&self.settings, settings, &self.health)?))
    }

    fn trouble(&self) -> Option<Error> {
        self.administrator.client().poll(std::time::Duration::ZERO);
        self.health.trouble()
    }
}

/// Starts a client whose complaints go to `health`.
fn start(kind: Kind, config: &ClientConfig, health: &Arc<Health>) -> Result<Client, Error> {
    let observer: Arc<dyn raw::Observer> = health.clone();
    Client::start(kind, config, observer).map_err(|reason| Error::new(Class::Fatal, "open a Kafka client", reason))
}

/// How every client of ours holds its connections, unless the user says otherwise: a region that comes back is found
/// again within 2 s, and small requests are not held back.
fn connection(mut config: ClientConfig) -> ClientConfig {
    default_to(
        &mut config,
        &[
            ("reconnect.backoff.max.ms", "2000"),
            ("socket.keepalive.enable", "true"),
            ("socket.nagle.disable", "true"),
            ("log.connection.close", "false"),
        ],
    );
    config
}

/// Sets what the user has not set.
fn default_to(config: &mut ClientConfig, properties: &[(&str, &str)]) {
    for (name, value) in properties {
        if config.get(name).is_none() {
            config.set(*name, *value);
        }
    }
}

/// Sets what our promises rest on.
fn fix(config: &mut ClientConfig, properties: &[(&str, &str)]) {
    for (name, value) in properties {
        config.set(*name, *value);
    }
}

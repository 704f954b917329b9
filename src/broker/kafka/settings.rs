//! What a user may say about a Kafka cluster: librdkafka's own property names, passed through.
//!
//! Which names and values are valid is asked of librdkafka itself; what Longshore's promises rest on is refused with
//! the reason. Opens nothing and never shows a value: any of them may be a password.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use secrecy::{ExposeSecret, SecretString};

/// How to reach one Kafka cluster, checked.
#[derive(Clone, Default)]
pub struct Settings {
    /// For every client.
    pub common: BTreeMap<String, SecretString>,
    /// For reading, over `common`.
    pub consumer: BTreeMap<String, SecretString>,
    /// For writing, over `common`.
    pub producer: BTreeMap<String, SecretString>,
    /// Of topics that Longshore creates; `None` takes the cluster's default.
    pub replication_factor: Option<i32>,
    /// Of topics that Longshore creates, in the broker's own names.
    pub topic_config: BTreeMap<String, String>,
}

impl Settings {
    /// The properties of a client that reads.
    pub fn for_consumer(&self) -> ClientConfig {
        Self::merged(&[&self.common, &self.consumer])
    }

    /// The properties of a client that writes.
    pub fn for_producer(&self) -> ClientConfig {
        Self::merged(&[&self.common, &self.producer])
    }

    /// The properties of a client that administers.
    pub fn for_admin(&self) -> ClientConfig {
        Self::merged(&[&self.common])
    }

    fn merged(blocks: &[&BTreeMap<String, SecretString>]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in blocks.iter().flat_map(|block| block.iter()) {
            config.set(name, value.expose_secret());
        }
        config
    }
}

impl fmt::Debug for Settings {
    /// Names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("common", &self.common.keys())
            .field("consumer", &self.consumer.keys())
            .field("producer", &self.producer.keys())
            .field("replication_factor", &self.replication_factor)
            .field("topic_config", &self.topic_config.keys())
            .finish()
    }
}

/// The block in which a property stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `kafka:`
    Common,
    /// `consumer:`
    Consumer,
    /// `producer:`
    Producer,
}

/// Why a property is refused. Never holds its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PropertyProblem {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether the value is at fault rather than the name.
    pub about_value: bool,
}

const PROPERTIES: &str = include_str!("properties.txt");

/// Properties on which the promises of semantics §3 rest, each with the reason that users are shown.
const OWNED: &[(&str, &str)] = &[
    ("isolation.level", "links read committed records only"),
    ("group.id", "a link's group shares its partitions and keeps its positions"),
    ("group.instance.id", "it is derived from `run --instance`"),
    ("group.protocol", "links are proven on the classic protocol"),
    ("group.remote.assignor", "links are proven on the classic protocol"),
    ("partition.assignment.strategy", "links need cooperative-sticky"),
    ("session.timeout.ms", "fencing and take-over are timed together"),
    ("heartbeat.interval.ms", "fencing and take-over are timed together"),
    ("max.poll.interval.ms", "fencing and take-over are timed together"),
    ("transactional.id", "it is derived from `run --instance` and fences an old process"),
    ("transaction.timeout.ms", "an open transaction holds readers back, so it is kept at 10 s"),
    ("enable.idempotence", "without it retries repeat and reorder records"),
    ("enable.gapless.guarantee", "refused records are put aside by `links.on_rejected`"),
    ("acks", "a record counts as copied when all in-sync replicas have it"),
    ("request.required.acks", "a record counts as copied when all in-sync replicas have it"),
    ("enable.auto.commit", "positions are committed together with the copies"),
    ("auto.commit.enable", "positions are committed together with the copies"),
    ("auto.commit.interval.ms", "positions are committed together with the copies; see `links.commit_interval`"),
    ("enable.auto.offset.store", "positions are committed together with the copies"),
    ("offset.store.method", "positions are committed together with the copies"),
    ("offset.store.path", "positions are committed together with the copies"),
    ("offset.store.sync.interval.ms", "positions are committed together with the copies"),
    ("auto.offset.reset", "where reading begins is `links.start_from`, what happens at a gap `links.on_gap`"),
    ("enable.partition.eof", "links watch the end of each partition"),
    ("message.timeout.ms", "a record is retried until its transaction ends"),
    ("delivery.timeout.ms", "a record is retried until its transaction ends"),
    ("partitioner", "a copy keeps its partition number"),
    ("interceptors", "no code is loaded from a configuration file"),
    ("plugin.library.paths", "no code is loaded from a configuration file"),
    ("default_topic_conf", "it cannot be set from a file"),
    ("opaque", "it cannot be set from a file"),
    ("ssl_key", "it cannot be set from a file; see `ssl.key.pem` and `ssl.key.location`"),
    ("ssl_certificate", "it cannot be set from a file; see `ssl.certificate.pem`"),
    ("ssl_ca", "it cannot be set from a file; see `ssl.ca.pem`"),
];

/// Names of the Java client that people bring along, with librdkafka's answer.
const JAVA: &[(&str, &str)] = &[
    ("sasl.jaas.config", "librdkafka takes `sasl.username` and `sasl.password`"),
    ("ssl.truststore.location", "librdkafka takes `ssl.ca.location`, a PEM file"),
    ("ssl.truststore.password", "librdkafka takes `ssl.ca.location`, a PEM file without a password"),
    ("ssl.truststore.type", "librdkafka takes `ssl.ca.location`, a PEM file"),
    ("ssl.keystore.type", "librdkafka takes `ssl.keystore.location` (PKCS#12), or PEM files"),
    ("max.request.size", "librdkafka takes `message.max.bytes`"),
    ("buffer.memory", "librdkafka takes `queue.buffering.max.kbytes`"),
    ("max.poll.records", "links decide in batches by themselves"),
];

/// Largest `max.in.flight` with which an idempotent producer keeps its order.
const MAX_IN_FLIGHT: i64 = 5;

/// Whether a property's value is a secret by its nature, wherever it came from.
pub fn is_secret(name: &str) -> bool {
    name.contains("password")
        || name.contains("secret")
        || name.contains("passphrase")
        || name.ends_with("key.pem")
        || name == "sasl.oauthbearer.config"
        || name == "sasl.jaas.config"
}

/// Asks librdkafka whether it takes this property, and refuses what Longshore sets itself. No connection is made.
pub fn check_property(name: &str, value: &str, block: Block) -> Result<(), PropertyProblem> {
    if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Err(name_problem(format!("`{name}` is set by Longshore: {why}"), Some("remove it".into())));
    }
    if name.ends_with("_cb") || name == "oauth_cb" {
        return Err(name_problem(format!("`{name}` is a call-back and cannot be set from a file"), None));
    }
    if let Some((_, hint)) = JAVA.iter().find(|(java, _)| *java == name) {
        return Err(name_problem(format!("`{name}` is a property of the Java client"), Some((*hint).into())));
    }
    ask_librdkafka(name, value)?;
    check_mechanism(name, value)?;
    if matches!(name, "max.in.flight" | "max.in.flight.requests.per.connection")
        && value.trim().parse::<i64>().is_ok_and(|in_flight| in_flight > MAX_IN_FLIGHT)
    {
        let message = format!("`{name}` above {MAX_IN_FLIGHT} would reorder records");
        return Err(PropertyProblem { message, hint: Some("use 5 or less".into()), about_value: true });
    }
    match (block, audience(name)) {
        (Block::Consumer, Some("P")) => Err(wrong_block(name, "producers", "producer")),
        (Block::Producer, Some("C")) => Err(wrong_block(name, "consumers", "consumer")),
        _ => Ok(()),
    }
}

/// librdkafka finds out only when it connects which mechanisms it was built without.
fn check_mechanism(name: &str, value: &str) -> Result<(), PropertyProblem> {
    let absent = |hint: &str| {
        let message = format!("this program was built without the mechanism that `{name}` names");
        Err(PropertyProblem { message, hint: Some(hint.into()), about_value: true })
    };
    match (name, value.trim()) {
        ("sasl.mechanism" | "sasl.mechanisms", "GSSAPI") => absent("use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        ("sasl.mechanism" | "sasl.mechanisms", scram) if scram.starts_with("SCRAM-") && !cfg!(feature = "tls") => {
            absent("build it with `--features tls`")
        }
        _ => Ok(()),
    }
}

/// What is missing of properties that go together.
pub fn check_together(get: impl Fn(&str) -> Option<String>) -> Option<&'static str> {
    let sasl = get("security.protocol").is_some_and(|protocol| protocol.to_ascii_lowercase().starts_with("sasl"));
    let mechanism = get("sasl.mechanisms").or_else(|| get("sasl.mechanism"));
    match mechanism.as_deref() {
        None if sasl => Some("`security.protocol` asks for SASL, and there is no `sasl.mechanism`"),
        Some("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512")
            if get("sasl.username").is_none() || get("sasl.password").is_none() =>
        {
            Some("`sasl.mechanism` needs `sasl.username` and `sasl.password`")
        }
        Some(_) if !sasl => {
            Some("`sasl.mechanism` has no effect without `security.protocol: sasl_ssl` or `sasl_plaintext`")
        }
        _ => None,
    }
}

fn ask_librdkafka(name: &str, value: &str) -> Result<(), PropertyProblem> {
    let mut config = ClientConfig::new();
    config.set(name, value);
    let (outcome, text) = match config.create_native_config() {
        Ok(_) => return Ok(()),
        Err(KafkaError::ClientConfig(outcome, text, ..)) => (outcome, text),
        Err(other) => (RDKafkaConfRes::RD_KAFKA_CONF_INVALID, other.to_string()),
    };
    if text.contains("not supported in this build") || text.contains("not available at build time") {
        let hint = if cfg!(feature = "tls") {
            "this build leaves it out"
        } else {
            "this program was built without TLS: build it with `--features tls`"
        };
        let message = format!("librdkafka cannot use `{name}`: {}", without_value(&text, value));
        return Err(PropertyProblem { message, hint: Some(hint.into()), about_value: false });
    }
    if outcome == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        let hint = nearest(name).map(|near| format!("did you mean `{near}`?"));
        return Err(name_problem(format!("librdkafka knows no property `{name}`"), hint));
    }
    // "Invalid value" alone says nothing more; a range or a reason does.
    let reason = without_value(&text, value);
    let message = match reason.starts_with("Invalid value") {
        true => format!("librdkafka refuses this value of `{name}`"),
        false => format!("librdkafka refuses this value of `{name}`: {reason}"),
    };
    Err(PropertyProblem { message, hint: None, about_value: true })
}

fn name_problem(message: String, hint: Option<String>) -> PropertyProblem {
    PropertyProblem { message, hint, about_value: false }
}

fn wrong_block(name: &str, whom: &str, block: &str) -> PropertyProblem {
    name_problem(format!("`{name}` is for {whom} only"), Some(format!("put it under `{block}:`")))
}

/// librdkafka quotes the value in its message; it may be a secret.
fn without_value(text: &str, value: &str) -> String {
    let text = text.replace(&format!("\"{value}\""), "\"…\"").replace(&format!(" {value} "), " … ");
    // A short value may be part of an allowed range; a longer one anywhere is the value.
    if value.len() > 4 && value.parse::<i64>().is_err() { text.replace(value, "…") } else { text }
}

fn properties() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROPERTIES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '))
}

fn audience(name: &str) -> Option<&'static str> {
    properties().find(|(_, known)| *known == name).map(|(whom, _)| whom)
}

fn nearest(name: &str) -> Option<&'static str> {
    properties()
        .map(|(_, known)| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.87)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafka_knows_every_listed_property() {
        for (_, name) in properties() {
            let problem = ask_librdkafka(name, "\u{1}");
            assert!(
                !problem.is_err_and(|problem| problem.message.contains("knows no property")),
                "{name} is listed, but librdkafka does not know it"
            );
        }
    }

    #[test]
    fn a_misspelt_property_is_refused_with_the_nearest_name() {
        let problem = check_property("bootstrap.server", "a:1", Block::Common).unwrap_err();
        assert_eq!(problem.hint.as_deref(), Some("did you mean `bootstrap.servers`?"));
    }

    #[test]
    fn properties_that_the_promises_rest_on_are_refused_with_the_reason() {
        for (name, _) in OWNED {
            let problem = check_property(name, "x", Block::Common).unwrap_err();
            assert!(problem.message.contains("set by Longshore"), "{problem}");
        }
        assert!(check_property("max.in.flight", "6", Block::Producer).is_err());
        assert!(check_property("max.in.flight", "5", Block::Producer).is_ok());
        assert!(check_property("linger.ms", "20", Block::Producer).is_ok());
    }

    #[test]
    fn a_property_in_the_block_of_the_other_direction_is_refused() {
        assert!(check_property("linger.ms", "20", Block::Consumer).is_err());
        assert!(check_property("fetch.min.bytes", "20", Block::Producer).is_err());
        assert!(check_property("fetch.min.bytes", "20", Block::Common).is_ok());
    }

    #[test]
    fn values_are_shown_neither_by_problems_nor_by_debug() {
        let problem = check_property("socket.timeout.ms", "hunter2", Block::Common).unwrap_err();
        assert!(!problem.message.contains("hunter2"), "{problem}");
        let mut settings = Settings::default();
        settings.common.insert("sasl.password".into(), SecretString::from("hunter2"));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_tls_the_hint_names_the_feature() {
        for (name, value) in [("ssl.ca.location", "/ca.pem"), ("security.protocol", "ssl")] {
            let problem = check_property(name, value, Block::Common).unwrap_err();
            assert!(problem.hint.as_deref().is_some_and(|hint| hint.contains("--features tls")), "{problem:?}");
        }
    }
}

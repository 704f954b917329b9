//! The files as users write them (interface §1–§3): keys, types, choices and defaults. Each doc comment here is what
//! `docs/configuration.md` and the JSON Schema say. Whether the values make sense together is `validate`'s.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::read::{Definitions, Fields, Need, Read, Row, Table, choice, choices, field_schema, joined, objects};
use super::report::{At, Problems};
use super::tree::Node;
use super::values::{Named, Paths, Property, Word};
use super::{Guarantee, HookBlock, OnGap, OnRejected};
use crate::policy::rules::Hash;
use crate::policy::subscription::{Copies, Delivery, Idempotency, Mode, OnMissingKey, OnMissingVersion, Topology};

/// Which broker a region has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Broker {
    Kafka,
    RocketMq,
    Embedded,
}

choices! {
    #[what("broker")]
    Broker {
        "kafka" => Self::Kafka, "Apache Kafka, and what speaks its protocol.";
        "rocketmq" => Self::RocketMq, "Apache RocketMQ: checked and planned, not yet run.";
        "embedded" => Self::Embedded, "A small log inside the process, for demos and tests.";
    }
    #[what("topology")]
    Topology {
        "mesh" => Self::Mesh, "Every region pulls from every other.";
        "star" => Self::Star, "Units exchange through the center.";
    }
    #[what("guarantee")]
    Guarantee {
        "exactly-once" => Self::ExactlyOnce, "Records and positions are committed in one transaction.";
        "at-least-once" => Self::AtLeastOnce, "A crash may repeat the last uncommitted batch.";
    }
    #[what("answer to a gap")]
    OnGap {
        "stop" => Self::Stop, "The topic's link stops until an operator has looked.";
        "skip" => Self::Skip, "The link goes on and counts.";
    }
    #[what("answer to a rejected record")]
    OnRejected {
        "dead-letter" => Self::DeadLetter, "The record is put aside and the stream goes on.";
        "stop" => Self::Stop, "The stream stops.";
    }
    #[what("way to block")]
    HookBlock {
        "success" => Self::Success, "The cutover waits until the call has succeeded.";
        "end" => Self::End, "The cutover waits until the call has ended, however.";
        "ignore" => Self::Ignore, "The cutover does not wait.";
    }
    #[what("way to copy")]
    Copies {
        "same-topic" => Self::SameTopic, "Into the topic of the same name.";
        "own-topic" => Self::OwnTopic, "Into `<topic>__from__<origin>`.";
    }
    #[what("mode")]
    Mode {
        "center" => Self::Center, "Consumed in the center only.";
        "nearby" => Self::Nearby, "Consumed where it was produced.";
        "unit" => Self::Unit, "Consumed where its routing key belongs.";
        "all-unit" => Self::AllUnit, "Consumed in every region.";
    }
    #[what("delivery")]
    Delivery {
        "topic" => Self::Topic, "Through the delivery topic.";
        "direct" => Self::Direct, "The application reads the topic itself, unfiltered.";
    }
    #[what("idempotency")]
    Idempotency {
        "none" => Self::None, "Everything passes.";
        "id" => Self::Id, "Each record once.";
        "version" => Self::Version, "Only versions newer than the last one of the key.";
    }
    #[what("answer to a missing key")]
    OnMissingKey {
        "origin" => Self::Origin, "It belongs to its origin.";
        "center" => Self::Center, "It belongs to the center.";
        "dead-letter" => Self::DeadLetter, "It is put aside at its origin.";
    }
    #[what("answer to a missing version")]
    OnMissingVersion {
        "deliver" => Self::Deliver, "It is handed over and counted.";
        "dead-letter" => Self::DeadLetter, "It is put aside.";
    }
    #[what("hash")]
    Hash {
        "crc32" => Self::Crc32, "CRC-32 (IEEE) of the key's UTF-8 bytes.";
        "mod" => Self::Mod, "The key as a whole number, Euclidean remainder; other keys by CRC-32.";
    }
}

objects! {
    #[what("the bridge file")]
    /// The bridge file describes all regions; each region runs it with its own `--region`.
    struct Bridge {
        /// The region that consumes what must be consumed in one place (`mode: center`).
        "center" center: String, Need::Required;
        /// The regions that may become the center, in order. They hold copies of what the center consumes.
        "standby" standby: Vec<At<String>>, Need::Default("[]");
        /// How regions are linked.
        "topology" topology: Topology, Need::Default("mesh");
        /// Each region's cluster, by the region's name (`[a-z0-9-]{1,32}`).
        "regions" regions: Named<Region>, Need::Required;
        /// Topic files: a folder (every `*.yaml` and `*.yml` in it) or a list of files, relative to this file.
        "topics" topics: Paths, Need::Default("./topics");
        /// Rule files, likewise. Needed when a subscription has `mode: unit`.
        "rules" rules: Paths, Need::Otherwise("`./rules` when that folder exists");
        /// How the links behave. Each bridge pulls into its own region.
        "links" links: Links, Need::Default("{}");
        /// Create missing topics, internal ones included, and grow those with too few partitions.
        "create_topics" create_topics: bool, Need::Default("true");
        /// Where a bridge keeps what must survive a restart, relative to this file.
        "state_dir" state_dir: String, Need::Default("./state");
        /// How long SIGTERM waits for what is in flight. A second one stops at once; neither loses anything.
        "shutdown_timeout" shutdown_timeout: Duration, Need::Default("30s");
        /// The HTTP endpoint: metrics, health, status.
        "admin" admin: Admin, Need::Default("{}");
        /// The control topic, through which the bridges of all regions know of each other.
        "control" control: Control, Need::Default("{}");
        /// Commands or URLs that a cutover calls, with the step as JSON.
        "hooks" hooks: Hooks, Need::Default("{}");
    }

    #[what("a region")]
    /// How one region's cluster is reached, and how topics are created there.
    struct Region {
        /// Which broker it has.
        "broker" broker: Broker, Need::Default("kafka");
        /// librdkafka properties by their own names, passed through to every client (`bootstrap.servers`, TLS, SASL …).
        /// Those on which Longshore's promises rest are refused.
        "kafka" kafka: Named<Property>, Need::Otherwise("required for `broker: kafka`");
        /// librdkafka properties for reading only, over `kafka`.
        "consumer" consumer: Named<Property>, Need::Default("{}");
        /// librdkafka properties for writing only, over `kafka`.
        "producer" producer: Named<Property>, Need::Default("{}");
        /// Replicas of the topics that Longshore creates here.
        "replication_factor" replication_factor: i32, Need::Otherwise("the cluster's own default");
        /// Settings of the topics that Longshore creates here, by Kafka's names (`retention.ms` …).
        "topic_config" topic_config: Named<Property>, Need::Default("{}");
        /// For `broker: rocketmq`.
        "rocketmq" rocketmq: RocketMq, Need::Otherwise("required for `broker: rocketmq`");
        /// For `broker: embedded`.
        "embedded" embedded: Embedded, Need::Default("{}");
    }

    #[what("`rocketmq`")]
    /// How a RocketMQ cluster is reached. It is checked and planned; running it is refused by this version.
    struct RocketMq {
        /// `host:port` of the name servers, separated by `;`.
        "name_server" name_server: String, Need::Required;
        /// For ACLs, together with `secret_key`.
        "access_key" access_key: SecretString, Need::Optional;
        /// For ACLs, together with `access_key`.
        "secret_key" secret_key: SecretString, Need::Optional;
    }

    #[what("`embedded`")]
    /// The log inside the process. It is no production broker: one process at a time can open it.
    struct Embedded {
        /// The folder that holds the log, relative to the bridge file.
        "dir" dir: String, Need::Otherwise("`<state_dir>/embedded/<region>`");
    }

    #[what("`links`")]
    /// How the links behave.
    struct Links {
        /// What a crash may do.
        "guarantee" guarantee: Guarantee, Need::Default("exactly-once");
        /// Where a stream begins that was never copied before: `earliest`, `latest`, or a time (RFC 3339, or
        /// milliseconds since the epoch).
        "start_from" start_from: Word, Need::Default("earliest");
        /// The longest time between two commits, `1ms` to `5s`. When little is in flight a link commits sooner.
        "commit_interval" commit_interval: Duration, Need::Default("100ms");
        /// When records were lost to retention before they were copied, or a topic was deleted and created anew.
        "on_gap" on_gap: OnGap, Need::Default("stop");
        /// With a record that the target refuses for good (too large, invalid).
        "on_rejected" on_rejected: OnRejected, Need::Default("dead-letter");
        /// The most that one link copies.
        "rate_limit" rate_limit: RateLimit, Need::Default("{}");
    }

    #[what("`rate_limit`")]
    /// The most that one link copies; unlimited when left out.
    struct RateLimit {
        /// Records in a second, at least 1.
        "records_per_second" records_per_second: u64, Need::Optional;
        /// Bytes of keys and values in a second, at least 1.
        "bytes_per_second" bytes_per_second: u64, Need::Optional;
    }

    #[what("`admin`")]
    /// The HTTP endpoint.
    struct Admin {
        /// Address and port.
        "listen" listen: Word, Need::Default("127.0.0.1:9464");
        /// Bearer token for whatever changes something, and off loopback for reading too.
        "token" token: SecretString, Need::Otherwise("required when `listen` is not on loopback");
    }

    #[what("`control`")]
    /// The control topic.
    struct Control {
        /// Entries are signed with it (HMAC-SHA-256) and unsigned ones refused. The same in all regions.
        "secret" secret: SecretString, Need::Otherwise("entries are not signed, with a warning");
    }

    #[what("`hooks`")]
    /// What a cutover calls, with the step as JSON.
    struct Hooks {
        /// The HMAC of the body goes into a header.
        "secret" secret: SecretString, Need::Optional;
        /// Gateways begin to refuse moved keys.
        "ban" ban: Hook, Need::Optional;
        /// Databases refuse writes for moved keys in the old region. `{moved_file}` is replaced by the path of a JSON
        /// file that says which slots, ranges and keys move from where to where.
        "seal" seal: Hook, Need::Optional;
        /// Ends when the data stores have caught up to `{until}`.
        "gate" gate: Hook, Need::Optional;
        /// The new rules are in force.
        "switched" switched: Hook, Need::Optional;
    }

    #[what("a hook")]
    /// One call: either `url` or `exec`.
    struct Hook {
        /// An HTTP or HTTPS address; gets a POST.
        "url" url: Word, Need::Optional;
        /// A program and its arguments.
        "exec" exec: Vec<At<String>>, Need::Optional;
        /// How long it may take.
        "timeout" timeout: Duration, Need::Default("10s");
        /// What the cutover waits for.
        "block" block: HookBlock, Need::Default("success");
    }

    #[what("a topic file")]
    /// One topic and its consumer groups. What is copied where follows from the subscriptions.
    struct TopicFile {
        /// Its name, the same in every region.
        "topic" topic: String, Need::Required;
        /// Partitions when Longshore creates it; a copy has at least as many as its source.
        "partitions" partitions: i32, Need::Default("1");
        /// Where the routing key is. Needed by `mode: unit`.
        "routing_key" routing_key: KeySource, Need::Optional;
        /// Where the version is. Needed by `idempotency: version`.
        "version" version: VersionSource, Need::Optional;
        /// Where copies go. `own-topic` is for regions where consumers that Longshore does not manage read the topic.
        "copies" copies: Copies, Need::Default("same-topic");
        /// The consumer groups.
        "subscriptions" subscriptions: Vec<At<Subscription>>, Need::Default("[]");
    }

    #[what("a key's source")]
    /// Where a key is found in a record: exactly one of these.
    struct KeySource {
        /// The last header of this name.
        "header" header: String, Need::Optional;
        /// `true`: the record key.
        "key" key: bool, Need::Optional;
        /// A JSON pointer (RFC 6901) into the body.
        "json" json: Word, Need::Optional;
    }

    #[what("a version's source")]
    /// Where the version is found in a record: exactly one of these.
    struct VersionSource {
        /// The last header of this name.
        "header" header: String, Need::Optional;
        /// A JSON pointer (RFC 6901) into the body.
        "json" json: Word, Need::Optional;
        /// `true`: the record's timestamp.
        "timestamp" timestamp: bool, Need::Optional;
    }

    #[what("a subscription")]
    /// One consumer group on the topic.
    struct Subscription {
        /// The consumer group.
        "group" group: String, Need::Required;
        /// Where the group consumes.
        "mode" mode: Mode, Need::Required;
        /// The rule set, for `mode: unit`.
        "rules" rules: String, Need::Otherwise("required for `mode: unit`");
        /// Where the group is deployed.
        "regions" regions: Vec<At<String>>, Need::Otherwise("all regions");
        /// How the group gets its records. `direct` is refused unless nothing could ever have to be filtered out.
        "delivery" delivery: Delivery, Need::Default("topic");
        /// The topic that its application reads.
        "delivery_topic" delivery_topic: String, Need::Otherwise("`<topic>__<group>`");
        /// What is remembered of records handed over.
        "idempotency" idempotency: Idempotency, Need::Default("none");
        /// The key of that memory.
        "idempotency_key" idempotency_key: KeySource, Need::Otherwise("the routing key");
        /// How long versions are remembered.
        "idempotency_ttl" idempotency_ttl: Duration, Need::Default("7d");
        /// How long ids are remembered, for `idempotency: id`: records per key (`1000`), or a time (`1h`).
        "id_window" id_window: Word, Need::Otherwise("`idempotency_ttl`");
        /// Where it begins, fixed at its first start: `earliest`, `latest`, `committed` (where a group of that name
        /// already stands on the topic), or a time.
        "start_from" start_from: Word, Need::Default("earliest");
        /// What becomes of a record without a readable routing key, for `mode: unit`.
        "on_missing_key" on_missing_key: OnMissingKey, Need::Default("origin");
        /// What becomes of a record without a readable version, for `idempotency: version`.
        "on_missing_version" on_missing_version: OnMissingVersion, Need::Default("deliver");
    }

    #[what("a rule file")]
    /// A rule set gives every routing key to exactly one region. Order: `exact`, longest `prefix`, `range`, `slots`.
    struct RuleFile {
        /// Its name, which subscriptions refer to.
        "rules" rules: String, Need::Required;
        /// At least 1; it only ever grows.
        "epoch" epoch: u64, Need::Default("1");
        /// How many slots keys are spread over.
        "slots" slots: u32, Need::Default("10000");
        /// How a key gets its slot.
        "hash" hash: Hash, Need::Default("crc32");
        /// Which region owns which slots: every slot exactly once.
        "assign" assign: Vec<At<Assign>>, Need::Required;
        /// Single keys.
        "exact" exact: Vec<At<Exact>>, Need::Default("[]");
        /// Beginnings of keys; the longest counts.
        "prefix" prefix: Vec<At<Prefix>>, Need::Default("[]");
        /// Ranges of keys that are whole numbers; they must not overlap.
        "range" range: Vec<At<Range>>, Need::Default("[]");
    }

    #[what("an assignment")]
    /// A stretch of slots.
    struct Assign {
        /// `0-5999`, both ends included, or a single slot.
        "slots" slots: Word, Need::Required;
        /// Their owner.
        "region" region: String, Need::Required;
    }

    #[what("an exact rule")]
    /// Single keys: `keys`, `keys_file`, or both.
    struct Exact {
        /// The keys.
        "keys" keys: Vec<At<String>>, Need::Optional;
        /// A file with one key on each line, relative to the rule file.
        "keys_file" keys_file: String, Need::Optional;
        /// Their owner.
        "region" region: String, Need::Required;
    }

    #[what("a prefix rule")]
    /// The beginning of keys.
    struct Prefix {
        /// How the keys begin.
        "prefix" prefix: String, Need::Required;
        /// Their owner.
        "region" region: String, Need::Required;
    }

    #[what("a range rule")]
    /// A range of keys that are whole numbers, both ends included.
    struct Range {
        /// The lowest.
        "from" from: i64, Need::Required;
        /// The highest.
        "to" to: i64, Need::Required;
        /// Their owner.
        "region" region: String, Need::Required;
    }
}

//! What users declare, after validation: regions, topics, subscriptions. The language of every decision.

use crate::model::names::{GroupName, RegionName, TopicName};

/// Where a group consumes (semantics §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Only in the center.
    Center,
    /// Where the record was produced.
    Nearby,
    /// Where the routing key belongs.
    Unit,
    /// In every region.
    AllUnit,
}

impl Mode {
    /// As written in topic files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Center => "center",
            Self::Nearby => "nearby",
            Self::Unit => "unit",
            Self::AllUnit => "all-unit",
        }
    }
}

/// How regions are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Every region pulls from every other.
    Mesh,
    /// Units exchange through the configured center.
    Star,
}

/// Where a value is found in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extract {
    /// The last header of this name.
    Header(String),
    /// The record key.
    RecordKey,
    /// A JSON pointer (RFC 6901) into the body.
    Json(String),
    /// The record's timestamp, milliseconds.
    Timestamp,
}

/// Where copies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// In the topic of the same name; told apart by `ls_origin`.
    SameTopic,
    /// In `<topic>__from__<origin>`.
    OwnTopic,
}

/// How a subscription gets its records (semantics §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Through `<topic>__<group>`.
    Topic,
    /// The application reads the topic itself.
    Direct,
}

/// What is remembered of records handed over (semantics §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// Nothing.
    None,
    /// Ids.
    Id,
    /// The newest version per key.
    Version,
}

/// Where reading begins the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// The oldest record kept.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// The first record at or after this time, milliseconds since the epoch.
    Time(i64),
    /// Where a group of that name already stands (subscriptions only).
    Committed,
}

/// What becomes of a `unit` record without a readable routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissingKey {
    /// It belongs to its origin.
    Origin,
    /// It belongs to the center.
    Center,
    /// It is put aside at its origin.
    DeadLetter,
}

/// What becomes of a record without a readable version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissingVersion {
    /// It is handed over and counted.
    Deliver,
    /// It is put aside.
    DeadLetter,
}

/// How long ids are remembered for `idempotency: id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdWindow {
    /// The newest this many per key.
    RecordsPerKey(u32),
    /// This long, milliseconds.
    TimeMs(u64),
}

/// One consumer group on one topic with one mode.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The consumer group.
    pub group: GroupName,
    /// Its mode.
    pub mode: Mode,
    /// The rule set, for `unit`.
    pub rules: Option<String>,
    /// Where the group is deployed, sorted; all regions when it was left out.
    pub regions: Vec<RegionName>,
    /// How it gets its records.
    pub delivery: Delivery,
    /// The topic that its application reads.
    pub delivery_topic: TopicName,
    /// What is remembered.
    pub idempotency: Idempotency,
    /// The key of the gate when it is not the routing key.
    pub idempotency_key: Option<Extract>,
    /// How long versions are remembered, milliseconds.
    pub idempotency_ttl_ms: u64,
    /// How long ids are remembered.
    pub id_window: Option<IdWindow>,
    /// Where it begins.
    pub start_from: StartFrom,
    /// Without a routing key.
    pub on_missing_key: OnMissingKey,
    /// Without a version.
    pub on_missing_version: OnMissingVersion,
}

/// One declared topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name, the same in every region.
    pub name: TopicName,
    /// Partitions when it has to be created.
    pub partitions: i32,
    /// Where the routing key is.
    pub routing_key: Option<Extract>,
    /// Where the version is.
    pub version: Option<Extract>,
    /// Where copies go.
    pub copies: Copies,
    /// Its consumer groups, in the file's order.
    pub subscriptions: Vec<Subscription>,
}

/// All that the decisions need to know of a deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// All regions, sorted by name.
    pub regions: Vec<RegionName>,
    /// The configured center.
    pub center: RegionName,
    /// The candidates to become the center, in order.
    pub standby: Vec<RegionName>,
    /// How regions are linked.
    pub topology: Topology,
    /// All declared topics, sorted by name.
    pub topics: Vec<Topic>,
}

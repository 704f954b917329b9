//! Administration: one request, one answer, each waited for up to a time-out.
//!
//! Done here because the `rdkafka` crate has neither the topic's id nor look-ups of offsets by isolation level, and
//! its client polls in a thread of its own. Answers are copied out of librdkafka's objects at once.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as ffi;
use rdkafka::types::RDKafkaErrorCode;

use super::{Client, Failed, c_string, millis, text};

/// Added to a request's own time-out: librdkafka answers by itself when that is over.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// An offset that was looked up.
#[derive(Clone, Debug)]
pub struct ListedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset, -1 when no record matches.
    pub offset: Result<i64, Failed>,
}

/// A topic's shape.
#[derive(Clone, Debug)]
pub struct TopicShape {
    /// The id as Kafka's tools print it.
    pub id: String,
    /// How many partitions.
    pub partitions: i32,
    /// Replicas of the first partition.
    pub replication_factor: i32,
    /// What we may do with it; `None` when the broker does not tell.
    pub rights: Option<Rights>,
}

/// What we may do with a topic.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    /// Fetch from it.
    pub read: bool,
    /// Produce to it.
    pub write: bool,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub struct GroupMember {
    /// Its lasting name; empty when it has none.
    pub instance: String,
    /// Topics and partitions.
    pub owns: Vec<(String, i32)>,
}

/// A setting of a topic.
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    /// Its value; `None` when the broker does not tell.
    pub value: Option<String>,
    /// Whether it was set for this topic.
    pub own: bool,
}

/// A topic's settings by name.
pub type TopicConfig = BTreeMap<String, ConfigEntry>;

/// The answer to a request; freed when it is dropped.
struct Answer(*mut ffi::rd_kafka_event_t);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once, after everything was copied out of it.
        unsafe { ffi::rd_kafka_event_destroy(self.0) };
    }
}

impl Client {
    /// Sends a request and waits for its answer.
    ///
    /// # Safety
    /// `send` passes the options and the queue to one admin call of `kind` and keeps neither.
    unsafe fn ask(
        &self,
        kind: ffi::rd_kafka_admin_op_t,
        timeout: Duration,
        send: impl FnOnce(*mut ffi::rd_kafka_AdminOptions_t, *mut ffi::rd_kafka_queue_t),
    ) -> Result<Answer, Failed> {
        // A request to the controller that waits while no broker is up keeps two of librdkafka's threads busy with
        // connecting. This question does not.
        self.reach(timeout)?;
        let mut reason = [0 as c_char; 256];
        // SAFETY: options and queue are ours and destroyed once, the queue after its only poll; a late answer finds it
        // closed. The event is checked for null before it is read.
        unsafe {
            // Serves what else has gathered, so that it never piles up.
            ffi::rd_kafka_poll(self.rk(), 0);
            let options = ffi::rd_kafka_AdminOptions_new(self.rk(), kind);
            let wait = millis(timeout);
            ffi::rd_kafka_AdminOptions_set_request_timeout(options, wait, reason.as_mut_ptr(), reason.len());
            let queue = ffi::rd_kafka_queue_new(self.rk());
            send(options, queue);
            let event = ffi::rd_kafka_queue_poll(queue, millis(timeout + ANSWER_MARGIN));
            ffi::rd_kafka_queue_destroy(queue);
            ffi::rd_kafka_AdminOptions_destroy(options);
            ffi::rd_kafka_poll(self.rk(), 0);
            if event.is_null() {
                return Err(Failed { retriable: true, ..Failed::of(RDKafkaErrorCode::OperationTimedOut) });
            }
            let answer = Answer(event);
            Failed::check(ffi::rd_kafka_event_error(event))
                .map_err(|failed| Failed { text: text(ffi::rd_kafka_event_error_string(event)), ..failed })?;
            Ok(answer)
        }
    }

    /// Waits until a broker answers.
    fn reach(&self, timeout: Duration) -> Result<(), Failed> {
        let mut answer: *const ffi::rd_kafka_metadata = ptr::null();
        // SAFETY: the client is alive; the answer is ours, destroyed once.
        unsafe {
            let code = ffi::rd_kafka_metadata(self.rk(), 0, ptr::null_mut(), &raw mut answer, millis(timeout));
            if !answer.is_null() {
                ffi::rd_kafka_metadata_destroy(answer);
            }
            // Serves what was said meanwhile: why nobody answered.
            ffi::rd_kafka_poll(self.rk(), 0);
            let late = |_| Failed { retriable: true, ..Failed::of(RDKafkaErrorCode::OperationTimedOut) };
            Failed::check(code).map_err(late)
        }
    }

    /// Looks offsets up. Each element's offset says which: a time in milliseconds, or -1 for the end, -2 for the start.
    pub fn list_offsets(
        &self,
        specs: &TopicPartitionList,
        read_committed: bool,
        timeout: Duration,
    ) -> Result<Vec<ListedOffset>, Failed> {
        let level = if read_committed {
            ffi::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
        } else {
            ffi::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
        };
        // SAFETY: the list is copied by the call; what is read belongs to the answer and is copied before it goes.
        unsafe {
            let answer =
                self.ask(ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout, |options, queue| {
                    let error = ffi::rd_kafka_AdminOptions_set_isolation_level(options, level);
                    debug_assert!(error.is_null(), "the option belongs to this request");
                    ffi::rd_kafka_ListOffsets(self.rk(), specs.ptr(), options, queue);
                })?;
            let mut count = 0;
            let result = ffi::rd_kafka_event_ListOffsets_result(answer.0);
            let infos = ffi::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            Ok(pointers(infos, count)
                .map(|info| {
                    let element = &*ffi::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
                    ListedOffset {
                        topic: text(element.topic),
                        partition: element.partition,
                        offset: Failed::check(element.err).map(|()| element.offset),
                    }
                })
                .collect())
        }
    }

    /// Describes topics by name; each has its own outcome.
    pub fn describe_topics(
        &self,
        names: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<TopicShape, Failed>>, Failed> {
        let names: Vec<_> = names.iter().map(|name| c_string(name)).collect();
        let mut pointers_in: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the collection copies the names, is ours and destroyed once; the rest as in `list_offsets`.
        unsafe {
            let topics = ffi::rd_kafka_TopicCollection_of_topic_names(pointers_in.as_mut_ptr(), pointers_in.len());
            let answer =
                self.ask(ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout, |options, queue| {
                    let error = ffi::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
                    debug_assert!(error.is_null(), "the option belongs to this request");
                    ffi::rd_kafka_DescribeTopics(self.rk(), topics, options, queue);
                });
            ffi::rd_kafka_TopicCollection_destroy(topics);
            let answer = answer?;
            let mut count = 0;
            let result = ffi::rd_kafka_event_DescribeTopics_result(answer.0);
            let described = ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            Ok(pointers(described, count)
                .map(|topic| (text(ffi::rd_kafka_TopicDescription_name(topic)), shape(topic)))
                .collect())
        }
    }

    /// The members of a group, none if there is no such group; `None` unless its assignment stands. Asks every broker
    /// for its groups, because librdkafka's newer request to the coordinator alone ends the process by an assertion
    /// when the coordinator is away (`rd_kafka_enq_once_del_source_return`, 2.12).
    pub fn list_group(&self, name: &str, timeout: Duration) -> Result<Option<Vec<GroupMember>>, Failed> {
        let mut list: *const ffi::rd_kafka_group_list = ptr::null();
        // SAFETY: the name is copied; a list that was given is ours, read before it is destroyed, once.
        unsafe {
            let name = c_string(name);
            let code = ffi::rd_kafka_list_groups(self.rk(), name.as_ptr(), &raw mut list, millis(timeout));
            let Some(found) = list.as_ref() else { return Failed::check(code).map(|()| None) };
            let groups = slice(found.groups, found.group_cnt);
            // Every broker has answered, and none lists it.
            let is_unknown = groups.is_empty() && Failed::check(code).is_ok();
            // A broker that does not coordinate the group says so in `err`.
            let stands = groups.iter().find(|group| {
                let is_known = Failed::check(group.err).is_ok();
                is_known && matches!(text(group.state).as_str(), "Stable" | "Empty" | "Dead")
            });
            let members = stands.map(|group| slice(group.members, group.member_cnt).iter().map(member).collect());
            ffi::rd_kafka_group_list_destroy(list);
            Ok(members.or_else(|| is_unknown.then(Vec::new)))
        }
    }

    /// How many partitions a topic has, as any client may ask.
    pub fn partitions_of(&self, topic: &str, timeout: Duration) -> Result<i32, Failed> {
        // SAFETY: the topic handle and the answer are ours, each destroyed once, the answer after it was read.
        unsafe {
            let handle = ffi::rd_kafka_topic_new(self.rk(), c_string(topic).as_ptr(), std::ptr::null_mut());
            if handle.is_null() {
                return Err(Failed::of(ffi::rd_kafka_last_error().into()));
            }
            let mut answer: *const ffi::rd_kafka_metadata = std::ptr::null();
            let code = ffi::rd_kafka_metadata(self.rk(), 0, handle, &raw mut answer, millis(timeout));
            ffi::rd_kafka_topic_destroy(handle);
            Failed::check(code)?;
            let found = ((*answer).topic_cnt > 0).then(|| &*(*answer).topics);
            let outcome = match found {
                Some(found) => Failed::check(found.err).map(|()| found.partition_cnt),
                None => Err(Failed::of(RDKafkaErrorCode::UnknownTopicOrPartition)),
            };
            ffi::rd_kafka_metadata_destroy(answer);
            outcome
        }
    }

    /// The settings of topics by name; each has its own outcome.
    pub fn describe_configs(
        &self,
        names: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<TopicConfig, Failed>>, Failed> {
        // SAFETY: the resources are copied by the call, are ours and destroyed once; the rest as in `list_offsets`.
        unsafe {
            let kind = ffi::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
            let mut resources: Vec<_> =
                names.iter().map(|name| ffi::rd_kafka_ConfigResource_new(kind, c_string(name).as_ptr())).collect();
            let answer =
                self.ask(ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout, |options, queue| {
                    ffi::rd_kafka_DescribeConfigs(self.rk(), resources.as_mut_ptr(), resources.len(), options, queue);
                });
            ffi::rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len());
            let answer = answer?;
            let mut count = 0;
            let result = ffi::rd_kafka_event_DescribeConfigs_result(answer.0);
            let described = ffi::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
            Ok(pointers(described, count)
                .map(|resource| (text(ffi::rd_kafka_ConfigResource_name(resource)), entries(resource)))
                .collect())
        }
    }

    /// Creates a topic. `replicas` `None` takes the cluster's default.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replicas: Option<i32>,
        config: &BTreeMap<String, String>,
        timeout: Duration,
    ) -> Result<(), Failed> {
        let mut reason = [0 as c_char; 256];
        // SAFETY: strings are copied; the object is ours and destroyed once; the rest as in `list_offsets`.
        unsafe {
            let mut topic = ffi::rd_kafka_NewTopic_new(
                c_string(name).as_ptr(),
                partitions,
                replicas.unwrap_or(-1),
                reason.as_mut_ptr(),
                reason.len(),
            );
            if topic.is_null() {
                let invalid = Failed::of(RDKafkaErrorCode::InvalidArgument);
                return Err(Failed { text: text(reason.as_ptr()), ..invalid });
            }
            for (key, value) in config {
                ffi::rd_kafka_NewTopic_set_config(topic, c_string(key).as_ptr(), c_string(value).as_ptr());
            }
            let answer =
                self.ask(ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout, |options, queue| {
                    // The controller answers once the topic exists, but at most after this time.
                    let wait = millis(timeout);
                    ffi::rd_kafka_AdminOptions_set_operation_timeout(options, wait, reason.as_mut_ptr(), reason.len());
                    ffi::rd_kafka_CreateTopics(self.rk(), &raw mut topic, 1, options, queue);
                });
            ffi::rd_kafka_NewTopic_destroy(topic);
            let answer = answer?;
            let mut count = 0;
            let result = ffi::rd_kafka_event_CreateTopics_result(answer.0);
            topic_outcome(ffi::rd_kafka_CreateTopics_result_topics(result, &raw mut count), count)
        }
    }

    /// Grows a topic to `partitions`.
    pub fn create_partitions(&self, name: &str, partitions: usize, timeout: Duration) -> Result<(), Failed> {
        let mut reason = [0 as c_char; 256];
        // SAFETY: as in `create_topic`.
        unsafe {
            let name = c_string(name);
            let mut grown =
                ffi::rd_kafka_NewPartitions_new(name.as_ptr(), partitions, reason.as_mut_ptr(), reason.len());
            if grown.is_null() {
                let invalid = Failed::of(RDKafkaErrorCode::InvalidArgument);
                return Err(Failed { text: text(reason.as_ptr()), ..invalid });
            }
            let answer =
                self.ask(ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, timeout, |options, queue| {
                    let wait: c_int = millis(timeout);
                    ffi::rd_kafka_AdminOptions_set_operation_timeout(options, wait, reason.as_mut_ptr(), reason.len());
                    ffi::rd_kafka_CreatePartitions(self.rk(), &raw mut grown, 1, options, queue);
                });
            ffi::rd_kafka_NewPartitions_destroy(grown);
            let answer = answer?;
            let mut count = 0;
            let result = ffi::rd_kafka_event_CreatePartitions_result(answer.0);
            topic_outcome(ffi::rd_kafka_CreatePartitions_result_topics(result, &raw mut count), count)
        }
    }
}

/// # Safety
/// `array` is null or holds `count` valid pointers for as long as the iterator is used.
unsafe fn pointers<T>(array: *const *const T, count: usize) -> impl Iterator<Item = *const T> {
    // SAFETY: the caller vouches for it; a null array is taken as empty.
    (0..if array.is_null() { 0 } else { count }).map(move |index| unsafe { *array.add(index) })
}

/// # Safety
/// `topic` is valid.
unsafe fn shape(topic: *const ffi::rd_kafka_TopicDescription_t) -> Result<TopicShape, Failed> {
    // SAFETY: everything read belongs to the description; the error object is not ours, so only its code is read.
    unsafe {
        let error = ffi::rd_kafka_TopicDescription_error(topic);
        Failed::check(ffi::rd_kafka_error_code(error))?;
        let (mut count, mut replicas) = (0, 0);
        let partitions = ffi::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        if let Some(first) = pointers(partitions, count).next() {
            ffi::rd_kafka_TopicPartitionInfo_replicas(first, &raw mut replicas);
        }
        let id = ffi::rd_kafka_TopicDescription_topic_id(topic);
        let mut allowed = 0;
        let operations = ffi::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut allowed);
        let rights = (!operations.is_null() && allowed > 0).then(|| {
            let operations = std::slice::from_raw_parts(operations, allowed);
            Rights {
                read: operations.contains(&ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ),
                write: operations.contains(&ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE),
            }
        });
        Ok(TopicShape {
            rights,
            id: if id.is_null() { String::new() } else { text(ffi::rd_kafka_Uuid_base64str(id)) },
            partitions: i32::try_from(count).unwrap_or(i32::MAX),
            replication_factor: i32::try_from(replicas).unwrap_or(0),
        })
    }
}

/// # Safety
/// `first` is null or points to `count` elements that live as long as the slice is used.
unsafe fn slice<'a, T>(first: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: the caller vouches for it.
        Ok(count) if !first.is_null() => unsafe { std::slice::from_raw_parts(first, count) },
        _ => &[],
    }
}

/// A broker makes a member's id of its lasting name and a UUID.
fn member(member: &ffi::rd_kafka_group_member_info) -> GroupMember {
    const UUID_CHARS: usize = 37;
    // SAFETY: id and assignment belong to the list that the member is from.
    let (id, assignment) = unsafe {
        let bytes = slice(member.member_assignment.cast::<u8>(), member.member_assignment_size);
        (text(member.member_id), bytes)
    };
    let instance = id.len().checked_sub(UUID_CHARS).and_then(|end| id.get(..end)).unwrap_or_default().to_owned();
    GroupMember { instance, owns: assigned(assignment).unwrap_or_default() }
}

/// Reads an assignment of Kafka's consumer protocol: version, then topics with their partitions, all big-endian.
fn assigned(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    fn number<const BYTES: usize>(rest: &mut &[u8]) -> Option<[u8; BYTES]> {
        let (head, tail) = rest.split_first_chunk::<BYTES>()?;
        *rest = tail;
        Some(*head)
    }
    let mut rest = bytes;
    let _version = i16::from_be_bytes(number(&mut rest)?);
    let mut owned = Vec::new();
    for _ in 0..i32::from_be_bytes(number(&mut rest)?) {
        let length = usize::try_from(i16::from_be_bytes(number(&mut rest)?)).ok()?;
        let (topic, tail) = rest.split_at_checked(length)?;
        rest = tail;
        let topic = std::str::from_utf8(topic).ok()?;
        for _ in 0..i32::from_be_bytes(number(&mut rest)?) {
            owned.push((topic.to_owned(), i32::from_be_bytes(number(&mut rest)?)));
        }
    }
    Some(owned)
}

/// # Safety
/// `resource` is valid.
unsafe fn entries(resource: *const ffi::rd_kafka_ConfigResource_t) -> Result<TopicConfig, Failed> {
    // SAFETY: everything read belongs to the resource.
    unsafe {
        Failed::check(ffi::rd_kafka_ConfigResource_error(resource))?;
        let mut count = 0;
        let configs = ffi::rd_kafka_ConfigResource_configs(resource, &raw mut count);
        Ok(pointers(configs, count)
            .map(|entry| {
                let value = ffi::rd_kafka_ConfigEntry_value(entry);
                let own = ffi::rd_kafka_ConfigEntry_source(entry)
                    == ffi::rd_kafka_ConfigSource_t::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG;
                let value = if value.is_null() { None } else { Some(text(value)) };
                (text(ffi::rd_kafka_ConfigEntry_name(entry)), ConfigEntry { value, own })
            })
            .collect())
    }
}

/// # Safety
/// `results` holds `count` valid results.
unsafe fn topic_outcome(results: *const *const ffi::rd_kafka_topic_result_t, count: usize) -> Result<(), Failed> {
    // SAFETY: the caller vouches for it; strings belong to the results.
    unsafe {
        pointers(results, count).try_for_each(|result| {
            Failed::check(ffi::rd_kafka_topic_result_error(result)).map_err(|failed| {
                let words = text(ffi::rd_kafka_topic_result_error_string(result));
                Failed { text: if words.is_empty() { failed.text } else { words }, ..failed }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_as_far_as_it_goes() {
        let bytes = b"\0\x03\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x02\0\x02bc\0\0\0\x01\0\0\0\x07\0\0\0\0";
        let owned = [("a", 0), ("a", 2), ("bc", 7)].map(|(topic, partition)| (topic.to_owned(), partition));
        assert_eq!(assigned(bytes), Some(owned.to_vec()));
        assert_eq!(assigned(&bytes[..20]), None);
        assert_eq!(assigned(b""), None);
    }

    #[test]
    fn a_null_array_has_no_elements() {
        // SAFETY: null is allowed.
        assert_eq!(unsafe { pointers::<u8>(std::ptr::null(), 3) }.count(), 0);
    }
}

//! The contract of `src/broker/mod.rs`, checked: every driver runs the very same cases. A driver gives a [`Fixture`];
//! [`contract!`] lists the cases once and makes a test of each. Nothing here knows a driver.
//!
//! A fixture that cannot be made here is skipped loudly, and is a failure when `LONGSHORE_TESTS_MUST_RUN=1`.

use std::time::Duration;

use longshore::broker::SharedCluster;
use longshore::model::names::{TopicName, TopicPartition};

pub mod administration;
pub mod membership;
pub mod reading;
pub mod world;
pub mod writing;

/// What a driver brings along to be checked. One cluster, which other cases may use at the same time.
pub trait Fixture {
    /// A cluster, or why there is none here.
    fn make() -> Result<Self, String>
    where
        Self: Sized;

    /// A handle as another process would have it.
    fn handle(&self) -> SharedCluster;

    /// Deletes a topic with the cluster's own means; returns when it is gone.
    fn delete(&self, topic: &TopicName);

    /// Deletes the records of a partition below `before` with the cluster's own means.
    fn trim(&self, partition: &TopicPartition, before: i64);

    /// After how long without an event a case may believe that none comes.
    fn quiet(&self) -> Duration;

    /// When the partitions of a sink move that was dropped without being closed: Kafka's session time-out.
    fn session(&self) -> Duration {
        Duration::from_secs(6)
    }

    /// The same with sinks that lose their partitions when they have not polled for a second or so; `None` when the
    /// driver's time is too long to wait for.
    fn impatient(&self) -> Option<Box<dyn Fixture>>;
}

/// Runs one case on a fresh fixture.
pub fn check<F: Fixture + 'static>(case: fn(&world::World)) {
    match F::make() {
        Ok(fixture) => case(&world::World::new(Box::new(fixture))),
        Err(why) => crate::harness::skip(&why),
    }
}

macro_rules! cases {
    ($fixture:ty; $($part:ident { $($case:ident)* })*) => {
        $(mod $part {
            #[allow(unused_imports, reason = "the fixture may be named by a path")]
            use super::*;
            $(#[test]
            fn $case() {
                crate::contract::check::<$fixture>(crate::contract::$part::$case);
            })*
        })*
    };
}
pub(crate) use cases;

/// Makes a test of every case of the contract for one fixture.
macro_rules! contract {
    ($fixture:ty) => {
        crate::contract::cases! { $fixture;
            administration {
                a_topic_is_created_once_and_described
                creating_a_topic_again_changes_nothing
                a_missing_topic_is_described_as_none_in_the_order_asked
                what_was_set_for_a_topic_is_described
                growing_twice_is_growing_once_and_nothing_shrinks
                growing_a_missing_topic_says_missing
                a_topic_created_anew_has_another_id_and_is_empty
                bounds_move_with_records_and_with_deleted_ones
                bounds_of_a_missing_partition_fail_alone
                an_offset_is_found_by_time
                an_offset_by_time_ignores_deleted_records
                an_offset_by_time_of_a_missing_partition_fails_alone
                appending_gives_rising_offsets_in_order
                appending_to_a_missing_topic_says_missing
                appending_a_record_that_is_too_large_is_rejected
                a_healthy_cluster_has_no_trouble
            }
            reading {
                null_empty_and_binary_bytes_and_header_order_are_kept
                headers_are_dropped_and_added_as_asked
                timestamps_are_kept_and_missing_ones_are_the_present
                a_topic_with_append_time_sets_its_own
                reading_begins_at_the_position
                a_moved_slot_gives_nothing_that_was_asked_for_before
                a_slot_can_be_moved_to_another_partition
                a_stopped_slot_is_silent
                the_end_is_said_once_each_time_it_is_reached
                a_position_outside_the_log_is_broken_as_rejected
                a_missing_topic_is_broken_as_missing
                a_topic_deleted_under_the_reader_is_broken_as_missing
                a_broken_slot_can_be_started_again
                a_large_record_goes_through
                no_more_records_than_asked_for_are_given_out
                one_source_reads_many_partitions_each_in_order
                waiting_ends_with_a_record_or_with_the_time
            }
            writing {
                committed_records_and_positions_are_there_together
                what_is_appended_comes_out_byte_for_byte
                an_open_transaction_is_invisible
                an_aborted_transaction_leaves_nothing
                positions_alone_can_be_committed
                one_transaction_spans_topics
                a_full_buffer_says_so_and_recovers
                a_record_that_is_too_large_is_rejected_and_the_rest_goes_on
                a_missing_destination_says_missing
                many_records_in_one_transaction_keep_their_order
                a_large_record_is_committed
                nothing_is_in_flight_after_commit_or_abort
                positions_outlive_the_sink
                a_note_of_the_longest_length_is_kept
                groups_keep_positions_apart
                append_time_is_set_in_transactions_too
                without_transactions_positions_follow_records
                without_transactions_an_abort_keeps_the_position
            }
            membership {
                a_lone_sink_gains_every_partition
                two_sinks_share_and_hand_over_without_overlap
                a_revoked_partition_stays_owned_until_it_is_released
                the_last_commit_before_a_release_is_the_first_position_after_it
                a_closed_sink_gives_way_at_once
                a_dropped_sink_gives_way_after_its_session
                a_silent_sink_loses_its_partitions_and_cannot_commit
                a_sink_that_lost_its_partitions_joins_again
                the_same_instance_takes_over_at_once_and_fences_the_old
                a_successor_never_reads_around_an_open_transaction
                a_topic_created_later_is_picked_up
                partitions_added_later_are_picked_up
                three_sinks_on_two_partitions_leave_one_idle
                members_are_told_with_what_they_own
            }
        }
    };
}
pub(crate) use contract;

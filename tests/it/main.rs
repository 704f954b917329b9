//! The integration tests: one program, so that it links once and that all share the Kafka clusters one of them started.
//!
//! Tests that need real brokers take them from `harness`; without Java they say `SKIPPED` aloud, and fail when
//! `LONGSHORE_TESTS_MUST_RUN=1` is set, as `make test` does.

mod harness;

mod contract;
mod config;
mod cli;
mod acls_kafka;
mod control;
mod deploy;
mod docs;
mod embedded;
mod harness_works;
mod kafka;
mod operate;
mod orders;
mod tidy;
mod copy_embedded;
mod copy_kafka;
mod orphans_kafka;
mod edges_kafka;
mod chaos;
mod faults_kafka;
mod upkeep_kafka;

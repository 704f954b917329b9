//! Longshore: a cross-region message queue replicator. The modules in reading order, values first, the root last.

pub mod model;
pub mod policy;
pub mod machine;
pub mod broker;
pub mod store;
pub mod clock;
pub mod telemetry;
pub mod control;
pub mod runtime;
pub mod config;
pub mod app;
pub mod cli;

//! Decisions: pure, total functions of values. No I/O, no clock, no randomness, nothing that can fail.

pub mod subscription;
pub mod plan;
pub mod extract;
pub mod decide;

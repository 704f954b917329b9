//! Decisions: pure, total functions of values. No I/O, no clock, no randomness, nothing that can fail.

pub mod subscription;
pub mod plan;
pub mod proof;
pub mod topics;
pub mod acls;
pub mod extract;
pub mod rules;
pub mod decide;

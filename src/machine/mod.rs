//! State over time without time: every clock reading and every event is handed in, so that all of it can be simulated.

pub mod backoff;
pub mod budget;
pub mod note;
pub mod flow;
pub mod hunger;

//! The client calls that a link uses and nothing else, for the benchmark's bare loop. No promise to anyone.

pub use super::raw::{Arrival, Run};

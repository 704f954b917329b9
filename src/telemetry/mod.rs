//! What operators see of a running bridge: metrics and logs.

pub mod metrics;
pub mod logging;

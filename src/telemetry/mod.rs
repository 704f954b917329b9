//! What operators see of a running bridge: metrics and logs.

mod families;
pub mod metrics;
pub mod logging;

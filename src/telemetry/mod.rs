//! What operators see of a running bridge: metrics and logs.

mod families;
mod process;
pub mod metrics;
pub mod logging;

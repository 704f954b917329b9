//! Loops: the threads that move records.

pub mod watch;
pub mod resolve;
pub mod link;
pub mod supervisor;

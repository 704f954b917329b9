//! Loops: the threads that move records.

pub mod stop;
pub mod watch;
pub mod route;
pub mod scan;
pub mod resolve;
pub mod link;
pub mod supervisor;

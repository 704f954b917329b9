//! Loops: the threads that move records.

pub mod stop;
pub mod watch;
pub mod route;
pub mod scan;
pub mod resolve;
pub mod lane;
pub mod stamp;
pub mod link;
mod session;
mod carry;
mod look;
mod orphans;
pub mod topics;
pub mod bridge;

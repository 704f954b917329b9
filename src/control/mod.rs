//! What operators say and see: the control topic of every region, the entries in it, and the HTTP endpoint.
//!
//! Reading order: what an entry is (`entry`), who may write one (`signature`), what a reader knows (`state`), how it is
//! read and written (`log`), how bridges show that they run (`heartbeat`), what operators are shown (`status`, `survey`,
//! `dead_letter`, `api`) and what they order (`orders`).

mod deadline;
pub mod entry;
pub mod signature;
pub mod state;
pub mod log;
pub mod heartbeat;
pub mod status;
pub mod survey;
pub mod orders;
pub mod dead_letter;
pub mod api;

pub use self::log::ControlLog;

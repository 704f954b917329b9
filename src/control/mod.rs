//! What operators say and see: the control topic of every region, the entries in it, and the HTTP endpoint.
//!
//! Reading order: what an entry is (`entry`), who may write one (`signature`), what a reader knows (`state`), how it is
//! read and written (`log`), what operators are shown (`status`, `survey`, `dead_letter`, `api`), what they order (`orders`).

pub mod entry;
pub mod signature;
pub mod state;
pub mod log;
pub mod status;
pub mod survey;
pub mod orders;
pub mod dead_letter;
pub mod api;

pub use self::log::ControlLog;

//! What operators say and see: the control topic of every region and the HTTP endpoint.

pub mod state;
pub mod api;

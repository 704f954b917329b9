//! Values: what the other layers talk about. No I/O, no clock, no serialisation promises.

pub mod names;
pub mod record;
pub mod provenance;
pub mod version;
pub mod time;

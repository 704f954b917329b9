//! Local durable state of a bridge.

pub mod state_dir;

pub use self::state_dir::StateDir;

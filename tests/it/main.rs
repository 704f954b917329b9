//! The integration tests: one program, so that it links once.

mod control;
mod orders;

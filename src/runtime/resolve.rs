//! Finds out where a stream has to be read from.

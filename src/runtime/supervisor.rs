//! Starts, watches and stops the flows of one bridge.

//! What integration tests stand on: real clusters, a plain Kafka client that knows nothing of Longshore, and the
//! built program as a process.
//!
//! Nothing sleeps for synchronisation here: [`eventually`] polls a condition until a deadline. Whatever is started
//! ends with the test process, even when that is killed.

#![allow(dead_code)] // shared by several binaries, none of which uses all of it

pub mod bridge;
pub mod clusters;
pub mod plain;
pub mod process;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The folder that holds Cargo.toml.
pub fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Whether tests that lack something must fail instead of being skipped.
pub fn must_run() -> bool {
    std::env::var("LONGSHORE_TESTS_MUST_RUN").is_ok_and(|it| it == "1")
}

/// Says aloud that a test did not run. Panics where skips count as failures.
#[track_caller]
pub fn skip(why: &str) {
    assert!(!must_run(), "SKIPPED where skipping is forbidden (LONGSHORE_TESTS_MUST_RUN=1): {why}");
    eprintln!("SKIPPED: {why}");
}

/// Polls until `condition` gives something, or panics after `limit` saying `what` was waited for.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A name that no other test uses: `orders-3f2a-7`.
pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A TCP port on loopback that nobody listens on, below the range of outgoing connections.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1500).expect("below 1500");
    for _ in 0..2000 {
        let port = 9900 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 2000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 9900 and 11900");
}

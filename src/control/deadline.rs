//! The end of a wait: the one place in `control` that reads a clock, and only for how long to block.

use std::time::{Duration, Instant};

/// A moment until which something is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// `timeout` from now.
    #[allow(clippy::disallowed_methods, reason = "how long to block, never what to decide")]
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout)
    }

    /// How long is left; `None` when the time is up.
    #[allow(clippy::disallowed_methods, reason = "how long to block, never what to decide")]
    pub fn left(self) -> Option<Duration> {
        Some(self.0.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}

//! How long to wait before the next try: doubling from a floor to a ceiling, without jitter, because a bridge has few
//! clients and its schedule must be the same for the same events.

use std::time::Duration;

/// Counts failures in a row and says how long to wait after each.
#[derive(Clone, Debug)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    failures: u32,
}

impl Backoff {
    /// The first wait is `floor`, none is longer than `ceiling`.
    pub const fn new(floor: Duration, ceiling: Duration) -> Self {
        Self { floor, ceiling, failures: 0 }
    }

    /// Another failure: how long to wait.
    pub fn failed(&mut self) -> Duration {
        let wait = self.floor.saturating_mul(1 << self.failures.min(16)).min(self.ceiling);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// It worked: the next wait is the floor again.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..6).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.succeeded();
        assert_eq!(backoff.failed().as_millis(), 100);
    }
}

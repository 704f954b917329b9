//! Rate limits: a bucket that fills with time and may be overdrawn once, so that one large record never waits for ever.
//!
//! Written here and not taken from a crate because time is handed in (this layer never reads a clock) and because a
//! link spends whole batches after the fact.

use std::time::Duration;

/// What may be spent per second. One second's worth may be saved up.
#[derive(Clone, Debug)]
pub struct Budget {
    per_second: f64,
    saved: f64,
    filled_at: Duration,
}

impl Budget {
    /// A full bucket of `per_second` units at `now` (any monotone time).
    pub const fn new(per_second: u64, now: Duration) -> Self {
        Self { per_second: per_second as f64, saved: per_second as f64, filled_at: now }
    }

    /// How many units may be spent at `now`; none while the bucket is overdrawn.
    pub fn available(&mut self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.saved = (self.saved + elapsed * self.per_second).min(self.per_second);
        self.saved.max(0.0) as u64
    }

    /// Spends units, overdrawing if need be.
    pub fn spend(&mut self, units: u64) {
        self.saved -= units as f64;
    }

    /// How long until one unit may be spent again.
    pub fn wait(&self) -> Duration {
        Duration::from_secs_f64(((1.0 - self.saved) / self.per_second).clamp(0.0, 3600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_over_ten_seconds_is_the_rate_plus_one_second_saved() {
        let mut budget = Budget::new(100, Duration::ZERO);
        let mut spent = 0;
        for ms in 0..10_000 {
            let now = Duration::from_millis(ms);
            let units = budget.available(now).min(7);
            budget.spend(units);
            spent += units;
        }
        assert!((1_090..=1_110).contains(&spent), "{spent}");
    }

    #[test]
    fn an_overdraft_is_waited_off() {
        let mut budget = Budget::new(10, Duration::ZERO);
        budget.spend(60);
        assert_eq!(budget.available(Duration::from_secs(1)), 0);
        assert_eq!(budget.wait(), Duration::from_millis(4_100));
        assert_eq!(budget.available(Duration::from_millis(5_100)), 1);
    }
}

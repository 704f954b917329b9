//! Rate limits: a bucket that fills with time and may be overdrawn once, so that one large record never waits for ever.
//!
//! Written here and not taken from a crate because time is handed in (this layer never reads a clock) and because a
//! link spends whole batches after the fact: how many units a record costs is known only then, and guessed until then.

use std::time::Duration;

/// What may be spent per second. One second's worth may be saved up.
#[derive(Clone, Debug)]
pub struct Budget {
    per_second: f64,
    saved: f64,
    filled_at: Duration,
    /// What a record cost on average when some were paid for last.
    per_record: f64,
}

impl Budget {
    /// A full bucket of `per_second` units at `now` (any monotone time), for records that cost one unit each.
    pub const fn new(per_second: u64, now: Duration) -> Self {
        Self { per_second: per_second as f64, saved: per_second as f64, filled_at: now, per_record: 1.0 }
    }

    /// The same for records of unknown cost: the first is taken alone, to see.
    pub const fn of_unknown_cost(per_second: u64, now: Duration) -> Self {
        Self { per_record: per_second as f64, ..Self::new(per_second, now) }
    }

    /// How many records may be taken at `now` if they cost what the last ones did; none while the bucket is overdrawn.
    pub fn records(&mut self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.saved = (self.saved + elapsed * self.per_second).min(self.per_second);
        if self.saved < 1.0 { 0 } else { (self.saved / self.per_record).max(1.0) as u64 }
    }

    /// Pays for records that were taken, overdrawing if need be.
    pub fn spend(&mut self, records: u64, units: u64) {
        self.saved -= units as f64;
        if records > 0 {
            self.per_record = (units as f64 / records as f64).max(1.0);
        }
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
            let records = budget.records(now).min(7);
            budget.spend(records, records);
            spent += records;
        }
        assert!((1_090..=1_110).contains(&spent), "{spent}");
    }

    #[test]
    fn an_overdraft_is_waited_off() {
        let mut budget = Budget::new(10, Duration::ZERO);
        budget.spend(60, 60);
        assert_eq!(budget.records(Duration::from_secs(1)), 0);
        assert_eq!(budget.wait(), Duration::from_millis(4_100));
        assert_eq!(budget.records(Duration::from_millis(5_100)), 1);
    }

    #[test]
    fn records_of_unknown_cost_are_taken_one_first_and_then_as_many_as_can_be_paid() {
        let mut budget = Budget::of_unknown_cost(1_000, Duration::ZERO);
        assert_eq!(budget.records(Duration::ZERO), 1);
        budget.spend(1, 100);
        assert_eq!(budget.records(Duration::ZERO), 9);
        budget.spend(9, 900);
        assert_eq!(budget.records(Duration::ZERO), 0);
        // A record that costs more than the bucket holds is taken all the same.
        budget.spend(1, 5_000);
        assert_eq!(budget.records(Duration::from_secs(5)), 0);
        assert_eq!(budget.records(Duration::from_millis(5_001)), 1);
        // Records that cost nothing are no reason to divide by nothing.
        budget.spend(3, 0);
        assert_eq!(budget.records(Duration::from_secs(6)), 1_000);
    }
}

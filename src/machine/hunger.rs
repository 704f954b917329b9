//! Tells a reader that gives out nothing any more from one that is slow, by what is left to read and what moves.
//!
//! A stream starves while it does not move although there is something to read, everything that was given out has been
//! taken, and no stream with something left moves: a reader serves its partitions in turn, and a turn takes long when
//! many are behind on a thin line.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long a stream may starve the first time.
const PATIENCE_FLOOR: Duration = Duration::from_secs(15);
/// How often that is doubled at most: a single answer may take longer than the floor on a very thin line.
const DOUBLINGS_MAX: u32 = 4;

/// One stream at one look.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// Its number.
    pub stream: usize,
    /// The offset to read next.
    pub next: i64,
    /// How many offsets are to be read.
    pub left: u64,
}

/// What was seen of one reader's streams.
#[derive(Debug)]
pub struct Hunger {
    patience: Duration,
    seen: BTreeMap<usize, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    next: i64,
    starves_since: Option<Duration>,
}

impl Hunger {
    /// For a new reader, after so many that starved.
    pub fn new(starved_before: u32) -> Self {
        Self { patience: PATIENCE_FLOOR * 2_u32.pow(starved_before.min(DOUBLINGS_MAX)), seen: BTreeMap::new() }
    }

    /// Takes in the running streams; one that has starved too long. `is_drained`: everything that the reader gave out
    /// since the last look was taken.
    pub fn look(&mut self, streams: &[Glance], is_drained: bool, now: Duration) -> Option<Glance> {
        let moved = |glance: &&Glance| self.seen.get(&glance.stream).is_none_or(|seen| seen.next != glance.next);
        let is_serving = streams.iter().filter(moved).any(|glance| glance.left > 0);
        let mut starved = None;
        let look = |glance: &Glance| {
            let before = self.seen.get(&glance.stream).filter(|seen| seen.next == glance.next);
            let starves = is_drained && !is_serving && glance.left > 0 && before.is_some();
            let since = before.and_then(|seen| seen.starves_since).unwrap_or(now);
            if starves && now >= since + self.patience {
                starved = starved.or(Some(*glance));
            }
            (glance.stream, Seen { next: glance.next, starves_since: starves.then_some(since) })
        };
        self.seen = streams.iter().map(look).collect();
        starved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks every two seconds for `seconds`; when the first stream starved.
    fn starves(hunger: &mut Hunger, seconds: u32, mut streams: impl FnMut(u32) -> (Vec<Glance>, bool)) -> Option<u32> {
        (0..seconds).step_by(2).find(|second| {
            let (glances, is_drained) = streams(*second);
            hunger.look(&glances, is_drained, SECOND * *second).is_some()
        })
    }

    const fn glance(stream: usize, next: i64, left: u64) -> Glance {
        Glance { stream, next, left }
    }

    #[test]
    fn a_stream_that_gets_nothing_of_what_is_there_starves() {
        let found = starves(&mut Hunger::new(0), 60, |_| (vec![glance(0, 7, 3), glance(1, 5, 0)], true));
        assert_eq!(found, Some(18));
    }

    #[test]
    fn a_stream_that_moves_or_has_nothing_left_or_whose_records_lie_ready_does_not() {
        assert_eq!(starves(&mut Hunger::new(0), 600, |at| (vec![glance(0, at.into(), 3)], true)), None);
        assert_eq!(starves(&mut Hunger::new(0), 600, |_| (vec![glance(0, 7, 0)], true)), None);
        assert_eq!(starves(&mut Hunger::new(0), 600, |_| (vec![glance(0, 7, 3)], false)), None);
        assert_eq!(starves(&mut Hunger::new(0), 600, |at| (vec![glance(0, 7, 3)], at % 14 != 0)), None);
    }

    #[test]
    fn nobody_starves_while_another_that_is_behind_is_served() {
        let turn = |at: u32| vec![glance(0, 7, 900), glance(1, i64::from(at / 2), 900)];
        assert_eq!(starves(&mut Hunger::new(0), 600, |at| (turn(at), true)), None);
        // The other has caught up and follows what is produced.
        let follows = |at: u32| vec![glance(0, 7, 900), glance(1, i64::from(at), 0)];
        assert_eq!(starves(&mut Hunger::new(0), 600, |at| (follows(at), true)), Some(18));
    }

    #[test]
    fn each_reader_after_one_that_starved_has_twice_as_long_up_to_four_minutes() {
        let when = |before| starves(&mut Hunger::new(before), 600, |_| (vec![glance(0, 7, 3)], true));
        assert_eq!([0, 1, 2, 4, 9].map(when), [Some(18), Some(32), Some(62), Some(242), Some(242)]);
    }
}

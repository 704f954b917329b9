//! How a bridge says that it runs, that it ends, and how the words of processes that are long gone are cleared away.

use crate::broker::Error;
use crate::control::ControlLog;
use crate::control::entry::{self, Heartbeat};

/// How often a bridge speaks, milliseconds: well below what makes it stale.
pub const BEAT_EVERY_MS: i64 = 3_000;

/// A heartbeat that is older is removed by whichever bridge of the region starts next.
const PRUNED_AFTER_MS: i64 = 7 * 86_400_000;

/// Says how the instance is. Blocks for the broker: to be called from a thread that may wait.
pub fn say(log: &ControlLog, instance: &str, beat: &Heartbeat) -> Result<(), Error> {
    log.write(&entry::heartbeat_key(log.region(), instance), beat)
}

/// Says that the instance ends, so that `status` stops showing it at once.
pub fn end(log: &ControlLog, instance: &str) -> Result<(), Error> {
    log.remove(&entry::heartbeat_key(log.region(), instance))
}

/// Removes what instances said that have been silent for a week; how many.
pub fn prune(log: &ControlLog, now_ms: i64) -> Result<usize, Error> {
    let beats = log.read_all::<Heartbeat>(&[log.region().as_str()]);
    let old = beats.into_iter().filter(|(_, beat)| now_ms - beat.at_ms > PRUNED_AFTER_MS);
    let mut removed = 0;
    for (parts, _) in old {
        let Some(instance) = parts.last() else { continue };
        end(log, instance)?;
        removed += 1;
    }
    Ok(removed)
}

//! The client that asks and orders, and its replacement when it has lost the cluster for good.
//!
//! librdkafka forgets a broker that a cluster does not name for a moment, as a cluster of one broker does when its
//! controller has not heard of it. Now and then it forgets the last one without going back to `bootstrap.servers`, and
//! such a client never finds the cluster again (seen with 2.12.1). A new one does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;

use super::health::Health;
use super::raw::{Client, Kind};
use super::start;
use crate::broker::Error;

/// A client that has answered nothing for so long is replaced at its next failure; its successors have twice as long,
/// and so on, for most clusters that do not answer are simply away.
const SILENCE_FLOOR: Duration = Duration::from_secs(12);
const SILENCE_CEILING: Duration = Duration::from_secs(100);

/// The client that asks and orders.
pub struct Administrator {
    config: ClientConfig,
    health: Arc<Health>,
    current: Mutex<Current>,
}

struct Current {
    client: Arc<Client>,
    /// When it was started, or last answered.
    well_at: Instant,
    silence_max: Duration,
}

impl Current {
    fn new(client: Client, silence_max: Duration) -> Self {
        Self { client: Arc::new(client), well_at: Instant::now(), silence_max }
    }
}

impl Administrator {
    /// Starts the first one. [`Class::Fatal`](crate::broker::Class::Fatal) when librdkafka refuses the settings.
    pub fn start(config: ClientConfig, health: &Arc<Health>) -> Result<Self, Error> {
        let first = Current::new(start(Kind::Consumer, &config, health)?, SILENCE_FLOOR);
        Ok(Self { config, health: Arc::clone(health), current: Mutex::new(first) })
    }

    /// The present one.
    pub fn client(&self) -> Arc<Client> {
        Arc::clone(&self.current().client)
    }

    /// It has answered.
    pub fn well(&self) {
        let mut current = self.current();
        current.well_at = Instant::now();
        current.silence_max = SILENCE_FLOOR;
        drop(current);
        self.health.well();
    }

    /// It has not answered in time: another one is tried when it has been silent for long.
    pub fn is_late(&self) {
        let (old, next) = {
            let current = self.current();
            if current.well_at.elapsed() < current.silence_max {
                return;
            }
            (Arc::clone(&current.client), (current.silence_max * 2).min(SILENCE_CEILING))
        };
        match start(Kind::Consumer, &self.config, &self.health) {
            Ok(client) => {
                let mut dropped = Current::new(client, next);
                let mut current = self.current();
                // Somebody else may have been as late, and faster.
                if Arc::ptr_eq(&current.client, &old) {
                    std::mem::swap(&mut *current, &mut dropped);
                }
                drop(current);
                // Without the lock: the end of a client takes a while.
                drop((dropped, old));
            }
            Err(error) => tracing::debug!("the old client is kept: {error}"),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! How a thread is told to end: a flag that can be waited on.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A request to stop, shared by whoever makes it and all who heed it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Stop {
    /// Nobody has asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks; wakes everyone who waits.
    pub fn ask(&self) {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.1.notify_all();
    }

    /// Whether somebody asked.
    pub fn is_asked(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits up to `timeout`; whether somebody asked.
    pub fn wait(&self, timeout: Duration) -> bool {
        let asked = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, _) =
            self.shared.1.wait_timeout_while(asked, timeout, |asked| !*asked).unwrap_or_else(PoisonError::into_inner);
        *asked
    }
}

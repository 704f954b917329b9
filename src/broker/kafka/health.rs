//! What librdkafka's background threads say: log lines go to `tracing`, troubles are kept for whoever asks.
//!
//! A trouble stays until something succeeds again. Lines are librdkafka's own: addresses and names, never secrets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::types::RDKafkaErrorCode as Code;

use super::errors;
use super::raw::{Failed, Observer};
use crate::broker::{Class, Error};

/// The state of the connections to one region's cluster.
pub struct Health {
    region: String,
    troubled: AtomicBool,
    trouble: Mutex<Option<Error>>,
}

impl Health {
    /// Nothing known yet.
    pub fn new(region: &str) -> Self {
        Self { region: region.to_owned(), troubled: AtomicBool::new(false), trouble: Mutex::new(None) }
    }

    /// The present trouble.
    pub fn trouble(&self) -> Option<Error> {
        if !self.troubled.load(Ordering::Acquire) {
            return None;
        }
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something was answered: what was wrong is over. Cheap enough for every batch.
    pub fn well(&self) {
        if self.troubled.swap(false, Ordering::AcqRel) {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Puts the reason in place of its consequence: a call timed out because the cluster denies us.
    pub fn explain(&self, error: Error) -> Error {
        match self.trouble() {
            Some(known) if error.class == Class::Retry => {
                Error::new(known.class, error.context, format!("{} ({})", error.reason, known.reason))
            }
            _ => error,
        }
    }

    /// The error of a call, explained.
    pub fn error(&self, context: impl Into<String>, failed: &Failed) -> Error {
        self.explain(errors::error(context, failed))
    }

    fn keep(&self, error: Error) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers are down" follows a refused log-in and must not hide it.
        let hides = trouble.as_ref().is_some_and(|known| known.class == Class::Denied) && error.class == Class::Retry;
        if !hides {
            *trouble = Some(error);
            self.troubled.store(true, Ordering::Release);
        }
    }
}

impl Observer for Health {
    fn log(&self, level: i32, facility: &str, line: &str) {
        let region = self.region.as_str();
        match level {
            0..=2 => tracing::error!(target: "librdkafka", region, facility, "{line}"),
            3 | 4 => tracing::warn!(target: "librdkafka", region, facility, "{line}"),
            5 => tracing::info!(target: "librdkafka", region, facility, "{line}"),
            _ => tracing::debug!(target: "librdkafka", region, facility, "{line}"),
        }
    }

    fn complain(&self, code: Code, reason: &str) {
        let class = errors::class_of(code);
        let connection = matches!(
            code,
            Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut
        );
        if connection || class == Class::Denied {
            self.keep(Error::new(class, "connect", reason));
        }
        tracing::debug!(target: "librdkafka", region = self.region.as_str(), ?code, "{reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_log_in_is_not_hidden_by_what_follows_it() {
        let health = Health::new("hz");
        health.complain(Code::Authentication, "wrong password");
        health.complain(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(health.trouble().map(|error| error.class), Some(Class::Denied));
        let explained = health.explain(Error::new(Class::Retry, "describe topics", "timed out"));
        assert_eq!(explained.class, Class::Denied);
        assert!(explained.reason.contains("wrong password"));
    }

    #[test]
    fn a_trouble_ends_when_something_succeeds() {
        let health = Health::new("hz");
        assert!(health.trouble().is_none());
        health.complain(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(health.trouble().map(|error| error.class), Some(Class::Retry));
        health.well();
        assert!(health.trouble().is_none());
    }
}

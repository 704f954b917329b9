//! Reads the control topics of several regions at once, for commands that show all of them: what answers in time is
//! shown, what does not is named with the reason and holds nothing up.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

use crate::broker::{Class, Error, SharedCluster};
use crate::control::ControlLog;
use crate::control::deadline::Deadline;
use crate::control::status::{self, Known, Status};
use crate::model::names::RegionName;

/// How long it takes to look whether a topic is known to be missing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The status of all regions, each read from its own control topic within `timeout` (for all of them together).
/// A cluster that could not even be opened comes with its error.
pub fn status(
    regions: Vec<(RegionName, Result<SharedCluster, Error>)>,
    secret: Option<&SecretString>,
    timeout: Duration,
    now_ms: impl Fn() -> i64,
) -> Status {
    let deadline = Deadline::after(timeout);
    // Each follows on its own thread, so that they all use the same time.
    let following: Vec<_> = regions
        .into_iter()
        .map(|(region, cluster)| {
            let log = cluster.and_then(|cluster| {
                let log = ControlLog::follow(cluster.clone(), &region, secret)?;
                Ok((cluster, log))
            });
            (region, log)
        })
        .collect();
    let mut found = BTreeMap::new();
    for (region, log) in &following {
        let known = match log {
            Ok((cluster, log)) => Known::of(log, unreachable(log, deadline, || cluster.trouble())),
            Err(error) => Known { unreachable: Some(error.to_string()), ..Known::default() },
        };
        found.insert(region.to_string(), status::region(region.as_str(), &known, now_ms()));
    }
    Status { regions: found, cutover: None }
}

/// Waits for the log to be read; why it was not.
fn unreachable(log: &ControlLog, deadline: Deadline, trouble: impl Fn() -> Option<Error>) -> Option<String> {
    loop {
        let left = deadline.left().unwrap_or_default();
        match log.caught_up(left.min(LOOK_EVERY)) {
            Ok(()) => return None,
            // No bridge has run there yet: the cluster answers, which is all that was asked.
            Err(error) if error.class == Class::Missing => return None,
            Err(error) if matches!(error.class, Class::Denied | Class::Fatal) => return Some(error.to_string()),
            Err(error) if left.is_zero() => return Some(trouble().unwrap_or(error).to_string()),
            Err(_) => {}
        }
    }
}

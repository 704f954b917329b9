//! What the commands on running links need to know, and how they answer: data on stdout, words on stderr.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;

use crate::broker::{Error, SharedCluster};
use crate::cli::output;
use crate::control::ControlLog;
use crate::control::log::Creation;
use crate::model::names::RegionName;
use crate::policy::plan::Copy;

/// The exit code of wrong usage (interface §5).
pub const WRONG_USAGE: u8 = 2;

/// The exit code of what failed at run time.
pub const FAILED: u8 = 1;

/// The exit code of what did not happen in time.
pub const TIMED_OUT: u8 = 4;

/// How long reaching a control topic may take.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);

/// One operator's view of a deployment.
pub struct Operator<'a> {
    /// All regions, sorted.
    pub regions: &'a [RegionName],
    /// All that is copied.
    pub copies: &'a [Copy],
    /// Opens a region's cluster.
    pub open: &'a dyn Fn(&RegionName) -> Result<SharedCluster, Error>,
    /// How a region's control topic is made; `None` when nothing may be created.
    pub creation: &'a dyn Fn(&RegionName) -> Option<Creation>,
    /// `control.secret`.
    pub secret: Option<&'a SecretString>,
    /// Where this configuration's own bridge answers over HTTP, if it runs on this machine.
    pub bridge: SocketAddr,
    /// `admin.token`.
    pub token: Option<&'a SecretString>,
    /// `-o json`.
    pub json: bool,
}

impl Operator<'_> {
    /// The control topic of a region, read whole.
    pub fn control(&self, region: &RegionName) -> Result<ControlLog, Error> {
        let log = ControlLog::open((self.open)(region)?, region, self.secret, (self.creation)(region))?;
        log.caught_up(REACH_TIMEOUT)?;
        Ok(log)
    }

    /// Prints the answer in the form that was asked for.
    pub fn answer(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? } else { text() };
        output::print(&format!("{}\n", text.trim_end()))?;
        Ok(())
    }
}

/// Says on stderr why nothing was done.
pub fn refuse(code: u8, why: &str, hint: Option<&str>) -> ExitCode {
    output::say(&format!("error: {why}"));
    if let Some(hint) = hint {
        output::say(&format!("hint: {hint}"));
    }
    ExitCode::from(code)
}

/// `did you mean …?` for a name that is close to a known one, else what is known.
pub fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let close = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), *known)).min();
    match close {
        Some((distance, close)) if distance <= 1 + name.len() / 4 => format!("did you mean `{close}`?"),
        Some(_) => format!("known: {}", known.join(", ")),
        None => "there is none".to_owned(),
    }
}

/// Milliseconds since the epoch, by this machine's clock.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Who is asking, for the record: `user@host`.
pub fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{}", if host.trim().is_empty() { "unknown" } else { host.trim() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_name_is_offered_a_far_one_is_not() {
        let known = ["order-events", "clicks"];
        assert_eq!(did_you_mean("oder-events", known.into_iter()), "did you mean `order-events`?");
        assert_eq!(did_you_mean("payments", known.into_iter()), "known: order-events, clicks");
        assert_eq!(did_you_mean("x", std::iter::empty()), "there is none");
    }
}

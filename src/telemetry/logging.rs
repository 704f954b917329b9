//! Log set-up: to stderr, so that data on stdout stays clean; text for people, JSON for collectors.
//!
//! `LONGSHORE_LOG` (the filter language of `tracing-subscriber`) overrides `-v`. Records and secrets are never logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// The environment variable that overrides the verbosity.
pub const FILTER_VARIABLE: &str = "LONGSHORE_LOG";

/// The filter for a level of verbosity: 0 is info for us and warnings of the libraries, each `-v` one more.
pub const fn filter(verbosity: u8) -> &'static str {
    match verbosity {
        0 => "warn,longshore=info",
        1 => "info,longshore=debug",
        2 => "debug,longshore=trace",
        _ => "trace",
    }
}

/// Sends logs to stderr from now on. A second call changes nothing.
///
/// # Errors
/// The text of what is wrong with the filter in `LONGSHORE_LOG`.
pub fn start(format: Format, verbosity: u8) -> Result<(), String> {
    start_with(format, filter(verbosity))
}

/// Like [`start`], with a filter of the caller's for when `LONGSHORE_LOG` is not set: tools whose output is not the
/// log want warnings only.
///
/// # Errors
/// The text of what is wrong with the filter.
pub fn start_with(format: Format, default_filter: &str) -> Result<(), String> {
    let chosen = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::try_new(chosen.as_deref().unwrap_or(default_filter))
        .map_err(|error| format!("{FILTER_VARIABLE}: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let outcome = match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    // The only failure is that logs are sent somewhere already.
    drop(outcome);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verbosity_is_a_filter() {
        for verbosity in 0..=4 {
            assert!(EnvFilter::try_new(filter(verbosity)).is_ok(), "{verbosity}");
        }
    }
}

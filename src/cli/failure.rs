//! Why a command ended without its answer, with the exit code that says so (interface §5).

use std::fmt;
use std::process::ExitCode;

use crate::broker;
use crate::cli::operator::{FAILED, WRONG_USAGE};
use crate::config::Report;

/// The exit code of a difference that was found.
pub const DIFFERENT: u8 = 3;

/// A command that could not do what it was asked. Printed once, by [`crate::cli::main`].
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
    hint: Option<String>,
}

impl Failure {
    /// It failed while running.
    pub fn run_time(error: impl fmt::Display) -> Self {
        Self { code: FAILED, text: format!("error: {error}"), hint: None }
    }

    /// It was asked for something that makes no sense.
    pub fn usage(why: impl fmt::Display) -> Self {
        Self { code: WRONG_USAGE, text: format!("error: {why}"), hint: None }
    }

    /// With a word on what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to exit with.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self { code: WRONG_USAGE, text: report.to_string(), hint: None }
    }
}

impl From<broker::Error> for Failure {
    fn from(error: broker::Error) -> Self {
        Self::run_time(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        // `{:#}` names the causes too, on one line.
        Self::run_time(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::run_time(error)
    }
}

//! What is wrong with the files: every problem with its place, its line and a hint, for people and as JSON.
//!
//! Literal secrets are blanked in the lines shown; values from the environment or from files never get here.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: PathBuf,
    /// Counted from 1; 0 when the whole file is meant.
    pub line: usize,
    /// Characters, counted from 1; 0 when the whole file is meant.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line, secrets blanked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
    /// How many characters of the line are meant.
    #[serde(skip)]
    pub width: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        writeln!(f, ": {severity}: {}", self.message)?;
        if let Some(snippet) = &self.snippet {
            let number = self.line.to_string();
            writeln!(f, "  {number} | {snippet}")?;
            let (before, marks) = (self.column.saturating_sub(1), self.width.max(1));
            writeln!(f, "  {:pad$} | {:before$}{}", "", "", "^".repeat(marks), pad = number.len())?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Every problem of every file, in the order of the files and lines. Displays as text, serialises as JSON.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
pub struct Report {
    /// At least one of them is an error.
    pub problems: Vec<Problem>,
}

impl Report {
    /// How many errors it holds.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        let (errors, warnings) = (self.errors(), self.problems.len() - self.errors());
        write!(f, "{errors} {}", if errors == 1 { "error" } else { "errors" })?;
        match warnings {
            0 => Ok(()),
            1 => f.write_str(", 1 warning"),
            many => write!(f, ", {many} warnings"),
        }
    }
}

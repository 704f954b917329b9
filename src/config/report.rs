//! What is wrong with the files: every problem with its place, its line and a hint, for people and as JSON.
//!
//! [`Problems`] collects while files are read, [`Report`] is what is shown. Literal secrets are blanked in the lines
//! shown; values from the environment or from files never get here.

use std::fmt;
use std::path::{Path, PathBuf};

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
        write!(f, ": {severity}: {}", self.message)?;
        if let Some(snippet) = &self.snippet {
            let number = self.line.to_string();
            let (before, marks) = (self.column.saturating_sub(1), self.width.max(1));
            write!(f, "\n  {number} | {snippet}")?;
            write!(f, "\n  {:pad$} | {:before$}{}", "", "", "^".repeat(marks), pad = number.len())?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
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
            writeln!(f, "{problem}\n")?;
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

/// A stretch of one line of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which of the files, in the order they were added.
    pub file: usize,
    /// Counted from 1; 0 means the whole file.
    pub line: usize,
    /// Characters, counted from 1; 0 means the whole file.
    pub column: usize,
    /// Characters; at least 1.
    pub width: usize,
    /// Lines, for a value that goes over several; at least 1.
    pub lines: usize,
}

impl Place {
    /// The whole of a file.
    pub const fn file(file: usize) -> Self {
        Self { file, line: 0, column: 0, width: 0, lines: 1 }
    }
}

/// A value and where it was written. Shows neither: the value may be a secret.
#[derive(Clone)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
}

struct Entry {
    place: Place,
    severity: Severity,
    message: String,
    hint: Option<String>,
}

/// Collects what is wrong, over all files.
#[derive(Default)]
pub(super) struct Problems {
    files: Vec<(PathBuf, String)>,
    entries: Vec<Entry>,
    blanked: Vec<Place>,
    /// Values that came from elsewhere, and the references that stand for them.
    hidden: Vec<(String, String)>,
}

impl Problems {
    /// Adds a file; its number is what places refer to.
    pub fn add_file(&mut self, path: &Path, text: &str) -> usize {
        self.files.push((path.to_owned(), text.to_owned()));
        self.files.len() - 1
    }

    pub fn path(&self, file: usize) -> &Path {
        &self.files[file].0
    }

    /// What stands there, when it is on one line.
    pub fn describe(&self, place: Place) -> String {
        format!("{}:{}", self.path(place.file).display(), place.line)
    }

    pub fn error(&mut self, place: Place, message: impl Into<String>) {
        self.add(Severity::Error, place, message.into(), None);
    }

    pub fn error_with(&mut self, place: Place, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.add(Severity::Error, place, message.into(), hint.into());
    }

    pub fn warn(&mut self, place: Place, message: impl Into<String>, hint: &str) {
        self.add(Severity::Warning, place, message.into(), Some(hint.to_owned()));
    }

    fn add(&mut self, severity: Severity, place: Place, message: String, hint: Option<String>) {
        self.entries.push(Entry { place, severity, message, hint });
    }

    /// Keeps what stands there out of every line shown.
    pub fn blank(&mut self, place: Place) {
        self.blanked.push(place);
    }

    /// Shows the reference wherever a message would show the value.
    pub fn hide(&mut self, value: &str, reference: &str) {
        if !value.is_empty() {
            self.hidden.push((value.to_owned(), reference.to_owned()));
        }
    }

    pub fn has_errors(&self) -> bool {
        self.entries.iter().any(|entry| entry.severity == Severity::Error)
    }

    /// The paths of all files, in the order they were added.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(path, _)| path.clone()).collect()
    }

    /// Everything, in the order of files and lines.
    pub fn finish(mut self) -> Vec<Problem> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_by_key(|entry| entry.place);
        entries.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        entries.into_iter().map(|entry| self.problem(entry)).collect()
    }

    fn problem(&self, entry: Entry) -> Problem {
        let Entry { place, severity, message, hint } = entry;
        let (message, hint) = (self.without_values(message), hint.map(|hint| self.without_values(hint)));
        let snippet = (place.line > 0).then(|| self.line(place)).filter(|line| !line.trim().is_empty());
        Problem {
            severity,
            file: self.path(place.file).to_owned(),
            line: place.line,
            column: place.column,
            message,
            hint,
            snippet,
            width: place.width,
        }
    }

    /// A short value would be found in the middle of ordinary words, so there it must stand alone.
    fn without_values(&self, text: String) -> String {
        self.hidden.iter().fold(text, |text, (value, reference)| match value.chars().count() {
            0..=3 => text.replace(&format!("`{value}`"), &format!("`{reference}`")),
            _ => text.replace(value, reference),
        })
    }

    fn line(&self, place: Place) -> String {
        let line = self.files[place.file].1.lines().nth(place.line - 1).unwrap_or_default();
        let mut shown: Vec<char> = line.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
        for secret in self.blanked.iter().filter(|secret| secret.file == place.file) {
            let last = secret.line + secret.lines - 1;
            if !(secret.line..=last).contains(&place.line) {
                continue;
            }
            let from = if place.line == secret.line { secret.column - 1 } else { 0 };
            let to = if secret.lines == 1 { from + secret.width } else { shown.len() };
            let to = to.min(shown.len());
            shown.get_mut(from.min(to)..to).into_iter().flatten().for_each(|c| *c = '*');
        }
        shown.into_iter().collect::<String>().trim_end().to_owned()
    }
}

/// The candidate that a misspelt name most likely meant.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let wanted = folded(name);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &folded(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.chars().count().min(name.chars().count()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean …?", or else what there is to choose from.
pub(super) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match nearest(name, candidates.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if candidates.is_empty() => None,
        None => Some(format!("one of {}", listed(candidates))),
    }
}

/// `a`, `b`, `c`
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

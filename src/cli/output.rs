//! Data goes to stdout, words go to stderr. A reader that has seen enough (`longshore plan | head`) is no failure.

use std::io::{ErrorKind, Write};

/// How a command answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Writes data to stdout. A closed pipe counts as written.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Writes a line of words to stderr; where nobody listens there is nobody to be told.
pub fn say(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").ok();
}

//! `longshore schema`: the JSON Schema of a kind of file, for editors and for CI.

use std::io::Write;

use crate::config::schema::{FileKind, json_schema};

/// The kinds of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The bridge file, `longshore.yaml`.
    #[default]
    Bridge,
    /// A topic file.
    Topic,
    /// A rule file.
    Rules,
}

/// Prints the JSON Schema of one kind of file to stdout.
pub fn run(kind: Kind) -> std::io::Result<()> {
    let kind = match kind {
        Kind::Bridge => FileKind::Bridge,
        Kind::Topic => FileKind::Topic,
        Kind::Rules => FileKind::Rules,
    };
    writeln!(std::io::stdout().lock(), "{:#}", json_schema(kind))
}

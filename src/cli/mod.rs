//! The command line.

/// Runs the command line of this process.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}

pub mod validate;
pub mod schema;
pub mod operator;
pub mod status;
pub mod links;
pub mod dead_letter;

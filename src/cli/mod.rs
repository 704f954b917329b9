//! The command line (interface §5): what was typed, handed to the command that does it.
//!
//! Only [`main`] prints failures and turns them into exit codes. Data goes to stdout, everything else to stderr.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::telemetry::logging;

pub mod output;
pub mod failure;
pub mod context;
pub mod validate;
pub mod schema;
pub mod plan;
pub mod topics;
pub mod acls;
pub mod ask;
pub mod operator;
pub mod run;
pub mod demo;
pub mod status;
pub mod links;
pub mod dead_letter;
pub mod rules;

pub use self::context::Context;
pub use self::failure::Failure;

/// Copies topics between the message queues of regions, exactly once.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration,
3 a difference was found, 4 timed out.

Start with `longshore demo`: three regions in one process, nothing to install.")]
struct CommandLine {
    #[command(flatten)]
    context: Context,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bridge of one region
    #[command(after_help = "Examples:
  longshore -c longshore.yaml run --region hz
  longshore run --region hz --instance hz-1     # several instances share the work

SIGTERM drains and commits within `shutdown_timeout`; a second one stops at once, without loss.")]
    Run(RunArgs),
    /// Show all regions: bridges, links with lag in records and seconds
    #[command(after_help = "Examples:
  longshore status
  longshore status -o json | jq '.regions.hz.links'")]
    Status,
    /// Show what will be copied where, what each group reads, which topics get created, what it costs
    #[command(after_help = "Examples:
  longshore plan
  longshore plan --format mermaid > plan.mmd
  longshore plan -o json | jq '.copies'

Opens no broker. Proves that no copy comes back and that no record has two owners.")]
    Plan(plan::Args),
    /// Check all files, show every problem with file, line and a hint
    #[command(after_help = "Example:
  longshore -c longshore.yaml validate")]
    Validate,
    /// Create and grow topics, compare them between regions
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Examples:
  longshore topics sync --dry-run
  longshore topics diff")]
    Topics(topics::Command),
    /// The operator's way past a gap or a wrong position
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Examples:
  longshore links seek --link hz:sh --topic order-events --partition 3 --to -15m
  longshore links accept-gap --link hz:sh --topic order-events --partition 3")]
    Links(links::Command),
    /// Stop copying over a link until it is resumed; kept through restarts
    #[command(after_help = "Examples:
  longshore pause --link hz:sh
  longshore pause --link hz:sh --topic order-events --partition 3")]
    Pause(links::PauseArgs),
    /// End a pause
    #[command(after_help = "Example:
  longshore resume --link hz:sh")]
    Resume(links::PauseArgs),
    /// Look at the records that a target refused
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:
  longshore dead-letter list --topic order-events")]
    DeadLetter(dead_letter::Command),
    /// Say which region owns a routing key, and by which line of the rules
    #[command(after_help = "Examples:
  longshore owner buyer-10086
  longshore owner --rules buyers -o json 10086 | jq -r .region

Keys are compared byte by byte; docs/routing.md says how a slot is computed.")]
    Owner(rules::OwnerArgs),
    /// Show what the rule sets say
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:
  longshore rules show")]
    Rules(rules::Command),
    /// Print the least rights each cluster must grant, as ready kafka-acls commands
    #[command(after_help = "Examples:
  longshore acls
  longshore acls --region hz                    # what the cluster of hz must grant, to all bridges
  longshore acls --principal 'User:CN=longshore-{region},O=example'")]
    Acls(acls::Args),
    /// Print the JSON Schema of the configuration files
    #[command(after_help = "Examples:
  longshore schema > longshore.schema.json
  longshore schema topic > topic.schema.json")]
    Schema {
        /// Which kind of file
        #[arg(value_enum, default_value_t)]
        kind: schema::Kind,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  source <(longshore completions bash)
  longshore completions zsh > ~/.zfunc/_longshore")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Show it all on the embedded broker: three regions in one process, nothing to install
    #[command(after_help = "Examples:
  longshore demo
  longshore demo --keep      # keeps running, with the admin endpoint to play with")]
    Demo(DemoArgs),
}

/// How to run.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// This process's name, unique and stable: it names transactions and group members. Default: made once and kept in
    /// `state_dir`
    #[arg(long, value_name = "NAME", env = "LONGSHORE_INSTANCE", hide_env_values = true)]
    pub instance: Option<String>,
}

/// How to show.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Keep running afterwards, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let typed = match CommandLine::try_parse() {
        Ok(typed) => typed,
        Err(answer) => {
            // Help and version are answers too; a pipe that is closed already is no failure.
            answer.print().ok();
            return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(operator::WRONG_USAGE));
        }
    };
    match start_logging(&typed).and_then(|()| run(&typed.context, &typed.command)) {
        Ok(code) => code,
        Err(failure) => {
            output::say(&failure.to_string());
            failure.code()
        }
    }
}

/// A bridge logs what it does; tools answer on stdout and log what is wrong.
fn start_logging(typed: &CommandLine) -> Result<(), Failure> {
    let format = match typed.context.log_format {
        context::LogFormat::Text => logging::Format::Text,
        context::LogFormat::Json => logging::Format::Json,
    };
    let verbose = typed.context.verbose;
    let started = match (&typed.command, verbose) {
        (Command::Run(_), _) | (_, 1..) => logging::start(format, verbose),
        (_, 0) => logging::start_with(format, "error"),
    };
    started.map_err(Failure::usage)
}

fn run(context: &Context, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Plan(arguments) => plan::run(context, arguments),
        Command::Topics(command) => topics::run(context, command),
        Command::Acls(arguments) => acls::run(context, arguments),
        Command::Owner(arguments) => rules::owner(context, arguments),
        Command::Rules(command) => rules::run(context, command),
        Command::Completions { shell } => completions(*shell),
        Command::Status => operate(context, status::run),
        Command::Links(command) => operate(context, |operator| links::run(operator, command)),
        Command::Pause(arguments) => operate(context, |operator| links::pause(operator, arguments)),
        Command::Resume(arguments) => operate(context, |operator| links::resume(operator, arguments)),
        Command::DeadLetter(command) => {
            let config = context.load()?;
            let topics: Vec<_> = config.deployment.topics.iter().map(|topic| topic.name.clone()).collect();
            Ok(context.operate(&config, |operator| dead_letter::run(operator, command, &topics))?)
        }
        Command::Run(arguments) => run::run(context, arguments.instance.as_deref()),
        Command::Validate => written(validate::run(&context.config, context.is_json())),
        Command::Schema { kind } => written(schema::run(*kind).map(|()| ExitCode::SUCCESS)),
        Command::Demo(arguments) => Ok(demo::run(arguments.keep)?),
    }
}

fn operate(
    context: &Context,
    command: impl FnOnce(&operator::Operator<'_>) -> anyhow::Result<ExitCode>,
) -> Result<ExitCode, Failure> {
    let config = context.load()?;
    Ok(context.operate(&config, command)?)
}

/// Data that nobody wanted to read any more counts as read.
fn written(outcome: std::io::Result<ExitCode>) -> Result<ExitCode, Failure> {
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        outcome => Ok(outcome?),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "longshore", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                let path = format!("{path} {}", inner.get_name());
                let after = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("longshore "), "{path} has no example");
                check(inner, &path);
            }
        }
        check(&CommandLine::command(), "longshore");
    }
}

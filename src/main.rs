//! [main] Dispatch only: which command this is, and its exit code.

use clap::{CommandFactory, Parser, Subcommand};
use cofferdam::cli;
use std::process::ExitCode;

/// Run untrusted jobs confined, as an ordinary user.
#[derive(Debug, Parser)]
#[command(
    name = "cofferdam",
    version,
    about,
    propagate_version = false,
    disable_help_subcommand = true
)]
struct Cofferdam {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(cli::run::Args),
    Plan(cli::plan::Args),
    Exec(cli::exec::Args),
    Ps(cli::list::PsArgs),
    Inspect(cli::list::InspectArgs),
    Logs(cli::list::LogsArgs),
    Events(cli::events::Args),
    Stop(cli::life::StopArgs),
    Kill(cli::life::KillArgs),
    Rm(cli::life::RmArgs),
    Prune(cli::life::PruneArgs),
    Explain(cli::explain::Args),
    Posture(cli::posture::PostureArgs),
    Verify(cli::verify::Args),
    Policy(cli::policy::PolicyArgs),
    Doctor(cli::doctor::Args),
    Completion(cli::completion::CompletionArgs),
    Man(cli::completion::ManArgs),
}

fn main() -> ExitCode {
    ExitCode::from(match Cofferdam::try_parse() {
        Ok(parsed) => dispatch(&parsed.command),
        Err(error) => cli::usage(&error),
    })
}

fn dispatch(command: &Command) -> u8 {
    match command {
        Command::Run(args) => cli::run::run(args),
        Command::Plan(args) => cli::plan::run(args),
        Command::Exec(args) => cli::exec::run(args),
        Command::Ps(args) => cli::list::ps(args),
        Command::Inspect(args) => cli::list::inspect(args),
        Command::Logs(args) => cli::list::logs(args),
        Command::Events(args) => cli::with_records(|paths| cli::events::run(args, paths)),
        Command::Stop(args) => cli::life::stop(args),
        Command::Kill(args) => cli::life::kill(args),
        Command::Rm(args) => cli::life::rm(args),
        Command::Prune(args) => cli::life::prune(args),
        Command::Explain(args) => cli::with_records(|paths| cli::explain::run(args, paths)),
        Command::Posture(args) => cli::posture_command(args),
        Command::Verify(args) => cli::with_records(|paths| cli::verify::run(args, paths)),
        Command::Policy(args) => cli::policy_command(args),
        Command::Doctor(args) => cli::doctor_command(args),
        Command::Completion(args) => cli::completion::completion(args, Cofferdam::command()),
        Command::Man(args) => cli::completion::man(args, Cofferdam::command()),
    }
}

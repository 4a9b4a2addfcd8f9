//! [host] `completion` and `man`: from the same description of the command line that parses it.

use crate::cli::output::print;
use crate::cli::problem::Problem;
use std::path::PathBuf;

/// `completion` as typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Print a shell's completion script",
    after_help = "Example:\n  cofferdam completion bash > ~/.local/share/bash-completion/completions/cofferdam"
)]
pub struct CompletionArgs {
    /// Shell
    pub shell: clap_complete::Shell,
}

/// `man` as typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Write the manual pages into a directory",
    after_help = "Example:\n  cofferdam man ~/.local/share/man/man1"
)]
pub struct ManArgs {
    /// Directory, made if missing
    pub directory: PathBuf,
}

/// `cofferdam completion`.
pub fn completion(args: &CompletionArgs, mut command: clap::Command) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "cofferdam", &mut script);
    match print(&String::from_utf8_lossy(&script)) {
        Ok(_) => 0,
        Err(diagnostic) => Problem::new(diagnostic).report(),
    }
}

/// `cofferdam man`.
pub fn man(args: &ManArgs, command: clap::Command) -> u8 {
    let written = std::fs::create_dir_all(&args.directory)
        .and_then(|()| clap_mangen::generate_to(command, &args.directory));
    match written {
        Ok(()) => 0,
        Err(error) => Problem::line(format!("{}: {error}", args.directory.display())).report(),
    }
}

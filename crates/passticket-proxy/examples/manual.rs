//! Writes the man pages and the completions of the shells: `cargo run -p passticket-proxy --example manual -- DIR`.
//!
//! DIR then contains the man pages in `man`, and in `completions` one file each for bash, zsh and fish.

use std::{env, error::Error, fs, path::PathBuf};

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

#[path = "../src/cli.rs"]
#[expect(dead_code, reason = "the example uses only the description of the command line")]
mod cli;

const NAME: &str = "passticket-proxy";

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args_os().nth(1).map(PathBuf::from).ok_or("give a directory")?;
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    for each in [&man, &completions] {
        fs::create_dir_all(each)?;
    }
    // The command `help` would double the number of pages.
    let command = cli::Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut cli::Cli::command(), NAME, &completions)?;
    }
    Ok(())
}

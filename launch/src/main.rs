//! The program: options, one command, one line a fault.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use cell_launch::options::{Command, Options};
use cell_launch::{clean_host, container, run};
use clap::Parser;

fn main() -> ExitCode {
    // First, while there is one thread: nothing of make's or the shell's may reach a daemon.
    if let Err(error) = cell_sandbox::inherited_descriptors() {
        eprintln!("cell-launch: {error}");
        return ExitCode::FAILURE;
    }
    let done = match Options::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Plan(options) => run::print_plan(&options),
        Command::CleanHost(options) => clean_host::run(&options),
        Command::Container(part) => container::run(&part),
        Command::ExecDaemon(orders) => orders.carry_out().map(|never| match never {}),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("cell-launch: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

//! `cellctl`: administers the cell on this machine over its automation socket.

#![forbid(unsafe_code)]

mod accounts;
mod audit;
mod backup;
mod careful;
mod catalogs;
mod cell;
mod change;
mod cli;
mod config;
mod connections;
mod domain;
mod explain;
mod failure;
mod first_version;
mod human;
mod installed;
mod keys;
mod managers;
mod origin;
mod output;
mod peers;
mod plan;
mod qr;
mod secret;
mod secrets;
mod services;
mod settings;
mod setup;
mod status;
mod store;
mod users;
mod view;
mod wait;
mod wizard;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use failure::Failure;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli, output)),
        Err(error) => Err(Failure::Local(error.to_string())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(cli: Cli, output: Output) -> Result<(), Failure> {
    let cell = cell::Cell::at(cli.socket());
    match cli.command {
        Command::Status { watch } => status::run(&cell, output, watch).await,
        Command::Setup { command } => setup::run(&cell, output, command).await,
        Command::Peer { command } => peers::run(&cell, output, command).await,
        Command::Change { command } => change::run(&cell, output, command).await,
        Command::Explain(options) => explain::run(&cell, output, options).await,
        Command::Connection { command } => connections::run(&cell, output, command).await,
        Command::Import(files) => first_version::run(&cell, output, files).await,
        Command::Store { command } => store::run(&cell, output, command).await,
        Command::Catalog { command } => catalogs::run(&cell, output, command).await,
        Command::Service { command } => installed::run(&cell, output, command).await,
        Command::Account { command } => accounts::run(&cell, output, command).await,
        Command::Alerts { command } => managers::alerts(&cell, output, command).await,
        Command::Domain { command } => domain::run(&cell, output, command).await,
        Command::Config { command } => settings::run(&cell, output, command).await,
        Command::User { command } => users::run(&cell, output, command).await,
        Command::Audit { command } => audit::run(&cell, output, command).await,
    }
}

//! `cell-launch run`: from the first check to the last signal.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::accounts::Accounts;
use crate::child::Nursery;
use crate::clean_host;
use crate::error::Error;
use crate::files;
use crate::host::{self, Changes};
use crate::house::Daemon;
use crate::leftovers;
use crate::network;
use crate::options::RunOptions;
use crate::plan::{self, Plan};
use crate::preflight;
use crate::settings::{Place, Settings};
use crate::sockets;
use crate::supervisor::{Start, Supervisor, block_signals};

/// How long the claim token may take to appear once the API serves.
const TOKEN_PATIENCE: Duration = Duration::from_millis(500);

/// Runs a cell until it is asked to stop.
///
/// # Errors
/// With every fault that keeps it from starting; nothing runs then.
pub fn run(options: &RunOptions) -> Result<(), Error> {
    let begin = Instant::now();
    let settings = settle(options)?;
    let accounts = Accounts::look_up()?;
    let plan = Plan::new(&settings);
    preflight::check(&plan)?;
    block_signals()?;
    let _lock = files::lock(&settings.home)?;
    leftovers::end(&settings.run())?;
    files::remove_ephemeral(&settings.run())?;
    let changes = host::prepare(&settings.place, &settings.home)?;
    let outcome = with_network(options, &settings, &plan, &accounts, begin);
    let cleaned = leave(&settings, changes);
    outcome.and(cleaned)
}

/// What `run` would do.
///
/// # Errors
/// With the faults of the options.
pub fn print_plan(options: &RunOptions) -> Result<(), Error> {
    let settings = settle(options)?;
    println!("network  {}", settings.place);
    print!("{}", Plan::new(&settings));
    Ok(())
}

fn settle(options: &RunOptions) -> Result<Settings, Error> {
    preflight::require_root()?;
    let facts = preflight::facts(&options.home)?;
    let (settings, why) = Settings::resolve(options, &facts).map_err(Error::Faults)?;
    if let Some(why) = why {
        println!(
            "==> {why}, so the cell gets a network of its own ({}); --host overrides that",
            settings.place
        );
    }
    Ok(settings)
}

fn with_network(
    options: &RunOptions,
    settings: &Settings,
    plan: &Plan,
    accounts: &Accounts,
    begin: Instant,
) -> Result<(), Error> {
    files::make_folders(&plan.folders, accounts)?;
    files::write_policies(&plan.policies)?;
    if let Some(catalog) = &settings.catalog {
        files::copy_catalog(catalog, &plan::catalog(settings))?;
    }
    if settings.daemons.iter().any(|daemon| daemon.shares_tables_lock()) {
        files::share_tables_lock(accounts)?;
    }
    if let Some(port) = options.wireguard_port {
        files::set_wireguard_port(plan, port.get())?;
        preflight::check_wireguard_port(settings, port.get())?;
    }
    files::hand_out_kek(settings, accounts)?;
    let listeners = sockets::bind_all(plan, &settings.place, accounts)?;
    let netns = plan::netns_path(&settings.place);
    let mut supervisor = Supervisor::new(
        settings,
        Nursery {
            plan,
            listeners: &listeners,
            accounts,
            netns,
        },
    )?;
    let outcome = supervisor.start().and_then(|start| match start {
        Start::Stopped(signal) => Ok(signal),
        Start::Ready => {
            greet(settings, begin.elapsed());
            supervisor.keep()
        }
    });
    if let Ok(signal) = &outcome {
        println!("==> {signal}: ending the cell");
    }
    supervisor.stop();
    outcome.map(drop)
}

fn greet(settings: &Settings, took: Duration) {
    let token = claim_token(&plan::state(settings, Daemon::Api));
    let token = token.as_deref().unwrap_or("already set up");
    println!();
    println!("The cell is ready after {:.2} s.", took.as_secs_f64());
    println!("  web UI       http://{}", settings.http);
    println!("  claim token  {token}");
    println!("  network      {}", settings.place);
    println!("  state        {}", settings.home.display());
    if let Some(why) = &settings.without_containers {
        println!("  services     none: {why}");
    }
    println!("  cellctl      {}", cellctl(settings));
    println!("  to stop      Ctrl-C");
    println!();
}

/// A line for another terminal, after which `cellctl` is that of this cell.
fn cellctl(settings: &Settings) -> String {
    let words = format!(
        "env CELL_HOME={} {}",
        quoted(&settings.home),
        quoted(&settings.bin.join("cellctl"))
    );
    format!("alias cellctl={}", quoted(Path::new(&words)))
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The one-time token of a cell that nobody has claimed.
fn claim_token(state: &Path) -> Option<String> {
    let deadline = Instant::now() + TOKEN_PATIENCE;
    loop {
        match fs::read_to_string(state.join("claim-token")) {
            Ok(token) if !token.trim().is_empty() => return Some(token.trim().to_owned()),
            _ if Instant::now() >= deadline => return None,
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Clears what ended with the cell: its run folder, and its namespace where it was made for it.
fn leave(settings: &Settings, mut changes: Changes) -> Result<(), Error> {
    files::remove_ephemeral(&settings.run())?;
    match &settings.place {
        Place::Namespace(name) if changes.made(name) => {
            network::remove(name)?;
            clean_host::forget_netns(&mut changes, name);
            changes.write(&settings.home)?;
            println!("==> the cell has ended; its network namespace {name} is gone");
        }
        place => println!(
            "==> the cell has ended; its interface and rules stay in {place}, so that what is denied stays denied \
             (`make clean-host` removes them)"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_quoted_path_as_one_word() {
        assert_eq!(quoted(Path::new("/opt/cell-1.0/var")), "/opt/cell-1.0/var");
        for path in ["/a b/c", "/it's", "/$(id)/`x`\"*"] {
            let script = format!("printf %s {}", quoted(Path::new(path)));
            let said = std::process::Command::new("sh").args(["-c", &script]).output();
            assert_eq!(said.map(|said| said.stdout).unwrap_or_default(), path.as_bytes());
        }
    }
}

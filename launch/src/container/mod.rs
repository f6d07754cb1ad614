//! A cell whose daemons run in containers (`compose/docker-compose.yml`, ADR 0033): what each container does there.
//!
//! One container makes every listener as root and keeps it, as socket units do ([`hold`]); each other one takes those of its daemon
//! and runs it as its user ([`serve`]). No container needs a right of another, and a daemon gets what `docs/runtime.md` says.

mod exec;
mod hold;
mod keeper;
mod prepare;
mod serve;

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use exec::Served;

use crate::error::Error;
use crate::house::Daemon;
use crate::options::Part;
use crate::settings::Settings;

/// Where a daemon says that it serves: memory of its container's own.
const NOTIFY: &str = "/tmp/notify";
/// There while the daemon serves.
const SERVES: &str = "/tmp/serves";
/// Plain HTTP where it is not asked about.
const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);

/// Does one container's part.
///
/// # Errors
/// With what was not done and why.
pub fn run(part: &Part) -> Result<(), Error> {
    match part {
        Part::Prepare(options) => prepare::run(options),
        Part::Hold(options) => hold::run(options),
        Part::Serve(options) => serve::run(options),
        Part::Healthy => healthy(),
        Part::Exec(served) => served.carry_out().map(|never| match never {}),
    }
}

fn healthy() -> Result<(), Error> {
    if Path::new(SERVES).exists() {
        return Ok(());
    }
    Err(Error::fault("it does not serve; its log says why"))
}

fn settings(home: &Path, http: SocketAddr) -> Result<Settings, Error> {
    let own = env::current_exe().map_err(Error::call("finding this program"))?;
    let bin = own.parent().unwrap_or(Path::new("/")).to_owned();
    Settings::contained(home, bin, http).map_err(Error::Faults)
}

/// The folder of the socket by which `daemon` gets its listeners: its own group's, and nobody else's.
fn handover_folder(settings: &Settings, daemon: Daemon) -> PathBuf {
    settings.run().join("handover").join(daemon.name())
}

fn handover(settings: &Settings, daemon: Daemon) -> PathBuf {
    handover_folder(settings, daemon).join("handover.sock")
}

/// The TUN device of `daemon`, which its container has as /dev/net/tun: on some machines root alone may open the machine's own.
fn tun(settings: &Settings, daemon: Daemon) -> PathBuf {
    settings.home.join("dev").join(format!("{}-tun", daemon.name()))
}

//! The stance of `cell-api` as the launcher gives it: the attempt runs in a program that `cell-launch exec-daemon` starts
//! with the very orders of the plan (user, groups, limits, view of the file system, empty network, no shared memory, the
//! inherited listeners), and that then enters `cell-api`'s own profile.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cell_lab::cell::program;
use cell_launch::accounts::Accounts;
use cell_launch::exec_daemon::Orders;
use cell_launch::handover;
use cell_launch::house::{Daemon, Network};
use cell_launch::plan::{Address, Plan};
use cell_launch::settings::{Place, Settings};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use crate::attempt::Outcome;
use crate::lines::Attempt;
use crate::listeners;
use crate::stance;
use crate::target::Target;

/// What the program prints once it is inside, before its attempt.
const INSIDE: &str = "inside\n";

/// Makes `attempt` as a `cell-api` that the launcher started.
///
/// # Errors
/// When the program is not started, or does not come to be inside.
pub fn make(target: &Target, attempt: Attempt) -> Result<Outcome> {
    let settings = Settings {
        catalog: None,
        without_containers: Some("nobody asks for any".to_owned()),
        home: target.home.clone(),
        bin: program("cell-launch")?
            .parent()
            .context("a program has a folder")?
            .to_owned(),
        place: Place::Host,
        http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        daemons: BTreeSet::from(Daemon::ALL),
        start_timeout: Duration::from_secs(30),
    };
    let plan = Plan::new(&settings);
    let folder = tempfile::tempdir()?;
    let mut callers = Vec::new();
    let listeners = plan
        .listeners_of(Daemon::Api)
        .map(|(at, listener)| {
            let path = folder.path().join(at.to_string());
            Ok((
                listener.name.to_owned(),
                like(&listener.address, &path, &mut callers)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let orders = orders(
        &plan,
        target,
        attempt,
        listeners.iter().map(|(name, _)| name.clone()),
    )?;
    let process = plan
        .processes
        .iter()
        .find(|process| process.daemon == Daemon::Api)
        .context("cell-api is in the plan")?;
    let output = Command::new(program("cell-launch")?)
        .args(orders.to_arguments())
        .env_clear()
        .envs(process.environment.iter().map(|(key, value)| (key, value)))
        .stdin(handover::pack(
            &listeners.iter().map(|(_, fd)| fd.as_fd()).collect::<Vec<_>>(),
        )?)
        .stderr(Stdio::piped())
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some(told) = told.strip_prefix(INSIDE) else {
        anyhow::bail!(
            "{attempt} came not to be inside: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    Ok(match output.status.signal().map(Signal::try_from) {
        Some(Ok(signal)) => Outcome::Closed(signal.to_string()),
        Some(Err(_)) | None => Outcome::parse(told),
    })
}

/// The orders of the plan for `cell-api`, but for the program.
fn orders(
    plan: &Plan,
    target: &Target,
    attempt: Attempt,
    listeners: impl Iterator<Item = String>,
) -> Result<Orders> {
    let identity = Accounts::look_up()?.identity(Daemon::Api)?;
    let process = plan
        .processes
        .iter()
        .find(|process| process.daemon == Daemon::Api)
        .context("cell-api is in the plan")?;
    let own = std::env::current_exe()?;
    let mut reach = process.reach.clone();
    reach.push(own.clone());
    Ok(Orders {
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        capabilities: Daemon::Api.capabilities().to_vec(),
        netns: None,
        empty_network: Daemon::Api.network() == Network::Empty,
        settings: Daemon::Api.sees_settings(),
        tun: false,
        lock_memory: Daemon::Api.locks_memory(),
        files: Daemon::Api.most_files(),
        listeners: listeners.collect(),
        reach,
        parent: i32::try_from(std::process::id())?,
        program: vec![
            own.display().to_string(),
            "attempt".to_owned(),
            attempt.to_string(),
            serde_json::to_string(target)?,
        ],
    })
}

/// A listener of the kind of `address`, in this process's own network and folder: cell-api's are taken. `callers` are those
/// who have connected to it.
fn like(address: &Address, path: &std::path::Path, callers: &mut Vec<TcpStream>) -> Result<OwnedFd> {
    Ok(match address {
        Address::Unix { .. } => UnixListener::bind(path)?.into(),
        Address::Netfilter => bail!("cell-api is given no socket of netfilter"),
        Address::Here(address) => {
            let listener = TcpListener::bind(address)?;
            callers.push(listeners::as_of_the_api(&listener)?);
            listener.into()
        }
        Address::Hidden(address) => {
            let family = if address.is_ipv4() {
                AddressFamily::Inet
            } else {
                AddressFamily::Inet6
            };
            let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            setsockopt(&fd, sockopt::IpFreebind, &true)?;
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            bind(
                std::os::fd::AsRawFd::as_raw_fd(&fd),
                &SockaddrStorage::from(*address),
            )?;
            listen(&fd, Backlog::new(8)?)?;
            fd
        }
    })
}

/// What the started program does: enters the profile, tells that it is inside, makes the attempt, tells its outcome. Its
/// listeners stay open, from descriptor 3 on, as `cell-api`'s do.
///
/// # Errors
/// When it is not inside; nothing is attempted then.
pub fn inside(attempt: Attempt, target: &str) -> Result<()> {
    let target: Target = serde_json::from_str(target)?;
    let listeners = cell_sandbox::inherited_descriptors()?;
    ensure!(!listeners.is_empty(), "no listener was inherited");
    // What a program that took this process over prints must not be taken for an outcome, and must not end it either.
    let teller = fcntl(io::stdout(), FcntlArg::F_DUPFD_CLOEXEC(100))?;
    // SAFETY: the kernel just made it, and nobody else knows it.
    let mut teller = std::fs::File::from(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(teller) });
    stance::enter_profile(&target)?;
    teller.write_all(INSIDE.as_bytes())?;
    let told = attempt.carry_out(&target).told();
    teller.write_all(told.as_bytes())?;
    Ok(())
}

//! `cell-launch exec-daemon`: what runs between the launcher and a daemon. A program of its own with one thread, so that it
//! may do everything in plain code that a child between fork(2) and execve(2) must not. It gives up right after right, in
//! the order in which that is possible, and becomes the daemon.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use caps_list::parse as capability;
use cell_sandbox::Capability;
use cell_sandbox::identity::Identity;
use clap::Args;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, dup2_stdin, getppid, setsid};

use crate::error::Error;
use crate::handover;
use crate::view;

/// Threads of one user. Several cells of a test share the users, so it is more than the units' 64.
const MOST_THREADS: u64 = 512;

/// What a daemon gets; everything else is taken. The environment and, on standard input, the listeners come with it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Orders {
    /// Its user id.
    #[arg(long)]
    pub uid: u32,
    /// Its primary group id.
    #[arg(long)]
    pub gid: u32,
    /// Its supplementary group ids.
    #[arg(long, value_delimiter = ',')]
    pub groups: Vec<u32>,
    /// Capabilities that it keeps.
    #[arg(long, value_delimiter = ',', value_parser = capability)]
    pub capabilities: Vec<Capability>,
    /// The file of the network namespace that it enters.
    #[arg(long, conflicts_with = "empty_network")]
    pub netns: Option<PathBuf>,
    /// Gives it an empty network of its own.
    #[arg(long)]
    pub empty_network: bool,
    /// Lets it read /proc/sys.
    #[arg(long)]
    pub settings: bool,
    /// Gives it a /dev/net/tun of its own, which its group may use.
    #[arg(long)]
    pub tun: bool,
    /// Lets it lock keys in memory.
    #[arg(long)]
    pub lock_memory: bool,
    /// Files that it may have open.
    #[arg(long)]
    pub files: u64,
    /// Names of the listeners, in the order of the message.
    #[arg(long, value_delimiter = ',')]
    pub listeners: Vec<String>,
    /// Paths that it must reach.
    #[arg(long)]
    pub reach: Vec<PathBuf>,
    /// The launcher, with which it ends.
    #[arg(long)]
    pub parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub program: Vec<String>,
}

impl Orders {
    /// As arguments of `cell-launch`.
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["exec-daemon".to_owned()];
        let mut add = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        let join = |items: Vec<String>| items.join(",");
        add("uid", self.uid.to_string());
        add("gid", self.gid.to_string());
        add("parent", self.parent.to_string());
        add("files", self.files.to_string());
        if !self.groups.is_empty() {
            add("groups", join(self.groups.iter().map(u32::to_string).collect()));
        }
        if !self.capabilities.is_empty() {
            add(
                "capabilities",
                join(self.capabilities.iter().map(Capability::to_string).collect()),
            );
        }
        if !self.listeners.is_empty() {
            add("listeners", self.listeners.join(","));
        }
        if let Some(netns) = &self.netns {
            add("netns", netns.display().to_string());
        }
        for path in &self.reach {
            add("reach", path.display().to_string());
        }
        arguments.extend(self.empty_network.then(|| "--empty-network".to_owned()));
        arguments.extend(self.settings.then(|| "--settings".to_owned()));
        arguments.extend(self.tun.then(|| "--tun".to_owned()));
        arguments.extend(self.lock_memory.then(|| "--lock-memory".to_owned()));
        arguments.push("--".to_owned());
        arguments.extend(self.program.iter().cloned());
        arguments
    }

    /// Becomes the daemon.
    ///
    /// # Errors
    /// At the first step that fails; the daemon is not started then.
    pub fn carry_out(&self) -> Result<Infallible, Error> {
        step("taking the listeners", handover::unpack(0, self.listeners.len()))?;
        step(
            "standard input",
            File::open("/dev/null").and_then(|null| Ok(dup2_stdin(null)?)),
        )?;
        step("signals", SigSet::empty().thread_set_mask())?;
        // Ctrl-C reaches the launcher alone, which ends the daemons in order.
        step("a session of its own", setsid())?;
        step("the network", self.enter_network())?;
        step("no shared memory with others", unshare(CloneFlags::CLONE_NEWIPC))?;
        step("the file system", view::enter(&self.reach, self.settings))?;
        if self.tun {
            step("/dev/net/tun", view::own_tun(self.gid))?;
        }
        step("limits", self.limit())?;
        umask(Mode::from_bits_truncate(0o077));
        step("the working folder", chdir("/"))?;
        let identity = Identity {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
        };
        step("becoming the user", identity.assume(&self.capabilities))?;
        step("no new privileges", prctl::set_no_new_privs())?;
        // After the change of user, which clears it; the check covers a launcher that died before.
        step("ending with the launcher", prctl::set_pdeathsig(Signal::SIGTERM))?;
        if getppid() != Pid::from_raw(self.parent) {
            return Err(Error::fault("the launcher is gone"));
        }
        Err(execute(&self.program, &self.listeners))
    }

    fn enter_network(&self) -> io::Result<()> {
        match &self.netns {
            Some(path) => setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?,
            None if self.empty_network => unshare(CloneFlags::CLONE_NEWNET)?,
            None => {}
        }
        Ok(())
    }

    fn limit(&self) -> io::Result<()> {
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        lower(Resource::RLIMIT_NPROC, MOST_THREADS)?;
        lower(Resource::RLIMIT_NOFILE, self.files)?;
        if !self.lock_memory {
            return Ok(());
        }
        // All of it is locked, so a limit would make allocations fail. Where root may not raise it, the daemon says so.
        match setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
            Ok(()) | Err(nix::Error::EPERM) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Becomes a program to which the descriptors from 3 on are handed over under these names; the error, if it cannot.
pub(crate) fn execute(program: &[String], listeners: &[String]) -> Error {
    let Some((program, arguments)) = program.split_first() else {
        return Error::fault("no program");
    };
    let error = Command::new(program)
        .args(arguments)
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDS", listeners.len().to_string())
        .env("LISTEN_FDNAMES", listeners.join(":"))
        .exec();
    Error::call(format!("starting {program}"))(error)
}

/// Sets a limit, or leaves a lower one that is there: only CAP_SYS_RESOURCE raises it, which a container lacks.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let limit = limit.min(hard);
    Ok(setrlimit(resource, limit, limit)?)
}

pub(crate) fn step<T, E: Into<io::Error>>(what: &str, result: Result<T, E>) -> Result<T, Error> {
    result.map_err(Error::call(what))
}

mod caps_list {
    use cell_sandbox::Capability;

    /// The name of a capability as capabilities(7) writes it.
    pub(super) fn parse(name: &str) -> Result<Capability, String> {
        name.parse().map_err(|_| format!("{name} is no capability"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::Parser;

    use super::*;
    use crate::options;

    #[test]
    fn orders_survive_the_command_line() {
        let orders = Orders {
            uid: 990,
            gid: 991,
            groups: vec![5, 6],
            capabilities: vec![Capability::CAP_NET_ADMIN],
            netns: Some("/run/netns/cell".into()),
            empty_network: false,
            settings: true,
            tun: true,
            lock_memory: true,
            files: 8192,
            listeners: vec!["vpn".into(), "vpn".into()],
            reach: vec!["/srv/a b".into(), "/srv/c".into()],
            parent: 7,
            program: vec!["/bin/x".into(), "--config".into(), "/e".into()],
        };
        let empty = Orders {
            groups: vec![],
            capabilities: vec![],
            netns: None,
            empty_network: true,
            ..orders.clone()
        };
        for orders in [orders, empty] {
            let line = std::iter::once("cell-launch".to_owned()).chain(orders.to_arguments());
            match options::Options::try_parse_from(line).unwrap().command {
                options::Command::ExecDaemon(parsed) => assert_eq!(parsed, orders),
                other => panic!("{other:?}"),
            }
        }
    }
}

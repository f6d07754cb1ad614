//! The sandbox as its user sees it: what a daemon keeps, one step after the other, and what came of it.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use caps::Capability;
use nix::unistd::{getresgid, getresuid};

use crate::calls::Family;
use crate::filter::{self, Allowed};
use crate::paths::{self, Rule, Tcp, Use};
use crate::status::SelfStatus;
use crate::{capabilities, process};

/// What a process keeps; everything else is gone after [`Sandbox::enter`].
#[derive(Debug, Clone, Default)]
#[must_use = "a sandbox does nothing until it is entered"]
pub struct Sandbox {
    capabilities: Vec<Capability>,
    rules: Vec<Rule>,
    tcp: Tcp,
    allowed: Allowed,
    log: bool,
}

impl Sandbox {
    /// Nothing is kept: no capability, no path, no new socket.
    pub fn new() -> Self {
        Sandbox::default()
    }

    /// Capabilities that stay permitted and effective. They must have been given to the process.
    pub fn keep_capabilities(mut self, kept: &[Capability]) -> Self {
        self.capabilities.extend(kept);
        self
    }

    /// A file, or a folder with all below it, that may be read. It must exist at [`Sandbox::enter`].
    pub fn read_only(self, path: impl AsRef<Path>) -> Self {
        self.rule(path, Use::Read, false)
    }

    /// As [`Sandbox::read_only`], left out when there is no such path.
    pub fn read_only_if_exists(self, path: impl AsRef<Path>) -> Self {
        self.rule(path, Use::Read, true)
    }

    /// A folder below which regular files and folders may be read, written, made, renamed and removed.
    pub fn read_write(self, path: impl AsRef<Path>) -> Self {
        self.rule(path, Use::ReadWrite, false)
    }

    /// A device file that may be read, written and controlled with ioctl(2); which requests, says
    /// [`Sandbox::allow_ioctls`].
    pub fn device(self, path: impl AsRef<Path>) -> Self {
        self.rule(path, Use::Device, false)
    }

    /// As [`Sandbox::device`], left out when there is no such path.
    pub fn device_if_exists(self, path: impl AsRef<Path>) -> Self {
        self.rule(path, Use::Device, true)
    }

    /// A program that may be started, with the capabilities that are kept, and what it needs of libraries. Without this no program
    /// is started at all. What is started is in the sandbox too. Before Linux 5.13, which has no Landlock, any program may be
    /// started that the unit's `ExecPaths=` lets through.
    pub fn program(self, path: impl AsRef<Path>) -> Self {
        self.started(path, false)
    }

    /// As [`Sandbox::program`], left out when there is no such path.
    pub fn program_if_exists(self, path: impl AsRef<Path>) -> Self {
        self.started(path, true)
    }

    fn started(mut self, path: impl AsRef<Path>, optional: bool) -> Self {
        self.allowed.programs = true;
        let sandbox = self.rule(path, Use::Execute, optional);
        let sandbox = LOADERS.iter().fold(sandbox, |sandbox, loader| {
            sandbox.rule(loader, Use::Execute, true)
        });
        let sandbox = LIBRARIES
            .iter()
            .fold(sandbox, |sandbox, folder| sandbox.rule(folder, Use::Read, true));
        sandbox.rule("/dev/null", Use::Device, false)
    }

    /// The path of a socket that will be connected to; needs [`Family::Unix`] as well. Landlock before Linux 7.1 cannot
    /// hold back connect(2) on a path, so there the mode of socket and folder decide. The rule is on the folder, because a
    /// server that starts again makes a new socket in it; a folder that is not there gets no rule.
    pub fn connect_unix(self, path: impl AsRef<Path>) -> Self {
        match path.as_ref().parent() {
            Some(folder) => self.rule(folder, Use::Connect, true),
            None => self,
        }
    }

    /// Kinds of sockets that may still be made.
    pub fn sockets(mut self, families: &[Family]) -> Self {
        self.allowed.families.extend(families);
        self
    }

    /// TCP sockets that are bound to one of `ports` and listen, and others that connect to anywhere; needs
    /// [`Family::Inet4Stream`] or [`Family::Inet6Stream`] as well. Without this no TCP socket is bound or connected.
    pub fn tcp(mut self, ports: RangeInclusive<u16>) -> Self {
        self.tcp = Tcp {
            bind: Some(ports),
            connect: true,
        };
        self.allowed.calls.push(libc::SYS_listen);
        self
    }

    /// TCP sockets that connect to anywhere and do not listen; needs the families as well.
    pub fn tcp_connect(mut self) -> Self {
        self.tcp.connect = true;
        self
    }

    /// Messages that name where they go (sendto(2) with an address) or carry descriptors (sendmsg(2)). Without this what is
    /// sent goes to where its socket is connected.
    pub fn messages(mut self) -> Self {
        self.allowed.messages = true;
        self
    }

    /// System calls beyond those of every daemon, in every form. Rare: say why at the call.
    pub fn allow_syscalls(mut self, calls: &[libc::c_long]) -> Self {
        self.allowed.calls.extend(calls);
        self
    }

    /// ioctl(2) requests beyond those of every daemon.
    pub fn allow_ioctls(mut self, requests: &[libc::c_ulong]) -> Self {
        // The kernel takes a request as 32 bits (ioctl(2): `unsigned int cmd`).
        self.allowed
            .ioctls
            .extend(requests.iter().map(|request| *request as u32));
        self
    }

    /// Has the kernel's audit log name each system call that is refused.
    pub fn log_refusals(mut self) -> Self {
        self.log = true;
        self
    }

    /// Gives up everything that was not kept, for good. Call it with one thread, before the tokio runtime is built:
    /// capabilities and (before Linux 7.0) Landlock hold for one thread and those that it starts.
    ///
    /// # Errors
    /// When a step that the kernel offers fails. The process may be half inside then and must end.
    pub fn enter(self) -> Result<Report, Error> {
        refuse_root()?;
        refuse_threads()?;
        let hardened = process::harden().map_err(|e| Error::Process {
            step: e.step,
            source: e.source,
        })?;
        capabilities::keep_only(&self.capabilities, self.allowed.programs)
            .map_err(|e| Error::Capabilities(e.into()))?;
        let restricted = paths::restrict(&self.rules, &self.tcp).map_err(|e| Error::Landlock(e.into()))?;
        let calls = filter::enter(&self.allowed, self.log).map_err(|e| Error::Seccomp(e.into()))?;
        let mut missing = restricted.missing();
        if !hardened.mdwe {
            missing.push("PR_SET_MDWE (Linux 6.3)");
        }
        Ok(Report {
            landlock_abi: restricted.abi,
            landlock_full: restricted.full,
            seccomp: calls > 0,
            calls,
            mdwe: hardened.mdwe,
            missing,
        })
    }

    fn rule(mut self, path: impl AsRef<Path>, usage: Use, optional: bool) -> Self {
        self.rules.push(Rule {
            path: path.as_ref().to_owned(),
            usage,
            optional,
        });
        self
    }

    /// The paths of the rules, for the page that lists them.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.rules.iter().map(|rule| &rule.path)
    }
}

/// What starts a program that is linked dynamically, by architecture.
const LOADERS: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
/// Where libraries are looked for.
const LIBRARIES: [&str; 4] = ["/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache"];

/// What came into force. `Display` is one line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Version of the kernel's Landlock interface; `None`: the kernel has no Landlock.
    pub landlock_abi: Option<i32>,
    /// Whether Landlock holds every right that the rules name.
    pub landlock_full: bool,
    /// Whether the system call filter is in force.
    pub seccomp: bool,
    /// How many system calls are left, each in some form.
    pub calls: usize,
    /// Whether memory can no longer become executable (PR_SET_MDWE).
    pub mdwe: bool,
    /// What the running kernel does not offer, with the release that brought it.
    pub missing: Vec<&'static str>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock_abi {
            Some(abi) => write!(f, "sandbox: Landlock ABI {abi}")?,
            None => f.write_str("sandbox: no Landlock")?,
        }
        write!(f, ", {} system calls", self.calls)?;
        f.write_str(if self.mdwe { ", no executable memory" } else { "" })?;
        match self.missing.as_slice() {
            [] => Ok(()),
            missing => write!(f, "; this kernel lacks: {}", missing.join(", ")),
        }
    }
}

/// Why the sandbox was not entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A uid or gid is 0. Root without capabilities still owns half of the file system.
    #[error("no Cell daemon runs as root: start it by its unit or by `make run`")]
    RunningAsRoot,
    /// More than one thread runs.
    #[error("the sandbox is entered before threads are started, and {0} run")]
    Threads(u32),
    /// The number of threads cannot be told.
    #[error("/proc/self/status cannot be read")]
    Status(#[source] io::Error),
    /// prctl(2) or setrlimit(2).
    #[error("{step} was refused")]
    Process {
        /// The call, as its man page names it.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The capability sets are not what they must be.
    #[error("capabilities")]
    Capabilities(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A listed path is absent, or the kernel refused the rules.
    #[error("Landlock")]
    Landlock(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel refused the filter.
    #[error("seccomp")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn refuse_root() -> Result<(), Error> {
    let unknown = |errno: nix::Error| Error::Status(errno.into());
    let user = getresuid().map_err(unknown)?;
    let group = getresgid().map_err(unknown)?;
    let users = [user.real, user.effective, user.saved].map(|uid| uid.as_raw());
    let groups = [group.real, group.effective, group.saved].map(|gid| gid.as_raw());
    if users.contains(&0) || groups.contains(&0) {
        Err(Error::RunningAsRoot)
    } else {
        Ok(())
    }
}

fn refuse_threads() -> Result<(), Error> {
    match SelfStatus::read().map_err(Error::Status)?.threads {
        1 => Ok(()),
        more => Err(Error::Threads(more)),
    }
}

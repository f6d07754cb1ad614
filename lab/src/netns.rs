//! Network namespaces of a test: made, wired, used, deleted (ip-netns(8), network_namespaces(7)).

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};

use crate::process::{Process, run};

/// Where ip-netns(8) keeps names.
const NAMES: &str = "/run/netns";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A number that no other caller in this process has, for names.
pub fn unique() -> u32 {
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// A network namespace of its own, with loopback up. Deleted on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes `cell-LABEL-PID-NUMBER`.
    ///
    /// # Errors
    /// Without root, or when the kernel refuses.
    pub fn new(label: &str) -> Result<Self> {
        let name = format!("cell-{label}-{}-{}", std::process::id(), unique());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Namespace { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name under which ip-netns(8) knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that holds it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(NAMES).join(&self.name)
    }

    /// Runs `f` on a thread of its own inside; sockets made and programs started by it belong here.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `f` panics.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| self.name.clone())?;
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(file, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("entering {}", self.name))?;
                    Ok(f())
                })
                .join()
                .map_err(|_| anyhow!("a thread inside {} panicked", self.name))?
        })
    }

    /// Runs a program inside to its end and answers its standard output.
    ///
    /// # Errors
    /// With its output, when it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.inside(|| run(Command::new(program).args(arguments)))?
    }

    /// Starts a program inside.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process> {
        self.inside(|| Process::spawn(format!("{name} in {}", self.name), command))?
    }

    /// `ip ARGUMENTS`, separated by spaces, inside.
    ///
    /// # Errors
    /// With ip's words.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(arguments.split_whitespace()))
    }

    /// Gives a link an address, usable at once (no duplicate address detection).
    ///
    /// # Errors
    /// With ip's words.
    pub fn add_address(&self, link: &str, address: IpNet) -> Result<()> {
        let nodad = if matches!(address, IpNet::V6(_)) {
            "nodad"
        } else {
            ""
        };
        self.ip(&format!("address add {address} dev {link} {nodad}"))
            .map(drop)
    }

    /// Sets a value below `/proc/sys/net/` of this namespace, e.g. `ipv4/ip_forward`.
    ///
    /// # Errors
    /// As write(2).
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys/net").join(key);
        self.inside(|| fs::write(&path, value).with_context(|| path.display().to_string()))?
    }

    /// Has it forward packets, of both families.
    ///
    /// # Errors
    /// As write(2).
    pub fn forward(&self) -> Result<()> {
        self.set_sysctl("ipv4/ip_forward", "1")?;
        self.set_sysctl("ipv6/conf/all/forwarding", "1")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("ip").args(["netns", "delete", &self.name])) {
            eprintln!("{} is left behind: {error:#}", self.name);
        }
    }
}

/// Joins two namespaces by a pair of links, both up.
///
/// # Errors
/// With ip's words.
pub fn join(one: (&Namespace, &str), other: (&Namespace, &str)) -> Result<()> {
    let ((one, one_link), (other, other_link)) = (one, other);
    one.ip(&format!(
        "link add {one_link} type veth peer name {other_link} netns {}",
        other.name()
    ))?;
    one.ip(&format!("link set {one_link} up"))?;
    other.ip(&format!("link set {other_link} up"))?;
    Ok(())
}

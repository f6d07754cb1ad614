//! The network namespace of the cell, and what is asked of the kernel about it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};

use crate::error::Error;

/// Settings without which nothing is forwarded, below /proc/sys.
pub const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

/// Runs `f` with this thread in the namespace of that file; without a file, where it is.
///
/// # Errors
/// When the namespace cannot be entered. A thread that cannot come back must not go on: that ends the program.
pub fn inside<T>(netns: Option<&Path>, f: impl FnOnce() -> T) -> Result<T, Error> {
    let Some(path) = netns else { return Ok(f()) };
    let own_path = Path::new("/proc/thread-self/ns/net");
    let own = File::open(own_path).map_err(Error::file("cannot be opened", own_path))?;
    let other = File::open(path).map_err(Error::file("cannot be opened", path))?;
    let enter = |file: File| setns(file, CloneFlags::CLONE_NEWNET);
    enter(other).map_err(|errno| Error::file("cannot be entered", path)(errno.into()))?;
    let answer = f();
    if let Err(errno) = enter(own) {
        eprintln!("cell-launch: cannot leave {}: {errno}", path.display());
        std::process::exit(70);
    }
    Ok(answer)
}

/// Makes the namespace if it is missing, and answers whether it did; its loopback link is up afterwards.
///
/// # Errors
/// With ip's words.
pub fn ensure(name: &str) -> Result<bool, Error> {
    let made = !Path::new("/run/netns").join(name).exists();
    if made {
        program("ip", &["netns", "add", name])?;
    }
    program("ip", &["-n", name, "link", "set", "lo", "up"])?;
    Ok(made)
}

/// Removes the namespace with everything in it.
///
/// # Errors
/// With ip's words.
pub fn remove(name: &str) -> Result<(), Error> {
    program("ip", &["netns", "delete", name]).map(drop)
}

/// Whether a link of that name is in the namespace.
pub fn has_link(netns: Option<&Path>, name: &str) -> bool {
    // Not /sys: that shows the namespace in which it was mounted.
    let table = inside(netns, || fs::read_to_string("/proc/thread-self/net/dev"));
    let table = table.ok().and_then(Result::ok).unwrap_or_default();
    table.lines().any(|line| {
        line.trim_start()
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(':'))
    })
}

/// Who else relies on forwarding here, if anybody: Docker, or rules for what is forwarded that are not the cell's (whose
/// table is gone by then).
pub fn who_forwards() -> Option<&'static str> {
    if has_link(None, "docker0") {
        return Some("Docker");
    }
    let rules = program("nft", &["list", "ruleset"]).unwrap_or_default();
    let legacy = ["ip_tables_names", "ip6_tables_names"].into_iter().any(|names| {
        let tables = fs::read_to_string(Path::new("/proc/thread-self/net").join(names));
        tables.unwrap_or_default().lines().any(|table| table == "filter")
    });
    (legacy || rules.contains("hook forward")).then_some("the rules of others for what is forwarded")
}

/// Whether the kernel makes WireGuard links: tried in an empty namespace that ends with the trial. Loads the module where
/// there is one.
pub fn kernel_has_wireguard() -> bool {
    let trial = ["--net", "ip", "link", "add", "cell-trial", "type", "wireguard"];
    let status = Command::new("unshare")
        .args(trial)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Reads a setting below /proc/sys.
///
/// # Errors
/// As read(2).
pub fn sysctl(key: &str) -> Result<String, Error> {
    let path = sysctl_path(key);
    let value = fs::read_to_string(&path).map_err(Error::file("cannot be read", &path))?;
    Ok(value.trim().to_owned())
}

/// Writes a setting below /proc/sys.
///
/// # Errors
/// As write(2).
pub fn set_sysctl(key: &str, value: &str) -> Result<(), Error> {
    let path = sysctl_path(key);
    fs::write(&path, value).map_err(Error::file("cannot be set", &path))
}

/// Whether the kernel has a setting; without IPv6 it lacks some.
pub fn has_sysctl(key: &str) -> bool {
    sysctl_path(key).exists()
}

fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// Runs a program of the machine to its end and answers what it printed.
///
/// # Errors
/// With its words, when it fails.
pub fn program(name: &str, arguments: &[&str]) -> Result<String, Error> {
    let command = || format!("{name} {}", arguments.join(" "));
    let output = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::call(command()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Program {
        command: command(),
        output: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
    })
}

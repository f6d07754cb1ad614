//! What Docker hears and has, as root sees it beside the attacks: a recorder on its socket, and Docker's own lists.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use cell_lab::process::run;
use nix::unistd::Group;

use crate::attempt::Outcome;

/// Longest first line of a request that is looked at.
const LINE_MAX: usize = 8 * 1024;
/// What the broker asks of Docker by itself, all the while: of its own containers and networks, and whether Docker is there.
const BY_ITSELF: [&str; 6] = [
    "/containers/json",
    "/networks",
    "/events",
    "/version",
    "/_ping",
    "/info",
];

/// Where the recorder writes, and where Docker itself listens behind it.
pub struct Witness {
    log: PathBuf,
    docker: PathBuf,
}

/// A moment: how much was heard until then, and what Docker had.
pub struct Moment {
    heard: usize,
    has: String,
}

impl Witness {
    /// The recorder's log, and Docker's own socket.
    pub fn new(log: PathBuf, docker: PathBuf) -> Self {
        Witness { log, docker }
    }

    /// Whether a container was ever made: then the recorder hears, and what it does not hear was not asked.
    pub fn heard_a_container_made(&self) -> Result<bool> {
        let is_create = |line: &str| line.starts_with("POST ") && line.contains("/containers/create?");
        Ok(self.lines()?.lines().any(is_create))
    }

    /// Now.
    ///
    /// # Errors
    /// When the log cannot be read, or Docker does not tell.
    pub fn now(&self) -> Result<Moment> {
        Ok(Moment {
            has: self.has()?,
            heard: self.lines()?.len(),
        })
    }

    /// Closed where Docker heard nothing since `before` but what the broker asks by itself, and has what it had.
    ///
    /// # Errors
    /// As [`Witness::now`].
    pub fn since(&self, before: &Moment) -> Result<Outcome> {
        let lines = self.lines()?;
        let new = lines.get(before.heard..).unwrap_or_default();
        if let Some(line) = new.lines().find(|line| !is_by_itself(line)) {
            println!("     Docker heard: {line}");
            return Ok(Outcome::Open);
        }
        if self.has()? != before.has {
            println!("     Docker has something else than before");
            return Ok(Outcome::Open);
        }
        Ok(Outcome::Closed("Docker heard nothing".to_owned()))
    }

    fn lines(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())
    }

    fn has(&self) -> Result<String> {
        let lists: [&[&str]; 4] = [
            &["ps", "--all", "--quiet", "--no-trunc"],
            &["volume", "ls", "--quiet"],
            &["network", "ls", "--quiet", "--no-trunc"],
            &["images", "--quiet", "--no-trunc"],
        ];
        let host = format!("unix://{}", self.docker.display());
        lists
            .into_iter()
            .map(|list| run(Command::new("docker").args(["--host", &host]).args(list)))
            .collect()
    }
}

/// A request line of which Docker only tells what is the broker's own already.
fn is_by_itself(line: &str) -> bool {
    let Some((method, target)) = line.split_once(' ') else {
        return false;
    };
    let path = target.split([' ', '?']).next().unwrap_or_default();
    let versioned = path
        .strip_prefix("/v1.")
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    let path = versioned.unwrap_or(path);
    let of_one = path
        .strip_prefix("/containers/")
        .and_then(|rest| rest.strip_suffix("/json"))
        .is_some_and(|id| id.len() == 64);
    matches!(method, "GET" | "HEAD") && (BY_ITSELF.contains(&path) || of_one)
}

/// Listens at `listen` as Docker would, hands everything on to `docker` and writes each request's first line to `log`. Does not end.
///
/// # Errors
/// When it cannot listen, or there is no log.
pub fn record(docker: &Path, listen: &Path, log: &Path) -> Result<()> {
    let listener = UnixListener::bind(listen).with_context(|| listen.display().to_string())?;
    let group = Group::from_name("docker")?.context("there is no group docker")?;
    chown(listen, Some(0), Some(group.gid.as_raw()))?;
    fs::set_permissions(listen, Permissions::from_mode(0o660))?;
    let log = Arc::new(Mutex::new(File::options().create(true).append(true).open(log)?));
    for client in listener.incoming() {
        let (client, docker, log) = (client?, docker.to_owned(), Arc::clone(&log));
        thread::spawn(move || {
            // A connection that breaks is its two ends' own affair.
            let _ended = pass(client, &docker, &log);
        });
    }
    Ok(())
}

fn pass(mut client: UnixStream, docker: &Path, log: &Mutex<File>) -> io::Result<()> {
    let mut server = UnixStream::connect(docker)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || {
        let _ended = io::copy(&mut from_server, &mut to_client);
        let _told = to_client.shutdown(Shutdown::Write);
    });
    let (mut piece, mut line) = ([0; 4096], Vec::new());
    loop {
        let n = client.read(&mut piece)?;
        let Some(read) = piece.get(..n).filter(|read| !read.is_empty()) else {
            break;
        };
        // Before Docker has it: what it answers was heard already.
        for byte in read {
            line.push(*byte);
            if *byte == b'\n' || line.len() >= LINE_MAX {
                note(&line, log)?;
                line.clear();
            }
        }
        server.write_all(read)?;
    }
    server.shutdown(Shutdown::Write)?;
    let _ended = back.join();
    Ok(())
}

fn note(line: &[u8], log: &Mutex<File>) -> io::Result<()> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    // A header has a colon where a request line has its version; bodies are JSON in one line.
    if !line.ends_with(" HTTP/1.1") {
        return Ok(());
    }
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_asks_by_itself_is_told_from_what_it_was_asked_for() {
        let id = "ab".repeat(32);
        for line in [
            "GET /v1.41/containers/json?all=true HTTP/1.1".to_owned(),
            "GET /events?filters=x HTTP/1.1".to_owned(),
            format!("GET /v1.41/containers/{id}/json HTTP/1.1"),
        ] {
            assert!(is_by_itself(&line), "{line}");
        }
        for line in [
            "POST /v1.41/containers/create?name=x HTTP/1.1",
            "GET /v1.41/images/x/json HTTP/1.1",
            "GET /v1.41/containers/foreign/json HTTP/1.1",
            "POST /containers/json HTTP/1.1",
            "GET",
        ] {
            assert!(!is_by_itself(line), "{line}");
        }
    }
}

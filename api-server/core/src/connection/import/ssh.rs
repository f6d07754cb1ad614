//! SSH targets: `[ssh://]user@host[:port]`, a private key in OpenSSH's format, and the server's key, pinned.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use ssh_key::{Algorithm, PrivateKey, PublicKey};

use super::host::{self, Loopback};
use super::{Imported, Secret};
use crate::fault::Faults;
use crate::name::EndpointHost;

const TARGET_MAX: usize = 512;
const KEY_MAX: usize = 16 * 1024;
const HOST_KEYS_MAX: usize = 16 * 1024;
const HOST_KEYS: usize = 8;
const PORT: u16 = 22;

/// The private key's field at the vault.
pub const PRIVATE_KEY: &str = "private_key";

/// A SSH server that forwards TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshExit {
    /// Where it is.
    pub host: EndpointHost,
    /// Its TCP port.
    pub port: u16,
    /// Whom to sign in as.
    pub user: String,
    /// Its keys, each as `algorithm base64`; any other is refused when it connects.
    pub host_keys: Vec<String>,
}

/// Reads a target, the key to sign in with, and the server's keys: lines of `ssh-keyscan`, of a `known_hosts` file, or
/// public keys alone.
///
/// # Errors
/// Every fault; none repeats the private key.
pub fn read(target: &str, private_key: &str, host_keys: &str) -> Result<Imported<SshExit>, Faults> {
    let mut faults = Faults::default();
    let target = faults.keep("target", read_target(target));
    if let Err(error) = check_private_key(private_key) {
        faults.add(PRIVATE_KEY, error);
    }
    let mut notes = Vec::new();
    let place = target.as_ref().map(|(_, host, port)| (host.to_string(), *port));
    let host_keys = read_host_keys(host_keys, place.as_ref(), &mut notes, &mut faults);
    let (Some((user, host, port)), true) = (target, faults.is_empty()) else {
        return Err(faults);
    };
    Ok(Imported {
        config: SshExit {
            host,
            port,
            user,
            host_keys,
        },
        secrets: vec![Secret::new(PRIVATE_KEY, private_key)],
        notes,
    })
}

fn read_target(text: &str) -> Result<(String, EndpointHost, u16), String> {
    const WRONG: &str =
        "must be like anna@box.example.org, anna@box.example.org:2222 or anna@[2001:db8::1]:22";
    if text.len() > TARGET_MAX {
        return Err(format!("must have at most {TARGET_MAX} bytes"));
    }
    let rest = text.strip_prefix("ssh://").unwrap_or(text);
    let (user, place) = rest.split_once('@').ok_or(WRONG)?;
    // What a login name may hold (useradd(8)); it never looks like an option.
    let is_first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_other = |c: char| is_first(c) || matches!(c, '-' | '.');
    if user.is_empty() || user.len() > 32 || !user.starts_with(is_first) || !user.chars().all(is_other) {
        return Err("must name a user of 1-32 letters, digits, _, - and .".to_owned());
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(WRONG)?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or(WRONG)?),
            };
            (host, port)
        }
        None if place.parse::<IpAddr>().is_ok() => (place, None),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let host = host::server(host, Loopback::Listed)?;
    let port = match port {
        None => PORT,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or("must have a port from 1 to 65535")?,
        Some(_) => return Err(WRONG.to_owned()),
    };
    Ok((user.to_owned(), host, port))
}

fn check_private_key(text: &str) -> Result<(), String> {
    if text.len() > KEY_MAX {
        return Err(format!("must have at most {} KiB", KEY_MAX / 1024));
    }
    let wrong = "must be a private key in OpenSSH's format; ssh-keygen -p -f FILE turns an older one into it";
    let key = PrivateKey::from_openssh(text).map_err(|_| wrong)?;
    if key.is_encrypted() {
        return Err(
            "must have no passphrase, the vault keeps it: ssh-keygen -p -N '' -f FILE takes it away"
                .to_owned(),
        );
    }
    let algorithm = key.algorithm();
    if is_used(&algorithm) {
        return Ok(());
    }
    Err(format!(
        "must be an Ed25519 or ECDSA key, {} is not used: ssh-keygen -t ed25519 -N '' -f FILE makes one, and its \
         public half belongs into authorized_keys of the server",
        algorithm.as_str()
    ))
}

/// What `cell-egress` knows (`egress/core/src/pin.rs`); the two are held together by `lab/tests/agreement_exits.rs`.
/// RSA is left out, see docs/adr/0011-proxies-and-ssh.md.
fn is_used(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Ed25519 | Algorithm::Ecdsa { .. })
}

impl SshExit {
    /// The server's keys that `cell-egress` knows. What was stored before an import left the others out may hold them;
    /// where it holds no other, they are all told, so that `cell-egress` refuses this exit and says which key to take.
    pub fn used_host_keys(&self) -> Vec<String> {
        let is_known = |key: &&String| {
            let algorithm = key.split_ascii_whitespace().next().unwrap_or_default();
            Algorithm::new(algorithm).is_ok_and(|algorithm| is_used(&algorithm))
        };
        let used: Vec<String> = self.host_keys.iter().filter(is_known).cloned().collect();
        if used.is_empty() {
            self.host_keys.clone()
        } else {
            used
        }
    }
}

fn read_host_keys(
    text: &str,
    place: Option<&(String, u16)>,
    notes: &mut Vec<String>,
    faults: &mut Faults,
) -> Vec<String> {
    const FIELD: &str = "host_keys";
    if text.len() > HOST_KEYS_MAX {
        faults.add(FIELD, format!("must have at most {} KiB", HOST_KEYS_MAX / 1024));
        return Vec::new();
    }
    let lines = (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let faults_before = faults.violations().len();
    let (mut keys, mut left_out) = (Vec::new(), Vec::new());
    for (number, line) in lines {
        match read_host_key(line, place, notes) {
            Err(error) => faults.add(format!("{FIELD} line {number}"), error),
            Ok(HostKey::Unused(algorithm)) => left_out.push(algorithm),
            Ok(HostKey::Used(key)) if keys.contains(&key) => {}
            Ok(HostKey::Used(_)) if keys.len() == HOST_KEYS => {
                faults.add(FIELD, format!("must name at most {HOST_KEYS} keys"));
                return keys;
            }
            Ok(HostKey::Used(key)) => keys.push(key),
        }
    }
    left_out.sort();
    left_out.dedup();
    if keys.is_empty() && faults.violations().len() == faults_before {
        faults.add(FIELD, no_host_key(&left_out));
    } else if !left_out.is_empty() {
        notes.push(format!(
            "{FIELD}: {} was left out, a server is known by its ssh-ed25519 and ecdsa keys",
            left_out.join(", ")
        ));
    }
    keys
}

fn no_host_key(left_out: &[String]) -> String {
    let why = match left_out {
        [] => String::new(),
        left_out => format!(" ({} is not used)", left_out.join(", ")),
    };
    format!(
        "must hold the server's key, ssh-ed25519 or ecdsa{why}: ssh-keyscan -t ed25519,ecdsa HOST prints it; compare \
         it with the server's own before"
    )
}

/// A key of the server, as it was found in a line.
enum HostKey {
    /// As `algorithm base64`.
    Used(String),
    /// Of this algorithm, which `cell-egress` does not know. ssh-keyscan prints such keys beside the others.
    Unused(String),
}

fn read_host_key(
    line: &str,
    place: Option<&(String, u16)>,
    notes: &mut Vec<String>,
) -> Result<HostKey, String> {
    if line.starts_with('@') {
        return Err("must be a key; certificate authorities and revocations are not supported".to_owned());
    }
    let mut words = line.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let is_key = |algorithm: &str, base64: &str| PublicKey::from_openssh(&format!("{algorithm} {base64}"));
    let (names, key) = match (words.next(), words.next()) {
        (Some(algorithm), Some(base64)) if Algorithm::new(first).is_err() => {
            (Some(first), is_key(algorithm, base64))
        }
        (Some(base64), _) => (None, is_key(first, base64)),
        (None, _) => return Err("must be a public key, or a line of known_hosts".to_owned()),
    };
    let key = key.map_err(|_| "must be a public key, or a line of known_hosts")?;
    match (names, place) {
        (Some(names), _) if names.starts_with('|') => {
            let note = "hashed names of known_hosts were not compared with the target";
            if !notes.iter().any(|known| known == note) {
                notes.push(note.to_owned());
            }
        }
        (Some(names), Some((host, port))) => {
            let with_port = format!("[{host}]:{port}");
            let fits = |name: &str| name.eq_ignore_ascii_case(host) || name.eq_ignore_ascii_case(&with_port);
            if !names.split(',').any(fits) {
                return Err("is the key of another host than the target".to_owned());
            }
        }
        (None, _) | (Some(_), None) => {}
    }
    if !is_used(&key.algorithm()) {
        return Ok(HostKey::Unused(key.algorithm().as_str().to_owned()));
    }
    let encoded = key.to_openssh().map_err(|_| "cannot be written again")?;
    let key = encoded.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Ok(HostKey::Used(key))
}

#[cfg(test)]
mod tests;

//! OpenVPN client profiles (`.ovpn`; openvpn(8)).
//!
//! A profile is not a list of facts but a program's command line: some directives run programs, read files, open control
//! ports. So only the directives of a table are taken, each with so many words, and the profile that OpenVPN gets is
//! written anew from them.

mod directive;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::line::{lines, place};
use super::{Imported, Secret};
use crate::fault::Faults;
use crate::name::EndpointHost;
use directive::{Block, Rule};

/// The largest profile, bytes.
const MAX: usize = 128 * 1024;
/// The most servers; providers list dozens.
const REMOTES: usize = 64;
const WORDS: usize = 8;

/// What faults of the user's name and password are named by: the fields that they came in.
pub const USERNAME: &str = "username";
/// As [`USERNAME`].
pub const PASSWORD: &str = "password";
/// Their fields at the vault: those of `cell-openvpn` alone, while a proxy's `password` is for `cell-egress`.
const SEALED_USERNAME: &str = "openvpn_username";
/// As [`SEALED_USERNAME`].
const SEALED_PASSWORD: &str = "openvpn_password";

/// An OpenVPN tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenvpnExit {
    /// The servers, in the order in which they are tried.
    pub remotes: Vec<Remote>,
    /// Whether the server asks for a user's name and password, which the vault has.
    pub user_password: bool,
    /// Directives that were taken, each with its words, in order.
    pub options: Vec<Vec<String>>,
    /// Certificates: public, so they are stored here. By block, e.g. `ca`.
    pub certificates: Vec<(String, String)>,
    /// Blocks that the vault has, e.g. `key`, `tls-crypt`.
    pub sealed: Vec<String>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Where it is.
    pub host: EndpointHost,
    /// Its port.
    pub port: u16,
    /// Whether it is spoken to by TCP, not UDP.
    pub tcp: bool,
}

/// Reads a profile. `user` is the user's name and password, where the profile asks for them and has no block with them.
///
/// # Errors
/// Every fault, each with its line; none repeats what may be a secret.
pub fn read(text: &str, user: Option<(&str, &str)>) -> Result<Imported<OpenvpnExit>, Faults> {
    let mut profile = Profile::default();
    for (number, line) in lines(text, MAX, &mut profile.faults) {
        profile.line(number, line);
    }
    profile.finish(user)
}

/// A server as a line names it: host, port and whether by TCP, where the line says so.
type Named = (EndpointHost, Option<u16>, Option<bool>);

/// What a block `<connection>` says of one server.
#[derive(Default)]
struct OfOne {
    remotes: Vec<Named>,
    port: Option<u16>,
    tcp: Option<bool>,
}

#[derive(Default)]
struct Profile {
    client: bool,
    device: bool,
    tcp: bool,
    port: Option<u16>,
    remotes: Vec<Named>,
    /// Of a block `<connection>` that is open: where it began, and what it has said so far.
    connection: Option<(usize, OfOne)>,
    asks_user: bool,
    options: Vec<Vec<String>>,
    blocks: Vec<(&'static Block, Zeroizing<String>)>,
    open: Option<(usize, &'static Block, Zeroizing<String>)>,
    notes: Vec<String>,
    faults: Faults,
}

impl Profile {
    fn line(&mut self, number: usize, line: &str) {
        if let Some((_, block, body)) = &mut self.open {
            if line.trim() == block.end {
                if let Some((_, block, body)) = self.open.take() {
                    self.block(number, block, body);
                }
            } else {
                body.push_str(line.trim_end());
                body.push('\n');
            }
            return;
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            return;
        }
        if line == "<connection>" && self.connection.is_none() {
            self.connection = Some((number, OfOne::default()));
            return;
        }
        if line == "</connection>" {
            return self.end_connection(number);
        }
        if line.starts_with('<') && self.connection.is_some() {
            let faults = &mut self.faults;
            return faults.add(place(number), "must not begin a block within <connection>");
        }
        if line.starts_with('<') {
            match directive::block(line) {
                Some(block) => self.open = Some((number, block, Zeroizing::default())),
                None => self
                    .faults
                    .add(place(number), "is a block that a client's profile may not have"),
            }
            return;
        }
        match words(line) {
            Ok(words) => self.directive(number, words),
            Err(error) => self.faults.add(place(number), error),
        }
    }

    /// Each server of it is one more of the profile's, with what the block says of its port and protocol.
    fn end_connection(&mut self, number: usize) {
        let Some((_, OfOne { remotes, port, tcp })) = self.connection.take() else {
            return self
                .faults
                .add(place(number), "ends a <connection> that does not begin");
        };
        if remotes.is_empty() {
            return self
                .faults
                .add(place(number), "ends a <connection> without a remote");
        }
        if self.remotes.len() + remotes.len() > REMOTES {
            return self.faults.add(place(number), too_many());
        }
        let of_one = |(host, own, by): Named| (host, own.or(port), by.or(tcp));
        self.remotes.extend(remotes.into_iter().map(of_one));
    }

    /// A directive within `<connection>`: of those that are taken, what says where the server is; the others are for all servers.
    fn of_one(&mut self, place: String, name: &str, values: &[String]) {
        let Some((_, one)) = &mut self.connection else {
            return;
        };
        let faults = &mut self.faults;
        let first = values.first().map(String::as_str).unwrap_or_default();
        match name {
            "remote" if one.remotes.len() == REMOTES => faults.add(place, too_many()),
            "remote" => one.remotes.extend(faults.keep(place, remote(values))),
            "port" | "rport" => one.port = faults.keep(place, port(first)),
            "proto" => match protocol(first) {
                Some(tcp) => one.tcp = Some(tcp),
                None => faults.add(place, PROTO),
            },
            _ => {
                let note =
                    format!("{name} is not used within <connection>: it is said of all servers or of none");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
            }
        }
    }

    fn block(&mut self, number: usize, block: &'static Block, body: Zeroizing<String>) {
        if self.blocks.iter().any(|(known, _)| known.name == block.name) {
            self.faults
                .add(place(number), format!("must not end a second <{}>", block.name));
        } else if !block.fits(&body) {
            self.faults.add(
                place(number),
                format!("ends a <{}> that does not hold {}", block.name, block.holds()),
            );
        } else {
            self.blocks.push((block, body));
        }
    }

    fn directive(&mut self, number: usize, words: Vec<String>) {
        let Some((name, values)) = words.split_first() else {
            return;
        };
        let Some((name, rule)) = directive::rule(name) else {
            return self.faults.add(
                place(number),
                "is not a directive that an imported profile may have",
            );
        };
        let place = format!("{} ({name})", place(number));
        match rule {
            Rule::Refuse(why) => self.faults.add(place, why),
            Rule::Leave(why) => {
                let note = format!("{name} is not used: {why}");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
            }
            Rule::Keep(min, max) if self.connection.is_some() && (*min..=*max).contains(&values.len()) => {
                self.of_one(place, name, values);
            }
            Rule::Keep(min, max) if (*min..=*max).contains(&values.len()) => {
                self.keep(place, name, values, &words)
            }
            Rule::Keep(min, max) if min == max => self.faults.add(place, format!("must have {min} values")),
            Rule::Keep(min, max) => self.faults.add(place, format!("must have {min} to {max} values")),
        }
    }

    fn keep(&mut self, place: String, name: &str, values: &[String], words: &[String]) {
        let faults = &mut self.faults;
        let first = values.first().map(String::as_str).unwrap_or_default();
        match name {
            "client" | "tls-client" | "pull" => self.client = true,
            "dev" | "dev-type" if first == "tun" || first.starts_with("tun") && name == "dev" => {
                self.device = true
            }
            "dev" | "dev-type" => faults.add(
                place,
                "must be tun: a tap device bridges Ethernet, which an exit cannot carry",
            ),
            "proto" => match protocol(first) {
                Some(tcp) => self.tcp = tcp,
                None => faults.add(place, PROTO),
            },
            // What OpenVPN 2.5 took away asked for less than what stands in its place.
            "ns-cert-type" if first == "server" => {
                let words = ["remote-cert-tls", "server"].map(str::to_owned).to_vec();
                if !self.options.contains(&words) {
                    self.options.push(words);
                }
            }
            "ns-cert-type" => faults.add(place, "must be server: an exit connects to a server"),
            "port" | "rport" => self.port = faults.keep(place, port(first)),
            "auth-user-pass" => self.asks_user = true,
            "remote" if self.remotes.len() == REMOTES => faults.add(place, too_many()),
            "remote" => {
                if let Some(remote) = faults.keep(place, remote(values)) {
                    self.remotes.push(remote);
                }
            }
            "compress" | "comp-lzo" if !matches!(first, "" | "no" | "stub" | "stub-v2" | "migrate") => {
                faults.add(
                    place,
                    "must not compress: what is compressed before it is encrypted can be guessed (VORACLE)",
                );
            }
            _ => self.options.push(words.to_vec()),
        }
    }

    fn finish(mut self, user: Option<(&str, &str)>) -> Result<Imported<OpenvpnExit>, Faults> {
        if let Some((number, block, _)) = &self.open {
            self.faults.add(
                place(*number),
                format!("begins a <{}> that does not end", block.name),
            );
        }
        if let Some((number, _)) = &self.connection {
            self.faults
                .add(place(*number), "begins a <connection> that does not end");
        }
        let mut secrets = Vec::new();
        if self.faults.is_empty() {
            self.check_whole();
            self.user(user, &mut secrets);
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let (mut certificates, mut sealed) = (Vec::new(), Vec::new());
        for (block, body) in self.blocks {
            match block.secret {
                true => {
                    sealed.push(block.name.to_owned());
                    secrets.push(Secret {
                        field: block.name.replace('-', "_"),
                        value: body,
                    });
                }
                false => certificates.push((block.name.to_owned(), body.as_str().to_owned())),
            }
        }
        let default_port = self.port.unwrap_or(1194);
        let remote = |(host, port, tcp): (EndpointHost, Option<u16>, Option<bool>)| Remote {
            host,
            port: port.unwrap_or(default_port),
            tcp: tcp.unwrap_or(self.tcp),
        };
        let remotes = self.remotes.into_iter().map(remote).collect();
        let config = OpenvpnExit {
            remotes,
            user_password: self.asks_user,
            options: self.options,
            certificates,
            sealed,
        };
        Ok(Imported {
            config,
            secrets,
            notes: self.notes,
        })
    }

    fn check_whole(&mut self) {
        let has = |name| self.blocks.iter().any(|(block, _)| block.name == name);
        let lacks = [
            (
                !self.client,
                "client is missing: only profiles of clients can be imported",
            ),
            (!self.device, "dev tun is missing"),
            (self.remotes.is_empty(), "remote, the server, is missing"),
            (
                !has("ca"),
                "<ca>, the server's authority, is missing: without it anybody could be the server",
            ),
            (has("cert") != has("key"), "<cert> and <key> belong together"),
            (
                !has("cert") && !self.asks_user,
                "neither <cert> and <key> nor auth-user-pass says who the client is",
            ),
        ];
        for (index, (_, what)) in lacks.into_iter().enumerate().filter(|(_, (lacks, _))| *lacks) {
            // Each has a place of its own, or only the first would be said.
            self.faults.add(format!("profile {}", index + 1), what);
        }
    }

    /// Takes the user's name and password out of the profile's block, or from the caller.
    fn user(&mut self, user: Option<(&str, &str)>, secrets: &mut Vec<Secret>) {
        let at = self
            .blocks
            .iter()
            .position(|(block, _)| block.name == "auth-user-pass");
        let inline = at.map(|at| self.blocks.swap_remove(at).1);
        self.asks_user |= inline.is_some();
        if !self.asks_user {
            return;
        }
        let of_lines = |body: &str| {
            let mut lines = body.lines();
            Some((
                Zeroizing::new(lines.next()?.to_owned()),
                Zeroizing::new(lines.next()?.to_owned()),
            ))
        };
        let given = user.map(|(name, password)| {
            (
                Zeroizing::new(name.to_owned()),
                Zeroizing::new(password.to_owned()),
            )
        });
        let Some((name, password)) = given.or_else(|| of_lines(inline.as_ref()?)) else {
            return self.faults.add(
                USERNAME,
                "is required: the profile asks for a user's name and password",
            );
        };
        for (field, sealed, value) in [
            (USERNAME, SEALED_USERNAME, name),
            (PASSWORD, SEALED_PASSWORD, password),
        ] {
            let sound = !value.is_empty() && value.len() <= 255 && !value.chars().any(char::is_control);
            if sound {
                secrets.push(Secret {
                    field: sealed.to_owned(),
                    value,
                });
            } else {
                self.faults
                    .add(field, "must be 1-255 bytes without control characters");
            }
        }
    }
}

/// The words of a line as OpenVPN parses it (openvpn(8), "Configuration File"): quotes, backslashes, comments.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word
                .get_or_insert_default()
                .push(chars.next().ok_or("must not end in a backslash")?),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#' | ';') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("must end what it quotes");
    }
    words.extend(word);
    if words.len() > WORDS {
        Err("must have fewer words")
    } else {
        Ok(words)
    }
}

const PROTO: &str = "must be udp or tcp-client (or with 4 or 6)";

fn too_many() -> String {
    format!("must not name more than {REMOTES} servers")
}

fn protocol(text: &str) -> Option<bool> {
    match text {
        "udp" | "udp4" | "udp6" => Some(false),
        "tcp" | "tcp4" | "tcp6" | "tcp-client" | "tcp4-client" | "tcp6-client" => Some(true),
        _ => None,
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| digits && *port > 0)
        .ok_or("must be a port from 1 to 65535")
}

fn remote(values: &[String]) -> Result<(EndpointHost, Option<u16>, Option<bool>), String> {
    let [host, rest @ ..] = values else {
        return Err("must name a host".to_owned());
    };
    let host = EndpointHost::parse(host).map_err(|error| error.to_string())?;
    let port = rest.first().map(|text| port(text)).transpose()?;
    let tcp = rest
        .get(1)
        .map(|text| protocol(text).ok_or("must end in udp or tcp-client"))
        .transpose()?;
    Ok((host, port, tcp))
}

#[cfg(test)]
mod tests;

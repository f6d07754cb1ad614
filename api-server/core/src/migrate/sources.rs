//! Where the fields of an import stand in a file of the first version: in the exit itself, or below `config`, `settings` or
//! `secrets` of it, under one of several names.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::findings::Findings;
use super::node::{Node, Text};
use super::vault::OldVault;
use super::wireguard::{INTERFACE, PEER, holds_keys, with_keys};
use crate::connection::input::ImportInput;
use crate::connection::kind::Kind;

/// The parts of one exit.
pub(super) struct Sources<'a> {
    path: String,
    nodes: Vec<Node>,
    /// Fields that refer to the vault under their own names.
    references: Option<Node>,
    vault: &'a mut OldVault,
    /// For each field of the import, what it was read from.
    read_from: BTreeMap<&'static str, String>,
}

/// What the fields of an import were read from.
pub(super) struct Places {
    path: String,
    read_from: BTreeMap<&'static str, String>,
}

impl Places {
    /// Where a fault of the import is in the file.
    pub(super) fn place(&self, field: &str) -> String {
        let Some(field) = field.strip_prefix("import.") else {
            return self.path.clone();
        };
        let end = field.find([' ', '.']).unwrap_or(field.len());
        let (name, rest) = field.split_at(end);
        match self.read_from.get(name) {
            Some(from) => format!("{from}{rest}"),
            None => format!("{}.{field}", self.path),
        }
    }
}

impl<'a> Sources<'a> {
    pub(super) fn of(mut node: Node, vault: &'a mut OldVault) -> Self {
        let references = ["secret_refs", "secret_ref"].map(|name| node.object_if_any(name));
        let nested = ["config", "settings", "secrets"].map(|name| node.object_if_any(name));
        Sources {
            path: node.path().to_owned(),
            nodes: std::iter::once(node)
                .chain(nested.into_iter().flatten())
                .collect(),
            references: references.into_iter().flatten().next(),
            vault,
            read_from: BTreeMap::new(),
        }
    }

    /// Notes what was not asked for.
    pub(super) fn finish(self, findings: &mut Findings) -> Places {
        for node in self.nodes.into_iter().chain(self.references) {
            node.finish(findings);
        }
        Places {
            path: self.path,
            read_from: self.read_from,
        }
    }

    /// What a connection of the type is made of, as far as the file has it.
    pub(super) fn import(&mut self, kind: Kind, findings: &mut Findings) -> ImportInput {
        let mut import = ImportInput::default();
        match kind {
            Kind::WireguardExt => import.file = self.wireguard(findings),
            Kind::Openvpn => {
                let names = ["profile", "ovpn", "conf", "config", "config_text", "file"];
                import.file = self.field("file", &names, findings);
                import.username = self.field("username", &["username", "user", "auth_user"], findings);
                import.password = self.field("password", &["password", "pass", "auth_pass"], findings);
            }
            Kind::Tor => self.tor(findings),
            Kind::Sshuttle => {
                import.target = self.target(findings);
                import.private_key = self.field("private_key", &["private_key", "ssh_key", "key"], findings);
                let names = ["host_keys", "known_hosts", "host_key"];
                import.host_keys = self.field("host_keys", &names, findings);
            }
            Kind::Proxy => import.url = self.url(findings),
            Kind::CellRelay => {}
        }
        import
    }

    fn field(
        &mut self,
        field: &'static str,
        names: &[&str],
        findings: &mut Findings,
    ) -> Option<Zeroizing<String>> {
        let found = self.one_of(names, findings)?;
        self.read_from.insert(field, found.path);
        Some(found.value)
    }

    /// The field of one of these names. Two of them contradict each other or are said twice: which counts is not guessed.
    fn one_of(&mut self, names: &[&str], findings: &mut Findings) -> Option<Text> {
        let mut all: Vec<Text> = Vec::new();
        for name in names {
            for node in &mut self.nodes {
                all.extend(self.vault.followed(node, name, findings));
                let text = node.text(name, findings);
                all.extend(text.map(|text| self.vault.resolved(text, findings)));
            }
            if let Some(reference) = self
                .references
                .as_mut()
                .and_then(|node| node.text(name, findings))
            {
                all.push(self.vault.follow(reference, findings));
            }
        }
        let mut all = all.into_iter();
        let found = all.next()?;
        for other in all {
            let why = format!(
                "must not be given beside {}, which it is another name of",
                found.path
            );
            findings.fault(other.path, why);
        }
        Some(found)
    }

    /// A file as a whole, its keys beside it or in it; or one that is written of its parts.
    fn wireguard(&mut self, findings: &mut Findings) -> Option<Zeroizing<String>> {
        let names = ["conf", "config", "config_text", "wg_conf", "file"];
        let whole = self.field("file", &names, findings);
        let [mut own, mut theirs] = [(); 2].map(|()| Zeroizing::new(String::new()));
        let keys =
            self.lines(&mut own, &INTERFACE[..1], findings) + self.lines(&mut theirs, &PEER[..1], findings);
        let parts =
            self.lines(&mut own, &INTERFACE[1..], findings) + self.lines(&mut theirs, &PEER[1..], findings);
        match (whole, keys + parts) {
            (None, 0) => None,
            (None, _) => Some(Zeroizing::new(format!(
                "[Interface]\n{}[Peer]\n{}",
                own.as_str(),
                theirs.as_str()
            ))),
            (Some(whole), 0) => Some(whole),
            (Some(whole), _) if parts == 0 && !holds_keys(&whole, &own, &theirs) => {
                Some(with_keys(&whole, &own, &theirs))
            }
            (Some(_), _) => {
                let why =
                    "must be given as a whole file or in parts, and its keys in it or beside it, not both";
                findings.fault(self.path.clone(), why);
                None
            }
        }
    }

    fn lines(
        &mut self,
        text: &mut Zeroizing<String>,
        keys: &[(&str, &[&str])],
        findings: &mut Findings,
    ) -> usize {
        let mut lines = 0;
        for (key, names) in keys {
            let Some(part) = self.one_of(names, findings) else {
                continue;
            };
            if part.value.chars().any(|c| c.is_control() || c == '#') {
                findings.fault(part.path, "must be one line without #");
                continue;
            }
            lines += 1;
            text.push_str(key);
            text.push_str(" = ");
            text.push_str(&part.value);
            text.push('\n');
        }
        lines
    }

    /// Nothing of it is carried: the ports are the cell's own.
    fn tor(&mut self, findings: &mut Findings) {
        for name in ["socks_port", "trans_port", "dns_port", "control_port"] {
            if self.one_of(&[name], findings).is_some() {
                findings.note(format!(
                    "{}.{name} is not carried: the cell's Tor has its own",
                    self.path
                ));
            }
        }
    }

    fn target(&mut self, findings: &mut Findings) -> Option<Zeroizing<String>> {
        let whole = self.field("target", &["target", "remote", "ssh_target"], findings);
        let host = self.one_of(&["host", "server", "ssh_host"], findings);
        let user = self.one_of(&["user", "username", "ssh_user"], findings);
        let port = self.one_of(&["port", "ssh_port"], findings);
        match (whole, host) {
            (Some(whole), None) if user.is_none() && port.is_none() => Some(whole),
            (Some(_), _) => {
                findings.fault(
                    self.path.clone(),
                    "must have a target, or host, port and user, not both",
                );
                None
            }
            (None, Some(host)) => {
                self.read_from.insert("target", host.path.clone());
                let user = user.map_or_else(String::new, |user| format!("{}@", user.value.as_str()));
                Some(Zeroizing::new(format!("{user}{}", place(&host, port.as_ref()))))
            }
            (None, None) => None,
        }
    }

    fn url(&mut self, findings: &mut Findings) -> Option<Zeroizing<String>> {
        let whole = self.field("url", &["url", "upstream", "proxy_url"], findings);
        let scheme = self.one_of(&["scheme", "protocol", "proxy_type"], findings);
        let host = self.one_of(&["host", "server", "upstream_host"], findings);
        let port = self.one_of(&["port", "upstream_port"], findings);
        let user = self.one_of(&["username", "user", "login"], findings);
        let password = self.one_of(&["password", "pass"], findings);
        let host = match (whole, host) {
            (Some(whole), None) => {
                if scheme.is_none() && port.is_none() {
                    if user.is_none() && password.is_none() {
                        return Some(whole);
                    }
                    if let Some((scheme, place)) = whole.split_once("://").filter(|_| !whole.contains('@')) {
                        return Some(url(scheme, user.as_ref(), password.as_ref(), place));
                    }
                }
                findings.fault(
                    self.path.clone(),
                    "must have a url, or host, port, username and password, not both",
                );
                return None;
            }
            (Some(_), Some(host)) => {
                findings.fault(host.path, "must not be given beside a url");
                return None;
            }
            (None, None) => return None,
            (None, Some(host)) => host,
        };
        for part in [scheme.as_ref(), Some(&host), port.as_ref()]
            .into_iter()
            .flatten()
        {
            // What would end the part of the URL that it is meant for.
            if part.value.contains(['@', '/', '?', '#', '\\']) {
                findings.fault(part.path.clone(), "must not hold @, /, ?, # or \\");
                return None;
            }
        }
        self.read_from.insert("url", host.path.clone());
        let scheme = scheme.as_ref().map_or("socks5", |text| text.value.as_str());
        let place = place(&host, port.as_ref());
        Some(url(scheme, user.as_ref(), password.as_ref(), &place))
    }
}

fn url(scheme: &str, user: Option<&Text>, password: Option<&Text>, place: &str) -> Zeroizing<String> {
    let mut url = Zeroizing::new(format!("{}://", scheme.to_ascii_lowercase()));
    if user.is_some() || password.is_some() {
        for (part, end) in [(user, ":"), (password, "@")] {
            let part = part.map_or("", |text| text.value.as_str());
            url.extend(utf8_percent_encode(part, NON_ALPHANUMERIC));
            url.push_str(end);
        }
    }
    url.push_str(place);
    url
}

/// A host with its port; an IPv6 address in brackets.
fn place(host: &Text, port: Option<&Text>) -> String {
    let host = host.value.as_str();
    let host = match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    };
    match port {
        Some(port) => format!("{host}:{}", port.value.as_str()),
        None => host,
    }
}

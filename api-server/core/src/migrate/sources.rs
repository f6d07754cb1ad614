//! Where the fields of an import stand in a file of the first version: in the exit itself, or below `config`, `settings` or
//! `secrets` of it, under one of several names.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::findings::Findings;
use super::node::{Node, Text};
use crate::connection::input::ImportInput;
use crate::connection::kind::Kind;

/// The names of a field that refers to v1's vault end so.
const REFERENCES: [&str; 2] = ["_ref", "_secret"];

/// The parts of one exit.
pub(super) struct Sources {
    path: String,
    nodes: Vec<Node>,
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

impl Sources {
    pub(super) fn of(mut node: Node) -> Self {
        let nested = ["config", "settings", "secrets"].map(|name| node.object_if_any(name));
        Sources {
            path: node.path().to_owned(),
            nodes: std::iter::once(node)
                .chain(nested.into_iter().flatten())
                .collect(),
            read_from: BTreeMap::new(),
        }
    }

    /// Notes what was not asked for.
    pub(super) fn finish(self, findings: &mut Findings) -> Places {
        for node in self.nodes {
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
        let mut found: Option<Text> = None;
        for node in &mut self.nodes {
            for name in names {
                if refers(node, name, findings) {
                    continue;
                }
                let Some(text) = node.text(name, findings) else {
                    continue;
                };
                match &found {
                    Some(other) => findings.fault(
                        text.path,
                        format!(
                            "must not be given beside {}, which it is another name of",
                            other.path
                        ),
                    ),
                    None => found = Some(text),
                }
            }
        }
        found
    }

    /// A file as a whole, or one that is written of its parts.
    fn wireguard(&mut self, findings: &mut Findings) -> Option<Zeroizing<String>> {
        let names = ["conf", "config", "config_text", "wg_conf", "file"];
        let whole = self.field("file", &names, findings);
        let mut text = Zeroizing::new("[Interface]\n".to_owned());
        let mut parts = self.lines(&mut text, &INTERFACE, findings);
        text.push_str("[Peer]\n");
        parts += self.lines(&mut text, &PEER, findings);
        match (whole, parts) {
            (Some(whole), 0) => Some(whole),
            (None, 0) => None,
            (None, _) => Some(text),
            (Some(_), _) => {
                let why = "must be given as a whole file or in parts, not both";
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
                let parts = [&scheme, &port, &user, &password];
                if parts.iter().all(|part| part.is_none()) {
                    return Some(whole);
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
        self.read_from.insert("url", host.path.clone());
        let scheme = scheme.as_ref().map_or("socks5", |text| text.value.as_str());
        let mut url = Zeroizing::new(format!("{}://", scheme.to_ascii_lowercase()));
        if user.is_some() || password.is_some() {
            for (part, end) in [(&user, ":"), (&password, "@")] {
                let part = part.as_ref().map_or("", |text| text.value.as_str());
                url.extend(utf8_percent_encode(part, NON_ALPHANUMERIC));
                url.push_str(end);
            }
        }
        url.push_str(&place(&host, port.as_ref()));
        Some(url)
    }
}

const INTERFACE: [(&str, &[&str]); 4] = [
    ("PrivateKey", &["private_key"]),
    ("Address", &["address", "addresses"]),
    ("DNS", &["dns", "dns_servers"]),
    ("MTU", &["mtu"]),
];

const PEER: [(&str, &[&str]); 5] = [
    (
        "PublicKey",
        &["peer_public_key", "public_key", "server_public_key"],
    ),
    ("PresharedKey", &["preshared_key", "psk"]),
    ("AllowedIPs", &["allowed_ips"]),
    ("Endpoint", &["endpoint"]),
    ("PersistentKeepalive", &["persistent_keepalive", "keepalive"]),
];

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

/// Whether the field is a reference to v1's vault, which is a fault: nothing here can read that vault.
fn refers(node: &mut Node, name: &str, findings: &mut Findings) -> bool {
    const WHY: &str =
        "refers to the first version's vault, which nothing here can read: put the value itself in its place";
    let mut refers = false;
    for end in REFERENCES {
        let name = format!("{name}{end}");
        if node.take(&name).is_some() {
            findings.fault(node.path_of(&name), WHY);
            refers = true;
        }
    }
    if let Some(reference) = node.object_if_any(name) {
        findings.fault(reference.path(), WHY);
        refers = true;
    }
    refers
}

//! A table of exits from the wire, checked: every fault named at once. What comes from the wire is given as plain values,
//! so that no message is known here.

use std::net::SocketAddr;

use crate::exit::{Exit, ExitId, Kind, REDIRECT_PORTS, RedirectPort, Server, User};
use crate::pin::HostKey;
use crate::policy::Reach;
use crate::table::{Clash, Table};

/// Most host keys of one exit.
pub const HOST_KEYS_MAX: usize = 16;

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path to the field.
    pub field: String,
    /// What is wrong, or what would be right.
    pub description: String,
}

/// An exit as it was asked for. An address is what the wire held, or why it is none.
#[derive(Debug, Clone)]
pub struct AskedExit<'a> {
    /// Its connection's id.
    pub id: &'a str,
    /// Its redirect port.
    pub port: u32,
    /// Its kind; none where the wire had none.
    pub kind: Option<AskedKind<'a>>,
    /// Of which import its secret is: any number.
    pub secret_revision: u64,
}

/// See [`AskedExit`].
#[derive(Debug, Clone)]
pub enum AskedKind<'a> {
    /// Server and user; an empty user is none.
    Socks5(Result<SocketAddr, String>, &'a str),
    /// Server and user; an empty user is none.
    HttpConnect(Result<SocketAddr, String>, &'a str),
    /// Server.
    Tor(Result<SocketAddr, String>),
    /// Server, user, host keys.
    Ssh(Result<SocketAddr, String>, &'a str, &'a [String]),
}

/// The table that was asked for.
///
/// # Errors
/// Every fault of the request.
pub fn table(asked: &[AskedExit<'_>], reach: &Reach) -> Result<Table, Vec<Violation>> {
    let mut faults = Faults::default();
    let mut table = Table::default();
    for (index, exit) in asked.iter().enumerate() {
        let at = format!("exits[{index}]");
        let Some(exit) = faults.exit(&at, exit, reach) else {
            continue;
        };
        match table.add(exit) {
            Ok(()) => {}
            Err(Clash::Id) => faults.add(format!("{at}.id"), "is another exit's too"),
            Err(Clash::Port) => faults.add(format!("{at}.redirect_port"), "is another exit's too"),
        }
    }
    if faults.0.is_empty() {
        Ok(table)
    } else {
        Err(faults.0)
    }
}

#[derive(Default)]
struct Faults(Vec<Violation>);

impl Faults {
    fn add(&mut self, field: String, description: impl ToString) {
        self.0.push(Violation {
            field,
            description: description.to_string(),
        });
    }

    fn exit(&mut self, at: &str, asked: &AskedExit<'_>, reach: &Reach) -> Option<Exit> {
        let id = ExitId::parse(asked.id)
            .map_err(|error| self.add(format!("{at}.id"), error))
            .ok();
        let port = RedirectPort::try_new(asked.port);
        if port.is_none() {
            let (first, last) = REDIRECT_PORTS;
            self.add(format!("{at}.redirect_port"), format!("is {first} to {last}"));
        }
        let kind = match &asked.kind {
            Some(kind) => self.kind(at, kind, reach),
            None => {
                self.add(format!("{at}.kind"), "is required");
                None
            }
        };
        Some(Exit {
            id: id?,
            port: port?,
            kind: kind?,
            secret_revision: asked.secret_revision,
        })
    }

    fn kind(&mut self, at: &str, asked: &AskedKind<'_>, reach: &Reach) -> Option<Kind> {
        match asked {
            AskedKind::Socks5(server, user) => {
                let at = format!("{at}.socks5");
                let (server, user) = (self.server(&at, server, reach), self.user(&at, user));
                Some(Kind::Socks5(server?, user?))
            }
            AskedKind::HttpConnect(server, user) => {
                let at = format!("{at}.http_connect");
                let (server, user) = (self.server(&at, server, reach), self.user(&at, user));
                Some(Kind::HttpConnect(server?, user?))
            }
            AskedKind::Tor(server) => self.server(&format!("{at}.tor"), server, reach).map(Kind::Tor),
            AskedKind::Ssh(server, user, keys) => {
                let at = format!("{at}.ssh");
                let server = self.server(&at, server, reach);
                let user = User::of_ssh(user);
                if user.is_none() {
                    self.add(format!("{at}.username"), "is 1 to 64 bytes without spaces");
                }
                let keys = self.host_keys(&at, keys);
                Some(Kind::Ssh(server?, user?, keys?))
            }
        }
    }

    fn server(&mut self, at: &str, asked: &Result<SocketAddr, String>, reach: &Reach) -> Option<Server> {
        let field = format!("{at}.server");
        let address = match asked {
            Ok(address) => *address,
            Err(why) => {
                self.add(field, why);
                return None;
            }
        };
        let Some(server) = Server::try_new(address) else {
            self.add(field, "is the address of one host");
            return None;
        };
        reach
            .permits(server)
            .map_err(|why| self.add(field, format!("{address} {why}")))
            .ok()?;
        Some(server)
    }

    /// No user is none; outside is a fault.
    fn user(&mut self, at: &str, asked: &str) -> Option<Option<User>> {
        if asked.is_empty() {
            return Some(None);
        }
        let user = User::of_proxy(asked);
        if user.is_none() {
            let rule = "is at most 255 bytes without control characters and without a colon";
            self.add(format!("{at}.username"), rule);
        }
        user.map(Some)
    }

    fn host_keys(&mut self, at: &str, asked: &[String]) -> Option<Vec<HostKey>> {
        if asked.is_empty() || asked.len() > HOST_KEYS_MAX {
            let rule = format!("are 1 to {HOST_KEYS_MAX}: a server without a pinned key is not connected to");
            self.add(format!("{at}.host_keys"), rule);
            return None;
        }
        let mut keys = Vec::with_capacity(asked.len());
        for (index, line) in asked.iter().enumerate() {
            match HostKey::parse(line) {
                Ok(key) => keys.push(key),
                Err(why) => self.add(format!("{at}.host_keys[{index}]"), why),
            }
        }
        (keys.len() == asked.len()).then_some(keys)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ID: &str = "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b";
    const OTHER: &str = "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5c";

    fn reach() -> Reach {
        Reach {
            peers: Vec::new(),
            servers: vec!["192.0.2.0/24".parse().unwrap()],
            local_servers: Vec::new(),
        }
    }

    fn tor<'a>(id: &'a str, port: u32, server: &str) -> AskedExit<'a> {
        let kind = Some(AskedKind::Tor(Ok(server.parse().unwrap())));
        AskedExit {
            id,
            port,
            kind,
            secret_revision: 0,
        }
    }

    fn faults(asked: &[AskedExit<'_>]) -> Vec<String> {
        let faults = table(asked, &reach()).unwrap_err();
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_good_table_is_taken() {
        let ssh = AskedKind::Ssh(
            Ok("192.0.2.3:22".parse().unwrap()),
            "hans",
            &["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDbhqFJ5KXyZFmpYYXJBrWD5AGVqnlUBM4HhFPPqqLfu".to_owned()],
        );
        let asked = [
            tor(ID, 9100, "192.0.2.1:9050"),
            AskedExit {
                id: OTHER,
                port: 9101,
                kind: Some(ssh),
                secret_revision: 3,
            },
        ];
        let taken = table(&asked, &reach()).unwrap();
        let revisions: Vec<_> = taken.exits().map(|exit| exit.secret_revision).collect();
        assert!(revisions.len() == 2 && revisions.contains(&3) && revisions.contains(&0));
        assert_eq!(table(&[], &reach()).unwrap(), Table::default());
    }

    #[test]
    fn every_fault_is_named() {
        let bad_keys = ["ssh-rsa AAAA".to_owned()];
        let kinds = [
            None,
            Some(AskedKind::Socks5(Err("is required".to_owned()), "a:b")),
            Some(AskedKind::HttpConnect(Ok("198.51.100.1:80".parse().unwrap()), "")),
            Some(AskedKind::Tor(Ok("127.0.0.1:9050".parse().unwrap()))),
            Some(AskedKind::Ssh(
                Ok("0.0.0.0:22".parse().unwrap()),
                "a b",
                &bad_keys,
            )),
            Some(AskedKind::Ssh(Ok("192.0.2.1:22".parse().unwrap()), "u", &[])),
        ];
        let asked: Vec<_> = kinds
            .into_iter()
            .map(|kind| AskedExit {
                id: "x",
                port: 80,
                kind,
                secret_revision: 0,
            })
            .collect();
        let named = faults(&asked);
        for field in [
            "exits[0].id",
            "exits[0].redirect_port",
            "exits[0].kind",
            "exits[1].socks5.server",
            "exits[1].socks5.username",
            "exits[2].http_connect.server",
            "exits[3].tor.server",
            "exits[4].ssh.server",
            "exits[4].ssh.username",
            "exits[4].ssh.host_keys[0]",
            "exits[5].ssh.host_keys",
        ] {
            assert!(named.iter().any(|known| known == field), "{field}: {named:?}");
        }
    }

    #[test]
    fn what_two_exits_share_is_a_fault() {
        let server = "192.0.2.1:9050";
        assert_eq!(
            faults(&[tor(ID, 9100, server), tor(ID, 9101, server)]),
            ["exits[1].id"]
        );
        assert_eq!(
            faults(&[tor(ID, 9100, server), tor(OTHER, 9100, server)]),
            ["exits[1].redirect_port"]
        );
    }
}

//! A new connection, or a change of one, as received; and what it is once it is checked.

use zeroize::Zeroizing;

use super::config::Config;
use super::import::{Imported, Secret, openvpn, proxy, ssh, wireguard};
use super::kind::Kind;
use crate::fault::Faults;
use crate::name::ConnectionName;

/// The largest secret, bytes: vaultd takes no larger one (`proto/cell/vault/v1/secret_service.proto`).
const SECRET_MAX: usize = 64 * 1024;

/// What a connection is made of, unchecked. Which fields there must be depends on its type. All of it may be secret, so
/// it has no `Debug` and is wiped when dropped.
#[derive(Clone, Default)]
pub struct ImportInput {
    /// A WireGuard file or an OpenVPN profile.
    pub file: Option<Zeroizing<String>>,
    /// User name for an OpenVPN profile that asks for one.
    pub username: Option<Zeroizing<String>>,
    /// Password to it.
    pub password: Option<Zeroizing<String>>,
    /// A proxy's URL.
    pub url: Option<Zeroizing<String>>,
    /// A SSH server, `user@host[:port]`.
    pub target: Option<Zeroizing<String>>,
    /// The private key to sign in with, in OpenSSH's format.
    pub private_key: Option<Zeroizing<String>>,
    /// The server's public keys: lines of `known_hosts`, or keys alone.
    pub host_keys: Option<Zeroizing<String>>,
}

/// A new connection as received, unchecked.
#[derive(Clone, Default)]
pub struct ConnectionInput {
    /// See [`ConnectionName`].
    pub name: String,
    /// See [`Kind`].
    pub kind: String,
    /// What it is made of.
    pub import: ImportInput,
}

/// A new connection, checked.
#[derive(Debug)]
pub struct NewConnection {
    /// Its name.
    pub name: ConnectionName,
    /// What it is made of.
    pub imported: Imported<Config>,
}

/// A change of a connection as received, unchecked. What is absent stays.
#[derive(Clone, Default)]
pub struct ConnectionUpdateInput {
    /// A new name.
    pub name: Option<String>,
    /// Replaces what it is made of; its type stays.
    pub import: Option<ImportInput>,
}

/// A change of a connection, checked.
#[derive(Debug)]
pub struct ConnectionUpdate {
    /// A new name.
    pub name: Option<ConnectionName>,
    /// What it is made of from now on.
    pub imported: Option<Imported<Config>>,
}

impl ConnectionInput {
    /// Checks it.
    ///
    /// # Errors
    /// Every fault at once; none repeats what may be a secret.
    pub fn check(&self) -> Result<NewConnection, Faults> {
        let mut faults = Faults::default();
        let name = faults.keep("name", ConnectionName::parse(&self.name));
        let kind = faults.keep("type", Kind::parse(&self.kind));
        let imported = kind.and_then(|kind| self.import.read(kind, &mut faults));
        match (name, imported) {
            (Some(name), Some(imported)) if faults.is_empty() => Ok(NewConnection { name, imported }),
            _ => Err(faults),
        }
    }
}

impl ConnectionUpdateInput {
    /// Checks what can be checked without knowing the connection's type.
    pub fn faults(&self) -> Faults {
        self.read(None).1
    }

    /// Checks it for a connection of type `kind`.
    ///
    /// # Errors
    /// Every fault at once; a change of nothing is one.
    pub fn check(&self, kind: Kind) -> Result<ConnectionUpdate, Faults> {
        let (update, faults) = self.read(Some(kind));
        if faults.is_empty() {
            Ok(update)
        } else {
            Err(faults)
        }
    }

    fn read(&self, kind: Option<Kind>) -> (ConnectionUpdate, Faults) {
        let mut faults = Faults::default();
        let name = self.name.as_deref();
        let name = name.and_then(|name| faults.keep("name", ConnectionName::parse(name)));
        let import = kind.zip(self.import.as_ref());
        let imported = import.and_then(|(kind, import)| import.read(kind, &mut faults));
        if self.name.is_none() && self.import.is_none() {
            faults.add("", "must name at least one of name, import");
        }
        (ConnectionUpdate { name, imported }, faults)
    }
}

impl ImportInput {
    fn read(&self, kind: Kind, faults: &mut Faults) -> Option<Imported<Config>> {
        let takes: &[&str] = match kind {
            Kind::WireguardExt => &["file"],
            Kind::Openvpn => &["file", "username", "password"],
            Kind::Sshuttle => &["target", "private_key", "host_keys"],
            Kind::Proxy => &["url"],
            Kind::Tor | Kind::CellRelay => &[],
        };
        for (name, value) in self.fields() {
            if value.is_some() && !takes.contains(&name) {
                faults.add(place(name), format!("is not for connections of type {kind}"));
            }
        }
        let imported = match kind {
            Kind::WireguardExt => self.read_wireguard(faults),
            Kind::Openvpn => self.read_openvpn(faults),
            Kind::Tor => Some(nothing(Config::Tor)),
            Kind::Sshuttle => self.read_ssh(faults),
            Kind::Proxy => self.read_proxy(faults),
            Kind::CellRelay => {
                let why = "cell_relay comes with the link to another cell; it is not made by hand";
                faults.add("type", why);
                None
            }
        }?;
        if imported
            .secrets
            .iter()
            .any(|secret| secret.value.len() > SECRET_MAX)
        {
            let most = SECRET_MAX / 1024;
            faults.add(place("file"), format!("must hold no key of more than {most} KiB"));
        }
        Some(imported)
    }

    fn read_wireguard(&self, faults: &mut Faults) -> Option<Imported<Config>> {
        let text = required("file", given(&self.file), faults)?;
        take(wireguard::read(text), Config::WireguardExt, of_file, faults)
    }

    fn read_openvpn(&self, faults: &mut Faults) -> Option<Imported<Config>> {
        let text = required("file", given(&self.file), faults);
        let user = match (given(&self.username), given(&self.password)) {
            (Some(username), Some(password)) => Some((username, password)),
            (None, None) => None,
            (Some(_), None) => {
                faults.add(place("password"), "is required with username");
                None
            }
            (None, Some(_)) => {
                faults.add(place("username"), "is required with password");
                None
            }
        };
        let imported = take(openvpn::read(text?, user), Config::Openvpn, of_file, faults)?;
        if user.is_some() && matches!(&imported.config, Config::Openvpn(exit) if !exit.user_password) {
            faults.add(
                place("username"),
                "must be absent: the profile asks for no user name",
            );
        }
        Some(imported)
    }

    fn read_ssh(&self, faults: &mut Faults) -> Option<Imported<Config>> {
        let of = |field: &Option<Zeroizing<String>>| given(field).unwrap_or_default().to_owned();
        let (target, host_keys) = (of(&self.target), of(&self.host_keys));
        let private_key = Zeroizing::new(of(&self.private_key));
        let read = ssh::read(&target, &private_key, &host_keys);
        take(read, Config::Sshuttle, of_field, faults)
    }

    fn read_proxy(&self, faults: &mut Faults) -> Option<Imported<Config>> {
        let url = required("url", given(&self.url), faults)?;
        take(proxy::read(url), Config::Proxy, of_field, faults)
    }

    fn fields(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("file", given(&self.file)),
            ("username", given(&self.username)),
            ("password", given(&self.password)),
            ("url", given(&self.url)),
            ("target", given(&self.target)),
            ("private_key", given(&self.private_key)),
            ("host_keys", given(&self.host_keys)),
        ]
    }
}

fn nothing(config: Config) -> Imported<Config> {
    let secrets: Vec<Secret> = Vec::new();
    Imported {
        config,
        secrets,
        notes: Vec::new(),
    }
}

/// What is empty was not given.
fn given(field: &Option<Zeroizing<String>>) -> Option<&str> {
    field
        .as_deref()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
}

fn required<'a>(name: &str, value: Option<&'a str>, faults: &mut Faults) -> Option<&'a str> {
    if value.is_none() {
        faults.add(place(name), "is required");
    }
    value
}

fn place(name: &str) -> String {
    format!("import.{name}")
}

/// A fault of a file has its line as its field, and none where it is of the whole.
fn of_file(field: &str) -> String {
    match field {
        "" => place("file"),
        openvpn::USERNAME | openvpn::PASSWORD => place(field),
        line => format!("{} {line}", place("file")),
    }
}

fn of_field(field: &str) -> String {
    place(field)
}

fn take<C>(
    read: Result<Imported<C>, Faults>,
    config_of: impl FnOnce(C) -> Config,
    place_of: impl Fn(&str) -> String,
    faults: &mut Faults,
) -> Option<Imported<Config>> {
    match read {
        Ok(Imported {
            config,
            secrets,
            notes,
        }) => Some(Imported {
            config: config_of(config),
            secrets,
            notes,
        }),
        Err(found) => {
            for violation in found.into_violations() {
                faults.add(place_of(&violation.field), violation.description);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests;

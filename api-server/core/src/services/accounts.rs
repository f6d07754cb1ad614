//! Accounts of devices' owners at services: what they are called, where they are made, and what a client is told.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use cell_manifest::Manifest;
use zeroize::Zeroizing;

use super::{entry, labels};
use crate::access::Protocol;
use crate::fault::Faults;

/// Most services that accounts are made at by one request.
pub const AT_ONCE: usize = 16;
/// Most accounts of all services.
pub const MOST: usize = 4_096;

/// What an account is called: 1-32 characters of `[a-z0-9._-]`, the first and the last of `[a-z0-9]`, no two dots together. It is the
/// same at every service, and one segment of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct User(String);

/// Text that is no [`User`]. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1-32 characters of a-z, 0-9 and . _ -, begin and end with a letter or digit, and have no two dots together"
)]
pub struct InvalidUser;

impl User {
    /// Reads one.
    ///
    /// # Errors
    /// [`InvalidUser`].
    pub fn parse(text: &str) -> Result<Self, InvalidUser> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let good = (1..=32).contains(&bytes.len())
            && bytes.iter().all(|b| plain(*b) || matches!(b, b'.' | b'_' | b'-'))
            && bytes.first().copied().is_some_and(plain)
            && bytes.last().copied().is_some_and(plain)
            && !text.contains("..");
        good.then(|| User(text.to_owned())).ok_or(InvalidUser)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A password of an account: 24 characters, 120 bits. Kept nowhere; it has no `Debug`.
pub struct AccountPassword(Zeroizing<String>);

/// What it is made of: 32 characters that nobody takes for one another, and that no program reads otherwise.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters of a password, and random bytes that it is made of.
pub const PASSWORD_LENGTH: usize = 24;

impl AccountPassword {
    /// Of random bytes, five bits of each.
    pub fn from_random(random: &[u8; PASSWORD_LENGTH]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(PASSWORD_LENGTH));
        for byte in random {
            text.push(char::from(ALPHABET[usize::from(byte % 32)]));
        }
        AccountPassword(text)
    }

    /// The text, for whoever it is made for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What the accounts are called.
    pub user: User,
    /// At these services, each once, in order.
    pub services: BTreeSet<String>,
}

/// Judges what is asked for: the device's name in lower case is the account's, unless another is given.
///
/// # Errors
/// Every fault.
pub fn wanted(peer: &str, user: Option<&str>, services: &[String]) -> Result<Wanted, Faults> {
    let mut faults = Faults::default();
    let found = match user {
        Some(user) => User::parse(user).map_err(|fault| fault.to_string()),
        None => User::parse(&peer.to_ascii_lowercase()).map_err(|fault| {
            format!("is needed, since the device's name cannot be an account's: it {fault}")
        }),
    };
    let user = faults.keep("user", found);
    if services.is_empty() || services.len() > AT_ONCE {
        faults.add("services", format!("must name 1-{AT_ONCE} services"));
    }
    let mut named = BTreeSet::new();
    for (place, service) in services.iter().enumerate().take(AT_ONCE) {
        if !named.insert(service.clone()) {
            faults.add(format!("services[{place}]"), "is named twice");
        }
    }
    match user {
        Some(user) if faults.is_empty() => Ok(Wanted {
            user,
            services: named,
        }),
        Some(_) | None => Err(faults),
    }
}

/// Where an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// Somebody makes it, or was cut off: then it is taken back.
    Making,
    /// It is there.
    Made,
    /// It is to go.
    Removing,
}

impl Stands {
    /// The word that it is stored as.
    pub fn word(self) -> &'static str {
        match self {
            Stands::Making => "making",
            Stands::Made => "made",
            Stands::Removing => "removing",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Stands::Making, Stands::Made, Stands::Removing]
            .into_iter()
            .find(|one| one.word() == word)
    }
}

/// What a client is set up with: pages, and ports that devices reach directly. What the interface for accounts itself answers is
/// nothing for people.
pub fn where_to(manifest: &Manifest, instance: &str, domain: &str, address: Option<Ipv4Addr>) -> Vec<String> {
    let interface = manifest
        .accounts
        .as_ref()
        .map(|accounts| &accounts.backend.container);
    let all = labels(manifest, instance);
    let mut said: Vec<String> = all
        .iter()
        .filter(|(_, backend)| Some(&backend.container) != interface)
        .map(|(label, _)| format!("https://{label}.{domain}/"))
        .collect();
    let own = manifest.routing.as_ref().and_then(|routing| {
        let is_own = |label: &&String| label.starts_with(routing.subdomain.as_str());
        all.keys().find(is_own)
    });
    let host = match (own, address) {
        (Some(label), _) => format!("{label}.{domain}"),
        (None, Some(address)) => address.to_string(),
        (None, None) => return said,
    };
    for (protocol, port) in entry::ports(manifest).into_keys() {
        said.push(match (protocol, port) {
            (Protocol::Tcp, 993) => format!("imaps://{host}:{port}"),
            (Protocol::Tcp, 465) => format!("submissions://{host}:{port}"),
            (Protocol::Tcp, 587) => format!("submission://{host}:{port}"),
            (Protocol::Tcp, port) => format!("{host}:{port}"),
            (Protocol::Udp, port) => format!("{host}:{port}/udp"),
        });
    }
    said
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_password_is_24_characters_that_nothing_reads_otherwise() {
        let mut random = [0; PASSWORD_LENGTH];
        for (byte, number) in random.iter_mut().zip(0..) {
            *byte = number * 11;
        }
        let password = AccountPassword::from_random(&random);
        assert_eq!(password.expose().len(), 24);
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        assert!(password.expose().bytes().all(plain));
        let distinct: BTreeSet<u8> = ALPHABET.iter().copied().collect();
        assert_eq!(distinct.len(), 32, "each of five bits is as likely");
        assert!(!distinct.contains(&b'0') && !distinct.contains(&b'o') && !distinct.contains(&b'1'));
        random[0] ^= 1;
        assert_ne!(AccountPassword::from_random(&random).expose(), password.expose());
    }

    #[test]
    fn the_devices_name_is_the_accounts_where_it_can_be() {
        let at = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let both = wanted("Phone", None, &at(&["email", "calendar"])).unwrap();
        assert_eq!(both.user.as_str(), "phone");
        assert_eq!(
            both.services.into_iter().collect::<Vec<_>>(),
            ["calendar", "email"]
        );
        let other = wanted("Phone", Some("alice"), &at(&["email"])).unwrap();
        assert_eq!(other.user.as_str(), "alice");
        let faults = wanted("a_", None, &at(&["email", "email"])).unwrap_err();
        let fields: Vec<_> = faults.into_violations().into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["user", "services[1]"]);
        for bad in ["", "Alice", "a b", "../x", "a..b", ".a", "a/b", &"a".repeat(33)] {
            assert!(wanted("phone", Some(bad), &at(&["email"])).is_err(), "{bad}");
        }
        assert!(wanted("phone", None, &[]).is_err());
    }

    #[test]
    fn each_state_has_its_word() {
        for one in [Stands::Making, Stands::Made, Stands::Removing] {
            assert_eq!(Stands::from_word(one.word()), Some(one));
        }
        assert_eq!(Stands::from_word(""), None);
    }

    #[test]
    fn clients_are_told_pages_and_ports_and_not_the_interface() {
        let container = |name: &str, ports: &str| {
            format!(
                r#"{{"name":"{name}","image":"local:a","user":"1000:1000","limits":{{"memory_mib":32,"cpu_milli":100,"pids":16}},"ports":{ports}}}"#
            )
        };
        let manifest = format!(
            r#"{{"schema_version":3,"kind":"store","id":"email","name":"Mail","version":"1",
                "flags":{{"has_subdomain":true,"has_accounts":true}},
                "containers":[{},{}],
                "routing":{{"subdomain":"mail","backend":"accounts:8091","extra_subdomains":["autoconfig"]}},
                "accounts":{{"backend":"accounts:8090","path":"/accounts"}}}}"#,
            container("dovecot", r#"[{"port":993},{"port":587}]"#),
            container("accounts", r#"[{"port":8090},{"port":8091}]"#),
        );
        let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
        assert_eq!(
            where_to(&manifest, "", "home.cell", None),
            ["submission://mail.home.cell:587", "imaps://mail.home.cell:993"]
        );
    }
}

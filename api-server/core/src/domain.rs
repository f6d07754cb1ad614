//! Under which domain services are found, and who vouches for their names.
//!
//! The cell's own domain (`home.cell`) is always there, with certificates of the cell's own authority. A public domain stands beside it:
//! its names lead to the same addresses in the VPN, for devices alone, and an authority of the web vouches for them. It asks for a proof:
//! in the domain's DNS (DNS-01, RFC 8555, section 8.4), and nothing of the cell has to be reachable; or at each name itself by HTTP
//! (HTTP-01, section 8.3), and the internet reaches TCP 80 of the machine.

mod directory;

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::access::{Protocol, Service};
use crate::fault::Faults;
use crate::published::HostName;

pub use directory::{AUTHORITY_MAX, Directory};

/// The name of the provider's token at vaultd: the secret `dns_token` of the service `caddy`.
pub const TOKEN: &str = "svc_caddy_dns_token";
/// Where Caddy has it, in its container.
pub const TOKEN_FILE: &str = "/run/secrets/dns_token";
/// Longest domain, so that a label of 63 bytes stands before it.
const DOMAIN_MAX: usize = 253 - 64;
/// Ends of names that no authority of the web vouches for (RFC 6761, RFC 6762, RFC 8375), and the cells' own.
const NOT_PUBLIC: [&str; 6] = ["cell", "local", "localhost", "invalid", "onion", "test"];

/// The setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// The cell's own domain alone.
    Lan,
    /// A public one as well.
    Public(Box<PublicDomain>),
}

/// A public domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicDomain {
    /// What stands behind the services' labels.
    pub domain: HostName,
    /// Where the authority may write to.
    pub email: Option<Mailbox>,
    /// How the authority sees that it is the cell's.
    pub proof: Proof,
    /// The authority; `None`: Let's Encrypt.
    pub directory: Option<Directory>,
}

/// How an authority sees whose a domain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// By DNS-01, with one certificate for all names.
    Dns(DnsProvider),
    /// By HTTP-01, with one for each name.
    Http,
}

/// Who answers for a domain on the internet, and takes records from whoever has its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsProvider {
    /// duckdns.org.
    Duckdns,
    /// cloudflare.com.
    Cloudflare,
    /// Whoever takes updates (RFC 2136) that are signed with a key (RFC 8945), which is the token.
    Generic(UpdateServer),
}

/// A server that takes updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateServer {
    /// Where it is. An address: its name could be the cell's own, which Caddy would ask the cell for.
    pub server: SocketAddrV4,
    /// The key's name.
    pub tsig_name: HostName,
    /// What the key is for.
    pub algorithm: KeyAlgorithm,
}

/// How updates are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

/// `local@host`, the local part of letters, digits, dots, hyphens and underscores alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Mailbox(String);

/// The setting as it is asked for, stored and shown. `None` and empty mean the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainFields {
    /// `lan`, `dns01` or `http01`.
    pub mode: String,
    /// See [`PublicDomain::domain`].
    pub domain: Option<String>,
    /// See [`PublicDomain::email`].
    pub email: Option<String>,
    /// `duckdns`, `cloudflare` or `generic`.
    pub provider: Option<String>,
    /// See [`UpdateServer::server`]; without a port: 53.
    pub server: Option<String>,
    /// See [`UpdateServer::tsig_name`].
    pub tsig_name: Option<String>,
    /// `hmac-sha256` (where nothing is said), `hmac-sha384` or `hmac-sha512`.
    pub tsig_algorithm: Option<String>,
    /// URL of the authority's ACME directory.
    pub acme_directory: Option<String>,
    /// Certificates that the directory's own is checked by, PEM.
    pub acme_authority: Option<String>,
}

impl Domain {
    /// Reads a setting.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn check(fields: &DomainFields) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let domain = match fields.mode.as_str() {
            "lan" => {
                for (name, _) in fields.given() {
                    faults.add(name, "is of the modes dns01 and http01: leave it out");
                }
                Some(Domain::Lan)
            }
            "dns01" => {
                let provider = DnsProvider::check(&|name: &str| fields.one(name), &mut faults);
                let domain = public_domain(fields, provider.as_ref(), &mut faults);
                PublicDomain::check(fields, domain, provider.map(Proof::Dns), &mut faults)
            }
            "http01" => {
                for name in ["provider", "server", "tsig_name", "tsig_algorithm"] {
                    if fields.one(name).is_some() {
                        faults.add(name, "is of the mode dns01: leave it out");
                    }
                }
                let domain = public_domain(fields, None, &mut faults);
                PublicDomain::check(fields, domain, Some(Proof::Http), &mut faults)
            }
            _ => {
                faults.add("mode", "must be \"lan\", \"dns01\" or \"http01\"");
                None
            }
        };
        domain.filter(|_| faults.is_empty()).ok_or(faults)
    }

    /// Its mode.
    pub fn mode(&self) -> &'static str {
        match self {
            Domain::Lan => "lan",
            Domain::Public(public) => match public.proof {
                Proof::Dns(_) => "dns01",
                Proof::Http => "http01",
            },
        }
    }

    /// The public domain.
    pub fn public(&self) -> Option<&PublicDomain> {
        match self {
            Domain::Lan => None,
            Domain::Public(public) => Some(public),
        }
    }

    /// As it is stored and shown.
    pub fn fields(&self) -> DomainFields {
        let Domain::Public(public) = self else {
            return DomainFields {
                mode: self.mode().to_owned(),
                ..DomainFields::default()
            };
        };
        let PublicDomain {
            domain,
            email,
            proof,
            directory,
        } = &**public;
        let provider = proof.provider();
        let update = provider.and_then(DnsProvider::update);
        DomainFields {
            mode: self.mode().to_owned(),
            domain: Some(domain.to_string()),
            email: email.as_ref().map(|mailbox| mailbox.0.clone()),
            provider: provider.map(|provider| provider.as_str().to_owned()),
            server: update.map(|update| update.server.to_string()),
            tsig_name: update.map(|update| update.tsig_name.to_string()),
            tsig_algorithm: update.map(|update| update.algorithm.as_str().to_owned()),
            acme_directory: directory.as_ref().map(|directory| directory.url().to_owned()),
            acme_authority: directory
                .as_ref()
                .and_then(Directory::authority)
                .map(str::to_owned),
        }
    }
}

impl Proof {
    /// Who answers for the domain and is asked to prove it.
    pub fn provider(&self) -> Option<&DnsProvider> {
        match self {
            Proof::Dns(provider) => Some(provider),
            Proof::Http => None,
        }
    }
}

fn public_domain(
    fields: &DomainFields,
    provider: Option<&DnsProvider>,
    faults: &mut Faults,
) -> Option<HostName> {
    match fields.one("domain") {
        Some(text) => faults.keep("domain", public_name(text, provider)),
        None => {
            faults.add(
                "domain",
                "is required: the public domain of the services, e.g. \"home.example.org\"",
            );
            None
        }
    }
}

impl PublicDomain {
    fn check(
        fields: &DomainFields,
        domain: Option<HostName>,
        proof: Option<Proof>,
        faults: &mut Faults,
    ) -> Option<Domain> {
        let given = |name: &str| fields.one(name);
        let email = given("email").map(|text| {
            Mailbox::parse(text)
                .ok_or("must be one mailbox, local@host, of letters, digits, \".\", \"-\" and \"_\"")
        });
        let email = email.and_then(|read| faults.keep("email", read));
        let directory =
            given("acme_directory").map(|url| Directory::check(url, given("acme_authority"), faults));
        if directory.is_none() && given("acme_authority").is_some() {
            faults.add(
                "acme_authority",
                "is of an acme_directory of your own: name that, too",
            );
        }
        Some(Domain::Public(Box::new(PublicDomain {
            domain: domain?,
            email,
            proof: proof?,
            directory: directory.unwrap_or_default(),
        })))
    }

    /// Whether the internet has to reach the proxy.
    pub fn is_asked_by_http(&self) -> bool {
        self.proof == Proof::Http
    }

    /// What Caddy has to reach beside the internet: addresses that lie at home, as well.
    pub fn reach(&self) -> Vec<Service> {
        let mut reach = Vec::new();
        let at = |server: SocketAddrV4, protocol| Service {
            address: IpAddr::V4(*server.ip()),
            protocol,
            port: server.port(),
        };
        if let Proof::Dns(DnsProvider::Generic(update)) = &self.proof {
            reach.extend([Protocol::Udp, Protocol::Tcp].map(|protocol| at(update.server, protocol)));
        }
        if let Some(server) = self.directory.as_ref().and_then(Directory::address) {
            let service = at(server, Protocol::Tcp);
            if !reach.contains(&service) {
                reach.push(service);
            }
        }
        reach
    }
}

impl DnsProvider {
    fn check<'a>(given: &impl Fn(&str) -> Option<&'a str>, faults: &mut Faults) -> Option<Self> {
        let kind = given("provider");
        if kind != Some("generic") {
            for name in ["server", "tsig_name", "tsig_algorithm"] {
                if given(name).is_some() {
                    faults.add(name, "is of the provider generic: leave it out");
                }
            }
        }
        match kind {
            Some("duckdns") => Some(DnsProvider::Duckdns),
            Some("cloudflare") => Some(DnsProvider::Cloudflare),
            Some("generic") => UpdateServer::check(given, faults).map(DnsProvider::Generic),
            Some(_) => {
                faults.add("provider", "must be \"duckdns\", \"cloudflare\" or \"generic\"");
                None
            }
            None => {
                faults.add(
                    "provider",
                    "is required: \"duckdns\", \"cloudflare\" or \"generic\" (RFC 2136)",
                );
                None
            }
        }
    }

    /// Its word.
    pub fn as_str(&self) -> &'static str {
        match self {
            DnsProvider::Duckdns => "duckdns",
            DnsProvider::Cloudflare => "cloudflare",
            DnsProvider::Generic(_) => "generic",
        }
    }

    fn update(&self) -> Option<&UpdateServer> {
        match self {
            DnsProvider::Generic(update) => Some(update),
            DnsProvider::Duckdns | DnsProvider::Cloudflare => None,
        }
    }

    /// Whether a text can be the token of this provider.
    ///
    /// # Errors
    /// A sentence for the caller, which does not repeat it.
    pub fn check_token(&self, token: &str) -> Result<(), &'static str> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        match self {
            DnsProvider::Duckdns | DnsProvider::Cloudflare => ((8..=256).contains(&token.len())
                && token.bytes().all(plain))
            .then_some(())
            .ok_or("must be the provider's token: 8-256 letters, digits, \"-\", \"_\" and \".\""),
            DnsProvider::Generic(_) => {
                let key = STANDARD.decode(token).unwrap_or_default();
                ((16..=512).contains(&key.len()))
                    .then_some(())
                    .ok_or("must be the key's secret, 16-512 bytes as base64, as tsig-keygen prints it")
            }
        }
    }
}

impl UpdateServer {
    fn check<'a>(given: &impl Fn(&str) -> Option<&'a str>, faults: &mut Faults) -> Option<Self> {
        let server = match given("server") {
            Some(text) => faults.keep("server", server_of(text)),
            None => {
                faults.add(
                    "server",
                    "is required: the IPv4 address of the server that takes updates, e.g. \"192.0.2.53\"",
                );
                None
            }
        };
        let tsig_name = match given("tsig_name") {
            Some(text) => faults.keep("tsig_name", HostName::parse(text)),
            None => {
                faults.add(
                    "tsig_name",
                    "is required: the name of the key that the server knows",
                );
                None
            }
        };
        let algorithm = match given("tsig_algorithm") {
            Some(text) => faults.keep("tsig_algorithm", KeyAlgorithm::parse(text)),
            None => Some(KeyAlgorithm::HmacSha256),
        };
        Some(UpdateServer {
            server: server?,
            tsig_name: tsig_name?,
            algorithm: algorithm?,
        })
    }
}

fn server_of(text: &str) -> Result<SocketAddrV4, &'static str> {
    let alone = || text.parse::<Ipv4Addr>().map(|ip| SocketAddrV4::new(ip, 53));
    let server = text.parse::<SocketAddrV4>().or_else(|_| alone());
    let server = server
        .map_err(|_| "must be an IPv4 address, with a port where it is not 53: containers have no IPv6")?;
    can_be_reached(server)?;
    Ok(server)
}

/// Whether netd lets a container to it (`service_of`): anything but what never leaves the machine or its links.
fn can_be_reached(at: SocketAddrV4) -> Result<(), &'static str> {
    let ip = *at.ip();
    let is_nowhere = ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.octets()[0] == 0;
    if is_nowhere || ip.octets()[0] >= 240 || at.port() == 0 {
        return Err("must be an address that others are at, and a port of 1-65535");
    }
    Ok(())
}

/// A name that an authority of the web can vouch for.
fn public_name(text: &str, provider: Option<&DnsProvider>) -> Result<HostName, String> {
    let name = HostName::parse(text).map_err(|error| error.to_string())?;
    let labels: Vec<&str> = text.split('.').collect();
    let last = labels.last().copied().unwrap_or_default();
    if text.len() > DOMAIN_MAX {
        return Err(format!(
            "must have at most {DOMAIN_MAX} bytes, so that names of services fit before it"
        ));
    }
    if labels.len() < 2 || last.bytes().all(|b| b.is_ascii_digit()) || NOT_PUBLIC.contains(&last) {
        return Err("must be a public domain, e.g. \"home.example.org\"".to_owned());
    }
    if matches!(provider, Some(DnsProvider::Duckdns)) && (labels.len() < 3 || !text.ends_with(".duckdns.org"))
    {
        return Err("must be your name at DuckDNS, e.g. \"myhome.duckdns.org\"".to_owned());
    }
    Ok(name)
}

impl KeyAlgorithm {
    /// Reads its word.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "hmac-sha256" => Ok(KeyAlgorithm::HmacSha256),
            "hmac-sha384" => Ok(KeyAlgorithm::HmacSha384),
            "hmac-sha512" => Ok(KeyAlgorithm::HmacSha512),
            _ => Err("must be \"hmac-sha256\", \"hmac-sha384\" or \"hmac-sha512\""),
        }
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyAlgorithm::HmacSha256 => "hmac-sha256",
            KeyAlgorithm::HmacSha384 => "hmac-sha384",
            KeyAlgorithm::HmacSha512 => "hmac-sha512",
        }
    }
}

impl Mailbox {
    /// Reads one; None: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (local, host) = text.split_once('@')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let fits =
            (1..=64).contains(&local.len()) && local.bytes().all(plain) && HostName::parse(host).is_ok();
        fits.then(|| Mailbox(text.to_owned()))
    }
}

impl DomainFields {
    fn one(&self, name: &str) -> Option<&str> {
        self.given().find(|(one, _)| *one == name).map(|(_, text)| text)
    }

    /// What is given beside the mode, by the names that faults have.
    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let DomainFields {
            mode: _,
            domain,
            email,
            provider,
            server,
            tsig_name,
            tsig_algorithm,
            acme_directory,
            acme_authority,
        } = self;
        let all = [
            ("domain", domain),
            ("email", email),
            ("provider", provider),
            ("server", server),
            ("tsig_name", tsig_name),
            ("tsig_algorithm", tsig_algorithm),
            ("acme_directory", acme_directory),
            ("acme_authority", acme_authority),
        ];
        all.into_iter().filter_map(|(name, text)| {
            let text = text.as_deref().filter(|text| !text.is_empty())?;
            Some((name, text))
        })
    }
}

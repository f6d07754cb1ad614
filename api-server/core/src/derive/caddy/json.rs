//! The part of Caddy's JSON that is used, as its documentation has it.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::{CHALLENGE_PORT, LoadedCertificate, LogLevel};
use crate::domain::{Directory, DnsProvider, KeyAlgorithm, Mailbox, PublicDomain, TOKEN_FILE};
use crate::published::HostName;

/// How long after a record was written the authority may look for it, where nobody can see whether it is there: every question for the
/// public domain is answered by the cell itself. Nanoseconds, as Caddy counts.
const PROPAGATION: i64 = 45_000_000_000;

/// The whole of it. Shows nothing: a key is in it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    pub(super) admin: Admin,
    pub(super) logging: Logging,
    pub(super) apps: Apps,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Config(..)")
    }
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Admin {
    #[serde(rename = "@id")]
    pub id: String,
    pub listen: String,
    pub config: AdminConfig,
}

/// Nothing is kept on disk: it would be the former state after a start.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct AdminConfig {
    pub persist: bool,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Logging {
    pub logs: Logs,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Logs {
    pub default: Log,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Log {
    pub level: LogLevel,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Apps {
    pub http: Http,
    pub tls: Tls,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Events>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Events {
    subscriptions: [Subscription; 1],
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Subscription {
    events: [&'static str; 2],
    handlers: [EventHandler; 1],
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct EventHandler {
    handler: &'static str,
}

impl Events {
    /// What became of certificates is noted by the cell's own module, which tells it at the admin socket.
    pub fn of_certificates() -> Self {
        Events {
            subscriptions: [Subscription {
                events: ["cert_obtained", "cert_failed"],
                handlers: [EventHandler { handler: "cell" }],
            }],
        }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Http {
    pub http_port: u16,
    pub https_port: u16,
    pub servers: Servers,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Servers {
    pub services: Server,
    pub redirect: Server,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Server {
    pub listen: Vec<String>,
    pub routes: Vec<Route>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_connection_policies: Option<Vec<Empty>>,
    pub automatic_https: AutomaticHttps,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<Empty>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct AutomaticHttps {
    pub disable: bool,
    pub disable_redirects: bool,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Route {
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    matches: Vec<Match>,
    handle: [Handler; 1],
    terminal: bool,
}

impl Route {
    /// Ends what fits one of `matches`; without any, everything.
    pub fn to(matches: Vec<Match>, handler: Handler) -> Self {
        Route {
            matches,
            handle: [handler],
            terminal: true,
        }
    }

    /// Every request, which goes on.
    pub fn through(handler: Handler) -> Self {
        Route {
            matches: Vec::new(),
            handle: [handler],
            terminal: false,
        }
    }
}

/// All of it must fit.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Match {
    From {
        host: Vec<HostName>,
        #[serde(skip_serializing_if = "Option::is_none")]
        remote_ip: Option<RemoteIp>,
    },
    Value {
        vars: BTreeMap<&'static str, [&'static str; 1]>,
    },
}

impl Match {
    pub fn of(hosts: &[HostName], ranges: Option<Vec<IpNet>>) -> Self {
        Match::From {
            host: hosts.to_vec(),
            remote_ip: ranges.map(|ranges| RemoteIp { ranges }),
        }
    }

    /// What [`Handler::map`] found nothing for.
    pub fn without_backend() -> Self {
        Match::Value {
            vars: BTreeMap::from([(BACKEND, [NO_BACKEND])]),
        }
    }
}

/// The address that the connection comes from, whatever a header says.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct RemoteIp {
    ranges: Vec<IpNet>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "handler", rename_all = "snake_case")]
pub(super) enum Handler {
    Map {
        source: &'static str,
        destinations: [&'static str; 1],
        mappings: Vec<Mapping>,
        defaults: [&'static str; 1],
    },
    ReverseProxy {
        upstreams: [Upstream; 1],
    },
    StaticResponse {
        status_code: u16,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<&'static str, Vec<&'static str>>,
        close: bool,
    },
}

/// What stands for the container that answers. No name of a host has such letters: Caddy would take it for a circle.
const BACKEND: &str = "{CELL_BACKEND}";
/// In place of an address.
const NO_BACKEND: &str = "none";

impl Handler {
    /// Which container answers, by the name that is asked for, letter by letter.
    pub fn map(mappings: Vec<Mapping>) -> Self {
        Handler::Map {
            source: "{http.request.host}",
            destinations: [BACKEND],
            mappings,
            defaults: [NO_BACKEND],
        }
    }

    /// To that container.
    pub fn to_backend() -> Self {
        Handler::ReverseProxy {
            upstreams: [Upstream { dial: BACKEND }],
        }
    }

    pub fn status(status_code: u16) -> Self {
        Handler::StaticResponse {
            status_code,
            headers: BTreeMap::new(),
            close: true,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Upstream {
    dial: &'static str,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Mapping {
    input: HostName,
    outputs: [SocketAddrV4; 1],
}

impl Mapping {
    pub fn of(host: &HostName, backend: SocketAddrV4) -> Self {
        Mapping {
            input: host.clone(),
            outputs: [backend],
        }
    }

    pub fn host(&self) -> &HostName {
        &self.input
    }
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Loaders>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automation: Option<Automation>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Loaders {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load_pem: Vec<Pem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub automate: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Pem {
    pub certificate: String,
    #[serde(serialize_with = "told")]
    pub key: Zeroizing<String>,
}

impl Pem {
    pub fn of(loaded: &LoadedCertificate) -> Self {
        Pem {
            certificate: loaded.chain.clone(),
            key: loaded.key.clone(),
        }
    }
}

fn told<S: Serializer>(key: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(key)
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Automation {
    pub policies: Vec<Policy>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Policy {
    pub subjects: Vec<String>,
    pub issuers: Vec<Issuer>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Issuer {
    module: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<Mailbox>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted_roots_pem: Option<String>,
    challenges: Challenges,
}

impl Issuer {
    pub fn of(public: &PublicDomain) -> Self {
        let directory = public.directory.as_ref();
        Issuer {
            module: "cell",
            email: public.email.clone(),
            ca: directory.map(|directory| directory.url().to_owned()),
            trusted_roots_pem: directory.and_then(Directory::authority).map(str::to_owned),
            challenges: Challenges {
                http: match public.proof.provider() {
                    Some(_) => HttpChallenge::Disabled { disabled: true },
                    None => HttpChallenge::At {
                        alternate_port: CHALLENGE_PORT,
                    },
                },
                tls_alpn: Disabled { disabled: true },
                dns: public.proof.provider().map(Dns::of),
            },
        }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Challenges {
    http: HttpChallenge,
    #[serde(rename = "tls-alpn")]
    tls_alpn: Disabled,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<Dns>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum HttpChallenge {
    Disabled {
        disabled: bool,
    },
    /// Caddy listens there as long as a challenge runs.
    At {
        alternate_port: u16,
    },
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Disabled {
    disabled: bool,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Dns {
    provider: Provider,
    /// Who is asked where the domain's zone begins, and whether a record is there. None: the relay, which answers for the
    /// domain itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resolvers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    propagation_delay: Option<i64>,
    /// -1: it is not looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    propagation_timeout: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Provider {
    name: &'static str,
    provider: &'static str,
    token_file: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_name: Option<HostName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_algorithm: Option<KeyAlgorithm>,
}

impl Dns {
    fn of(provider: &DnsProvider) -> Self {
        let plain = |kind| Provider {
            name: "cell",
            provider: kind,
            token_file: TOKEN_FILE,
            server: None,
            key_name: None,
            key_algorithm: None,
        };
        let unseen = |kind| Dns {
            provider: plain(kind),
            resolvers: Vec::new(),
            propagation_delay: Some(PROPAGATION),
            propagation_timeout: Some(-1),
        };
        match provider {
            DnsProvider::Duckdns => unseen("duckdns"),
            DnsProvider::Cloudflare => unseen("cloudflare"),
            // Who takes the update is asked for it.
            DnsProvider::Generic(update) => Dns {
                provider: Provider {
                    server: Some(update.server.to_string()),
                    key_name: Some(update.tsig_name.clone()),
                    key_algorithm: Some(update.algorithm),
                    ..plain("rfc2136")
                },
                resolvers: vec![update.server.to_string()],
                propagation_delay: None,
                propagation_timeout: None,
            },
        }
    }
}

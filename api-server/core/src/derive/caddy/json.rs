//! The part of Caddy's JSON that is used, as its documentation has it.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::{DnsProvider, LoadedCertificate, LogLevel, Mailbox};
use crate::published::HostName;

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
    pub fn to(matches: Option<Match>, handler: Handler) -> Self {
        Route {
            matches: matches.into_iter().collect(),
            handle: [handler],
            terminal: true,
        }
    }
}

/// All of it must fit.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Match {
    host: Vec<HostName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_ip: Option<RemoteIp>,
}

impl Match {
    pub fn of(hosts: &[HostName], ranges: Option<Vec<IpNet>>) -> Option<Self> {
        Some(Match {
            host: hosts.to_vec(),
            remote_ip: ranges.map(|ranges| RemoteIp { ranges }),
        })
    }
}

/// The address that the connection comes from, whatever a header says.
#[derive(Clone, PartialEq, Eq, Serialize)]
struct RemoteIp {
    ranges: Vec<IpNet>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "handler", rename_all = "snake_case")]
pub(super) enum Handler {
    ReverseProxy {
        upstreams: Vec<Upstream>,
    },
    StaticResponse {
        status_code: u16,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<&'static str, Vec<&'static str>>,
        close: bool,
    },
}

impl Handler {
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
    pub dial: String,
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
    pub load_pem: Vec<Pem>,
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
    pub subjects: Vec<HostName>,
    pub issuers: Vec<Issuer>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Issuer {
    pub module: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Mailbox>,
    pub challenges: Challenges,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Challenges {
    http: Disabled,
    #[serde(rename = "tls-alpn")]
    tls_alpn: Disabled,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<Dns>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Disabled {
    disabled: bool,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Dns {
    provider: Provider,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "lowercase")]
enum Provider {
    Duckdns {
        api_token: &'static str,
    },
    Cloudflare {
        api_token: &'static str,
    },
    Rfc2136 {
        server: &'static str,
        key_name: &'static str,
        key_alg: &'static str,
        key: &'static str,
    },
}

/// What Caddy puts in place of it, from its own environment.
const TOKEN: &str = "{env.CELL_DNS_TOKEN}";

impl Challenges {
    pub fn http() -> Self {
        Challenges {
            http: Disabled { disabled: false },
            tls_alpn: Disabled { disabled: true },
            dns: None,
        }
    }

    pub fn dns(provider: DnsProvider) -> Self {
        let provider = match provider {
            DnsProvider::Duckdns => Provider::Duckdns { api_token: TOKEN },
            DnsProvider::Cloudflare => Provider::Cloudflare { api_token: TOKEN },
            DnsProvider::Generic => Provider::Rfc2136 {
                server: "{env.CELL_DNS_SERVER}",
                key_name: "{env.CELL_DNS_KEY_NAME}",
                key_alg: "hmac-sha256",
                key: TOKEN,
            },
        };
        Challenges {
            http: Disabled { disabled: true },
            tls_alpn: Disabled { disabled: true },
            dns: Some(Dns { provider }),
        }
    }
}

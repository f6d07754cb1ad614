//! Caddy's configuration: for each service's name, who may open it and which container answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::{Proof, PublicDomain};
use crate::published::{HostName, Published, ServiceRecord};

/// Where Caddy listens for HTTPS, in its container.
pub const HTTPS_PORT: u16 = 8443;
/// The same for HTTP, which only leads to HTTPS.
pub const HTTP_PORT: u16 = 8080;
/// Where Caddy answers an authority's questions, while one is to come and never else. `services.public_http` of netd.toml has it too.
pub const CHALLENGE_PORT: u16 = 8480;
/// Caddy's own socket, in its container: where its manifest mounts the folder that the machine may have elsewhere.
pub const ADMIN_SOCKET: &str = "/run/cell/caddy/admin.sock";

/// What is not the services' affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaddySettings {
    /// Caddy's own socket, as it sees it.
    pub admin: AdminListen,
    /// Where it listens: [`HTTPS_PORT`] and [`HTTP_PORT`] but in tests.
    pub ports: [u16; 2],
    /// The VPN's ranges: who comes from elsewhere opens nothing.
    pub vpn: [IpNet; 2],
    /// What is logged.
    pub log: LogLevel,
}

/// A Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminListen {
    /// An absolute path.
    pub path: String,
    /// Its permissions; None: as the umask has it, for a Caddy older than 2.8, which takes none.
    pub mode: Option<u16>,
}

/// What Caddy logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// What changes, too, and every request.
    Info,
}

/// By what devices know that they speak to the cell. By nothing at all, no handshake succeeds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Certificates that the cell's CA signed.
    pub loaded: Vec<LoadedCertificate>,
    /// Those of the public domain, which Caddy gets by itself and keeps: one for all names, or one for each ([`certified`]). It takes modules of the cell's own
    /// (`compose/images/caddy/acme`): another Caddy refuses the configuration and keeps the one that it has.
    pub public: Option<PublicDomain>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct LoadedCertificate {
    /// The leaf first.
    pub chain: String,
    /// Wiped when it goes.
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for LoadedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoadedCertificate(..)")
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let loaded = self.loaded.len();
        write!(f, "Certificates({loaded} loaded, {:?})", self.public)
    }
}

impl From<Vec<LoadedCertificate>> for Certificates {
    fn from(loaded: Vec<LoadedCertificate>) -> Self {
        Certificates { loaded, public: None }
    }
}

/// The names of the certificates that Caddy gets for a public domain: of everything directly below it, or where each is proven by itself of those
/// that are published.
pub fn certified(published: &Published, public: &PublicDomain) -> Vec<String> {
    match public.proof {
        Proof::Dns(_) => vec![format!("*.{}", public.domain)],
        Proof::Http => {
            let mut names: Vec<String> = (hosts(published).iter())
                .filter(|host| host.is_below(&public.domain))
                .map(ToString::to_string)
                .collect();
            names.dedup();
            names
        }
    }
}

/// The names that a certificate of the services is for, in order: those that have something for browsers.
pub fn hosts(published: &Published) -> Vec<HostName> {
    let mut all: Vec<HostName> = (routes(published).into_iter())
        .flat_map(|(_, hosts)| hosts)
        .collect();
    all.sort();
    all
}

/// The same by the service that they are of; of one with several backends more than once.
pub fn hosts_of_services(published: &Published) -> Vec<(&str, Vec<HostName>)> {
    (routes(published).into_iter())
        .map(|(service, hosts)| (service.name.as_str(), hosts))
        .collect()
}

fn routes(published: &Published) -> Vec<(&ServiceRecord, Vec<HostName>)> {
    let domains = published.distinct_domains();
    let labels = published.labels();
    let named = published.services.iter().zip(labels).map(|(service, labels)| {
        let of = |domain: &&HostName| -> Vec<HostName> {
            labels.iter().filter_map(|label| domain.child(label)).collect()
        };
        (service, domains.iter().flat_map(of).collect::<Vec<_>>())
    });
    named
        .filter(|(service, hosts)| service.web.is_some() && !hosts.is_empty())
        .collect()
}

/// The configuration, and the mark that Caddy knows it by (`/id/<mark>`).
pub fn config(
    published: &Published,
    settings: &CaddySettings,
    certificates: &Certificates,
) -> (Config, String) {
    let routes = routes(published);
    let hosts: Vec<HostName> = hosts(published);
    let mut config = Config {
        admin: Admin {
            id: String::new(),
            listen: settings.admin.rendered(),
            config: AdminConfig { persist: false },
        },
        logging: Logging {
            logs: Logs {
                default: Log { level: settings.log },
            },
        },
        apps: Apps {
            http: Http {
                http_port: settings.ports[1],
                https_port: settings.ports[0],
                servers: Servers {
                    services: services(published, &routes, settings),
                    redirect: redirect(&hosts, settings),
                },
            },
            tls: tls(published, certificates),
            events: certificates.public.as_ref().map(|_| Events::of_certificates()),
        },
    };
    // Whatever is in it changes the mark. It is a function of the rest, so it is made of it.
    let rest = serde_json::to_vec(&config)
        .map(Zeroizing::new)
        .unwrap_or_default();
    let mark = format!("cell-{}", hex::encode(Sha256::digest(&*rest)));
    config.admin.id.clone_from(&mark);
    (config, mark)
}

fn services(
    published: &Published,
    routes: &[(&ServiceRecord, Vec<HostName>)],
    settings: &CaddySettings,
) -> Server {
    // Who has been granted what, looked up once for all routes.
    let mut granted: BTreeMap<_, Vec<IpAddr>> = BTreeMap::new();
    for reader in &published.readers {
        for grant in &reader.granted {
            granted.entry(*grant).or_default().extend(&reader.addresses);
        }
    }
    let (mut backends, mut doors) = (Vec::new(), BTreeMap::<Vec<IpNet>, Vec<HostName>>::new());
    for (service, hosts) in routes {
        let Some(web) = service.web else { continue };
        let mut ranges: Vec<IpNet> = if service.everyone {
            settings.vpn.to_vec()
        } else {
            let readers = granted.get(&service.web_grant()).into_iter().flatten();
            readers.map(|ip| IpNet::from(*ip)).collect()
        };
        backends.extend(hosts.iter().map(|host| Mapping::of(host, web)));
        ranges.sort();
        // A matcher without a range would match nobody, but is not left to Caddy's reading.
        if !ranges.is_empty() {
            doors.entry(ranges).or_default().extend_from_slice(hosts);
        }
    }
    Server {
        listen: vec![format!(":{}", settings.ports[0])],
        routes: behind(backends, doors),
        tls_connection_policies: Some(vec![Empty {}]),
        // Which certificates there are is said below `tls`, and not concluded from hosts.
        automatic_https: AutomaticHttps {
            disable: true,
            disable_redirects: true,
        },
        logs: settings.log.of_requests(),
    }
}

/// The same few routes for any number of names: each proxy of Caddy's takes tens of kilobytes, and each route is gone through by
/// every request. `doors`: who may open which names, each set of addresses once.
fn behind(backends: Vec<Mapping>, doors: BTreeMap<Vec<IpNet>, Vec<HostName>>) -> Vec<Route> {
    let mut all = Vec::new();
    if !backends.is_empty() {
        let known: Vec<HostName> = backends.iter().map(|one| one.host().clone()).collect();
        all.push(Route::through(Handler::map(backends)));
        // Names in other letters than a browser sends are none, so that matchers and mapping cannot think differently of one.
        all.push(Route::to(vec![Match::without_backend()], Handler::status(421)));
        let doors: Vec<Match> = (doors.into_iter())
            .map(|(ranges, hosts)| Match::of(&hosts, Some(ranges)))
            .collect();
        if !doors.is_empty() {
            all.push(Route::to(doors, Handler::to_backend()));
        }
        all.push(Route::to(vec![Match::of(&known, None)], Handler::status(403)));
    }
    all.push(Route::to(Vec::new(), Handler::status(421)));
    all
}

fn redirect(hosts: &[HostName], settings: &CaddySettings) -> Server {
    let to_https = Handler::StaticResponse {
        status_code: 308,
        headers: BTreeMap::from([("Location", vec!["https://{http.request.host}{http.request.uri}"])]),
        close: true,
    };
    let mut routes = Vec::new();
    if !hosts.is_empty() {
        routes.push(Route::to(vec![Match::of(hosts, None)], to_https));
    }
    routes.push(Route::to(Vec::new(), Handler::status(421)));
    Server {
        listen: vec![format!(":{}", settings.ports[1])],
        routes,
        tls_connection_policies: None,
        automatic_https: AutomaticHttps {
            disable: true,
            disable_redirects: true,
        },
        logs: None,
    }
}

fn tls(published: &Published, certificates: &Certificates) -> Tls {
    let Certificates { loaded, public } = certificates;
    let load_pem: Vec<Pem> = loaded.iter().map(Pem::of).collect();
    let automate: Vec<String> = (public.iter())
        .flat_map(|public| certified(published, public))
        .collect();
    let has_any = !load_pem.is_empty() || !automate.is_empty();
    // A policy without subjects would be one for every name.
    let public = public.as_ref().filter(|_| !automate.is_empty());
    Tls {
        automation: public.map(|public| Automation {
            policies: vec![Policy {
                subjects: automate.clone(),
                issuers: vec![Issuer::of(public)],
            }],
        }),
        certificates: has_any.then_some(Loaders { load_pem, automate }),
    }
}

impl AdminListen {
    fn rendered(&self) -> String {
        let AdminListen { path, mode } = self;
        let mode = mode.map(|mode| format!("|{mode:04o}")).unwrap_or_default();
        format!("unix/{path}{mode}")
    }
}

impl LogLevel {
    fn of_requests(self) -> Option<Empty> {
        match self {
            LogLevel::Error => None,
            LogLevel::Info => Some(Empty {}),
        }
    }
}

mod json;

pub use json::Config;
use json::{
    Admin, AdminConfig, Apps, AutomaticHttps, Automation, Empty, Events, Handler, Http, Issuer, Loaders, Log,
    Logging, Logs, Mapping, Match, Pem, Policy, Route, Server, Servers, Tls,
};

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;

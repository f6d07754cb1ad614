//! Tests a service: each thing that has to work for a device, asked for itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use cell_api_core::published::{HostName, Published};
use cell_api_core::services::called::tested;
use cell_api_core::services::entry::{CLOCK, PROXY};
use cell_api_core::services::health::{Seen, State, Wanted, judge};
use cell_api_core::services::probe;
use cell_manifest::Purpose;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::app::App;
use crate::http::dto::convert::state_name;
use crate::published::Proxy;
use crate::service::store::{self, StatusView};
use crate::service::{ServiceError, cell, published};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// CoreDNS' manifest.
const NAMES: &str = "coredns";

/// What one of the questions gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was asked: `containers`, `port`, `name`, `route`, `time`, `admin`.
    pub name: String,
    /// Whether it works.
    pub ok: bool,
    /// For people.
    pub detail: String,
    /// How long it took, milliseconds.
    pub ms: u64,
}

/// Asks everything of a service.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn test(app: &App, name: &str) -> Result<Vec<Check>, ServiceError> {
    let begun = Instant::now();
    let status = store::status(app, name).await?;
    let mut checks = vec![check("containers", begun, containers(&status))];
    let service = &status.view.service;
    let containers = crate::store::services::addresses(service);
    for (what, at) in tested(&status.view.manifest, &service.instance, &containers) {
        let begun = Instant::now();
        checks.push(check("port", begun, port(app, &what, at).await));
    }
    let manifest = &status.view.manifest;
    match (manifest.purpose, manifest.id.as_str()) {
        (Purpose::Core, CLOCK) => {
            let begun = Instant::now();
            checks.push(check("time", begun, time(app, &status).await));
        }
        (Purpose::Core, PROXY) => {
            let begun = Instant::now();
            checks.push(check("admin", begun, admin(app).await));
        }
        (Purpose::Core, NAMES) => {
            let begun = Instant::now();
            checks.push(check("names", begun, condition(app, "DnsServed")));
        }
        (Purpose::Core | Purpose::Store, _) => {}
    }
    if manifest.routing.is_some() && manifest.purpose == Purpose::Store {
        let state = published::now(app).await?;
        for host in hosts(app, &status)? {
            let begun = Instant::now();
            checks.push(check(
                "name",
                begun,
                resolves(app, state.as_ref(), &status, &host).await,
            ));
        }
        let begun = Instant::now();
        checks.push(check("route", begun, route(app, state.as_ref(), &status)));
    }
    Ok(checks)
}

fn check(name: &str, begun: Instant, outcome: Result<String, String>) -> Check {
    let (ok, detail) = match outcome {
        Ok(detail) => (true, detail),
        Err(detail) => (false, detail),
    };
    Check {
        name: name.to_owned(),
        ok,
        detail,
        ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

fn containers(status: &StatusView) -> Result<String, String> {
    if let Some(fault) = &status.fault {
        return Err(fault.clone());
    }
    let service = &status.view.service;
    let seen: Vec<Seen> = status
        .containers
        .iter()
        .map(|one| Seen {
            name: one.container.name.clone(),
            state: state_name(one.made.state()).to_owned(),
            exit_code: one.made.exit_code,
            health: one.made.health.clone(),
            started_unix_ms: one.made.started_unix_ms,
        })
        .collect();
    let fault = service.fault.as_ref();
    let wanted = Wanted {
        phase: service.phase,
        stopped: service.stopped,
        fault: fault.map(|fault| (fault.code.as_str(), fault.message.as_str())),
    };
    match judge(&wanted, Some(&seen)) {
        (State::Healthy | State::Starting, detail) => Ok(detail),
        (_, detail) => Err(detail),
    }
}

/// A connection to a container, by the relay where there is one: under its unit this process has no network.
async fn reach(app: &App, at: SocketAddrV4) -> Result<Box<dyn Stream>, String> {
    Ok(match &app.egress {
        Some(egress) => Box::new(egress.connect(at).await?),
        None => Box::new(TcpStream::connect(at).await.map_err(|error| error.to_string())?),
    })
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn port(app: &App, what: &str, at: SocketAddrV4) -> Result<String, String> {
    match tokio::time::timeout(PATIENCE, reach(app, at)).await {
        Ok(Ok(_)) => Ok(format!("{what} takes connections at {at}")),
        Ok(Err(error)) => Err(format!("{what} takes no connection at {at}: {error}")),
        Err(_) => Err(format!("{what} does not answer at {at}")),
    }
}

async fn time(app: &App, status: &StatusView) -> Result<String, String> {
    // The relay carries connections, and time is told by datagrams: what asks it then is its own check, in its container.
    if app.egress.is_some() {
        return containers(status).map(|detail| format!("its own check asks it: {detail}"));
    }
    let made = status.view.service.containers.first();
    let made = made.ok_or("it has no container")?;
    let at = SocketAddrV4::new(made.address, 123);
    let mut cookie = [0; 8];
    getrandom::fill(&mut cookie).map_err(|_| "no random bytes can be had")?;
    let asked = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(at).await?;
        socket.send(&probe::time_request(cookie)).await?;
        let mut answer = [0; 128];
        let length = socket.recv(&mut answer).await?;
        Ok::<_, std::io::Error>(probe::is_time(cookie, &answer[..length]))
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(true)) => Ok(format!("it tells the time at {at}")),
        Ok(Ok(false)) => Err(format!("what answers at {at} is no time server")),
        Ok(Err(error)) => Err(format!("it cannot be asked at {at}: {error}")),
        Err(_) => Err(format!("it does not answer at {at}")),
    }
}

async fn admin(app: &App) -> Result<String, String> {
    let path = app.config.caddy_socket.as_ref();
    let path = path.ok_or("this cell has no Caddy (caddy_socket in api.toml)")?;
    let has = tokio::time::timeout(PATIENCE, Proxy::new(path).has("none")).await;
    match has {
        Ok(Ok(_)) => condition(app, "ProxyConfigured"),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer at its admin socket".to_owned()),
    }
}

/// What is known of CoreDNS or Caddy having what is published.
fn condition(app: &App, kind: &str) -> Result<String, String> {
    let conditions = app.published.conditions(&app.config);
    let found = conditions.iter().find(|condition| condition.r#type == kind);
    let found = found.ok_or("this cell has none (core_dns_dir and caddy_socket in api.toml)")?;
    match found.status() {
        cell_proto::common::v1::ConditionStatus::True => Ok(found.message.clone()),
        _ => Err(format!("{} ({})", found.message, found.reason)),
    }
}

fn hosts(app: &App, status: &StatusView) -> Result<Vec<HostName>, ServiceError> {
    cell::identity(app)?;
    let names = status.view.names.iter();
    Ok(names.filter_map(|name| HostName::parse(name).ok()).collect())
}

/// CoreDNS answers a device that may use the service with its address.
async fn resolves(
    app: &App,
    state: Option<&Published>,
    status: &StatusView,
    host: &HostName,
) -> Result<String, String> {
    if app.config.core_dns_dir.is_none() {
        return Err("this cell has no CoreDNS (core_dns_dir in api.toml)".to_owned());
    }
    let address = status.view.address.ok_or("it has no address in the VPN")?;
    let Some(peer) = state.and_then(|state| reader(state, address)) else {
        return Ok(format!("no device may reach it, so {host} is nobody's to find"));
    };
    let SocketAddr::V4(server) = app.config.core_network.coredns() else {
        return Err("CoreDNS has no IPv4 address".to_owned());
    };
    let found = tokio::time::timeout(PATIENCE, ask(app, server, peer, host)).await;
    let found = found.map_err(|_| format!("CoreDNS does not answer at {server}"))??;
    match found.contains(&IpAddr::V4(address)) {
        true => Ok(format!("{host} is {address}, asked as {peer}")),
        false => Err(format!(
            "{host} is {found:?} instead of {address}, asked as {peer}"
        )),
    }
}

/// A device that may reach a service at an address.
fn reader(state: &Published, address: Ipv4Addr) -> Option<Ipv4Addr> {
    let records = || state.services.iter().filter(|record| record.address == address);
    let everyone = records().any(|record| record.everyone);
    let may = |reader: &&cell_api_core::published::Reader| {
        everyone || records().any(|record| reader.granted.iter().any(|grant| record.is_opened_by(grant)))
    };
    let mut addresses = state
        .readers
        .iter()
        .filter(may)
        .flat_map(|reader| &reader.addresses);
    addresses.find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    })
}

async fn ask(
    app: &App,
    server: SocketAddrV4,
    peer: Ipv4Addr,
    host: &HostName,
) -> Result<Vec<IpAddr>, String> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|_| "no random bytes can be had")?;
    let id = u16::from_be_bytes(id);
    let mut stream = reach(app, server)
        .await
        .map_err(|error| format!("CoreDNS cannot be asked at {server}: {error}"))?;
    let asked = async {
        stream.write_all(&probe::question(id, peer, server, host)).await?;
        let length = usize::from(stream.read_u16().await?).min(probe::ANSWER_MAX);
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = asked
        .await
        .map_err(|error| format!("CoreDNS cannot be asked at {server}: {error}"))?;
    probe::addresses(id, host, &answer).map_err(|error| format!("{host}, asked as {peer}: {error}"))
}

/// The proxy goes by a configuration that has the service.
fn route(app: &App, state: Option<&Published>, status: &StatusView) -> Result<String, String> {
    if app.config.caddy_socket.is_none() {
        return Err("this cell has no Caddy (caddy_socket in api.toml)".to_owned());
    }
    let name = &status.view.service.name;
    let services = state.iter().flat_map(|state| &state.services);
    let mut of_it = services.filter(|record| record.name == *name && record.web.is_some());
    let record = of_it.next().ok_or("devices are not let to it")?;
    let backend = record.web.map(|web| web.to_string()).unwrap_or_default();
    condition(app, "ProxyConfigured").map(|_| format!("it leads to {backend}"))
}

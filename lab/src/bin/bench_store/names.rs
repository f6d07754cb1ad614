//! How soon a device sees that one of many services is given to it or taken: by its question to the relay, and by its page. What
//! cell-api would write and send is written and sent here, by the functions that it uses: ten thousand services are not installed.
//! Its own loop waits a tenth of a second for more changes before that, and reads what is published.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cell_api_core::access::Protocol;
use cell_api_core::derive::caddy::{
    self, ADMIN_SOCKET, AdminListen, CaddySettings, Certificates, HTTP_PORT, HTTPS_PORT, LoadedCertificate,
    LogLevel,
};
use cell_api_core::derive::corefile::{self, CorefileSettings, QueryLog};
use cell_api_core::derive::dns;
use cell_api_core::published::{HTTPS, HostName, Label, Published, Reader, ServiceRecord};
use cell_api_core::service_network::ServiceName;
use cell_api_core::services::core_network::CoreNetwork;
use cell_lab::household::{CELL_IN_VPN, DOMAIN};
use cell_lab::measure::{Goal, median};
use cell_lab::process::until;
use cell_lab::resolver::{ask, found};
use cell_lab::store::CORE_NETWORK;
use rcgen::{CertificateParams, KeyPair};

use crate::{Lab, click, memory};

const PATIENCE: Duration = Duration::from_secs(60);
/// Zones and routes follow within a second of a change.
const GOAL_MS: f64 = 1000.0;
/// What the rows measure.
const WHAT: &str = "names: from what cell-api writes to the device, without its loop, by";
/// The phone's address in the VPN: the first device's.
const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 67, 0, 2));

/// Adds the rows. Devices find the service of [`click`] at `address`.
pub fn run(lab: &mut Lab<'_>, address: &str) -> Result<()> {
    let far = Far::new(lab, address)?;
    // Later than what cell-api has written.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let mut serial = u32::try_from(now.as_secs())? + 1000;
    for names in lab.size.names {
        let (mut zones, mut routes, mut refused) = (Vec::new(), Vec::new(), None);
        for round in 0..=lab.size.rounds.min(7) {
            serial += 1;
            let state = state(*names, round % 2 == 1, far.backend)?;
            let zone = far.zones(lab, &state, *names, serial)?;
            // Caddy that does not bear so many is a finding, and not asked again.
            let route = match &refused {
                None => far
                    .routes(lab, &state, *names)
                    .map_err(|error| refused = Some(error))
                    .ok(),
                Some(_) => None,
            };
            // In the first round all of it is new.
            if round > 0 {
                zones.push(zone);
                routes.extend(route);
            }
        }
        if let Some(error) = refused {
            let name = format!("{names} {WHAT} Caddy");
            lab.bench
                .report
                .add(name, format!("{error:#}"), "", "<= 1000", false);
            routes.clear();
        }
        for (what, times) in [("CoreDNS", zones), ("Caddy", routes)] {
            let Some(time) = median(times) else { continue };
            let time = time.as_secs_f64() * 1e3;
            let name = format!("{names} {WHAT} {what}");
            lab.bench.judge(name, time, "ms", Goal::AtMost(GOAL_MS));
        }
        for id in ["coredns", "caddy"] {
            let used = memory::used(lab, id)?;
            lab.bench
                .number(format!("{names} names: memory of {id}"), used, "MiB");
        }
    }
    Ok(())
}

/// All for everyone but the last, which the phone has or not.
fn state(names: usize, is_granted: bool, backend: SocketAddrV4) -> Result<Published> {
    let service = |number: usize| -> Result<ServiceRecord> {
        let last = u32::try_from(number)? + 1;
        Ok(ServiceRecord {
            name: ServiceName::parse(&format!("s{number}")).context("a name")?,
            subdomains: BTreeSet::from([Label::parse(&format!("s{number}"))?]),
            address: Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + last),
            ports: BTreeSet::from([(Protocol::Tcp, HTTPS)]),
            everyone: number + 1 < names,
            web: Some(backend),
        })
    };
    let services: Vec<ServiceRecord> = (0..names).map(service).collect::<Result<_>>()?;
    let last = services.last().context("no service")?.web_grant();
    let granted = is_granted.then_some(last).into_iter().collect();
    Ok(Published {
        domains: vec![HostName::parse(DOMAIN)?],
        services,
        readers: vec![Reader {
            addresses: vec![PHONE],
            granted,
        }],
        links: Vec::new(),
    })
}

/// Of one service's name.
fn certificate(number: usize) -> Result<LoadedCertificate> {
    let key = KeyPair::generate()?;
    let names = CertificateParams::new([format!("s{number}.{DOMAIN}")])?;
    Ok(LoadedCertificate {
        chain: names.self_signed(&key)?.pem(),
        key: key.serialize_pem().into(),
    })
}

/// What a change is seen by.
struct Far {
    /// CoreDNS, by its container's id.
    coredns: String,
    /// The container that answers all names.
    backend: SocketAddrV4,
    /// Where the device opens pages.
    address: String,
    /// One for each service, as cell-api has them.
    certificates: Vec<LoadedCertificate>,
}

impl Far {
    fn new(lab: &Lab<'_>, address: &str) -> Result<Self> {
        // cell-api stands still, so that Docker is asked.
        let filter = format!("name={}-radicale", click::ID);
        let id = lab.docker.say(&["ps", "--quiet", "--filter", &filter])?;
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let told = lab.docker.say(&["inspect", "--format", format, &id])?;
        let container: Ipv4Addr = told.split_whitespace().next().context(told.clone())?.parse()?;
        let most = lab.size.names.iter().copied().max().unwrap_or_default();
        Ok(Far {
            coredns: lab.docker.say(&["ps", "--quiet", "--filter", "name=coredns"])?,
            backend: SocketAddrV4::new(container, 5232),
            address: address.to_owned(),
            certificates: (0..most).map(certificate).collect::<Result<_>>()?,
        })
    }

    fn zones(&self, lab: &Lab<'_>, state: &Published, names: usize, serial: u32) -> Result<Duration> {
        let settings = CorefileSettings {
            relay: CoreNetwork::parse(CORE_NETWORK)?.bridge(),
            log: QueryLog::Errors,
            folder: corefile::FOLDER,
            port: dns::PORT,
        };
        let record = state.services.last().context("no service")?;
        let is_granted = !state.readers.iter().all(|reader| reader.granted.is_empty());
        let name = format!("s{}.{DOMAIN}", names - 1);
        let start = Instant::now();
        let folder = lab.house.dns();
        for (file, text) in corefile::files(state, &settings, serial) {
            let new = folder.join(".unfinished");
            // As cell-api writes them: no power cut leaves half a zone.
            let mut writing = File::create(&new)?;
            writing.write_all(text.as_bytes())?;
            writing.sync_all()?;
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644))?;
            std::fs::rename(new, folder.join(file))?;
        }
        File::open(&folder)?.sync_all()?;
        lab.docker.say(&["kill", "--signal", "SIGUSR1", &self.coredns])?;
        let relay: SocketAddr = format!("{CELL_IN_VPN}:53").parse()?;
        until(PATIENCE, &name, || {
            let answer = ask(&lab.device.namespace, relay, &name, false, Duration::from_secs(1)).ok()??;
            ((answer == found(record.address)) == is_granted && answer.0 != cell_lab::resolver::FAILED.0)
                .then_some(())
        })?;
        let took = start.elapsed();
        // Of former states nothing is kept, as cell-api does it.
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?.file_name().to_string_lossy().into_owned();
            if entry.starts_with("zone-") && !entry.starts_with(&format!("zone-{serial}-")) {
                std::fs::remove_file(folder.join(entry))?;
            }
        }
        Ok(took)
    }

    fn routes(&self, lab: &Lab<'_>, state: &Published, names: usize) -> Result<Duration> {
        let settings = CaddySettings {
            admin: AdminListen {
                path: ADMIN_SOCKET.to_owned(),
                mode: Some(0o660),
            },
            ports: [HTTPS_PORT, HTTP_PORT],
            vpn: ["10.67.0.0/24".parse()?, "fd67::/64".parse()?],
            log: LogLevel::Error,
        };
        let is_granted = !state.readers.iter().all(|reader| reader.granted.is_empty());
        let certificates = Certificates::from(self.certificates[..names].to_vec());
        let start = Instant::now();
        let (config, _) = caddy::config(state, &settings, &certificates);
        let body = serde_json::to_vec(&config)?;
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "--max-time", "60", "--unix-socket"]);
        command.arg(lab.house.caddy_socket());
        command.args([
            "-H",
            "Content-Type: application/json",
            "--data-binary",
            "@-",
            "http://127.0.0.1/load",
        ]);
        let mut curl = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        curl.stdin.take().context("no input")?.write_all(&body)?;
        let output = curl.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        let host = format!("s{}.{DOMAIN}", names - 1);
        let (url, there) = (format!("https://{host}/"), format!("{host}:443:{}", self.address));
        let expected = if is_granted { "302" } else { "403" };
        until(PATIENCE, &host, || {
            let status = lab
                .phone
                .status(&url, &["--insecure", "--resolve", &there])
                .ok()?;
            (status == expected).then_some(())
        })?;
        Ok(start.elapsed())
    }
}

//! The tables of services of the store. There are few, so that each look reads them from the database.

mod purge;
mod secrets;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use cell_api_core::access::Service as Reached;
use cell_api_core::range::{HostIndex, VpnRange};
use cell_api_core::service_network::{Place, ServiceName};
use cell_api_core::services::access::Access;
use cell_api_core::services::called;
use cell_api_core::services::entry::{self, Entries, Published};
use cell_api_core::services::guard::Standing;
use cell_api_core::services::images::ImageSignature;
use cell_api_core::services::phase::Phase;
use cell_manifest::Manifest;
use rusqlite::{Connection, OptionalExtension, Row};

pub use purge::{are_grants_of_peers, hand_over_grants, purge_grants};
pub use secrets::{note_secrets, noted_secrets};
pub use write::{
    AccessChange, allocate_host, forget_unused_manifests, insert, keep_manifest, publish, release,
    set_access, set_containers, update,
};

use super::service_networks;
use crate::service::ServiceError;

const CORRUPT: ServiceError = ServiceError::Storage("a stored service is not one");

/// Texts of fields of the configuration, by name.
pub type Parameters = BTreeMap<String, String>;

/// What a service is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Make {
    /// The manifest.
    pub digest: String,
    /// What was set.
    pub parameters: Parameters,
}

/// Why a service is not as it was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// UPPER_SNAKE, the broker's where it comes from there.
    pub code: String,
    /// For people.
    pub message: String,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub at: i64,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name in the manifest.
    pub name: String,
    /// What the broker knows it by.
    pub handle: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredService {
    /// What it is called.
    pub name: ServiceName,
    /// The instance's name, or nothing.
    pub instance: String,
    /// What it is to be made of.
    pub make: Make,
    /// What ran before, until the new one works.
    pub former: Option<Make>,
    /// What worked last, where that is neither: a way back to it failed.
    pub good: Option<Make>,
    /// Where it stands.
    pub phase: Phase,
    /// With a removal: whether its data goes too.
    pub delete_volumes: bool,
    /// Whether somebody stopped it.
    pub stopped: bool,
    /// Whether devices are let to it.
    pub published: bool,
    /// Its network; none: it is one of the cell's own.
    pub network: Option<Place>,
    /// Its address in the VPN.
    pub host: Option<HostIndex>,
    /// Who may reach it.
    pub access: Access,
    /// Why it is not as it was asked to be.
    pub fault: Option<Fault>,
    /// The generation of the network that netd must have before the next step.
    pub generation: u64,
    /// Another with each change.
    pub revision: u64,
    /// Its containers, the main one first.
    pub containers: Vec<Container>,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub created_unix_ms: i64,
    /// Likewise.
    pub updated_unix_ms: i64,
}

impl StoredService {
    /// What its containers are made of now: while another is on its way, until it is deployed, what ran before.
    pub fn in_force(&self) -> &Make {
        match self.phase.runs_the_new() {
            true => &self.make,
            false => self.former.as_ref().unwrap_or(&self.make),
        }
    }

    /// What an update that does not work goes back to.
    pub fn way_back(&self) -> Option<&Make> {
        self.good.as_ref().or(self.former.as_ref())
    }

    /// The manifests of all that it may run of, each once, that of what it is to be made of first.
    pub fn digests(&self) -> Vec<&str> {
        let mut found = vec![self.make.digest.as_str()];
        for make in [&self.good, &self.former].into_iter().flatten() {
            if !found.contains(&make.digest.as_str()) {
                found.push(&make.digest);
            }
        }
        found
    }

    /// Of manifests in the order of [`StoredService::digests`] that of what runs.
    pub fn in_force_of<'a>(&self, manifests: &'a [Manifest]) -> Option<&'a Manifest> {
        let digests = self.digests();
        let place = digests.iter().position(|one| *one == self.in_force().digest)?;
        manifests.get(place)
    }
}

/// A manifest as it is kept.
#[derive(Debug, Clone)]
pub struct KeptManifest {
    /// Exactly the bytes that the broker is given.
    pub bytes: Vec<u8>,
    /// Base64 of the signature; empty: the broker finds it in its shipped catalog.
    pub signature: String,
    /// Signatures of its images, for the broker.
    pub images: Vec<ImageSignature>,
    /// What they say.
    pub manifest: Manifest,
}

/// All services, in the order of names.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list(connection: &Connection) -> Result<Vec<StoredService>, ServiceError> {
    let Some(range) = super::setup::cell(connection)?.map(|cell| cell.range) else {
        return Ok(Vec::new());
    };
    let networks = service_networks::list(connection)?;
    let mut access = access(connection)?;
    let mut containers = containers(connection)?;
    let sql = format!("SELECT {COLUMNS} FROM service ORDER BY name");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement
        .query_map((), Raw::read)?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter()
        .map(|raw| {
            let place = networks
                .iter()
                .find(|one| Some(one.service.as_str()) == raw.network.as_deref());
            let (peers, own) = (access.remove(&raw.name), containers.remove(&raw.name));
            let place = place.map(|one| one.place.clone());
            raw.into_service(&range, place, peers.unwrap_or_default(), own.unwrap_or_default())
        })
        .collect()
}

/// One service.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::Storage`].
pub fn get(connection: &Connection, name: &str) -> Result<StoredService, ServiceError> {
    find(connection, name)?.ok_or(ServiceError::NoService)
}

/// One service, if it is there.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn find(connection: &Connection, name: &str) -> Result<Option<StoredService>, ServiceError> {
    let all = list(connection)?;
    Ok(all.into_iter().find(|one| one.name.as_str() == name))
}

/// A manifest that is kept.
///
/// # Errors
/// [`ServiceError::Storage`]: also when it is none any more for this version.
pub fn manifest(connection: &Connection, digest: &str) -> Result<KeptManifest, ServiceError> {
    let sql = "SELECT bytes, signature, images FROM service_manifest WHERE digest = ?1";
    let (bytes, signature, images): (Vec<u8>, String, String) = connection
        .prepare_cached(sql)?
        .query_row([digest], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let images = serde_json::from_str(&images).map_err(|_| CORRUPT)?;
    let manifest = Manifest::parse(&bytes).map_err(|_| CORRUPT)?;
    Ok(KeptManifest {
        bytes,
        signature,
        images,
        manifest,
    })
}

/// All services with what their containers are made of now: what devices find is of that.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list_in_force(connection: &Connection) -> Result<Vec<(StoredService, KeptManifest)>, ServiceError> {
    let all = list(connection)?.into_iter();
    all.map(|one| {
        let kept = manifest(connection, &one.in_force().digest)?;
        Ok((one, kept))
    })
    .collect()
}

/// All manifests of each service, as [`StoredService::digests`] has them.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list_manifests(connection: &Connection) -> Result<Vec<(StoredService, Vec<Manifest>)>, ServiceError> {
    let all = list(connection)?.into_iter();
    all.map(|one| {
        let manifests = manifests_of(connection, &one)?;
        Ok((one, manifests))
    })
    .collect()
}

/// All manifests of one.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn manifests_of(connection: &Connection, service: &StoredService) -> Result<Vec<Manifest>, ServiceError> {
    let digests = service.digests().into_iter();
    digests
        .map(|digest| Ok(manifest(connection, digest)?.manifest))
        .collect()
}

/// How all of them stand to each other.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn standings(connection: &Connection) -> Result<Vec<Standing>, ServiceError> {
    let all = list_manifests(connection)?.into_iter();
    Ok(all
        .map(|(one, manifests)| Standing {
            service: one.name.to_string(),
            id: manifests
                .first()
                .map(|manifest| manifest.id.to_string())
                .unwrap_or_default(),
            is_there: one.phase.is_there(),
            // What it may have to go back to needs what it needed.
            requires: manifests
                .iter()
                .flat_map(|manifest| &manifest.requires)
                .map(ToString::to_string)
                .collect(),
        })
        .collect())
}

/// Where devices find services, and who of them may.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn entries(connection: &Connection, range: &VpnRange) -> Result<Entries, ServiceError> {
    let whole = list_in_force(connection)?;
    let addresses: Vec<_> = whole.iter().map(|(one, _)| addresses(one)).collect();
    let published: Vec<Published<'_>> = whole
        .iter()
        .zip(&addresses)
        .filter(|((one, _), _)| one.published)
        .map(|((one, kept), containers)| Published {
            manifest: &kept.manifest,
            address: one.host.map(|host| range.v4_of(host)),
            containers,
            access: &one.access,
        })
        .collect();
    Ok(entry::entries(range.v4_of(HostIndex::CELL), &published))
}

/// Ports of containers that the cell itself opens, of each service that devices are let to.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn called(connection: &Connection) -> Result<BTreeMap<String, BTreeSet<SocketAddrV4>>, ServiceError> {
    let whole = list_in_force(connection)?.into_iter();
    let of_one = |(one, kept): (StoredService, KeptManifest)| {
        let place = one.network.as_ref().filter(|_| one.published)?;
        let ports = called::called(&kept.manifest, &one.instance, &addresses(&one), place);
        Some((one.name.to_string(), ports))
    };
    Ok(whole.filter_map(of_one).collect())
}

/// Addresses of a service's containers, by their names in the manifest.
pub(crate) fn addresses(service: &StoredService) -> BTreeMap<String, Ipv4Addr> {
    let made = service.containers.iter();
    made.map(|made| (made.name.clone(), made.address)).collect()
}

/// What one peer may reach of services, by being named.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn granted(
    connection: &Connection,
    range: &VpnRange,
    peer: &str,
) -> Result<BTreeSet<Reached>, ServiceError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM service_access WHERE peer = ?1)";
    let is_named: bool = connection
        .prepare_cached(sql)?
        .query_row([peer], |row| row.get(0))?;
    if !is_named {
        return Ok(BTreeSet::new());
    }
    Ok(entries(connection, range)?
        .grants
        .remove(peer)
        .unwrap_or_default())
}

/// First labels of the names of all services, but the one called `without`, each with the service's name: of what is to be, and
/// of what runs until then.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn labels(
    connection: &Connection,
    without: Option<&str>,
) -> Result<BTreeMap<String, String>, ServiceError> {
    let mut found = BTreeMap::new();
    for (one, manifests) in list_manifests(connection)? {
        if Some(one.name.as_str()) == without {
            continue;
        }
        for manifest in &manifests {
            let all = cell_api_core::services::labels(manifest, &one.instance);
            found.extend(all.into_keys().map(|label| (label, one.name.to_string())));
        }
    }
    Ok(found)
}

/// The service whose address in the VPN a host has.
///
/// # Errors
/// SQLite's.
pub fn of_host(connection: &Connection, host: HostIndex) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT name FROM service WHERE host = ?1")?
        .query_row([host.get()], |row| row.get(0))
        .optional()
}

/// Hosts of the VPN's range that are services'.
///
/// # Errors
/// SQLite's.
pub fn hosts(connection: &Connection) -> rusqlite::Result<BTreeSet<u32>> {
    connection
        .prepare_cached("SELECT host FROM service WHERE host IS NOT NULL")?
        .query_map((), |row| row.get(0))?
        .collect()
}

/// Hosts that are services', or that rest: nobody is given one while another is free.
///
/// # Errors
/// SQLite's.
pub fn kept_hosts(connection: &Connection) -> rusqlite::Result<BTreeSet<u32>> {
    let sql = "SELECT host FROM service WHERE host IS NOT NULL UNION SELECT host FROM freed_host WHERE host > \
               (SELECT value FROM counter WHERE name = 'highest_host')";
    connection
        .prepare_cached(sql)?
        .query_map((), |row| row.get(0))?
        .collect()
}

/// Whether one of the cell's own containers is there, so that their network is.
///
/// # Errors
/// SQLite's.
pub fn has_core(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM service WHERE network IS NULL)";
    connection.prepare_cached(sql)?.query_row((), |row| row.get(0))
}

fn access(connection: &Connection) -> rusqlite::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut statement = connection.prepare_cached("SELECT service, peer FROM service_access")?;
    for row in statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (service, peer): (String, String) = row?;
        found.entry(service).or_default().insert(peer);
    }
    Ok(found)
}

fn containers(connection: &Connection) -> Result<BTreeMap<String, Vec<Container>>, ServiceError> {
    let sql = "SELECT service, name, handle, address FROM service_container ORDER BY service, position";
    let mut found: BTreeMap<String, Vec<Container>> = BTreeMap::new();
    let mut statement = connection.prepare_cached(sql)?;
    for row in statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))? {
        let (service, name, handle, address): (String, String, String, String) = row?;
        let address = address.parse().map_err(|_| CORRUPT)?;
        found.entry(service).or_default().push(Container {
            name,
            handle,
            address,
        });
    }
    Ok(found)
}

const COLUMNS: &str = "name, instance, manifest_digest, parameters, former_digest, former_parameters, phase, step, \
     delete_volumes, stopped, published, network, host, everyone, error_code, error_message, error_unix_ms, generation, \
     revision, created_unix_ms, updated_unix_ms, good_digest, good_parameters";

struct Raw {
    name: String,
    instance: String,
    digest: String,
    parameters: String,
    former: Option<(String, String)>,
    good: Option<(String, String)>,
    phase: (String, String),
    flags: [bool; 4],
    network: Option<String>,
    host: Option<u32>,
    fault: Option<Fault>,
    generation: u64,
    revision: u64,
    times: (i64, i64),
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
        let former: (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
        let good: (Option<String>, Option<String>) = (row.get(21)?, row.get(22)?);
        let fault: (Option<String>, Option<String>, Option<i64>) = (row.get(14)?, row.get(15)?, row.get(16)?);
        Ok(Raw {
            name: row.get(0)?,
            instance: row.get(1)?,
            digest: row.get(2)?,
            parameters: row.get(3)?,
            former: former.0.zip(former.1),
            good: good.0.zip(good.1),
            phase: (row.get(6)?, row.get(7)?),
            flags: [row.get(8)?, row.get(9)?, row.get(10)?, row.get(13)?],
            network: row.get(11)?,
            host: row.get(12)?,
            fault: fault.0.zip(fault.1).map(|(code, message)| Fault {
                code,
                message,
                at: fault.2.unwrap_or_default(),
            }),
            generation: row.get(17)?,
            revision: row.get(18)?,
            times: (row.get(19)?, row.get(20)?),
        })
    }

    fn into_service(
        self,
        range: &VpnRange,
        network: Option<Place>,
        peers: BTreeSet<String>,
        containers: Vec<Container>,
    ) -> Result<StoredService, ServiceError> {
        let [delete_volumes, stopped, published, everyone] = self.flags;
        let make = |(digest, parameters): (String, String)| -> Result<Make, ServiceError> {
            let parameters = serde_json::from_str(&parameters).map_err(|_| CORRUPT)?;
            Ok(Make { digest, parameters })
        };
        if self.network.is_some() != network.is_some() {
            return Err(CORRUPT);
        }
        Ok(StoredService {
            name: ServiceName::parse(&self.name).map_err(|_| CORRUPT)?,
            instance: self.instance,
            make: make((self.digest, self.parameters))?,
            former: self.former.map(make).transpose()?,
            good: self.good.map(make).transpose()?,
            phase: Phase::from_words(&self.phase.0, &self.phase.1).ok_or(CORRUPT)?,
            delete_volumes,
            stopped,
            published,
            network,
            host: self
                .host
                .map(|host| range.host(host).ok_or(CORRUPT))
                .transpose()?,
            access: if everyone {
                Access::Everyone
            } else {
                Access::Peers(peers)
            },
            fault: self.fault,
            generation: self.generation,
            revision: self.revision,
            containers,
            created_unix_ms: self.times.0,
            updated_unix_ms: self.times.1,
        })
    }
}

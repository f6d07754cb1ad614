//! The tables of networks of services. There are few, so that each look reads them from the database.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cell_api_core::access::{Protocol, Service};
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::service_network::{self, Egress, Place, Pool, ServiceName, ServiceNetwork};
use ipnet::Ipv4Net;
use rusqlite::{Connection, Row};

use super::transaction::{NetworkChange, Tx};
use crate::events::Topic;
use crate::service::ServiceError;

const CORRUPT: ServiceError = ServiceError::Storage("a stored network of a service is not one");

/// All networks, in the order of names.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list(connection: &Connection) -> Result<Vec<ServiceNetwork>, ServiceError> {
    let mut reach: BTreeMap<String, Vec<Service>> = BTreeMap::new();
    let sql = "SELECT service, address, protocol, port FROM service_reach";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((), |row| {
        let reached: (String, String, u16) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((row.get::<_, String>(0)?, reached))
    })?;
    for row in rows {
        let (service, reached) = row?;
        reach.entry(service).or_default().push(reached_of(&reached)?);
    }
    let mut fallbacks = all_fallbacks(connection)?;
    let sql = "SELECT service, number, subnet, egress, exit_connection_id, fail_open FROM service_network \
               ORDER BY service";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement
        .query_map((), Raw::read)?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter()
        .map(|raw| {
            let mut own = reach.remove(&raw.service).unwrap_or_default();
            // By number, as everywhere else: SQLite orders addresses as texts.
            own.sort_unstable();
            let fallbacks = fallbacks.remove(&raw.service).unwrap_or_default();
            raw.into_network(own, fallbacks)
        })
        .collect()
}

/// One network.
///
/// # Errors
/// [`ServiceError::NoServiceNetwork`], [`ServiceError::Storage`].
pub fn get(connection: &Connection, service: &ServiceName) -> Result<ServiceNetwork, ServiceError> {
    let all = list(connection)?;
    all.into_iter()
        .find(|network| network.service == *service)
        .ok_or(ServiceError::NoServiceNetwork)
}

/// Gives a service its network, if it has none: the lowest that is free, without a way to the internet and with nothing that it may
/// reach besides. The network that it has already stays as it is, and so do its grants: they are the owner's, not the manifest's.
///
/// # Errors
/// [`ServiceError::NoServiceRoom`], [`ServiceError::Storage`].
pub fn register_service_network(
    tx: &mut Tx<'_>,
    pool: Pool,
    vpn: Ipv4Net,
    service: &ServiceName,
) -> Result<ServiceNetwork, ServiceError> {
    let all = list(tx)?;
    if let Some(known) = all.iter().find(|network| network.service == *service) {
        return Ok(known.clone());
    }
    let used: Vec<Place> = all.iter().map(|network| network.place.clone()).collect();
    let place = service_network::allocate(pool, vpn, &used)?;
    let sql = "INSERT INTO service_network (service, number, subnet, egress) VALUES (?1, ?2, ?3, 'none')";
    tx.prepare_cached(sql)?
        .execute((service.as_str(), place.number, place.subnet.to_string()))?;
    let detail = format!("{} on {}", place.subnet, place.bridge());
    tx.audit("service.network.add", service, detail);
    // Whoever was granted an address there was not granted this service.
    for other in all {
        let (lost, kept): (BTreeSet<Service>, BTreeSet<Service>) = other
            .reach
            .iter()
            .copied()
            .partition(|one| matches!(one.address, IpAddr::V4(v4) if place.subnet.contains(&v4)));
        if !lost.is_empty() {
            set_reach(tx, &other.service, &kept)?;
        }
    }
    changed(tx);
    get(tx, service)
}

/// Says what a service's containers may reach besides: the whole.
///
/// # Errors
/// SQLite's.
pub fn set_reach(
    tx: &mut Tx<'_>,
    service: &ServiceName,
    reach: &BTreeSet<Service>,
) -> Result<(), ServiceError> {
    tx.prepare_cached("DELETE FROM service_reach WHERE service = ?1")?
        .execute([service.as_str()])?;
    let sql = "INSERT INTO service_reach (service, address, protocol, port) VALUES (?1, ?2, ?3, ?4)";
    for one in reach {
        let at = (one.address.to_string(), one.protocol.as_str(), one.port);
        tx.prepare_cached(sql)?
            .execute((service.as_str(), &at.0, at.1, at.2))?;
    }
    let words: Vec<String> = reach.iter().map(Service::to_string).collect();
    let detail = match words.is_empty() {
        true => "nothing besides".to_owned(),
        false => words.join(" "),
    };
    tx.audit("service.network.reach", service, detail);
    changed(tx);
    Ok(())
}

/// Takes a service's network away, with what it may reach besides; its number and its subnet are free from now on. The absent is left
/// as it is.
///
/// # Errors
/// SQLite's.
pub fn remove_service_network(tx: &mut Tx<'_>, service: &ServiceName) -> Result<(), ServiceError> {
    let sql = "DELETE FROM service_network WHERE service = ?1";
    if tx.prepare_cached(sql)?.execute([service.as_str()])? > 0 {
        tx.audit(
            "service.network.remove",
            service,
            "its bridge carries nothing more",
        );
        changed(tx);
    }
    Ok(())
}

/// Says how a service's containers get to the internet.
///
/// # Errors
/// SQLite's.
pub fn set_egress(tx: &mut Tx<'_>, service: &ServiceName, egress: &Egress) -> Result<(), ServiceError> {
    let word = match egress {
        Egress::Nowhere => "none",
        Egress::Direct => "direct",
        Egress::Exit(_) => "exit",
    };
    let sql =
        "UPDATE service_network SET egress = ?2, exit_connection_id = ?3, fail_open = ?4 WHERE service = ?1";
    let bound = egress.bound().map(|id| id.to_string());
    tx.prepare_cached(sql)?
        .execute((service.as_str(), word, bound, egress.fail_open()))?;
    tx.prepare_cached("DELETE FROM service_fallback WHERE service = ?1")?
        .execute([service.as_str()])?;
    let sql = "INSERT INTO service_fallback (service, place, connection) VALUES (?1, ?2, ?3)";
    for (place, id) in egress.fallbacks().iter().enumerate() {
        tx.prepare_cached(sql)?
            .execute((service.as_str(), place, id.to_string()))?;
    }
    changed(tx);
    Ok(())
}

/// The names of services that use a connection, carried by it or falling back to it: the first `most` in the order of names.
///
/// # Errors
/// SQLite's.
pub fn users(connection: &Connection, id: &ConnectionId, most: usize) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT service FROM service_network WHERE exit_connection_id = ?1 \
               UNION SELECT service FROM service_fallback WHERE connection = ?1 ORDER BY 1 LIMIT ?2";
    connection
        .prepare_cached(sql)?
        .query_map((id.to_string(), most), |row| row.get(0))?
        .collect()
}

/// What stands in for the connections of services, the first first, by service.
fn all_fallbacks(connection: &Connection) -> Result<BTreeMap<String, Vec<ConnectionId>>, ServiceError> {
    let sql = "SELECT service, connection FROM service_fallback ORDER BY service, place";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut all: BTreeMap<String, Vec<ConnectionId>> = BTreeMap::new();
    for row in rows {
        let (service, id) = row?;
        let id = ConnectionId::parse(&id).map_err(|_| CORRUPT)?;
        all.entry(service).or_default().push(id);
    }
    Ok(all)
}

fn changed(tx: &mut Tx<'_>) {
    tx.network(NetworkChange::All);
    tx.effects.topics.extend([Topic::Services, Topic::Connections]);
}

fn reached_of((address, protocol, port): &(String, String, u16)) -> Result<Service, ServiceError> {
    Ok(Service {
        address: address.parse().map_err(|_| CORRUPT)?,
        protocol: Protocol::parse(protocol).map_err(|_| CORRUPT)?,
        port: *port,
    })
}

struct Raw {
    service: String,
    number: u16,
    subnet: String,
    egress: String,
    bound: Option<String>,
    fail_open: Option<bool>,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
        Ok(Raw {
            service: row.get(0)?,
            number: row.get(1)?,
            subnet: row.get(2)?,
            egress: row.get(3)?,
            bound: row.get(4)?,
            fail_open: row.get(5)?,
        })
    }

    fn into_network(
        self,
        reach: Vec<Service>,
        fallbacks: Vec<ConnectionId>,
    ) -> Result<ServiceNetwork, ServiceError> {
        let egress = match (self.egress.as_str(), self.bound) {
            ("none", None) => Egress::Nowhere,
            ("direct", None) => Egress::Direct,
            ("exit", Some(id)) => {
                let id = ConnectionId::parse(&id).map_err(|_| CORRUPT)?;
                Egress::through(id, self.fail_open)
            }
            (_, _) => return Err(CORRUPT),
        };
        Ok(ServiceNetwork {
            service: ServiceName::parse(&self.service).map_err(|_| CORRUPT)?,
            place: Place {
                number: self.number,
                subnet: self.subnet.parse().map_err(|_| CORRUPT)?,
            },
            egress: egress.falling_back_to(fallbacks).map_err(|_| CORRUPT)?,
            reach,
        })
    }
}

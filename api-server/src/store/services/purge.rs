//! Grants of a service's address that are among a peer's own: they are no grants of the service, whose list is its own.

use std::net::IpAddr;
use std::sync::Arc;

use cell_api_core::access::Service as Reached;
use cell_api_core::range::{HostIndex, VpnRange};
use cell_api_core::services::access::Access;
use cell_api_core::services::entry;
use rusqlite::Connection;

use crate::events::Topic;
use crate::service::ServiceError;
use crate::store::peers::{self, StoredPeer};
use crate::store::transaction::{NetworkChange, Tx};

/// Takes grants of a host's addresses from the own ones of all peers.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn purge_grants(tx: &mut Tx<'_>, range: &VpnRange, host: HostIndex) -> Result<(), ServiceError> {
    for name in holders(tx, range, host)? {
        take(
            tx,
            range,
            host,
            &name,
            "the address is no service's any more, or another's",
        )?;
    }
    Ok(())
}

/// Whether peers have grants of services' addresses among their own.
///
/// # Errors
/// SQLite's.
pub fn are_grants_of_peers(connection: &Connection, range: &VpnRange) -> rusqlite::Result<bool> {
    for host in super::hosts(connection)?
        .into_iter()
        .filter_map(|host| range.host(host))
    {
        if !holders(connection, range, host)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes grants of services' addresses, which peers were once given among their own, those of the services' lists: who had all
/// of a service has the service, and who had a part of it has none.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn hand_over_grants(tx: &mut Tx<'_>, range: &VpnRange) -> Result<(), ServiceError> {
    for (service, manifests) in super::list_manifests(tx)? {
        let (Some(host), Some(manifest)) = (service.host, service.in_force_of(&manifests)) else {
            continue;
        };
        for name in holders(tx, range, host)? {
            let had = take(
                tx,
                range,
                host,
                &name,
                "who may reach a service is said at the service",
            )?;
            let wanted = entry::granted_ports(manifest);
            let had_all = wanted.iter().all(|(protocol, port)| {
                let is_it =
                    |one: &Reached| (one.protocol, one.port) == (*protocol, *port) && one.address.is_ipv4();
                had.iter().any(is_it)
            });
            if had_all && !wanted.is_empty() && service.access != Access::Everyone {
                let sql = "INSERT OR IGNORE INTO service_access (service, peer) VALUES (?1, ?2)";
                tx.prepare_cached(sql)?.execute((service.name.as_str(), &name))?;
                tx.audit(
                    "service.access",
                    &service.name,
                    format!("{name}, who had all of it, is named"),
                );
                tx.network(NetworkChange::Peer(name));
                tx.effects.topics.insert(Topic::Services);
            }
        }
    }
    Ok(())
}

/// Peers that have grants of a host's addresses.
fn holders(connection: &Connection, range: &VpnRange, host: HostIndex) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT DISTINCT peer FROM peer_service WHERE address IN (?1, ?2) ORDER BY peer";
    let [v4, v6] = range.addresses_of(host).map(octets);
    connection
        .prepare_cached(sql)?
        .query_map((v4, v6), |row| row.get(0))?
        .collect()
}

/// Takes them from one peer; what it had of them.
fn take(
    tx: &mut Tx<'_>,
    range: &VpnRange,
    host: HostIndex,
    name: &str,
    why: &str,
) -> Result<Vec<Reached>, ServiceError> {
    let Some(mut stored): Option<StoredPeer> = peers::get(tx, range, name)? else {
        return Ok(Vec::new());
    };
    let addresses = range.addresses_of(host);
    let of_it = |one: &&Reached| addresses.contains(&one.address);
    let had: Vec<Reached> = stored
        .peer
        .access
        .services
        .iter()
        .filter(of_it)
        .copied()
        .collect();
    stored
        .peer
        .access
        .services
        .retain(|one| !addresses.contains(&one.address));
    peers::update(tx, &Arc::new(stored))?;
    tx.audit(
        "peer.update",
        name,
        format!("{} service(s) at {} taken away: {why}", had.len(), addresses[0]),
    );
    tx.network(NetworkChange::Reduced(name.to_owned()));
    tx.effects.topics.insert(Topic::Peers);
    Ok(had)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

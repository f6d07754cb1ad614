//! Whether there is room for a service: for its names, for its entries, and for what devices are granted of it.

use std::collections::BTreeMap;

use cell_api_core::access::MAX_SERVICES;
use cell_api_core::fault::Faults;
use cell_api_core::services::access::Access;
use cell_api_core::services::{self, entry, labels};
use cell_manifest::Manifest;

use crate::app::App;
use crate::service::cell::{self, CellIdentity};
use crate::service::{Actor, ServiceError};
use crate::store::peers;
use crate::store::services as table;
use crate::store::transaction::{Origin, Tx};

/// Refuses peers that are not there.
pub(super) fn are_known(tx: &Tx<'_>, access: &Access) -> Result<(), ServiceError> {
    let mut faults = Faults::default();
    for (index, peer) in access.peers().enumerate() {
        let sql = "SELECT EXISTS (SELECT 1 FROM peer WHERE name = ?1)";
        let is_known: bool = tx.prepare_cached(sql)?.query_row([peer], |row| row.get(0))?;
        if !is_known {
            faults.add(format!("allowed_peers[{index}]"), "there is no peer of this name");
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.into())
    }
}

/// Refuses what netd would not take: entries in all, grants of one peer (with its own), and those of all peers. `manifests` are
/// all that the service may be of: what it is to become, and what runs until then.
pub(super) fn fits(
    tx: &Tx<'_>,
    identity: &CellIdentity,
    name: &str,
    manifests: &[Manifest],
    access: &Access,
) -> Result<(), ServiceError> {
    let mut others = table::list_manifests(tx)?;
    others.retain(|(one, _)| one.name.as_str() != name);
    let of_it = most(manifests.iter());
    let of_others = |one: &(table::StoredService, Vec<Manifest>)| most(one.1.iter());
    let entries: usize = others.iter().map(of_others).sum::<usize>() + of_it;
    if entries > services::MOST_ENTRIES {
        return Err(ServiceError::TooManyEntries);
    }
    let named = |access: &Access| access.peers().count();
    let grants = others.iter().map(|one| of_others(one) * named(&one.0.access));
    if grants.sum::<usize>() + of_it * named(access) > services::MOST_GRANTS {
        return Err(ServiceError::TooManyGrants);
    }
    let mut faults = Faults::default();
    for (index, peer) in access.peers().enumerate() {
        let of_peer = others
            .iter()
            .filter(|(one, _)| one.access.peers().any(|p| p == peer));
        let of_store: usize = of_peer.map(of_others).sum();
        let own =
            peers::get(tx, &identity.range, peer)?.map_or(0, |stored| stored.peer.access.services.len());
        if own + of_store + of_it > MAX_SERVICES {
            let text =
                format!("has as many services as a device may have ({MAX_SERVICES}): take some away first");
            faults.add(format!("allowed_peers[{index}]"), text);
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.into())
    }
}

fn most<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> usize {
    manifests.map(entry::grants_of).max().unwrap_or_default()
}

/// Refuses a service that would have a name of another's, of a device's or of the cell's own.
pub(super) fn names_are_free(
    tx: &Tx<'_>,
    name: &str,
    manifest: &Manifest,
    instance: &str,
) -> Result<(), ServiceError> {
    let refusal =
        |label: &str, whose: &str| Err(ServiceError::ServiceNameTaken(format!("{label} is {whose}")));
    if services::RESERVED.contains(&name) {
        return refusal(name, "the cell's own");
    }
    let taken = table::labels(tx, Some(name))?;
    for label in labels(manifest, instance).keys() {
        if let Some(other) = taken.get(label) {
            return refusal(label, &format!("the service {other}'s"));
        }
        if let Some(device) = peers::named_as(tx, label)? {
            return refusal(label, &format!("the device {device}'s"));
        }
    }
    Ok(())
}

/// Makes grants of services' addresses, which peers may have among their own since before that was refused, those of services.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::ChangePending`], [`ServiceError::Storage`].
pub async fn hand_over(app: &App) -> Result<(), ServiceError> {
    let range = cell::identity(app)?.range;
    let are_there =
        move |connection: &rusqlite::Connection| Ok(table::are_grants_of_peers(connection, &range)?);
    if !app.store.read_much(are_there).await? {
        return Ok(());
    }
    app.store
        .mutate(Origin::new(&Actor::cell(), app.now()), move |tx| {
            table::hand_over_grants(tx, &range)
        })
        .await
}

/// Names of devices as DNS has them, with the device of each.
pub(super) fn shadows(app: &App) -> BTreeMap<String, String> {
    let devices = app.peers.list().into_iter();
    devices
        .map(|stored| {
            let name = stored.peer.name.as_str();
            (name.to_ascii_lowercase(), name.to_owned())
        })
        .collect()
}

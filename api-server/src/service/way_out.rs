//! Whether a service may have the way to the internet that is chosen for it, and which one it has at first.

use std::collections::BTreeMap;

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::kind::Kind;
use cell_api_core::service_network::{Egress, ServiceName};
use cell_api_core::services::exits::{Refused, WayOut};
use cell_manifest::Manifest;
use rusqlite::Connection;

use super::ServiceError;
use crate::store::connections;
use crate::store::services as table;

/// What the manifests of each service allow.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn all(connection: &Connection) -> Result<BTreeMap<String, WayOut>, ServiceError> {
    let whole = table::list_manifests(connection)?.into_iter();
    let of_one = |(one, manifests): (table::StoredService, Vec<Manifest>)| {
        (one.name.to_string(), WayOut::of(&manifests))
    };
    Ok(whole.map(of_one).collect())
}

/// What the manifests of one service allow. On a network that no service is of there is no container of the broker's.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn of(connection: &Connection, service: &ServiceName) -> Result<WayOut, ServiceError> {
    let found = all(connection)?.remove(service.as_str());
    Ok(found.unwrap_or_else(WayOut::any))
}

/// Refuses what `way_out` does not allow. `manifest` says whose it is, for people.
///
/// # Errors
/// [`ServiceError::NoWayOut`], [`ServiceError::ExitNotAllowed`].
pub fn judge(
    connection: &Connection,
    service: &str,
    manifest: &'static str,
    way_out: &WayOut,
    egress: &Egress,
) -> Result<(), ServiceError> {
    let names = connections::names(connection)?;
    let kind_of = |id: &ConnectionId| {
        let found = names.iter().find(|(one, _, _)| one == id);
        found.map(|(_, _, kind)| *kind)
    };
    let service = service.to_owned();
    way_out.takes(egress, kind_of).map_err(|refused| match refused {
        Refused::Closed => ServiceError::NoWayOut { service, manifest },
        Refused::NotAllowed { kind, allowed } => ServiceError::ExitNotAllowed {
            service,
            manifest,
            kind,
            allowed: allowed.into_iter().collect(),
        },
    })
}

/// What carries a service where nobody chose: the one connection of the type that its manifest has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// It.
    pub egress: Egress,
    /// The type that is asked for, where it is not had: none is of it, several are, or nothing carries it yet.
    pub lacks: Option<Kind>,
}

/// See [`First`].
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn first(connection: &Connection, manifest: &Manifest) -> Result<First, ServiceError> {
    let Some(kind) = manifest.default_exit().and_then(|kind| Kind::parse(kind).ok()) else {
        return Ok(First {
            egress: Egress::Nowhere,
            lacks: None,
        });
    };
    let mut names = connections::names(connection)?;
    names.retain(|(_, _, of)| *of == kind && kind.is_carried());
    Ok(match names.as_slice() {
        [(id, _, _)] => First {
            egress: Egress::through(*id, None),
            lacks: None,
        },
        _ => First {
            egress: Egress::Nowhere,
            lacks: Some(kind),
        },
    })
}

//! What a peer must not have because of services of the store: a name of theirs, and their addresses among its own grants.

use cell_api_core::access::{MAX_SERVICES, Service};
use cell_api_core::fault::Faults;
use cell_api_core::peer::Peer;
use cell_api_core::range::VpnRange;
use rusqlite::Connection;

use crate::service::ServiceError;
use crate::store::services as table;

/// Refuses a name that a service has: whoever asks for it would get one of the two.
///
/// # Errors
/// [`ServiceError::Invalid`].
pub(super) fn name_is_free(connection: &Connection, peer: &Peer) -> Result<(), ServiceError> {
    let label = peer.name.as_str().to_ascii_lowercase();
    match table::labels(connection, None)?.get(&label) {
        None => Ok(()),
        Some(service) => {
            let text = format!("is the name of the service {service}: choose another");
            Err(Faults::one("name", text).into())
        }
    }
}

/// Refuses grants that a peer did not have `before`: of a service's address, since the service has a list of its own; and more
/// than a peer may have with those of services.
///
/// # Errors
/// [`ServiceError::Invalid`].
pub(super) fn own_services(
    connection: &Connection,
    range: &VpnRange,
    before: Option<&Peer>,
    after: &Peer,
) -> Result<(), ServiceError> {
    let had = |service: &Service| before.is_some_and(|before| before.access.services.contains(service));
    let mut faults = Faults::default();
    for (index, service) in after.access.services.iter().enumerate() {
        let host = range.host_of(service.address).filter(|_| !had(service));
        let Some(owner) = host
            .map(|host| table::of_host(connection, host))
            .transpose()?
            .flatten()
        else {
            continue;
        };
        let text = format!(
            "is where devices find the service {owner}: name the device there instead (PUT /api/services/{owner}/access)"
        );
        faults.add(format!("access.services[{index}].address"), text);
    }
    let grew = before.is_none_or(|before| after.access.services.len() > before.access.services.len());
    if grew {
        let of_store = table::granted(connection, range, after.name.as_str())?.len();
        if of_store + after.access.services.len() > MAX_SERVICES {
            let text = format!(
                "must be at most {} services: with those of the store, which are {of_store}, a device has at most {MAX_SERVICES}",
                MAX_SERVICES.saturating_sub(of_store)
            );
            faults.add("access.services", text);
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.into())
    }
}

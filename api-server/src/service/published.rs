//! What is published: services with their names, and who may use them.

use std::sync::Arc;

use cell_api_core::derive::dns::{Authority, COREDNS};
use cell_api_core::published::{HostName, Published, Reader, ServiceRecord};

use crate::app::App;
use crate::events::Topic;

/// The installed services that have an address in the VPN, in the order of names. Whoever installs or removes one says so by
/// [`set`].
pub fn list(app: &App) -> Arc<Vec<ServiceRecord>> {
    app.published.services()
}

/// These are installed now.
pub fn set(app: &App, mut services: Vec<ServiceRecord>) {
    services.sort_by(|one, other| one.name.cmp(&other.name));
    app.published.set_services(services);
    app.events.publish([Topic::Services]);
}

/// Everything that names and routes follow from; `None` until setup is complete.
pub fn now(app: &App) -> Option<Published> {
    let cell = app.identity()?;
    let domain = HostName::parse(&cell.cell_name.domain()).ok()?;
    let readers = app.peers.list().into_iter().map(|stored| Reader {
        addresses: cell.range.addresses_of(stored.peer.host).into(),
        granted: stored.peer.access.services.clone(),
    });
    Some(Published {
        domains: vec![domain],
        services: list(app).to_vec(),
        readers: readers.collect(),
        links: Vec::new(),
    })
}

/// Who is asked of services' names; `None`: there is none, or there are no such names, which the relay then says itself.
pub fn authority(app: &App) -> Option<Authority> {
    app.config.core_dns_dir.as_ref()?;
    (!list(app).is_empty()).then(|| Authority {
        at: COREDNS,
        zones: Vec::new(),
    })
}

//! What is published: services with their names, and who may use them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use cell_api_core::access::Protocol;
use cell_api_core::derive::dns::Authority;
use cell_api_core::published::{HTTP, HTTPS, HostName, Label, Published, Reader, ServiceRecord};
use cell_api_core::range::VpnRange;
use cell_api_core::services::{entry, labels};

use super::ServiceError;
use crate::app::App;
use crate::store::services::{self as table, KeptManifest, StoredService};

/// Services that devices are let to, in the order of names, as they were read last.
pub fn list(app: &App) -> Arc<Vec<ServiceRecord>> {
    app.published.services()
}

/// Everything that names and routes follow from; `None` until setup is complete.
///
/// # Errors
/// [`ServiceError::Storage`].
pub async fn now(app: &App) -> Result<Option<Published>, ServiceError> {
    let Some(cell) = app.identity() else {
        return Ok(None);
    };
    let Ok(domain) = HostName::parse(&cell.cell_name.domain()) else {
        return Ok(None);
    };
    let range = cell.range;
    let reading = app.store.read_much(move |connection| {
        let entries = table::entries(connection, &range)?;
        let services = table::list_in_force(connection)?;
        let services = services.iter().flat_map(|(one, kept)| records(one, kept, &range));
        Ok((services.collect::<Vec<_>>(), entries.grants))
    });
    let (services, mut granted) = reading.await?;
    app.published.set_services(services.clone());
    let readers = app.peers.list().into_iter().map(|stored| {
        let mut all = stored.peer.access.services.clone();
        all.extend(granted.remove(stored.peer.name.as_str()).unwrap_or_default());
        Reader {
            addresses: cell.range.addresses_of(stored.peer.host).into(),
            granted: all,
        }
    });
    Ok(Some(Published {
        domains: std::iter::once(domain)
            .chain(cell.domain.public().map(|public| public.domain.clone()))
            .collect(),
        services,
        readers: readers.collect(),
        links: Vec::new(),
    }))
}

/// A service, once for each of its containers' ports that names lead to.
fn records(service: &StoredService, kept: &KeptManifest, range: &VpnRange) -> Vec<ServiceRecord> {
    let Some(host) = service.host.filter(|_| service.published) else {
        return Vec::new();
    };
    let at = |container: &str| {
        let mut all = service.containers.iter();
        all.find(|made| made.name == container).map(|made| made.address)
    };
    let mut ports: BTreeSet<(Protocol, u16)> = entry::ports(&kept.manifest).into_keys().collect();
    ports.extend([HTTPS, HTTP].map(|port| (Protocol::Tcp, port)));
    let mut by_backend: BTreeMap<(Ipv4Addr, u16), BTreeSet<Label>> = BTreeMap::new();
    for (label, backend) in labels(&kept.manifest, &service.instance) {
        if let (Ok(label), Some(address)) = (Label::parse(&label), at(backend.container.as_str())) {
            by_backend
                .entry((address, backend.port))
                .or_default()
                .insert(label);
        }
    }
    let record = |((address, port), subdomains)| ServiceRecord {
        name: service.name.clone(),
        subdomains,
        address: range.v4_of(host),
        ports: ports.clone(),
        everyone: service.access.is_everyone(),
        web: Some(SocketAddrV4::new(address, port)),
    };
    by_backend.into_iter().map(record).collect()
}

/// Who is asked of services' names; `None`: there is none, or there are no such names, which the relay then says itself.
pub fn authority(app: &App) -> Option<Authority> {
    app.config.core_dns_dir.as_ref()?;
    (!list(app).is_empty()).then(|| Authority {
        at: app.config.core_network.coredns(),
        zones: Vec::new(),
    })
}

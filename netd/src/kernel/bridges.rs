//! Bridges of services, which Docker makes, by rtnetlink(7).

use std::collections::BTreeSet;

use cell_netd_core::bridges::Bridge;
use cell_netd_core::ceiling::ServiceCeiling;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::KernelError;
use super::link::{Links, name_of};

impl Links {
    /// The bridges with the name of a service's that have no port.
    pub(super) async fn bare_bridges(
        &self,
        ceiling: &ServiceCeiling,
    ) -> Result<BTreeSet<Bridge>, KernelError> {
        Ok(bare(&self.links().await?, ceiling))
    }

    /// Takes it away, if it still has no port; whether it did.
    pub(super) async fn remove_bare(
        &self,
        bridge: &Bridge,
        ceiling: &ServiceCeiling,
    ) -> Result<bool, KernelError> {
        let is_bare = self.bare_bridges(ceiling).await?.contains(bridge);
        if is_bare {
            self.handle().link().del(bridge.index).execute().await?;
        }
        Ok(is_bare)
    }
}

fn bare(links: &[LinkMessage], ceiling: &ServiceCeiling) -> BTreeSet<Bridge> {
    let attributes = links.iter().flat_map(|link| &link.attributes);
    let with_ports: BTreeSet<u32> = attributes
        .filter_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        })
        .collect();
    let bridge = |link: &LinkMessage| {
        let index = link.header.index;
        let name = name_of(link).filter(|name| ceiling.allows_bridge(name))?;
        (is_bridge(link) && !with_ports.contains(&index)).then_some(Bridge { name, index })
    };
    links.iter().filter_map(bridge).collect()
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}

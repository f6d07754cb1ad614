//! Interfaces of exits, by rtnetlink(7).

use std::collections::{BTreeMap, BTreeSet};

use cell_netd_core::ceiling::ExitCeiling;
use cell_netd_core::model::{ExitInterface, InterfaceName, Mtu};
use cell_netd_core::tunnel::TunnelSeen;
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_core::Nla as _;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InetDevConf, InfoData, LinkAttribute, LinkInfo, LinkMessage,
};

use super::link::{Links, name_of, prefix};
use super::{KernelError, LinkGlance};

/// Return paths are checked loosely: by any interface (ip-sysctl, rp_filter).
const LOOSE: i32 = 2;

impl Links {
    /// The interfaces with an exit's name, whoever made them, without their devices.
    pub(super) async fn tunnels(
        &self,
        ceiling: &ExitCeiling,
    ) -> Result<BTreeMap<ExitInterface, TunnelSeen>, KernelError> {
        let links = self.links().await?;
        let exits: BTreeMap<u32, (ExitInterface, LinkMessage)> = links
            .into_iter()
            .filter_map(|link| Some((link.header.index, (exit_of(&link, ceiling)?, link))))
            .collect();
        if exits.is_empty() {
            return Ok(BTreeMap::new());
        }
        // One dump for all: they may be hundreds.
        let messages: Vec<AddressMessage> = self.handle().address().get().execute().try_collect().await?;
        let mut addresses: BTreeMap<u32, BTreeSet<IpNet>> = BTreeMap::new();
        for message in messages {
            if let Some(net) = prefix(&message) {
                addresses.entry(message.header.index).or_default().insert(net);
            }
        }
        let seen = |(index, (exit, link)): (u32, (ExitInterface, LinkMessage))| {
            (
                exit,
                self.tunnel(&link, addresses.remove(&index).unwrap_or_default()),
            )
        };
        Ok(exits.into_iter().map(seen).collect())
    }

    fn tunnel(&self, link: &LinkMessage, addresses: BTreeSet<IpNet>) -> TunnelSeen {
        let LinkGlance {
            index: _,
            up,
            mtu,
            addresses,
            ours,
        } = self.glance(link, addresses);
        TunnelSeen {
            ours,
            record: self.record_on(link),
            up,
            mtu: Mtu::try_new(mtu),
            addresses,
            loose: is_loose(link),
            user: user_of(link),
            device: None,
        }
    }

    /// Lets return paths be checked loosely on the link.
    pub(super) async fn loosen(&self, name: &InterfaceName) -> Result<(), KernelError> {
        let mut settings = InetDevConf::default();
        settings.rp_filter = LOOSE;
        let settings = AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(settings)]);
        self.set(name, |link| {
            link.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![settings]))
        })
        .await
    }
}

fn exit_of(link: &LinkMessage, ceiling: &ExitCeiling) -> Option<ExitInterface> {
    name_of(link).filter(|name| ceiling.allows_interface(name))
}

/// Attributes of a TUN (linux/if_link.h, IFLA_TUN_*).
const TUN_OWNER: u16 = 1;
const TUN_TYPE: u16 = 3;
const TUN_PI: u16 = 4;
const TUN_PERSIST: u16 = 6;

/// The user of a TUN, if it is as netd makes it: of packets without a header of its own, and there to stay.
fn user_of(link: &LinkMessage) -> Option<u32> {
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let tun = infos.flatten().find_map(|info| match info {
        LinkInfo::Data(InfoData::Tun(attributes)) => Some(attributes),
        _ => None,
    })?;
    let value = |wanted: u16| {
        tun.iter()
            .find(|attribute| attribute.kind() == wanted)
            .map(|attribute| {
                let mut bytes = vec![0; attribute.value_len()];
                attribute.emit_value(&mut bytes);
                bytes
            })
    };
    let as_made = [(TUN_TYPE, 1), (TUN_PI, 0), (TUN_PERSIST, 1)]
        .iter()
        .all(|(kind, wanted)| value(*kind).as_deref() == Some(&[*wanted]));
    let owner: [u8; 4] = value(TUN_OWNER)?.try_into().ok()?;
    as_made.then(|| u32::from_ne_bytes(owner))
}

fn is_loose(link: &LinkMessage) -> bool {
    let families = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(families) => Some(families),
        _ => None,
    });
    families.flatten().any(|family| match family {
        AfSpecUnspec::Inet(settings) => settings.iter().any(|settings| match settings {
            AfSpecInet::DevConf(settings) => settings.rp_filter == LOOSE,
            _ => false,
        }),
        _ => false,
    })
}

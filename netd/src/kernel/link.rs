//! Links and addresses, by rtnetlink(7).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use cell_netd_core::model::{InterfaceName, Mtu};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};

use super::{KernelError, LinkGlance};

/// Written on every link that netd makes (ip-link(8): alias), so that it knows its own.
pub(super) const ALIAS: &str = "made by cell-netd";

#[derive(Debug, Clone)]
pub(super) struct Links(Handle);

impl Links {
    /// Needs a tokio runtime: the connection is a task of it.
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Links(handle))
    }

    /// One link with its addresses.
    pub(super) async fn get(&self, name: &InterfaceName) -> Result<Option<LinkGlance>, KernelError> {
        let found = self
            .0
            .link()
            .get()
            .match_name(name.as_str())
            .execute()
            .try_next()
            .await;
        let message = match found {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(error) if errno(&error) == Some(libc::ENODEV) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let addresses = self.addresses(message.header.index).await?;
        Ok(Some(glance(&message, addresses)))
    }

    /// Names of all links that netd made.
    pub(super) async fn ours(&self) -> Result<BTreeSet<InterfaceName>, KernelError> {
        let links: Vec<LinkMessage> = self.0.link().get().execute().try_collect().await?;
        let name = |link: &LinkMessage| {
            link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => name.parse().ok(),
                _ => None,
            })
        };
        Ok(links
            .iter()
            .filter(|link| is_ours(link))
            .filter_map(name)
            .collect())
    }

    async fn addresses(&self, index: u32) -> Result<BTreeSet<IpNet>, KernelError> {
        let messages: Vec<AddressMessage> = self
            .0
            .address()
            .get()
            .set_link_index_filter(index)
            .execute()
            .try_collect()
            .await?;
        Ok(messages
            .iter()
            .filter(|message| message.header.index == index)
            .filter_map(prefix)
            .collect())
    }

    pub(super) async fn index(&self, name: &InterfaceName) -> Result<u32, KernelError> {
        let link = self.get(name).await?;
        link.map(|link| link.index)
            .ok_or_else(|| KernelError::Refused(format!("there is no interface {name}")))
    }

    pub(super) async fn remove(&self, name: &InterfaceName) -> Result<(), KernelError> {
        let index = self.index(name).await?;
        Ok(self.0.link().del(index).execute().await?)
    }

    /// Says that the link is ours.
    pub(super) async fn tag(&self, name: &InterfaceName) -> Result<(), KernelError> {
        self.set(name, |link| link.alias(ALIAS)).await
    }

    pub(super) async fn set_mtu(&self, name: &InterfaceName, mtu: Mtu) -> Result<(), KernelError> {
        self.set(name, |link| link.mtu(mtu.bytes())).await
    }

    pub(super) async fn set_up(&self, name: &InterfaceName) -> Result<(), KernelError> {
        self.set(name, LinkMessageBuilder::up).await
    }

    async fn set(
        &self,
        name: &InterfaceName,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), KernelError> {
        let message = change(LinkUnspec::new_with_index(self.index(name).await?)).build();
        Ok(self.0.link().set(message).execute().await?)
    }

    pub(super) async fn add_address(&self, name: &InterfaceName, net: IpNet) -> Result<(), KernelError> {
        let index = self.index(name).await?;
        let mut request = self.0.address().add(index, net.addr(), net.prefix_len());
        // A tunnel has no neighbours to ask whether the address is taken (RFC 4862 section 5.4).
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        Ok(request.execute().await?)
    }

    pub(super) async fn remove_address(&self, name: &InterfaceName, net: IpNet) -> Result<(), KernelError> {
        let index = self.index(name).await?;
        let messages: Vec<AddressMessage> = self
            .0
            .address()
            .get()
            .set_link_index_filter(index)
            .execute()
            .try_collect()
            .await?;
        for message in messages
            .into_iter()
            .filter(|message| message.header.index == index)
        {
            if prefix(&message) == Some(net) {
                self.0.address().del(message).execute().await?;
            }
        }
        Ok(())
    }

    /// Makes a link of kind wireguard. `Ok(false)`: this kernel has none (EOPNOTSUPP).
    pub(super) async fn add_wireguard(&self, name: &InterfaceName) -> Result<bool, KernelError> {
        let message = rtnetlink::LinkWireguard::new(name.as_str()).build();
        match self.0.link().add(message).execute().await {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}

fn is_ours(link: &LinkMessage) -> bool {
    link.attributes
        .contains(&LinkAttribute::IfAlias(ALIAS.to_owned()))
}

fn glance(message: &LinkMessage, addresses: BTreeSet<IpNet>) -> LinkGlance {
    let mtu = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    LinkGlance {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: mtu.unwrap_or_default(),
        addresses,
        ours: is_ours(message),
    }
}

/// The address with its prefix length; none for link-local ones, which the kernel makes by itself.
fn prefix(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if link_local {
        None
    } else {
        IpNet::new(address, message.header.prefix_len).ok()
    }
}

//! Links and addresses, by rtnetlink(7).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;

use cell_netd_core::model::{InterfaceName, Mtu, TableName};
use cell_netd_core::tunnel::SecretRecord;
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};

use super::{KernelError, LinkGlance};

/// The group that a link of the kernel's WireGuard is born in (IFLA_GROUP): unlike an alias, which the kernel takes on
/// links that exist already alone, it is there from the first moment, so that a netd which was killed right after it made
/// the link is no obstacle to the next. The bytes are "cell".
pub(super) const GROUP: u32 = 0x6365_6c6c;

/// Between the alias and the record of secrets.
const BEFORE_RECORD: &str = ", ";

/// What is in the ring of rtnetlink(7), and how netd knows its own links.
#[derive(Debug, Clone)]
pub(super) struct Links {
    handle: Handle,
    /// Written on every link that netd makes (ip-link(8): alias). It names the table, so that two cells in one network
    /// namespace do not take each other's links for strays of their own.
    alias: String,
}

impl Links {
    /// Needs a tokio runtime: the connection is a task of it.
    pub(super) fn open(table: &TableName) -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let alias = format!("made by cell-netd for table {table}");
        Ok(Links { handle, alias })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// One link with its addresses.
    pub(super) async fn get(&self, name: &InterfaceName) -> Result<Option<LinkGlance>, KernelError> {
        let found = self
            .handle
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
        Ok(Some(self.glance(&message, addresses)))
    }

    /// Names of all links that this netd, or one before it with the same table, made.
    pub(super) async fn ours(&self) -> Result<BTreeSet<InterfaceName>, KernelError> {
        let links = self.links().await?;
        let ours = links.iter().filter(|link| is_ours(link, &self.alias));
        Ok(ours.filter_map(name_of).collect())
    }

    async fn addresses(&self, index: u32) -> Result<BTreeSet<IpNet>, KernelError> {
        let messages: Vec<AddressMessage> = self
            .handle
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
        Ok(self.handle.link().del(index).execute().await?)
    }

    /// Says that the link is ours, and which secrets its device was given.
    pub(super) async fn record(
        &self,
        name: &InterfaceName,
        record: &SecretRecord,
    ) -> Result<(), KernelError> {
        let alias = format!("{}{BEFORE_RECORD}{record}", self.alias);
        self.set(name, |link| link.alias(&alias)).await
    }

    /// Says that the link is ours.
    pub(super) async fn tag(&self, name: &InterfaceName) -> Result<(), KernelError> {
        self.set(name, |link| link.alias(&self.alias)).await
    }

    pub(super) async fn set_mtu(&self, name: &InterfaceName, mtu: Mtu) -> Result<(), KernelError> {
        self.set(name, |link| link.mtu(mtu.bytes())).await
    }

    pub(super) async fn set_up(&self, name: &InterfaceName) -> Result<(), KernelError> {
        self.set(name, LinkMessageBuilder::up).await
    }

    pub(super) async fn set_down(&self, name: &InterfaceName) -> Result<(), KernelError> {
        self.set(name, LinkMessageBuilder::down).await
    }

    pub(super) async fn set(
        &self,
        name: &InterfaceName,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), KernelError> {
        let message = change(LinkUnspec::new_with_index(self.index(name).await?)).build();
        Ok(self.handle.link().set(message).execute().await?)
    }

    /// An address that makes no route in any table but `local`.
    pub(super) async fn add_lone_address(&self, name: &InterfaceName, net: IpNet) -> Result<(), KernelError> {
        let index = self.index(name).await?;
        let mut request = self.handle.address().add(index, net.addr(), net.prefix_len());
        let message = request.message_mut();
        message.header.flags |= AddressHeaderFlags::Nodad;
        // These do not fit into the header, whose flags the kernel ignores where this is there.
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        message.attributes.push(AddressAttribute::Flags(flags));
        Ok(request.execute().await?)
    }

    pub(super) async fn add_address(&self, name: &InterfaceName, net: IpNet) -> Result<(), KernelError> {
        let index = self.index(name).await?;
        let mut request = self.handle.address().add(index, net.addr(), net.prefix_len());
        // A tunnel has no neighbours to ask whether the address is taken (RFC 4862 section 5.4).
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        Ok(request.execute().await?)
    }

    pub(super) async fn remove_address(&self, name: &InterfaceName, net: IpNet) -> Result<(), KernelError> {
        let index = self.index(name).await?;
        let messages: Vec<AddressMessage> = self
            .handle
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
                self.handle.address().del(message).execute().await?;
            }
        }
        Ok(())
    }

    /// Makes a link of kind wireguard, ours from the start. `Ok(false)`: this kernel has none (EOPNOTSUPP).
    pub(super) async fn add_wireguard(&self, name: &InterfaceName) -> Result<bool, KernelError> {
        match self.handle.link().add(new_wireguard(name)).execute().await {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the kernel makes links of kind wireguard, found out by making one of that name, which loads the module. One
    /// that an earlier look left behind, because it was killed, is the answer too; it is removed.
    ///
    /// # Errors
    /// [`KernelError::Foreign`] when the name is another kind's link; else of rtnetlink.
    pub(super) async fn probe_wireguard(&self, name: &InterfaceName) -> Result<bool, KernelError> {
        let found = match self.add_wireguard(name).await {
            Err(KernelError::Route(error)) if errno(&error) == Some(libc::EEXIST) => {
                if !self.get(name).await?.is_some_and(|link| link.ours) {
                    return Err(KernelError::Foreign {
                        object: format!("interface {name}"),
                    });
                }
                true
            }
            outcome => outcome?,
        };
        if found {
            self.remove(name).await?;
        }
        Ok(found)
    }

    pub(super) fn glance(&self, message: &LinkMessage, addresses: BTreeSet<IpNet>) -> LinkGlance {
        let mtu = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        LinkGlance {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: mtu.unwrap_or_default(),
            addresses,
            ours: is_ours(message, &self.alias),
        }
    }

    /// Which secrets the device of the link was given.
    pub(super) fn record_on(&self, message: &LinkMessage) -> Option<SecretRecord> {
        message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfAlias(found) => record(found, &self.alias),
            _ => None,
        })
    }
}

/// The link's name; none: it is no name of that kind.
pub(super) fn name_of<T: FromStr>(link: &LinkMessage) -> Option<T> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => name.parse().ok(),
        _ => None,
    })
}

fn new_wireguard(name: &InterfaceName) -> LinkMessage {
    rtnetlink::LinkWireguard::new(name.as_str())
        .append_extra_attribute(LinkAttribute::Group(GROUP))
        .build()
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}

/// The alias decides where there is one; a link without one is ours if it was born in our group and not named yet.
fn is_ours(link: &LinkMessage, alias: &str) -> bool {
    let named = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(found) => Some(found == alias || record(found, alias).is_some()),
        _ => None,
    });
    named.unwrap_or_else(|| link.attributes.contains(&LinkAttribute::Group(GROUP)))
}

fn record(found: &str, alias: &str) -> Option<SecretRecord> {
    found
        .strip_prefix(alias)?
        .strip_prefix(BEFORE_RECORD)?
        .parse()
        .ok()
}

/// The address with its prefix length; none for link-local ones, which the kernel makes by itself.
pub(super) fn prefix(message: &AddressMessage) -> Option<IpNet> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn link(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_link_of_the_kernels_wireguard_is_marked_in_the_message_that_makes_it() {
        let made = new_wireguard(&"wg0".parse().unwrap());
        assert!(is_ours(&made, "mine"));
        assert!(made.attributes.contains(&LinkAttribute::IfName("wg0".to_owned())));
    }

    #[test]
    fn a_link_is_ours_by_its_alias_or_before_it_has_one_by_its_group() {
        let alias = |text: &str| LinkAttribute::IfAlias(text.to_owned());
        for (attributes, ours) in [
            (vec![alias("mine")], true),
            (vec![alias("mine"), LinkAttribute::Group(GROUP)], true),
            (vec![LinkAttribute::Group(GROUP)], true),
            (vec![alias("another cell's"), LinkAttribute::Group(GROUP)], false),
            (
                vec![alias(&format!(
                    "mine, secrets 7 of exit0 with {}=",
                    "A".repeat(42) + "E"
                ))],
                true,
            ),
            (vec![alias("mine, secrets 7")], false),
            (vec![alias("mine too")], false),
            (vec![LinkAttribute::Group(0)], false),
            (vec![], false),
        ] {
            assert_eq!(is_ours(&link(attributes.clone()), "mine"), ours, "{attributes:?}");
        }
    }
}

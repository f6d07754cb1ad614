//! What a table of ours has whatever the spec says.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::compile::compile;
use super::ruleset::{Chain, ChainName, Ruleset};
use crate::ceiling::Ceiling;
use crate::desired::{Desired, Wireguard};
use crate::model::{InterfaceName, Mtu};

/// The policy of an interface without addresses, peers and ports: nothing passes by it, nor by any bridge of services.
fn empty(interface: &InterfaceName, ceiling: &Ceiling, on_link: &BTreeSet<IpNet>) -> Option<Ruleset> {
    let wireguard = Wireguard {
        interface: interface.clone(),
        listen_port: 0,
        v4: None,
        v6: None,
        mtu: Mtu::DEFAULT,
    };
    let desired = Desired::new(
        Some(wireguard),
        None,
        Default::default(),
        Default::default(),
        Default::default(),
        Default::default(),
    );
    compile(&desired, ceiling, on_link)
}

/// The chains at their hooks, with the rules that they have for an interface without addresses, peers and ports. Only of the
/// hooks, and of whether there are rules at all, can be said that a table must have them.
pub fn skeleton(interface: &InterfaceName, ceiling: &Ceiling) -> Vec<Chain> {
    empty(interface, ceiling, &Default::default())
        .map(|ruleset| ruleset.chains)
        .unwrap_or_default()
}

/// What stands while no specification says what may pass: before the first, and after one without an interface. Bridges of services
/// are there whether or not netd was told of them, so they are closed. None where the ceiling knows of none. `on_link` as for
/// [`compile`].
pub fn shut(ceiling: &Ceiling, on_link: &BTreeSet<IpNet>) -> Option<Ruleset> {
    ceiling.services.as_ref()?;
    empty(ceiling.interfaces.first()?, ceiling, on_link)
}

impl ChainName {
    /// Whether a table that guards something has rules in this chain.
    pub fn always_has_rules(self) -> bool {
        match self {
            // Translations of ports are not always wanted.
            ChainName::Prerouting => false,
            ChainName::Accept
            | ChainName::Answer
            | ChainName::PeerToPeer
            | ChainName::FromPeer
            | ChainName::ToPeer
            | ChainName::Cell
            | ChainName::Internet
            | ChainName::InternetAnswer
            | ChainName::Mark
            | ChainName::Redirect
            | ChainName::Relay
            | ChainName::Carrier
            | ChainName::OfExit
            | ChainName::FromService
            | ChainName::ToService
            | ChainName::ServiceCell
            | ChainName::Entry
            | ChainName::EntryAnswer
            | ChainName::Caller
            | ChainName::Raw
            | ChainName::Forward
            | ChainName::Output
            | ChainName::Input
            | ChainName::Postrouting => true,
        }
    }
}

//! What a table of ours has whatever the spec says.

use super::compile::compile;
use super::ruleset::{Chain, ChainName};
use crate::ceiling::Ceiling;
use crate::desired::{Desired, Wireguard};
use crate::model::{InterfaceName, Mtu};

/// The chains at their hooks, with the rules that they have for an interface without addresses, peers and ports. Only of the
/// hooks, and of whether there are rules at all, can be said that a table must have them.
pub fn skeleton(interface: &InterfaceName, ceiling: &Ceiling) -> Vec<Chain> {
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
    compile(&desired, ceiling, &Default::default())
        .map(|ruleset| ruleset.chains)
        .unwrap_or_default()
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
            | ChainName::Raw
            | ChainName::Forward
            | ChainName::Output
            | ChainName::Input
            | ChainName::Postrouting => true,
        }
    }
}

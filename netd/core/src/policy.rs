//! The access policy as a value of nftables: sets that grow with peers, and chains that do not.
//!
//! Every packet is judged, in both directions: what a peer sends by source and destination, what comes back by the same
//! pair turned round and only within a flow that the peer opened. There is no "accept what is established", so narrowing
//! a set cuts flows that are under way at their next packet, with no surgery on conntrack.

mod caller;
mod compile;
mod element;
mod entry;
mod exit;
pub mod explain;
mod hooks;
pub mod iptables;
mod public;
mod redirect;
mod ruleset;
mod service;
mod skeleton;
mod special;
mod text;
mod tunnel;

pub(crate) use compile::DNS;
pub use compile::{compile, peer_elements};
pub use element::{Element, ElementDelta, Elements, SetId, SetKind};
pub use ruleset::{
    Action, Chain, ChainName, Counter, CtDirection, CtState, Hook, HookPoint, MarkOf, Match, Rule, Ruleset,
    Side, Test,
};
pub use skeleton::{shut, skeleton};
pub use special::is as is_special;
pub use text::{render, render_delta};

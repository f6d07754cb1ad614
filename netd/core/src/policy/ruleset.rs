//! The few expressions of nftables that the policy uses, as data.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::element::{Elements, SetId};
use crate::model::{ExitMark, Family, InterfaceName, Mark, Protocol, TableName};

/// A whole table of family inet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Its name.
    pub table: TableName,
    /// Its chains, each before those that jump to it.
    pub chains: Vec<Chain>,
    /// What is in its sets; every [`SetId`] is made.
    pub elements: Elements,
    /// Marks of the exits that the relay carries, with the relay's port for each: for a renderer without maps to ports.
    pub relays: BTreeSet<(ExitMark, u16)>,
}

/// The chains of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "compile.rs says what each is for, rule by rule")]
pub enum ChainName {
    Accept,
    Answer,
    PeerToPeer,
    FromPeer,
    ToPeer,
    Cell,
    Internet,
    InternetAnswer,
    Raw,
    Mark,
    Redirect,
    Relay,
    Carrier,
    OfExit,
    FromService,
    ToService,
    ServiceCell,
    Entry,
    EntryAnswer,
    Caller,
    Output,
    Prerouting,
    Forward,
    Input,
    Postrouting,
}

impl ChainName {
    /// Its name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            ChainName::Accept => "c_accept",
            ChainName::Answer => "c_answer",
            ChainName::PeerToPeer => "c_peer_to_peer",
            ChainName::FromPeer => "c_from_peer",
            ChainName::ToPeer => "c_to_peer",
            ChainName::Cell => "c_cell",
            ChainName::Internet => "c_internet",
            ChainName::InternetAnswer => "c_internet_answer",
            ChainName::Mark => "c_mark",
            ChainName::Redirect => "c_redirect",
            ChainName::Relay => "c_relay",
            ChainName::Carrier => "c_carrier",
            ChainName::OfExit => "c_of_exit",
            ChainName::FromService => "c_from_service",
            ChainName::ToService => "c_to_service",
            ChainName::ServiceCell => "c_service_cell",
            ChainName::Entry => "c_entry",
            ChainName::EntryAnswer => "c_entry_answer",
            ChainName::Caller => "c_caller",
            ChainName::Output => "c_output",
            ChainName::Raw => "c_raw",
            ChainName::Prerouting => "c_prerouting",
            ChainName::Forward => "c_forward",
            ChainName::Input => "c_input",
            ChainName::Postrouting => "c_postrouting",
        }
    }
}

/// One chain. Base chains have policy accept: what is not the VPN's is not ours to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Which one.
    pub name: ChainName,
    /// Where it hangs; none: others jump to it.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// Whether it translates addresses (type nat) or filters.
    pub nat: bool,
    /// The hook.
    pub point: HookPoint,
    /// Lower is earlier (enum nf_ip_hook_priorities, include/uapi/linux/netfilter_ipv4.h).
    pub priority: i32,
}

/// Hooks of the packet's way (enum nf_inet_hooks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "nftables' own words")]
pub enum HookPoint {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// Matches, all of which hold, then actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// Done in order.
    pub actions: Vec<Action>,
}

/// Which address of a packet or tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "nftables' own words")]
pub enum Side {
    Source,
    Destination,
}

/// What an address is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// It is this one.
    Is(IpAddr),
    /// It is in the set.
    In(SetId),
    /// It is not in the set.
    NotIn(SetId),
}

/// Direction of a packet within its flow (enum ip_conntrack_dir).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "nftables' own words")]
pub enum CtDirection {
    Original,
    Reply,
}

/// State of a packet's flow (enum ip_conntrack_info as NF_CT_STATE_BIT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtState {
    /// Does not fit any flow.
    Invalid,
    /// Opened by or belonging to a flow, e.g. an ICMP error about it.
    Related,
    /// Of a flow that both sides have spoken in, or related to one.
    EstablishedOrRelated,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The packet came in (or goes out) by this interface, or (`is == false`) by another.
    Interface {
        /// Way in, or way out.
        side: Side,
        /// The interface.
        name: InterfaceName,
        /// Equal, or not.
        is: bool,
    },
    /// The packet came in (or goes out) by an interface whose name begins so, or (`is == false`) by another.
    InterfaceLike {
        /// Way in, or way out.
        side: Side,
        /// What the name begins with.
        prefix: InterfaceName,
        /// Begins so, or not.
        is: bool,
    },
    /// (an address of the packet, the interface that it came in or goes out by) is in the family's set of containers and their
    /// bridges, or (`is == false`) is not.
    Host {
        /// Of the packet.
        family: Family,
        /// Which address.
        address: Side,
        /// Way in, or way out.
        interface: Side,
        /// In the set, or not.
        is: bool,
    },
    /// An address in the packet's header.
    Address(Family, Side, Test),
    /// The layer 4 protocol number.
    L4(u8),
    /// The transport header's destination port; a [`Match::L4`] of a protocol with ports stands before it.
    DestinationPort(u16),
    /// The transport header's source port; a [`Match::L4`] of a protocol with ports stands before it.
    SourcePort(u16),
    /// IPv4, and to an address of the machine's own.
    ToMachine,
    /// (protocol, destination port) is in the set.
    PortIn(SetId),
    /// An ICMP or ICMPv6 echo request.
    EchoRequest(Family),
    /// A TCP segment with SYN and without RST, of a new connection or its answer.
    TcpSyn,
    /// State of the flow.
    State(CtState),
    /// Direction within the flow.
    Direction(CtDirection),
    /// The flow's destination was translated.
    Translated,
    /// (source, destination, protocol, destination port) is in the family's set of services.
    ServiceRequest(Family),
    /// (destination, source, protocol, source port) is in the family's set of services.
    ServiceAnswer(Family),
    /// The source of the original tuple: who opened the flow.
    FlowPeer(Family, SetId),
    /// The source of the reply tuple, who answers, is not in the set.
    FlowTargetNot(Family, SetId),
    /// The packet came in (or goes out) by an interface that is in the set.
    InterfaceIn(Side, SetId),
    /// Those bits of a mark are not all zero.
    Marked(MarkOf, u32),
    /// (source, interface out, those bits of the mark) is in the family's set of ways.
    WayOut(Family, MarkOf, u32),
    /// (source of the original tuple, interface in, those bits of the flow's mark) is in the family's set of ways.
    WayIn(Family, u32),
    /// The flow is not in conntrack's table yet: this is its first packet.
    FirstOfFlow,
    /// (source, destination port, those bits of the flow's mark) is in the family's set of ways to the relay.
    RelayRequest(Family, u32),
    /// (destination, source port, those bits of the flow's mark) is in the family's set of ways to the relay.
    RelayAnswer(Family, u32),
    /// (destination, destination port) is in the family's set of the relay's servers.
    RelayServer(Family),
    /// (destination, destination port) is in the family's set of resolvers that the relay may ask.
    RelayResolver(Family),
    /// (destination, destination port) is in the family's set of servers of tunnels by that protocol.
    TunnelServer(Family, Protocol),
    /// (destination, destination port) is in the set of what may be called; a [`Match::L4`] of TCP stands before it.
    Called,
    /// (destination, protocol, destination port) is in the set of entries.
    EntryTo(SetId),
    /// (destination, protocol, destination port) of the original tuple, what the flow was opened to, is in the set of entries.
    FlowEntry(SetId),
    /// (that address of the packet, which is the peer's, and what the flow was opened to) is in the set of services.
    FlowGranted(Side),
    /// (what the flow was opened to, that address and port of the packet, which are the container's) is in the set of ways.
    EntryWay(Side),
    /// The packet was sent by a socket of this user (numeric id); one that the kernel sends by itself is nobody's.
    SocketUser(u32),
}

/// Whose mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkOf {
    /// The packet's, by which it is routed.
    Packet,
    /// The flow's, by which it is remembered.
    Flow,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Counts the packet.
    Count(Counter),
    /// The packet ends here.
    Drop,
    /// The packet is done with this hook's chain.
    Accept,
    /// Goes on in another chain, and comes back.
    Jump(ChainName),
    /// Goes on in another chain for good.
    Goto(ChainName),
    /// Sets our bits of the packet mark.
    SetMark(Mark),
    /// Gives the packet the mark that the family's map has for its source; a source that is not there ends the rule. Bits
    /// of others on the packet are lost: a value that is looked up cannot be merged with another before Linux 6.13.
    MarkBySource(Family),
    /// Remembers those bits of the packet's mark in its flow.
    SaveMark(u32),
    /// Remembers this mark in the packet's flow.
    SetFlowMark(u32),
    /// Remembers in the flow the mark that the family's map of the relay has for its source; a source that is not there ends
    /// the rule.
    FlowMarkBySource(Family),
    /// Translates the destination of the flow to this address and the port that the family's map of the relay has for its
    /// source; a source that is not there ends the rule. The rule matches addresses of the family.
    DnatBySource(Family, IpAddr),
    /// The packet ends here, and its sender is told that it is prohibited.
    Refuse,
    /// Translates the destination of the flow.
    Dnat(IpAddr, u16),
    /// Translates the destination of the flow to what the map of entries has for it; what is not there ends the rule. The rule
    /// matches IPv4.
    DnatToEntry,
    /// Translates the source of the flow to that of the way out.
    Masquerade,
    /// Lowers the TCP maximum segment size to the path's.
    ClampMss,
}

/// Named counters, one per reason to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// A source that is no peer's.
    SpoofedSource,
    /// Does not fit any flow.
    Invalid,
    /// A peer's packet that nothing allows.
    FromPeerDefault,
    /// Between peers that may not.
    PeerToPeer,
    /// Towards a peer and not wanted by it.
    ToPeerDefault,
    /// To the cell itself, beyond its ports.
    CellInput,
    /// To the cell's VPN addresses from elsewhere.
    WeakHost,
    /// Of a peer that is bound to an exit, and about to leave by another way.
    ExitLeak,
    /// Of a flow whose exit is not the peer's any more.
    ExitMoved,
    /// An answer that does not come from the flow's exit.
    ExitAnswer,
    /// Neither from nor to a peer, through an exit.
    ExitStranger,
    /// Of a peer whose exit the relay carries, and not TCP.
    ExitRefused,
    /// Sent by the relay's user to where no exit has a server.
    EgressStranger,
    /// Sent by the user of tunnels to where no tunnel has a server.
    TunnelStranger,
    /// From a bridge of services, with a source that is none of its containers'; IPv6 never is.
    ServiceSource,
    /// Of a container, and nothing allows it.
    FromServiceDefault,
    /// Towards a container and no answer.
    ToServiceDefault,
    /// Of a peer, to a service at an address in the VPN that is not granted to it.
    EntryDenied,
    /// In a flow to such a service that another container answers by now.
    EntryMoved,
    /// To a container whose bridge is not there.
    ServiceAway,
    /// Of the machine itself, to a container, by a user that the ceiling does not list, or to what nobody may call.
    CallerDenied,
}

impl Counter {
    /// All of them.
    pub const ALL: [Counter; 21] = [
        Counter::SpoofedSource,
        Counter::Invalid,
        Counter::FromPeerDefault,
        Counter::PeerToPeer,
        Counter::ToPeerDefault,
        Counter::CellInput,
        Counter::WeakHost,
        Counter::ExitLeak,
        Counter::ExitMoved,
        Counter::ExitAnswer,
        Counter::ExitStranger,
        Counter::ExitRefused,
        Counter::EgressStranger,
        Counter::TunnelStranger,
        Counter::ServiceSource,
        Counter::FromServiceDefault,
        Counter::ToServiceDefault,
        Counter::EntryDenied,
        Counter::EntryMoved,
        Counter::ServiceAway,
        Counter::CallerDenied,
    ];

    /// Its name in the table and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Counter::SpoofedSource => "spoofed_source",
            Counter::Invalid => "invalid",
            Counter::FromPeerDefault => "from_peer_default",
            Counter::PeerToPeer => "peer_to_peer",
            Counter::ToPeerDefault => "to_peer_default",
            Counter::CellInput => "cell_input",
            Counter::WeakHost => "weak_host",
            Counter::ExitLeak => "exit_leak",
            Counter::ExitMoved => "exit_moved",
            Counter::ExitAnswer => "exit_answer",
            Counter::ExitStranger => "exit_stranger",
            Counter::ExitRefused => "exit_refused",
            Counter::EgressStranger => "egress_stranger",
            Counter::TunnelStranger => "tunnel_stranger",
            Counter::ServiceSource => "service_source",
            Counter::FromServiceDefault => "from_service_default",
            Counter::ToServiceDefault => "to_service_default",
            Counter::EntryDenied => "entry_denied",
            Counter::EntryMoved => "entry_moved",
            Counter::ServiceAway => "service_away",
            Counter::CallerDenied => "caller_denied",
        }
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

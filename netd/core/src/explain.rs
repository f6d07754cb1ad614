//! Whether a device or a container reaches something, and why: the question that people ask, answered by the policy that is in force.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::ceiling::Ceiling;
use crate::desired::{Desired, Peer, Wireguard};
use crate::model::{Family, InterfaceName, PeerName, ServiceName, TableId};
use crate::policy::explain::{Explanation, Flow, Packet, Payload, Verdict, Way, explain};
use crate::policy::{Counter, compile};
use crate::redirect::Carrier;
use crate::service::ServiceNetwork;

/// Who sends a packet that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// A device.
    Peer(PeerName),
    /// A container of a service, the first of its network.
    Service(ServiceName),
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who sends.
    pub sender: Sender,
    /// Where to.
    pub destination: IpAddr,
    /// What.
    pub payload: Payload,
}

/// Where a packet goes that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the cell itself.
    Cell,
    /// To another device.
    Peers,
    /// To a container of a service.
    Service,
    /// Out by the machine's own way.
    Out,
    /// Out by the exit that the device is bound to: by its interface, or to the relay that carries it.
    Exit,
}

/// The exit that decides a packet's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByExit {
    /// What carries it.
    pub carrier: Carrier,
    /// Its routing table; `None`: no table routes what the relay carries.
    pub table: Option<TableId>,
}

/// What becomes of the first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// The address that it is sent from.
    pub source: IpAddr,
    /// Whether a container sends it.
    pub by_container: bool,
    /// Where it goes, or would.
    pub target: Target,
    /// With [`Target::Exit`]: that exit.
    pub exit: Option<ByExit>,
    /// What the policy does with it, rule by rule.
    pub explanation: Explanation,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// netd was told of no device of that name.
    #[error("there is no peer of this name")]
    NoPeer,
    /// The device has no address of the destination's family.
    #[error("the peer has no address of the destination's family, so it cannot send there")]
    NoAddress,
    /// netd was told of no service of that name.
    #[error("there is no network of a service of this name")]
    NoService,
    /// Containers have no IPv6.
    #[error("containers of services have no IPv6, so they cannot send there")]
    NoIpv6,
}

/// Answers a question. `on_link` as for [`compile`].
///
/// # Errors
/// [`NoAnswer`].
pub fn fate(
    desired: &Desired,
    ceiling: &Ceiling,
    on_link: &BTreeSet<IpNet>,
    question: &Question,
) -> Result<Fate, NoAnswer> {
    let (Some(wireguard), Some(ruleset)) = (desired.wireguard(), compile(desired, ceiling, on_link)) else {
        return Err(match question.sender {
            Sender::Peer(_) => NoAnswer::NoPeer,
            Sender::Service(_) => NoAnswer::NoService,
        });
    };
    let family = Family::of(question.destination);
    let from = From::find(desired, wireguard, &question.sender, family)?;
    let packet = Packet {
        interface: from.interface.clone(),
        source: from.address,
        destination: question.destination,
        payload: question.payload,
        flow: Flow::New,
    };
    let exit = |mark: u32| {
        desired
            .exits()
            .values()
            .find(|exit| exit.way.mark.value() == mark)
    };
    let place = |destination| target(desired, wireguard, ceiling, destination);
    let way = |destination, mark| match (place(destination), exit(mark)) {
        (Target::Cell, _) => Way::Local,
        (Target::Peers, _) => Way::Forwarded(wireguard.interface.clone()),
        (Target::Service, _) => bridge_to(desired, destination).map_or(Way::Unreachable, Way::Forwarded),
        // Any name but the VPN's own and an exit's: the policy knows no other.
        (Target::Out | Target::Exit, None) => Way::Forwarded(InterfaceName::loopback()),
        (Target::Out | Target::Exit, Some(exit)) if exit.carries(family) => {
            let name = exit.way.interface.as_str().parse();
            name.map_or(Way::Unreachable, Way::Forwarded)
        }
        (Target::Out | Target::Exit, Some(_)) => Way::Unreachable,
    };
    let explanation = explain(&ruleset, &packet, way);
    let last = explanation
        .translated
        .map_or(question.destination, |(address, _)| address);
    let target = match place(last) {
        Target::Out if explanation.mark != 0 => Target::Exit,
        _ if is_relayed(from.exit, &explanation) => Target::Exit,
        target => target,
    };
    Ok(Fate {
        source: from.address,
        by_container: matches!(question.sender, Sender::Service(_)),
        // Only what the sender is bound to marks a flow that it opens.
        exit: from
            .exit
            .filter(|_| target == Target::Exit)
            .map(|carrier| ByExit::of(desired, carrier)),
        target,
        explanation,
    })
}

impl ByExit {
    fn of(desired: &Desired, carrier: &Carrier) -> Self {
        let mut exits = desired.exits().values();
        ByExit {
            table: exits
                .find(|exit| exit.way.id == *carrier.id())
                .map(|exit| exit.table),
            carrier: carrier.clone(),
        }
    }
}

/// Where a packet that is asked about comes from.
struct From<'a> {
    interface: InterfaceName,
    address: IpAddr,
    exit: Option<&'a Carrier>,
}

impl<'a> From<'a> {
    fn find(
        desired: &'a Desired,
        wireguard: &Wireguard,
        sender: &Sender,
        family: Family,
    ) -> Result<Self, NoAnswer> {
        match sender {
            Sender::Peer(name) => {
                let peer: &Peer = desired.peers().get(name).ok_or(NoAnswer::NoPeer)?;
                let mut addresses = peer.addresses();
                let address = addresses.find(|address| Family::of(*address) == family);
                Ok(From {
                    interface: wireguard.interface.clone(),
                    address: address.ok_or(NoAnswer::NoAddress)?,
                    exit: peer.exit.as_ref(),
                })
            }
            Sender::Service(name) => {
                let network = desired.services().get(name).ok_or(NoAnswer::NoService)?;
                let address = network.first().filter(|address| Family::of(*address) == family);
                Ok(From {
                    interface: named(network).ok_or(NoAnswer::NoService)?,
                    address: address.ok_or(NoAnswer::NoIpv6)?,
                    exit: network.exit.as_ref(),
                })
            }
        }
    }
}

fn named(network: &ServiceNetwork) -> Option<InterfaceName> {
    network.bridge.as_str().parse().ok()
}

/// The bridge that leads to the address, if one does.
fn bridge_to(desired: &Desired, address: IpAddr) -> Option<InterfaceName> {
    let mut networks = desired.services().values();
    let found = networks.find(|network| IpNet::V4(network.subnet).contains(&address))?;
    named(found)
}

/// Whether the relay carries the packet, or would if it could.
fn is_relayed(exit: Option<&Carrier>, explanation: &Explanation) -> bool {
    let Some(Carrier::Relay(way)) = exit else {
        return false;
    };
    let redirected = explanation.translated.is_some_and(|(_, port)| port == way.port);
    let is_left = [
        Verdict::Refused(Counter::ExitRefused),
        Verdict::Dropped(Counter::ExitMoved),
    ];
    redirected || is_left.contains(&explanation.verdict)
}

fn target(desired: &Desired, wireguard: &Wireguard, ceiling: &Ceiling, destination: IpAddr) -> Target {
    let own = [
        wireguard.v4.map(|net| net.addr().into()),
        wireguard.v6.map(|net| net.addr().into()),
        Some(ceiling.service_v4.into()),
        Some(ceiling.service_v6.into()),
    ];
    let is_bridge = |network: &ServiceNetwork| IpAddr::V4(network.gateway()) == destination;
    if own.contains(&Some(destination)) || desired.services().values().any(is_bridge) {
        Target::Cell
    } else if wireguard.prefix_of(destination).is_some() {
        Target::Peers
    } else if bridge_to(desired, destination).is_some() {
        Target::Service
    } else {
        Target::Out
    }
}

impl Fate {
    /// The reason in words.
    pub fn reason(&self) -> &'static str {
        match (self.explanation.verdict, self.target) {
            (Verdict::Passes, Target::Cell) if self.by_container => {
                "the cell answers questions of DNS to every container, by the way of its service's exit"
            }
            (Verdict::Passes, Target::Out) if self.by_container => {
                "the service has internet access, or this is granted to it"
            }
            (Verdict::Passes, Target::Exit) if self.by_container => {
                "the service has internet access, or this is granted to it, and its exit carries it"
            }
            (Verdict::Passes, Target::Service) => "the service is granted, or it is the same service's",
            (Verdict::Passes, Target::Cell) => "the cell answers there to every device",
            (Verdict::Passes, Target::Peers) => "both devices have peer-to-peer, or the service is granted",
            (Verdict::Passes, Target::Out) => "the device has internet access, or the service is granted",
            (Verdict::Passes, Target::Exit) => {
                "the device has internet access, or the service is granted, and its exit carries it"
            }
            // Asked about is what opens a flow: it has not moved.
            (Verdict::Dropped(Counter::ExitMoved), Target::Exit) => {
                "its exit carries what has internet access alone, and this is granted without"
            }
            (Verdict::Unreachable, _) => "the device's exit does not carry this family of addresses",
            (Verdict::Dropped(counter) | Verdict::Refused(counter), _) => meaning(counter),
            (Verdict::DroppedUncounted, _) => "a rule drops it",
        }
    }
}

/// What it means that a packet was counted there.
fn meaning(counter: Counter) -> &'static str {
    match counter {
        Counter::SpoofedSource => "the source is no device's address",
        Counter::Invalid => "it fits no flow",
        Counter::FromPeerDefault => {
            "nothing allows it: no such service is granted, and it is not internet, or the device has no internet access"
        }
        Counter::PeerToPeer => "it goes to another device, and peer-to-peer is not on for both",
        Counter::ToPeerDefault => "nobody opens a flow towards a device",
        Counter::CellInput => "the cell answers nothing there to devices",
        Counter::ExitLeak => "the device is bound to an exit, and this is another way",
        Counter::ExitMoved => "the flow was opened through another exit than the device has now",
        Counter::ExitAnswer => "the answer does not come from the flow's exit",
        Counter::ExitStranger => "an exit carries what devices send and what answers them, nothing else",
        Counter::ExitRefused => "the device's exit carries TCP alone",
        Counter::EgressStranger => "the relay connects to servers of exits alone",
        Counter::ServiceSource => "the source is no container's on that bridge; containers have no IPv6",
        Counter::FromServiceDefault => {
            "nothing allows it: no such service is granted to the container's, and it is not internet, or the service has no \
             internet access"
        }
        Counter::ToServiceDefault => "nobody opens a flow towards a container without a grant",
        Counter::EntryDenied => "a service is found there, and it is not granted to the device",
        Counter::EntryMoved => "the flow was opened while another container answered there",
        Counter::ServiceAway => "a container's address, and the bridge that it is on is not there",
        Counter::CallerDenied => {
            "on the machine itself, the users that netd's policy file lists speak to containers, and nobody else"
        }
        Counter::TunnelStranger => "who carries tunnels speaks to their servers alone",
        Counter::WeakHost => "the cell's VPN addresses are spoken to through the VPN alone",
    }
}

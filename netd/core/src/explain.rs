//! Whether a device reaches something, and why: the question that people ask, answered by the policy that is in force.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::ceiling::Ceiling;
use crate::desired::{Desired, Peer, Wireguard};
use crate::model::{Family, InterfaceName, PeerName};
use crate::policy::explain::{Explanation, Flow, Packet, Payload, Verdict, Way, explain};
use crate::policy::{Counter, compile};
use crate::redirect::Carrier;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Which device sends.
    pub peer: PeerName,
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
    /// Out by the machine's own way.
    Out,
    /// Out by the exit that the device is bound to: by its interface, or to the relay that carries it.
    Exit,
}

/// What becomes of the first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// The address that the device sends from.
    pub source: IpAddr,
    /// Where it goes, or would.
    pub target: Target,
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
    let peer = desired.peers().get(&question.peer).ok_or(NoAnswer::NoPeer)?;
    let family = Family::of(question.destination);
    let source = peer
        .addresses()
        .find(|address| Family::of(*address) == family)
        .ok_or(NoAnswer::NoAddress)?;
    let (Some(wireguard), Some(ruleset)) = (desired.wireguard(), compile(desired, ceiling, on_link)) else {
        return Err(NoAnswer::NoPeer);
    };
    let packet = Packet {
        interface: wireguard.interface.clone(),
        source,
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
    let way = |destination, mark| match (target(wireguard, ceiling, destination), exit(mark)) {
        (Target::Cell, _) => Way::Local,
        (Target::Peers, _) => Way::Forwarded(wireguard.interface.clone()),
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
    let target = match target(wireguard, ceiling, last) {
        Target::Out if explanation.mark != 0 => Target::Exit,
        _ if is_relayed(peer, &explanation) => Target::Exit,
        target => target,
    };
    Ok(Fate {
        source,
        target,
        explanation,
    })
}

/// Whether the relay carries the packet, or would if it could.
fn is_relayed(peer: &Peer, explanation: &Explanation) -> bool {
    let Some(Carrier::Relay(way)) = &peer.exit else {
        return false;
    };
    let redirected = explanation.translated.is_some_and(|(_, port)| port == way.port);
    redirected || explanation.verdict == Verdict::Refused(Counter::ExitRefused)
}

fn target(wireguard: &Wireguard, ceiling: &Ceiling, destination: IpAddr) -> Target {
    let own = [
        wireguard.v4.map(|net| net.addr().into()),
        wireguard.v6.map(|net| net.addr().into()),
        Some(ceiling.service_v4.into()),
        Some(ceiling.service_v6.into()),
    ];
    if own.contains(&Some(destination)) {
        Target::Cell
    } else if wireguard.prefix_of(destination).is_some() {
        Target::Peers
    } else {
        Target::Out
    }
}

impl Fate {
    /// The reason in words.
    pub fn reason(&self) -> &'static str {
        match (self.explanation.verdict, self.target) {
            (Verdict::Passes, Target::Cell) => "the cell answers there to every device",
            (Verdict::Passes, Target::Peers) => "both devices have peer-to-peer, or the service is granted",
            (Verdict::Passes, Target::Out) => "the device has internet access, or the service is granted",
            (Verdict::Passes, Target::Exit) => "the device has internet access, and its exit carries it",
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
        Counter::TunnelStranger => "who carries tunnels speaks to their servers alone",
        Counter::WeakHost => "the cell's VPN addresses are spoken to through the VPN alone",
    }
}

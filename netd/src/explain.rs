//! Questions about a packet's fate, to and from the wire.

use std::net::{IpAddr, SocketAddr};

use cell_netd_core::explain::{Fate, Question, Sender, Target};
use cell_netd_core::model::Protocol;
use cell_netd_core::policy::explain::{Payload, Verdict};
use cell_netd_core::redirect::Carrier;
use cell_proto::fault::Violation;
use cell_proto::netd::v1::explain_flow_request::Payload as Carried;
use cell_proto::netd::v1::{ExplainFlowRequest, ExplainFlowResponse};

/// A question that the wire carried.
///
/// # Errors
/// All that is wrong with it.
pub fn question(request: ExplainFlowRequest) -> Result<Question, Vec<Violation>> {
    let ExplainFlowRequest {
        peer,
        destination,
        payload,
        service,
    } = request;
    let mut faults = Vec::new();
    let sender = match (peer.as_str(), service.as_str()) {
        (peer, "") => kept("peer", peer.parse().map(Sender::Peer), &mut faults),
        ("", service) => kept("service", service.parse().map(Sender::Service), &mut faults),
        (_, _) => kept("service", Err("must not be set beside peer"), &mut faults),
    };
    let destination = destination.ok_or_else(|| "is required".to_owned());
    let destination = destination.and_then(|address| IpAddr::try_from(&address).map_err(|e| e.to_string()));
    let destination = kept("destination", destination, &mut faults);
    let port = |protocol, number: u32| match u16::try_from(number) {
        // The source port decides nothing.
        Ok(number @ 1..) => Ok(Payload::Ports(protocol, 0, number)),
        Ok(0) | Err(_) => Err("must be a port, 1-65535"),
    };
    let payload = match payload {
        Some(Carried::TcpPort(number)) => port(Protocol::Tcp, number),
        Some(Carried::UdpPort(number)) => port(Protocol::Udp, number),
        Some(Carried::EchoRequest(true)) => Ok(Payload::EchoRequest),
        Some(Carried::EchoRequest(false)) | None => Err("is required"),
    };
    let payload = kept("payload", payload, &mut faults);
    match (sender, destination, payload) {
        (Some(sender), Some(destination), Some(payload)) => Ok(Question {
            sender,
            destination,
            payload,
        }),
        _ => Err(faults),
    }
}

fn kept<T, E: ToString>(field: &str, found: Result<T, E>, faults: &mut Vec<Violation>) -> Option<T> {
    found
        .map_err(|error| faults.push(Violation::new(field, error.to_string())))
        .ok()
}

/// The answer.
pub fn answer(fate: &Fate) -> ExplainFlowResponse {
    let Fate {
        source,
        target,
        explanation,
        exit,
        by_container: _,
    } = fate;
    let carrier = exit.as_ref().map(|exit| &exit.carrier);
    let (interface, redirect_port) = match carrier {
        Some(Carrier::Interface(way)) => (way.interface.as_str().to_owned(), 0),
        Some(Carrier::Relay(way)) => (String::new(), way.port.into()),
        None => (String::new(), 0),
    };
    let counter = match explanation.verdict {
        Verdict::Dropped(counter) | Verdict::Refused(counter) => counter.name(),
        Verdict::Passes | Verdict::Unreachable | Verdict::DroppedUncounted => "",
    };
    let target = match target {
        Target::Cell => "cell",
        Target::Peers => "peers",
        Target::Service => "service",
        Target::Out => "out",
        Target::Exit => "exit",
    };
    ExplainFlowResponse {
        passes: explanation.verdict == Verdict::Passes,
        reason: fate.reason().to_owned(),
        counter: counter.to_owned(),
        target: target.to_owned(),
        source: Some((*source).into()),
        translated_to: explanation
            .translated
            .map(|(address, port)| SocketAddr::new(address, port).into()),
        masqueraded: explanation.masqueraded,
        steps: explanation.steps.iter().map(ToString::to_string).collect(),
        exit_id: carrier
            .map(|carrier| carrier.id().to_string())
            .unwrap_or_default(),
        mark: carrier.map_or(0, |carrier| carrier.mark().value()),
        table: exit
            .as_ref()
            .and_then(|exit| exit.table)
            .map_or(0, |table| table.number()),
        interface,
        redirect_port,
    }
}

//! `cellctl explain`.

use std::net::{IpAddr, SocketAddr};

use cell_proto::api::v1::{ExplainFlowRequest, ExplainServiceFlowRequest};

use crate::cell::Cell;
use crate::cli::Explain;
use crate::failure::Failure;
use crate::output::Output;
use crate::view;

/// Asks the cell. Whatever becomes of the packet, the answer is one.
pub(crate) async fn run(cell: &Cell, output: Output, options: Explain) -> Result<(), Failure> {
    let Explain {
        peer,
        service,
        destination,
        udp,
    } = options;
    let (address, port) = split(&destination);
    let protocol = if udp { "udp" } else { "" };
    let protocol = protocol.to_owned();
    let (from, answer) = match service {
        Some(service) => {
            let request = ExplainServiceFlowRequest {
                service: service.clone(),
                destination: address,
                protocol,
                port,
            };
            let answer = cell.services()?.explain_service_flow(request).await?;
            let from = format!("service {service}");
            (from, answer.into_inner().flow.unwrap_or_default())
        }
        None => {
            let peer = peer.unwrap_or_default();
            let request = ExplainFlowRequest {
                name: peer.clone(),
                destination: address,
                protocol,
                port,
            };
            (peer, cell.peers()?.explain_flow(request).await?.into_inner())
        }
    };
    let explanation = view::Explanation::from(answer);
    output.result(&explanation, || text(&from, &destination, &explanation))
}

/// Address and port. What is neither an address nor one with a port goes to the cell as it is, which says what is wrong.
fn split(destination: &str) -> (String, String) {
    if destination.parse::<IpAddr>().is_err()
        && let Ok(endpoint) = destination.parse::<SocketAddr>()
    {
        return (endpoint.ip().to_string(), endpoint.port().to_string());
    }
    (destination.to_owned(), String::new())
}

fn text(peer: &str, destination: &str, found: &view::Explanation) -> String {
    let verdict = if found.passes { "passes" } else { "is dropped" };
    let mut lines = vec![format!(
        "{peer} ({}) to {destination}: {verdict}, because {}.",
        found.source, found.reason
    )];
    if let Some(counter) = &found.counter {
        lines.push(format!("Counted as {counter}."));
    }
    if let Some(to) = &found.translated_to {
        lines.push(format!("Its destination is translated to {to}."));
    }
    if let Some(exit) = &found.exit {
        lines.push(carried(exit));
    }
    if found.masqueraded {
        lines.push("It leaves with the machine's own address.".to_owned());
    }
    lines.push("The rules that it meets:".to_owned());
    lines.extend(found.steps.iter().map(|step| format!("  {step}")));
    lines.join("\n")
}

/// What decides its way.
fn carried(exit: &view::ExplainedExit) -> String {
    let name = exit
        .connection_name
        .as_deref()
        .unwrap_or("(no connection of the cell any more)");
    let mut by = vec![format!("mark {}", exit.mark)];
    by.extend(exit.table.map(|table| format!("table {table}")));
    by.extend(exit.iface.as_ref().map(|iface| format!("interface {iface}")));
    by.extend(exit.redirect_port.map(|port| format!("port {port} of the relay")));
    format!("Its exit is {name} ({}): {}.", exit.connection_id, by.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_told_from_an_address() {
        for (destination, address, port) in [
            ("10.0.5.7", "10.0.5.7", ""),
            ("10.0.5.7:443", "10.0.5.7", "443"),
            ("fd00::7", "fd00::7", ""),
            ("[fd00::7]:53", "fd00::7", "53"),
            ("example.org:443", "example.org:443", ""),
        ] {
            assert_eq!(split(destination), (address.to_owned(), port.to_owned()));
        }
    }
}

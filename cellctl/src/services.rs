//! `cellctl service networks`, `exit` and `reach`: how containers of services get to the internet, and what they may reach besides.

mod reach;

use cell_proto::api::v1 as wire;
use cell_proto::api::v1::{ListServiceNetworksRequest, SetServiceExitRequest};
use serde::Serialize;

use crate::cell::Cell;
use crate::cli::Way;
use crate::failure::Failure;
use crate::output::Output;
use crate::{careful, human, wait};

/// A network of a service.
#[derive(Debug, Serialize)]
struct Network {
    service: String,
    bridge: String,
    subnet: String,
    egress: String,
    connection_id: Option<String>,
    connection_name: Option<String>,
    fail_open: Option<bool>,
    fallback_connection_ids: Vec<String>,
    fallback_connection_names: Vec<String>,
    way: String,
    has_way_out: bool,
    exit_types: Vec<String>,
    reach: Vec<Place>,
}

/// A place that its containers may reach besides.
#[derive(Debug, Serialize)]
struct Place {
    address: String,
    protocol: String,
    port: u32,
}

#[derive(Debug, Serialize)]
struct Networks {
    services: Vec<Network>,
}

#[derive(Debug, Serialize)]
struct Answer {
    network: Network,
    plan: Vec<String>,
}

/// Shows the networks of all services.
pub(crate) async fn list(cell: &Cell, output: Output) -> Result<(), Failure> {
    let answer = cell
        .services()?
        .list_service_networks(ListServiceNetworksRequest {})
        .await?;
    let networks = answer.into_inner().networks.into_iter().map(Network::from);
    let list = Networks {
        services: networks.collect(),
    };
    output.result(&list, || text(&list.services))
}

pub(crate) use reach::reach;

/// Says what carries a service's containers to the internet.
pub(crate) async fn exit(cell: &Cell, output: Output, way: Way) -> Result<(), Failure> {
    let Way {
        service,
        to,
        fail_open,
        fallbacks,
        confirm_within,
        at_once,
        validate_only,
    } = way;
    let confirm_within = match confirm_within {
        None if !validate_only && !at_once => careful::of_service(cell, output, &service).await?,
        said => said,
    };
    let request = SetServiceExitRequest {
        service,
        connection_id: if to == "none" { String::new() } else { to },
        fail_open,
        validate_only,
        confirm_within_seconds: confirm_within.unwrap_or(0),
        fallback_connection_ids: fallbacks,
    };
    let answer = cell.services()?.set_service_exit(request).await?.into_inner();
    let network = Network::from(answer.network.unwrap_or_default());
    let plan = answer.plan;
    let answer = Answer { network, plan };
    output.result(&answer, || match (validate_only, answer.plan.is_empty()) {
        (true, true) => "Nothing would change.".to_owned(),
        (true, false) => answer.plan.join("\n"),
        (false, _) => format!(
            "{}: {}, now by the way \"{}\".",
            answer.network.service,
            chosen(&answer.network),
            answer.network.way
        ),
    })?;
    wait::for_word(cell, output, confirm_within).await
}

impl From<wire::ServiceNetwork> for Network {
    fn from(network: wire::ServiceNetwork) -> Self {
        let wire::ServiceNetwork {
            service,
            bridge,
            subnet,
            egress,
            connection_id,
            connection_name,
            fail_open,
            way,
            fallback_connection_ids,
            fallback_connection_names,
            has_way_out,
            exit_types,
            reach,
        } = network;
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Network {
            service,
            bridge,
            subnet,
            egress,
            connection_id: given(connection_id),
            connection_name: given(connection_name),
            fail_open,
            fallback_connection_ids,
            fallback_connection_names,
            way,
            has_way_out,
            exit_types,
            reach: reach.into_iter().map(Place::from).collect(),
        }
    }
}

impl From<wire::ServiceAccess> for Place {
    fn from(place: wire::ServiceAccess) -> Self {
        let wire::ServiceAccess {
            address,
            protocol,
            port,
        } = place;
        Place {
            address,
            protocol,
            port,
        }
    }
}

fn text(networks: &[Network]) -> String {
    if networks.is_empty() {
        return "There are no networks of services: a service gets its own when it is installed.".to_owned();
    }
    let row = |network: &Network| {
        vec![
            network.service.clone(),
            network.subnet.clone(),
            network.bridge.clone(),
            chosen(network),
            network.way.clone(),
        ]
    };
    let header = ["SERVICE", "SUBNET", "BRIDGE", "EXIT", "NOW"];
    human::table(&header, networks.iter().map(row))
}

fn chosen(network: &Network) -> String {
    match &network.connection_name {
        Some(name) => {
            let stand_ins = network.fallback_connection_names.iter();
            let stand_ins = stand_ins.map(|name| format!(", else {name}"));
            name.clone() + &stand_ins.collect::<String>()
        }
        None => network.egress.clone(),
    }
}

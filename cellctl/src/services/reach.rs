//! `cellctl service reach`: single places that containers of a service may reach besides.

use cell_proto::api::v1 as wire;
use cell_proto::api::v1::{ListServiceNetworksRequest, ServiceAccess, SetServiceReachRequest};

use super::{Answer, Network};
use crate::cell::Cell;
use crate::cli::{Reach, ServiceUrl};
use crate::failure::Failure;
use crate::output::Output;
use crate::peers;

/// Shows them, or says which they are. They are replaced as a whole on the wire, so what is not named here is read first and kept.
pub(crate) async fn reach(cell: &Cell, output: Output, wanted: Reach) -> Result<(), Failure> {
    let network = network_of(cell, &wanted.service).await?;
    if !wanted.none && wanted.add.is_empty() && wanted.remove.is_empty() {
        let (network, plan) = (Network::from(network), Vec::new());
        let answer = Answer { network, plan };
        return output.result(&answer, || text(&answer.network));
    }
    let request = SetServiceReachRequest {
        reach: changed(network.reach, &wanted)?,
        service: wanted.service,
        validate_only: wanted.validate_only,
    };
    let answer = cell.services()?.set_service_reach(request).await?.into_inner();
    let network = Network::from(answer.network.unwrap_or_default());
    let plan = answer.plan;
    let answer = Answer { network, plan };
    output.result(&answer, || match (wanted.validate_only, answer.plan.is_empty()) {
        (true, true) => "Nothing would change.".to_owned(),
        (true, false) => answer.plan.join("\n"),
        (false, _) => text(&answer.network),
    })
}

async fn network_of(cell: &Cell, service: &str) -> Result<wire::ServiceNetwork, Failure> {
    let request = ListServiceNetworksRequest {};
    let answer = cell.services()?.list_service_networks(request).await?;
    let mut networks = answer.into_inner().networks.into_iter();
    let found = networks.find(|network| network.service == service);
    found.ok_or_else(|| {
        let why = format!("{service} has no network: cellctl service networks lists those that have one");
        Failure::Local(why)
    })
}

/// What there is, with what is added and without what is removed.
fn changed(now: Vec<ServiceAccess>, wanted: &Reach) -> Result<Vec<ServiceAccess>, Failure> {
    if wanted.none {
        return Ok(Vec::new());
    }
    let mut reach = now;
    for url in &wanted.remove {
        let (gone, before) = (peers::service(url), reach.len());
        reach.retain(|one| *one != gone);
        if reach.len() == before {
            let (service, ServiceUrl { protocol, at }) = (&wanted.service, url);
            return Err(Failure::Usage(format!(
                "{service} has no {protocol}://{at} to remove"
            )));
        }
    }
    for new in wanted.add.iter().map(peers::service) {
        if !reach.contains(&new) {
            reach.push(new);
        }
    }
    Ok(reach)
}

fn text(network: &Network) -> String {
    if network.reach.is_empty() {
        return format!("Containers of {} may reach nothing besides.", network.service);
    }
    let places = network.reach.iter();
    let lines = places.map(|one| format!("\n  {}://{}:{}", one.protocol, one.address, one.port));
    format!("Containers of {} may reach besides:", network.service) + &lines.collect::<String>()
}

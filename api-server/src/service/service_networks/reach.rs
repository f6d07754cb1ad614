//! Single places that a service's containers may reach besides: the owner's grants, whatever the manifest says of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use cell_api_core::access::Service;
use cell_api_core::fault::Faults;
use cell_api_core::service_network::reach::{self, Around, ReachInput};
use cell_api_core::service_network::{ServiceName, ServiceNetwork};
use ipnet::Ipv4Net;

use super::{Made, NetworkPlan, NetworkView, PATIENCE, parse, table, view};
use crate::app::App;
use crate::service::plan::Facts;
use crate::service::{Actor, ServiceError, cell, way_out};
use crate::store::transaction::{Origin, Tx};

/// Says what a service's containers may reach besides: the whole. What it takes away ends at once.
///
/// # Errors
/// [`ServiceError::Invalid`] with every fault at once, [`ServiceError::NoServiceNetwork`], [`ServiceError::NoReach`],
/// [`ServiceError::SetupRequired`], [`ServiceError::ChangePending`].
pub async fn set(
    app: &Arc<App>,
    actor: &Actor,
    service: &str,
    input: ReachInput,
) -> Result<NetworkView, ServiceError> {
    let service = parse(service)?;
    let cells = Cells::of(app)?;
    let (Made { after, way_out, .. }, generation) = app
        .store
        .commit(Origin::new(actor, app.now()), move |tx| {
            make(tx, &cells, &service, &input)
        })
        .await?;
    app.network.wait_for(generation, PATIENCE).await;
    Ok(view(&Facts::now(app)?, way_out, after))
}

/// What [`set`] would do. The change is made and taken back, so that what would be refused is refused.
///
/// # Errors
/// As it.
pub async fn plan(
    app: &Arc<App>,
    actor: &Actor,
    service: &str,
    input: ReachInput,
) -> Result<NetworkPlan, ServiceError> {
    let service = parse(service)?;
    let cells = Cells::of(app)?;
    let trying = app.store.try_out(Origin::new(actor, app.now()), move |tx| {
        make(tx, &cells, &service, &input)
    });
    let Made {
        before,
        after,
        way_out,
    } = trying.await?;
    let sentences = reach::sentences(&after.service, &set_of(&before), &set_of(&after));
    Ok(NetworkPlan {
        view: view(&Facts::now(app)?, way_out, after),
        sentences,
    })
}

/// The cell's own networks.
struct Cells {
    vpn: Ipv4Net,
    core: Ipv4Net,
}

impl Cells {
    fn of(app: &App) -> Result<Self, ServiceError> {
        Ok(Cells {
            vpn: cell::identity(app)?.range.v4(),
            core: app.config.core_network.subnet(),
        })
    }
}

fn make(
    tx: &mut Tx<'_>,
    cells: &Cells,
    service: &ServiceName,
    input: &ReachInput,
) -> Result<Made, ServiceError> {
    let before = table::get(tx, service)?;
    let networks = table::list(tx)?.into_iter();
    let around = Around {
        vpn: Some(cells.vpn),
        subnets: networks
            .map(|network| network.place.subnet)
            .chain([cells.core])
            .collect(),
    };
    let mut faults = Faults::default();
    let reach = input.check(&around, &mut faults);
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let way_out = way_out::of(tx, service)?;
    // What was granted before its manifest lost the way out leads nowhere, and can be taken away.
    if !way_out.is_open() && !reach.is_subset(&set_of(&before)) {
        return Err(ServiceError::NoReach(service.to_string()));
    }
    table::set_reach(tx, service, &reach)?;
    let after = ServiceNetwork {
        reach: reach.into_iter().collect(),
        ..before.clone()
    };
    Ok(Made {
        before,
        after,
        way_out,
    })
}

fn set_of(network: &ServiceNetwork) -> BTreeSet<Service> {
    network.reach.iter().copied().collect()
}

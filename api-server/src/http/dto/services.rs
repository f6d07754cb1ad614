//! Networks of services.

use cell_api_core::connection::choice::Route;
use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use cell_api_core::service_network::Egress;
use cell_api_core::service_network::reach::{Around, ReachInput};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::peers::ServiceAccess;
use crate::http::input::FromFields;
use crate::service::service_networks::{ExitInput, NetworkPlan, NetworkView};

/// The network of a service: where its containers lie, and what carries them to the internet.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceNetwork {
    /// The service's name.
    pub service: String,
    /// Name of the bridge.
    pub bridge: String,
    /// Where its containers lie.
    pub subnet: String,
    /// What was chosen.
    pub egress: ServiceEgress,
    /// Id of the connection that carries it.
    #[schema(required)]
    pub connection_id: Option<String>,
    /// That connection's name.
    #[schema(required)]
    pub connection_name: Option<String>,
    /// Whether it goes out directly while that does not work; null: as the connection's type says.
    #[schema(required)]
    pub fail_open: Option<bool>,
    /// Ids of the connections that stand in meanwhile, the first first.
    pub fallback_connection_ids: Vec<String>,
    /// Their names.
    pub fallback_connection_names: Vec<String>,
    /// Which way it has now.
    pub way: ServiceWay,
    /// Whether its containers have a way out of their network at all, as its manifest says. Without, nothing can carry them.
    pub has_way_out: bool,
    /// Types of connections that may carry it, as its manifest says.
    pub exit_types: Vec<String>,
    /// What its containers may reach besides: what was granted to them.
    pub reach: Vec<ServiceAccess>,
}

/// How a service gets to the internet.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceEgress {
    /// Not at all.
    None,
    /// By the cell's own way.
    Direct,
    /// By a connection.
    Exit,
}

/// Which way a service has now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceWay {
    /// None.
    Nowhere,
    /// The cell's own.
    Direct,
    /// A connection's, which may be down: then it leads nowhere.
    Exit,
}

/// Networks of all services.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceNetworkList {
    /// In the order of names.
    pub services: Vec<ServiceNetwork>,
}

/// Says what carries a service's containers.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceExit {
    /// A connection's id, its name, or its type where one connection alone has it. `direct`: the cell's own way. Null: no way to the
    /// internet at all.
    #[schema(required)]
    pub connection_id: Option<String>,
    /// Whether it goes out directly while that does not work. Null, or left out: as the connection's type says.
    pub fail_open: Option<bool>,
    /// What stands in for it while it does not work, at most 8, the first first. Left out: nothing.
    #[serde(default)]
    pub fallback_connection_ids: Vec<String>,
}

/// Says what a service's containers may reach besides: the whole.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceReach {
    /// At most 256, by IPv4: at home, or containers of other services. What is named twice counts once.
    pub reach: Vec<ServiceAccess>,
}

/// The network as it is now, or what the change would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceNetworkOrPlan {
    /// As it is now, or would be.
    pub network: ServiceNetwork,
    /// With `validate_only`: what it would do, a sentence each. Empty: nothing.
    pub plan: Vec<String>,
}

impl From<NetworkView> for ServiceNetwork {
    fn from(view: NetworkView) -> Self {
        let NetworkView {
            network,
            connection,
            fallbacks,
            route,
            way_out,
        } = view;
        let ids = network.egress.fallbacks().iter();
        ServiceNetwork {
            fallback_connection_ids: ids.map(ToString::to_string).collect(),
            fallback_connection_names: fallbacks,
            bridge: network.place.bridge(),
            subnet: network.place.subnet.to_string(),
            egress: match &network.egress {
                Egress::Nowhere => ServiceEgress::None,
                Egress::Direct => ServiceEgress::Direct,
                Egress::Exit(_) => ServiceEgress::Exit,
            },
            connection_id: network.egress.bound().map(|id| id.to_string()),
            connection_name: connection,
            fail_open: network.egress.fail_open(),
            way: match route {
                None | Some(Route::Nowhere) => ServiceWay::Nowhere,
                Some(Route::Own) => ServiceWay::Direct,
                Some(Route::Exit(_)) => ServiceWay::Exit,
            },
            service: network.service.to_string(),
            has_way_out: way_out.is_open(),
            exit_types: way_out.kinds().map(|kind| kind.to_string()).collect(),
            reach: network.reach.iter().map(ServiceAccess::from).collect(),
        }
    }
}

impl From<NetworkView> for ServiceNetworkOrPlan {
    fn from(view: NetworkView) -> Self {
        ServiceNetworkOrPlan {
            network: view.into(),
            plan: Vec::new(),
        }
    }
}

impl From<NetworkPlan> for ServiceNetworkOrPlan {
    fn from(planned: NetworkPlan) -> Self {
        ServiceNetworkOrPlan {
            network: planned.view.into(),
            plan: planned.sentences,
        }
    }
}

impl From<ServiceExit> for ExitInput {
    fn from(exit: ServiceExit) -> Self {
        ExitInput {
            connection: exit.connection_id.unwrap_or_default(),
            fail_open: exit.fail_open,
            fallbacks: exit.fallback_connection_ids,
        }
    }
}

impl FromFields for ServiceExit {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        ServiceExit {
            connection_id: Some(fields.required_nullable_string("connection_id", faults)),
            fail_open: fields.optional_flag("fail_open", faults),
            fallback_connection_ids: fields
                .optional_strings("fallback_connection_ids", faults)
                .unwrap_or_default(),
        }
    }

    fn check(self) -> Faults {
        Faults::default()
    }
}

impl From<ServiceReach> for ReachInput {
    fn from(reach: ServiceReach) -> Self {
        ReachInput(reach.reach.into_iter().map(Into::into).collect())
    }
}

impl FromFields for ServiceReach {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        ServiceReach {
            reach: fields.required_objects("reach", faults, ServiceAccess::read),
        }
    }

    fn check(self) -> Faults {
        let mut faults = Faults::default();
        ReachInput::from(self).check(&Around::default(), &mut faults);
        faults
    }
}

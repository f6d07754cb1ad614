//! From what services answer to the JSON of `cell.rs`.

use cell_api_core::range::HostIndex;
use cell_proto::broker::v1 as broker;
use cell_proto::common::v1 as common;

use super::cell::{
    Condition, ConditionStatus, Config, Container, ContainerList, Daemon, Docker, Status, WireguardPeer,
    WireguardStatus,
};
use super::rfc3339;
use crate::service::cell::{CellIdentity, CellView, DaemonView, WireguardView};
use crate::service::containers::ContainersView;

impl Config {
    /// The configuration of a cell.
    pub fn of(identity: &CellIdentity, config: &crate::config::Config) -> Self {
        Config {
            cell_name: identity.cell_name.as_str().to_owned(),
            domain_mode: identity.domain.mode().to_owned(),
            domain: identity.cell_name.domain(),
            vpn_range_ipv4: identity.range.v4().to_string(),
            vpn_range_ipv6: identity.range.v6().to_string(),
            vpn_address_ipv4: identity.range.v4_of(HostIndex::CELL).to_string(),
            vpn_address_ipv6: identity.range.v6_of(HostIndex::CELL).to_string(),
            endpoint_host: identity.endpoint_host.as_ref().map(ToString::to_string),
            wireguard_port: config.network.listen_port,
            dns_upstreams: identity.dns_upstreams.shown(),
        }
    }
}

impl From<CellView> for Status {
    fn from(view: CellView) -> Self {
        Status {
            cell_name: view.identity.cell_name.as_str().to_owned(),
            domain_mode: view.identity.domain.mode().to_owned(),
            domain: view.identity.cell_name.domain(),
            uptime_seconds: view.uptime.as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: view.generation,
            observed_generation: view.observed_generation,
            peer_count: view.peer_count,
            connected_peer_count: view.connected_peer_count,
            daemons: view.daemons.into_iter().map(Daemon::from).collect(),
            timestamp: rfc3339(view.now),
        }
    }
}

impl From<DaemonView> for Daemon {
    fn from(view: DaemonView) -> Self {
        Daemon {
            name: view.name.to_owned(),
            reachable: view.conditions.is_some(),
            conditions: view
                .conditions
                .unwrap_or_default()
                .into_iter()
                .map(Condition::from)
                .collect(),
        }
    }
}

impl From<common::Condition> for Condition {
    fn from(condition: common::Condition) -> Self {
        let status = match condition.status() {
            common::ConditionStatus::True => ConditionStatus::True,
            common::ConditionStatus::False => ConditionStatus::False,
            common::ConditionStatus::Unknown | common::ConditionStatus::Unspecified => {
                ConditionStatus::Unknown
            }
        };
        Condition {
            kind: condition.r#type,
            status,
            reason: condition.reason,
            message: condition.message,
        }
    }
}

impl From<WireguardView> for WireguardStatus {
    fn from(view: WireguardView) -> Self {
        let peers = view.peers.map(|peers| {
            let of = |(name, activity): (String, crate::service::peers::Activity)| WireguardPeer {
                name,
                activity: activity.into(),
            };
            peers.into_iter().map(of).collect()
        });
        WireguardStatus {
            interface: view.settings.interface,
            backend: view.backend.filter(|backend| !backend.is_empty()),
            public_key: view.public_key.map(|key| key.to_string()),
            listen_port: view.settings.listen_port,
            converged: view.converged,
            peers,
        }
    }
}

impl From<ContainersView> for ContainerList {
    fn from(view: ContainersView) -> Self {
        ContainerList {
            docker: Docker {
                reachable: view.docker_fault.is_none(),
                reason: view.docker_fault.unwrap_or_default(),
            },
            containers: view.containers.into_iter().map(Container::from).collect(),
        }
    }
}

impl From<broker::Container> for Container {
    fn from(container: broker::Container) -> Self {
        Container {
            state: state_name(container.state()).to_owned(),
            service: container.service,
            id: container.id,
            image: container.image,
            started_at: Some(container.started_unix_ms).filter(|at| *at > 0).map(rfc3339),
            health: Some(container.health).filter(|health| !health.is_empty()),
            restart_count: container.restart_count,
        }
    }
}

/// Docker's word for a container's state.
pub(crate) fn state_name(state: broker::ContainerState) -> &'static str {
    match state {
        broker::ContainerState::Created => "created",
        broker::ContainerState::Running => "running",
        broker::ContainerState::Paused => "paused",
        broker::ContainerState::Restarting => "restarting",
        broker::ContainerState::Removing => "removing",
        broker::ContainerState::Exited => "exited",
        broker::ContainerState::Dead => "dead",
        broker::ContainerState::Unspecified => "unknown",
    }
}

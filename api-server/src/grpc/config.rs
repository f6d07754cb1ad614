//! The configuration.

use cell_api_core::range::HostIndex;
use cell_proto::api::v1::{CellConfig, UpdateCellConfigRequest};

use crate::app::App;
use crate::service::cell::{CellIdentity, ConfigInput};

pub(super) fn input(request: UpdateCellConfigRequest) -> ConfigInput {
    let UpdateCellConfigRequest {
        endpoint_host,
        dns_upstreams,
    } = request;
    ConfigInput {
        endpoint_host,
        dns_upstreams: dns_upstreams.map(|upstreams| upstreams.addresses),
    }
}

pub(super) fn shown(app: &App, identity: &CellIdentity) -> CellConfig {
    let CellIdentity {
        cell_name,
        domain,
        range,
        endpoint_host,
        dns_upstreams,
    } = identity;
    CellConfig {
        cell_name: cell_name.as_str().to_owned(),
        domain_mode: domain.mode().to_owned(),
        domain: cell_name.domain(),
        vpn_range_ipv4: range.v4().to_string(),
        vpn_range_ipv6: range.v6().to_string(),
        vpn_address_ipv4: range.v4_of(HostIndex::CELL).to_string(),
        vpn_address_ipv6: range.v6_of(HostIndex::CELL).to_string(),
        endpoint_host: endpoint_host
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        wireguard_port: app.config.network.listen_port.into(),
        dns_upstreams: dns_upstreams.shown(),
    }
}

//! Networks of services, and where services are found, to and from the wire.

use std::net::{SocketAddr, SocketAddrV4};

use cell_netd_core::desired::Service;
use cell_netd_core::entry::{Entry, EntryAt};
use cell_netd_core::model::ServiceName;
use cell_netd_core::service::ServiceNetwork;
use cell_netd_core::spec::{ServiceEntrySpec, ServiceNetworkSpec};
use cell_proto::netd::v1;
use ipnet::IpNet;

use super::{from_service, said, service_spec};

pub(super) fn network_spec(wire: v1::ServiceNetwork) -> ServiceNetworkSpec {
    let v1::ServiceNetwork {
        name,
        bridge,
        subnet,
        internet,
        exit,
        reach,
        called,
    } = wire;
    ServiceNetworkSpec {
        name,
        bridge,
        subnet: match &subnet {
            Some(subnet) => said(IpNet::try_from(subnet)),
            None => Err("is required".to_owned()),
        },
        internet,
        exit,
        reach: reach.into_iter().map(service_spec).collect(),
        called: called.iter().map(|at| said(SocketAddr::try_from(at))).collect(),
    }
}

pub(super) fn entry_spec(wire: v1::ServiceEntry) -> ServiceEntrySpec {
    let v1::ServiceEntry { at, to, everyone } = wire;
    ServiceEntrySpec {
        at: at.map(service_spec),
        to: to.map(service_spec),
        everyone,
    }
}

pub(super) fn from_entry((at, entry): (&EntryAt, &Entry)) -> v1::ServiceEntry {
    let Entry {
        to,
        service: _,
        everyone,
    } = entry;
    let service = |end: &SocketAddrV4| Service {
        address: (*end.ip()).into(),
        protocol: at.protocol,
        port: end.port(),
    };
    v1::ServiceEntry {
        at: Some(from_service(&service(&at.at))),
        to: Some(from_service(&service(to))),
        everyone: *everyone,
    }
}

pub(super) fn from_network((name, network): (&ServiceName, &ServiceNetwork)) -> v1::ServiceNetwork {
    let ServiceNetwork {
        bridge,
        subnet,
        internet,
        exit,
        reach,
        called,
    } = network;
    v1::ServiceNetwork {
        name: name.to_string(),
        bridge: bridge.to_string(),
        subnet: Some(IpNet::V4(*subnet).into()),
        internet: *internet,
        exit: exit
            .as_ref()
            .map(|exit| exit.id().to_string())
            .unwrap_or_default(),
        reach: reach.iter().map(from_service).collect(),
        called: called.iter().map(|at| SocketAddr::V4(*at).into()).collect(),
    }
}

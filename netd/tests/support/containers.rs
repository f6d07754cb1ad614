//! Containers without Docker: namespaces on a bridge of the cell's, as Docker lays them.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test binaries")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_lab::probe::{ping, tcp_echo, udp_echo};
use cell_proto::common::v1 as common;
use cell_proto::netd::v1;

use super::support::address;

/// How long is waited for what is not to come.
const SECOND: Duration = Duration::from_secs(1);

/// A namespace on a bridge, IPv6 included: that it is refused is to be seen.
pub struct Container {
    pub namespace: Namespace,
    pub address: Ipv4Addr,
}

/// 172.30.(index).0/28 and fd30:(index)::/64 by a bridge of this name.
pub fn bridge(cell: &Namespace, name: &str, index: u8) -> Result<()> {
    cell.ip(&format!("link add {name} type bridge"))?;
    cell.ip(&format!("link set {name} up"))?;
    cell.ip(&format!("address add 172.30.{index}.1/28 dev {name}"))?;
    cell.ip(&format!("address add fd30:{index}::1/64 dev {name} nodad"))?;
    Ok(())
}

impl Container {
    /// On that bridge, with address number `number`, 2-14, of the index's.
    pub fn new(cell: &Namespace, bridge: &str, index: u8, number: u8) -> Result<Self> {
        let namespace = Namespace::new("box")?;
        let near = format!("v{index}x{number}");
        cell.ip(&format!(
            "link add {near} type veth peer name eth0 netns {}",
            namespace.name()
        ))?;
        cell.ip(&format!("link set {near} master {bridge} up"))?;
        namespace.ip("link set eth0 up")?;
        namespace.ip(&format!("address add 172.30.{index}.{number}/28 dev eth0"))?;
        namespace.ip(&format!("address add fd30:{index}::{number}/64 dev eth0 nodad"))?;
        namespace.ip(&format!("route add default via 172.30.{index}.1"))?;
        namespace.ip(&format!("-6 route add default via fd30:{index}::1"))?;
        Ok(Container {
            namespace,
            address: Ipv4Addr::new(172, 30, index, number),
        })
    }

    /// Whether TCP, UDP and ping are answered there.
    pub fn reaches(&self, far: IpAddr, port: u16) -> [bool; 3] {
        let (from, to) = (&self.namespace, SocketAddr::new(far, port));
        thread::scope(|scope| {
            let tcp = scope.spawn(|| tcp_echo(from, to, SECOND).unwrap_or(false));
            let udp = scope.spawn(|| udp_echo(from, to, 2, SECOND).unwrap_or(0) > 0);
            let pause = Duration::from_millis(200);
            let ping =
                scope.spawn(move || ping(from, far, 2, pause, SECOND).is_ok_and(|ping| ping.received > 0));
            [tcp.join().unwrap(), udp.join().unwrap(), ping.join().unwrap()]
        })
    }
}

/// The network of service `svc(index)` on `cellsvc(index)`.
pub fn network(index: u8, internet: bool, exit: &str) -> v1::ServiceNetwork {
    v1::ServiceNetwork {
        name: format!("svc{index}"),
        bridge: format!("cellsvc{index}"),
        subnet: Some(common::IpPrefix {
            address: Some(address(&format!("172.30.{index}.0"))),
            length: 28,
        }),
        internet,
        exit: exit.to_owned(),
        reach: Vec::new(),
        called: Vec::new(),
    }
}

/// With TCP to these besides.
pub fn reaching(mut network: v1::ServiceNetwork, services: &[(IpAddr, u32)]) -> v1::ServiceNetwork {
    let service = |(at, port): &(IpAddr, u32)| v1::Service {
        address: Some((*at).into()),
        protocol: common::Protocol::Tcp.into(),
        port: *port,
    };
    network.reach = services.iter().map(service).collect();
    network
}

/// With these TCP ports of its containers for users of the machine that the policy file lists.
pub fn called(mut network: v1::ServiceNetwork, ports: &[&str]) -> v1::ServiceNetwork {
    let port = |text: &&str| text.parse::<SocketAddr>().unwrap().into();
    network.called = ports.iter().map(port).collect();
    network
}

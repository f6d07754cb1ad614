//! Single places that containers of a service may reach besides, each an address and a port: what is granted, and what that means.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Place, ServiceName};
use crate::access::{MAX_SERVICES, Protocol, Service, ServiceInput};
use crate::fault::Faults;
use crate::public::is_public;

/// The field that lists them.
const FIELD: &str = "reach";

/// What is to be granted, as received, unchecked: the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReachInput(pub Vec<ServiceInput>);

/// What lies around: where nothing may be granted. Without it an input is judged by itself alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// Where devices are.
    pub vpn: Option<Ipv4Net>,
    /// Networks of services, and that of the cell's own containers.
    pub subnets: Vec<Ipv4Net>,
}

impl ReachInput {
    /// Checks it; faults are named as `reach[2].address`. What is named twice counts once.
    pub fn check(&self, around: &Around, faults: &mut Faults) -> BTreeSet<Service> {
        let ReachInput(inputs) = self;
        if inputs.len() > MAX_SERVICES {
            faults.add(FIELD, format!("must have at most {MAX_SERVICES} entries"));
            return BTreeSet::new();
        }
        let mut reach = BTreeSet::new();
        for (index, input) in inputs.iter().enumerate() {
            let path = format!("{FIELD}[{index}]");
            let Some(service) = input.check_v4(&path, faults) else {
                continue;
            };
            if let Some(why) = around.refuses(service.address) {
                faults.add(format!("{path}.address"), why);
            }
            reach.insert(service);
        }
        reach
    }
}

impl Around {
    /// Why nothing at this address can be granted. netd would leave the whole network out for one in the VPN.
    fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        let IpAddr::V4(address) = address else {
            return None;
        };
        if is_public(address.into()) {
            // It would go out by the cell's own line, whatever carries the service.
            return Some(
                "must not be on the internet: what lies there is reached by the service's way to it",
            );
        }
        if self.vpn.is_some_and(|vpn| vpn.contains(&address)) {
            return Some(
                "must not be in the VPN: containers open no flow to devices, and other services are reached at their containers' addresses",
            );
        }
        let mut within = self.subnets.iter().filter(|subnet| subnet.contains(&address));
        within
            .any(|subnet| !is_container(*subnet, address))
            .then_some("must be a container's, where it is in a network of services: the others there are the cell's own")
    }
}

fn is_container(subnet: Ipv4Net, address: Ipv4Addr) -> bool {
    let place = Place { number: 0, subnet };
    place.hosts().any(|host| host == address)
}

/// What it means that containers of `service` may reach other places, a sentence each; none: nothing changes.
pub fn sentences(
    service: &ServiceName,
    before: &BTreeSet<Service>,
    after: &BTreeSet<Service>,
) -> Vec<String> {
    let gains = after.difference(before);
    let gains = gains.map(|one| format!("Containers of {service} may reach {}.", words(one)));
    let losses = before.difference(after);
    let losses = losses.map(|one| format!("Containers of {service} may no longer reach {}.", words(one)));
    let mut sentences: Vec<String> = gains.chain(losses).collect();
    if before.difference(after).next().is_some() {
        sentences.push("Connections that they have open to what they lose end.".to_owned());
    }
    sentences
}

fn words(service: &Service) -> String {
    let protocol = match service.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    format!("{protocol} port {} of {}", service.port, service.address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn input(address: &str, protocol: &str, port: u64) -> ServiceInput {
        ServiceInput {
            address: address.to_owned(),
            protocol: protocol.to_owned(),
            port,
        }
    }

    fn checked(inputs: Vec<ServiceInput>) -> Result<BTreeSet<Service>, Vec<String>> {
        let around = Around {
            vpn: Some("10.86.0.0/24".parse().unwrap()),
            subnets: vec!["172.21.0.0/28".parse().unwrap(), "172.20.0.0/24".parse().unwrap()],
        };
        let mut faults = Faults::default();
        let reach = ReachInput(inputs).check(&around, &mut faults);
        let fields = faults.into_violations().into_iter().map(|one| one.field);
        let fields: Vec<String> = fields.collect();
        if fields.is_empty() { Ok(reach) } else { Err(fields) }
    }

    #[test]
    fn what_is_granted_lies_at_home_and_is_no_device_and_not_the_cell() {
        for address in [
            "192.168.1.20",
            "10.0.5.7",
            "172.21.0.2",
            "172.20.0.3",
            "172.21.0.17",
        ] {
            let reach = checked(vec![input(address, "tcp", 445)]).unwrap();
            assert_eq!(reach.len(), 1, "{address}");
        }
        for address in [
            "printer",
            "192.168.1.0/24",
            "fd00::7",
            "::ffff:192.168.1.20",
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.251",
            "255.255.255.255",
            "198.51.100.7",
            "10.86.0.1",
            "10.86.0.2",
            "172.21.0.0",
            "172.21.0.1",
            "172.21.0.15",
            "172.20.0.1",
        ] {
            let faults = checked(vec![input("10.0.5.7", "udp", 53), input(address, "tcp", 445)]);
            assert_eq!(faults, Err(vec!["reach[1].address".to_owned()]), "{address}");
        }
    }

    #[test]
    fn every_fault_is_named_and_what_is_named_twice_counts_once() {
        let faults = checked(vec![input("x", "icmp", 0), input("10.0.5.7", "tcp", 65_536)]);
        let wanted = [
            "reach[0].address",
            "reach[0].protocol",
            "reach[0].port",
            "reach[1].port",
        ];
        assert_eq!(faults.unwrap_err(), wanted);
        let twice = vec![input("10.0.5.7", "tcp", 80), input("10.0.5.7", "tcp", 80)];
        assert_eq!(checked(twice).unwrap().len(), 1);
        let most = (1..=256).map(|port| input("10.0.5.7", "tcp", port));
        assert_eq!(checked(most.clone().collect()).unwrap().len(), 256);
        let more = most.chain([input("10.0.5.7", "tcp", 257)]).collect();
        assert_eq!(checked(more), Err(vec!["reach".to_owned()]));
    }

    #[test]
    fn who_gains_and_who_loses_is_said() {
        let files = ServiceName::parse("files").unwrap();
        let of = |inputs: &[(&str, u64)]| {
            let inputs = inputs
                .iter()
                .map(|(protocol, port)| input("192.168.1.20", protocol, *port));
            checked(inputs.collect()).unwrap()
        };
        let (before, after) = (of(&[("tcp", 445), ("tcp", 80)]), of(&[("tcp", 445), ("udp", 53)]));
        assert_eq!(
            sentences(&files, &before, &after),
            [
                "Containers of files may reach UDP port 53 of 192.168.1.20.",
                "Containers of files may no longer reach TCP port 80 of 192.168.1.20.",
                "Connections that they have open to what they lose end.",
            ]
        );
        assert_eq!(
            sentences(&files, &of(&[]), &of(&[("tcp", 445)])),
            ["Containers of files may reach TCP port 445 of 192.168.1.20."]
        );
        assert_eq!(sentences(&files, &after, &after), Vec::<String>::new());
    }
}

//! For `make bench`: the policy of many peers, compiled and put into the kernel of this network namespace, beside the
//! text that nft(8) would take for the same. Needs CAP_NET_ADMIN.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use cell_netd_core::plan::{PeerUpdate, element_delta};
use cell_netd_core::policy::{Ruleset, compile, render};
use cell_netd_core::spec::{AccessSpec, DeltaSpec, NetworkSpec, PeerSpec, ServiceSpec, WireguardSpec};
use cell_netd_core::validate::{validate, validate_delta};
use cell_netd_core::{Ceiling, Desired};

use crate::kernel::KernelError;
use crate::kernel::nft::{Nft, Owners};
use crate::reconciler::{BETWEEN_LOOKS, LOOKING};

/// What one measurement needs.
#[derive(Debug, Clone)]
pub struct Sample {
    spec: NetworkSpec,
    ceiling: Ceiling,
}

/// How long the parts of an apply took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Validation and compilation.
    pub compile: Duration,
    /// The transaction.
    pub commit: Duration,
    /// Reading everything back and comparing.
    pub read_back: Duration,
}

impl Sample {
    /// `count` peers, 1-20,000, each with both families, internet for every second, peer-to-peer for every third, and
    /// one service.
    ///
    /// `ceiling` must allow 10.64.0.0/10, fd86::/64, interface wg0 and port 51820.
    pub fn new(count: u32, ceiling: Ceiling) -> Self {
        let v4 = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 64, 0, 1), 10);
        let v6 = ipnet::Ipv6Net::new_assert(Ipv6Addr::new(0xfd86, 0, 0, 0, 0, 0, 0, 1), 64);
        let wireguard = WireguardSpec {
            interface: "wg0".to_owned(),
            listen_port: 51820,
            addresses: vec![Ok(v4.into()), Ok(v6.into())],
            mtu_bytes: 0,
        };
        let peers = (1..=count).map(peer).collect();
        Sample {
            spec: NetworkSpec {
                wireguard: Some(wireguard),
                peers,
                cell_ports: vec![],
                exits: vec![],
                dns_upstreams: vec![],
                relay_servers: vec![],
                public_http: None,
                service_networks: vec![],
                entries: vec![],
            },
            ceiling,
        }
    }

    /// The checked state.
    ///
    /// # Errors
    /// When the ceiling does not allow it.
    pub fn desired(&self) -> Result<Desired, cell_netd_core::validate::Rejection> {
        validate(&self.spec, &self.ceiling, None)
    }

    /// The compiled policy.
    ///
    /// # Errors
    /// When the ceiling does not allow it.
    pub fn ruleset(&self) -> Result<Ruleset, KernelError> {
        let desired = self.desired().map_err(refused)?;
        compile(&desired, &self.ceiling, &Default::default()).ok_or_else(|| refused("no interface"))
    }

    /// The text for `nft -f` that makes the same table.
    ///
    /// # Errors
    /// When the ceiling does not allow it.
    pub fn text(&self) -> Result<String, KernelError> {
        Ok(render(&self.ruleset()?))
    }

    /// Opens what [`Sample::apply`] speaks through.
    ///
    /// # Errors
    /// Of socket(2).
    pub fn open(&self) -> Result<Nft, KernelError> {
        Ok(Nft::open(self.ceiling.table.clone(), Owners::IfKnown)?)
    }

    /// Puts the policy into the kernel.
    ///
    /// # Errors
    /// When the kernel refuses, or what is read back differs.
    pub fn apply(&self, nft: &mut Nft) -> Result<Timing, KernelError> {
        let start = Instant::now();
        let ruleset = self.ruleset()?;
        let compiled = Instant::now();
        nft.replace(&ruleset)?;
        let committed = Instant::now();
        loop {
            let looked = Instant::now();
            let matches = nft
                .observe(Some(&ruleset))?
                .is_some_and(|found| found.skeleton_matches && found.elements == ruleset.elements);
            if matches {
                return Ok(Timing {
                    compile: compiled - start,
                    commit: committed - compiled,
                    read_back: looked.elapsed(),
                });
            }
            if committed.elapsed() > LOOKING {
                return Err(refused("what was read back differs"));
            }
            // As netd does: a large set that has just grown is moved in the background.
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Adds one peer to a table with all of them: validation, transaction, reading back its elements.
    ///
    /// # Errors
    /// When the kernel refuses, or what is read back differs.
    pub fn add_one(&self) -> Result<Duration, KernelError> {
        let mut desired = self.desired().map_err(refused)?;
        let mut nft = self.open()?;
        nft.replace(&self.ruleset()?)?;
        let one = peer(self.spec.peers.len() as u32 + 1);
        let start = Instant::now();
        let spec = DeltaSpec {
            upserted_peers: vec![one],
            removed_peers: vec![],
        };
        let delta = validate_delta(&spec, &desired, &self.ceiling).map_err(refused)?;
        let elements = element_delta(&delta);
        nft.update(&elements)?;
        if !nft.verify(&elements)? {
            return Err(refused("what was read back differs"));
        }
        let _inverse = desired.apply(delta);
        Ok(start.elapsed())
    }

    /// All peers as one update of a device.
    ///
    /// # Errors
    /// When the ceiling does not allow them.
    pub fn peer_update(&self) -> Result<PeerUpdate, cell_netd_core::validate::Rejection> {
        let desired = self.desired()?;
        let device = |peer: &cell_netd_core::Peer| cell_netd_core::observed::DevicePeer {
            endpoint: peer.endpoint,
            keepalive: peer.keepalive,
            allowed_ips: peer.allowed_ips(),
        };
        let upserted = desired
            .peers()
            .values()
            .map(|peer| (peer.key, device(peer)))
            .collect();
        Ok(PeerUpdate {
            upserted,
            removed: Default::default(),
        })
    }
}

fn refused(why: impl ToString) -> KernelError {
    KernelError::Refused(why.to_string())
}

/// The VPN addresses of peer `index`, from 1: those of even index may reach the internet.
pub fn addresses(index: u32) -> (Ipv4Addr, Ipv6Addr) {
    (
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 1).to_bits() + index),
        Ipv6Addr::from_bits((0xfd86 << 112) | u128::from(index + 1)),
    )
}

fn peer(index: u32) -> PeerSpec {
    let (v4, v6) = addresses(index);
    let service = ServiceSpec {
        address: Ok(Ipv4Addr::new(10, 0, 5, 7).into()),
        protocol: Ok(cell_netd_core::model::Protocol::Tcp),
        port: 443,
    };
    PeerSpec {
        name: format!("peer{index}"),
        public_key: [&index.to_be_bytes()[..], &[9; 28]].concat(),
        addresses: vec![Ok(v4.into()), Ok(v6.into())],
        endpoint: None,
        persistent_keepalive_seconds: 0,
        access: Some(AccessSpec {
            internet: index.is_multiple_of(2),
            peer_to_peer: index.is_multiple_of(3),
            services: vec![service],
        }),
        exit: String::new(),
    }
}

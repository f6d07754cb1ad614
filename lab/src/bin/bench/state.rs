//! The state that is measured: a cell with so many peers, each with both families and one service, half of them with
//! internet, a third with peer-to-peer.

use anyhow::Result;
use cell_netd::bench::Sample;
use cell_netd_core::Ceiling;
use cell_netd_core::ceiling::ExitCeiling;

/// The state with `peers` peers, 1-20,000.
pub fn sample(peers: u32) -> Result<Sample> {
    Ok(Sample::new(peers, ceiling()?))
}

fn ceiling() -> Result<Ceiling> {
    Ok(Ceiling {
        interfaces: ["wg0".parse()?].into(),
        listen_ports: vec![1024..=65535],
        vpn_prefixes: vec!["10.0.0.0/8".parse()?, "fc00::/7".parse()?],
        cell_ports: ["tcp/443".parse()?].into(),
        service_targets: ["tcp/3443".parse()?].into(),
        service_v4: [169, 254, 67, 1].into(),
        service_v6: "fd43:454c:4c00::1".parse()?,
        max_peers: 20_000,
        accept_mark: "0x2000/0x2000".parse()?,
        table: "cell".parse()?,
        exits: ExitCeiling::none(),
        services: None,
    })
}

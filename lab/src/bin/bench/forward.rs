//! What the policy costs per packet: TCP through a router with the policy of 10 and of 10,000 peers. The link named `wg0` is
//! a pair of virtual cards, so that no encryption hides the policy's share.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use cell_lab::netns::{Namespace, join};
use cell_lab::process::{Process, until};
use cell_netd::bench::addresses;
use cell_netd::kernel::nft::Nft;
use ipnet::IpNet;

use crate::state;
use cell_lab::measure::{Bench, Goal};

const SERVER: &str = "198.51.100.7";
/// Those of even index may reach the internet.
const FEW: u32 = 10;

/// A client, a router, and a server. Nothing but the policy stands between them.
struct Road {
    client: Namespace,
    router: Namespace,
    nft: Nft,
    _server: Namespace,
    _iperf: Process,
}

/// Adds the rows. The client is the last of the peers; small segments (offloads off), so that packets count.
pub fn run(bench: &mut Bench, peers: u32, rounds: usize) -> Result<()> {
    let mut road = Road::new(peers)?;
    let mut best = [0.0_f64; 2];
    // Short and many: what else the machine does disturbs some, and the best are compared.
    for _ in 0..rounds * 2 {
        for (best, count) in best.iter_mut().zip([FEW, peers]) {
            *best = best.max(road.throughput(count)?);
        }
    }
    let [few, many] = best;
    bench.number(
        format!("forwarding with the policy of {FEW} peers"),
        few / 1e9,
        "Gbit/s",
    );
    bench.number(
        format!("forwarding with the policy of {peers} peers"),
        many / 1e9,
        "Gbit/s",
    );
    bench.judge(
        format!("forwarding, {peers} peers / {FEW} peers"),
        many / few,
        "ratio",
        Goal::AtLeast(0.97),
    );
    Ok(())
}

impl Road {
    fn new(peers: u32) -> Result<Self> {
        let (client, router, server) = (
            Namespace::new("client")?,
            Namespace::new("router")?,
            Namespace::new("server")?,
        );
        join((&client, "eth0"), (&router, "wg0"))?;
        join((&router, "out0"), (&server, "eth0"))?;
        for index in [FEW, peers] {
            client.add_address("eth0", IpNet::new(addresses(index).0.into(), 32)?)?;
        }
        router.add_address("wg0", "10.64.0.1/10".parse()?)?;
        router.add_address("out0", "198.51.100.1/24".parse()?)?;
        server.add_address("eth0", format!("{SERVER}/24").parse()?)?;
        client.ip("route add default dev eth0 scope link")?;
        client.ip("neigh flush all")?;
        router.set_sysctl("ipv4/ip_forward", "1")?;
        router.set_sysctl("ipv4/conf/wg0/proxy_arp", "1")?;
        for (namespace, links) in [
            (&client, &["eth0"][..]),
            (&router, &["wg0", "out0"]),
            (&server, &["eth0"]),
        ] {
            for link in links {
                namespace.run("ethtool", &["-K", link, "tso", "off", "gso", "off", "gro", "off"])?;
            }
        }
        let iperf = server.spawn("iperf3", Command::new("iperf3").args(["-s", "-B", SERVER]))?;
        until(Duration::from_secs(5), "iperf3 to listen", || {
            let lines = server.run("ss", &["-ltnH", "sport = :5201"]).ok()?;
            (!lines.is_empty()).then_some(())
        })?;
        let nft = router.inside(|| state::sample(FEW)?.open().context("nftables"))??;
        Ok(Road {
            client,
            router,
            nft,
            _server: server,
            _iperf: iperf,
        })
    }

    /// Bits per second from the last of `count` peers, with the policy of `count` put into the kernel by netd's code.
    fn throughput(&mut self, count: u32) -> Result<f64> {
        let ruleset = state::sample(count)?.ruleset()?;
        self.nft.replace(&ruleset)?;
        let source = addresses(count).0.to_string();
        let arguments = ["-c", SERVER, "-B", &source, "-t", "1", "-J"];
        let answer = self.client.run("iperf3", &arguments)?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        let rate = answer["end"]["sum_received"]["bits_per_second"].as_f64();
        // The policy is there and lets this peer pass, or the number says nothing.
        let counted = self
            .router
            .run("nft", &["list", "set", "inet", "cell", "internet4"])?;
        anyhow::ensure!(counted.contains(&source), "{source} is not in the policy");
        rate.context("iperf3 measured nothing")
    }
}

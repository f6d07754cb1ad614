//! What the policy costs per packet: TCP through a router with the policy of 10 and of 10,000 peers.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use cell_lab::netns::{Namespace, join};
use cell_lab::process::{Process, run_with_input, until};
use cell_lab::report::Report;
use cell_netd_core::policy;
use ipnet::IpNet;

use crate::state;

const ROUNDS: usize = 5;
const SECONDS: &str = "2";
const SERVER: &str = "198.51.100.7";

/// A client, a router with a link called `wg0` towards it, and a server. Nothing but the policy stands between them.
struct Road {
    client: Namespace,
    router: Namespace,
    _server: Namespace,
    _iperf: Process,
}

/// Adds the rows. The client is the last of the peers; small segments (offloads off), so that packets count.
pub fn run(report: &mut Report, peers: u32) -> Result<()> {
    let road = Road::new(peers)?;
    let mut best = [0.0_f64; 2];
    for _ in 0..ROUNDS {
        for (best, count) in best.iter_mut().zip([10, peers]) {
            *best = best.max(road.throughput(count, peers)?);
        }
    }
    let [few, many] = best;
    report.add(
        "forwarding with the policy of 10 peers",
        format!("{:.2}", few / 1e9),
        "Gbit/s",
        "",
        true,
    );
    report.add(
        format!("forwarding with the policy of {peers} peers"),
        format!("{:.2}", many / 1e9),
        "Gbit/s",
        "",
        true,
    );
    let ratio = many / few;
    report.add(
        format!("forwarding, {peers} peers / 10 peers"),
        format!("{ratio:.3}"),
        "ratio",
        ">= 0.97",
        ratio >= 0.97,
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
        for number in [9, peers - 1] {
            let [address, _] = state::addresses(number);
            client.add_address("eth0", IpNet::new(address, 32)?)?;
        }
        router.add_address("wg0", "10.86.0.1/16".parse()?)?;
        router.add_address("out0", "198.51.100.1/24".parse()?)?;
        server.add_address("eth0", format!("{SERVER}/24").parse()?)?;
        client.ip("route add default dev eth0 scope link")?;
        client.ip("neigh flush all")?;
        router.set_sysctl("ipv4/ip_forward", "1")?;
        router.set_sysctl("ipv4/conf/wg0/proxy_arp", "1")?;
        for namespace in [&client, &router, &server] {
            for link in ["eth0", "wg0", "out0"] {
                // Not every namespace has every link.
                let _ = namespace.run("ethtool", &["-K", link, "tso", "off", "gso", "off", "gro", "off"]);
            }
        }
        let iperf = server.spawn("iperf3", Command::new("iperf3").args(["-s", "-B", SERVER]))?;
        until(Duration::from_secs(5), "iperf3 to listen", || {
            server
                .run("ss", &["-ltnH", "sport = :5201"])
                .ok()
                .filter(|lines| !lines.is_empty())
        })?;
        Ok(Road {
            client,
            router,
            _server: server,
            _iperf: iperf,
        })
    }

    /// Bits per second from the last of `count` peers, with the policy of `count`.
    fn throughput(&self, count: u32, peers: u32) -> Result<f64> {
        let ruleset = state::ruleset(count)?;
        let text = format!("flush ruleset\n{}", policy::render(&ruleset));
        let mut nft = Command::new("ip");
        run_with_input(
            nft.args(["netns", "exec", self.router.name(), "nft", "-f", "-"]),
            &text,
        )?;
        let [source, _] = state::addresses(if count == peers { peers - 1 } else { 9 });
        let arguments = ["-c", SERVER, "-B", &source.to_string(), "-t", SECONDS, "-J"];
        let answer = self.client.run("iperf3", &arguments)?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        answer["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .context("iperf3 measured nothing")
    }
}

//! A client, a router, and a server behind the router's exit; an ISP behind the router's own way, who counts. The link named
//! `wg0` and that of the exit are pairs of virtual cards, so that no encryption hides the policy's share (`tunnelled.rs` has
//! the real ones).

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::{Namespace, join};
use cell_lab::process::{Process, run_with_input, until};
use cell_netd::kernel::nft::{Nft, Owners};
use cell_netd_core::model::Family;

use crate::state::{self, DEVICE, Size, addresses, interface, near};

/// The server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// What decides about packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// netd's table.
    Netd,
    /// A chain of iptables for each peer, as the original has them.
    Chains,
}

/// The machines.
pub struct Road {
    /// The last of the peers, who is bound to the first exit.
    pub client: Namespace,
    /// The cell.
    pub router: Namespace,
    /// Behind the first exit; the server's address is there.
    _server: Namespace,
    /// What went by the router's own way to the server.
    pub leaked: Counter,
    size: Size,
    by: By,
    _isp: Namespace,
    _iperf: Process,
    /// Its table lives as long as it.
    _nft: Option<Nft>,
}

impl Road {
    /// Builds it with that state.
    pub fn new(size: Size, by: By) -> Result<Self> {
        let [client, router, server, isp] = ["client", "router", "server", "isp"].map(Namespace::new);
        let (client, router, server, isp) = (client?, router?, server?, isp?);
        let exit = interface(0);
        wire(&client, "eth0", &router, DEVICE)?;
        wire(&router, &exit, &server, "eth0")?;
        join((&router, "uplink"), (&isp, "eth0"))?;
        let [own, _] = addresses(size.peers);
        client.add_address("eth0", host(own))?;
        router.add_address(DEVICE, state::CELL[0].parse()?)?;
        router.add_address(&exit, host(near(0)[0]))?;
        router.add_address("uplink", "203.0.113.10/24".parse()?)?;
        isp.add_address("eth0", "203.0.113.1/24".parse()?)?;
        for to_server in [&server, &isp] {
            to_server.add_address("lo", host(SERVER))?;
        }
        client.ip("route add default dev eth0")?;
        server.ip("route add default dev eth0")?;
        router.ip("route add default via 203.0.113.1")?;
        router.forward()?;
        state::batch(&router, &state::links(1..size.exits / 2), &[])?;
        state::batch(&router, &size.ip(Family::V4)?, &["-4"])?;
        let nft = router.inside(|| decide(size, by))??;
        let iperf = serve(&server)?;
        let leaked = Counter::install(&isp, Spec::to(host(SERVER), Protocol::Any))?;
        Ok(Road {
            client,
            router,
            _server: server,
            leaked,
            size,
            by,
            _isp: isp,
            _iperf: iperf,
            _nft: nft,
        })
    }

    /// As [`throughput`], decided by the policy.
    pub fn throughput(&self) -> Result<f64> {
        let rate = throughput(&self.client)?;
        self.carried()?;
        Ok(rate)
    }

    /// As [`latency`] of echoes, decided by the policy.
    pub fn latency(&self) -> Result<Duration> {
        // A third of a second for either.
        let echoes = match self.by {
            By::Netd => 30_000,
            By::Chains => 1000,
        };
        let time = latency(&self.client, echoes)?;
        self.carried()?;
        Ok(time)
    }

    /// That the state decided and led to the exit, or the number says nothing.
    fn carried(&self) -> Result<()> {
        let [own, _] = addresses(self.size.peers);
        let (what, told) = match self.by {
            By::Netd => {
                let told = self.router.run("nft", &["list", "table", "inet", state::TABLE])?;
                (own.to_string(), told)
            }
            By::Chains => (
                "wgext_".to_owned(),
                self.router.run("iptables-save", &["-t", "filter"])?,
            ),
        };
        if !told.contains(&what) {
            bail!("{what} is not in the policy");
        }
        if self.leaked.packets()? > 0 {
            bail!("packets left by the router's own way");
        }
        Ok(())
    }
}

/// iperf3 at the server's address.
pub fn serve(server: &Namespace) -> Result<Process> {
    let address = SERVER.to_string();
    let iperf = server.spawn("iperf3", Command::new("iperf3").args(["-s", "-B", &address]))?;
    until(Duration::from_secs(5), "iperf3 to listen", || {
        let lines = server.run("ss", &["-ltnH", "sport = :5201"]).ok()?;
        (!lines.is_empty()).then_some(())
    })?;
    Ok(iperf)
}

/// Bits per second of TCP to the server, for a second.
pub fn throughput(client: &Namespace) -> Result<f64> {
    let address = SERVER.to_string();
    let answer = client.run("iperf3", &["-c", &address, "-t", "1", "-J"])?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    answer["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .context("iperf3 measured nothing")
}

/// The mean of so many echoes to the server, each sent when the one before has come. ping's own mean is told in microseconds, which
/// is not fine enough.
pub fn latency(client: &Namespace, echoes: u32) -> Result<Duration> {
    let (address, count) = (SERVER.to_string(), echoes.to_string());
    let told = client.run("ping", &["-q", "-f", "-c", &count, &address])?;
    // 3000 packets transmitted, 3000 received, 0% packet loss, time 19ms
    let time = told.split_once("loss, time ").map(|(_, after)| after);
    let time = time.and_then(|time| time.split_once("ms"));
    let (milliseconds, _) = time.context("ping told no time")?;
    Ok(Duration::from_millis(milliseconds.parse()?) / echoes)
}

/// A pair of cards without a search for neighbours, as a tunnel is.
fn wire(one: &Namespace, one_name: &str, other: &Namespace, other_name: &str) -> Result<()> {
    let mac = "02:00:00:00:00:01";
    one.ip(&format!(
        "link add {one_name} address {mac} type veth peer name {other_name} address {mac} netns {}",
        other.name()
    ))?;
    for (namespace, name) in [(one, one_name), (other, other_name)] {
        namespace.ip(&format!("link set {name} arp off up"))?;
        // Small packets, so that they count.
        namespace.run("ethtool", &["-K", name, "tso", "off", "gso", "off", "gro", "off"])?;
    }
    Ok(())
}

/// Puts the policy into the kernel of this namespace.
fn decide(size: Size, by: By) -> Result<Option<Nft>> {
    match by {
        By::Netd => {
            let mut nft = Nft::open(state::TABLE.parse()?, Owners::IfKnown)?;
            nft.replace(&size.ruleset()?)?;
            Ok(Some(nft))
        }
        By::Chains => {
            run_with_input(&mut Command::new("iptables-restore"), &chains(size))?;
            Ok(None)
        }
    }
}

/// The same reach of IPv4 by the original's means: each peer has a rule that marks it, and one that leads to its own chain.
fn chains(size: Size) -> String {
    let (mut mark, mut declared, mut jumps, mut own) = Default::default();
    for index in 1..=size.peers {
        let ([address, _], exit) = (addresses(index), size.exit_of(index));
        add(
            &mut mark,
            format!(
                "-A PREROUTING -i {DEVICE} -s {address} -j MARK --set-mark {:#x}",
                0x1000 + 0x10 * exit
            ),
        );
        add(&mut declared, format!(":PEER_{index} - [0:0]"));
        add(&mut jumps, format!("-A FORWARD -s {address} -j PEER_{index}"));
        add(
            &mut own,
            format!("-A PEER_{index} -d 10.0.5.7 -p tcp --dport 443 -j ACCEPT"),
        );
        if size.is_tunnel(exit) {
            add(
                &mut own,
                format!("-A PEER_{index} -o {} -j ACCEPT", interface(exit)),
            );
        }
        add(&mut own, format!("-A PEER_{index} -j DROP"));
    }
    format!(
        "*mangle\n{mark}COMMIT\n*nat\n-A POSTROUTING -o wgext_+ -j MASQUERADE\nCOMMIT\n*filter\n:FORWARD DROP [0:0]\n{declared}\
         {jumps}-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n{own}COMMIT\n"
    )
}

fn add(text: &mut String, line: String) {
    text.push_str(&line);
    text.push('\n');
}

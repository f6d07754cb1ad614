//! The whole way of a packet: a stock client, a netd with its WireGuard, and the far end of an exit by the stock tools; between
//! them an ISP, who counts what the cell sends to the server by its own way.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::{Namespace, join};
use cell_lab::process::Process;
use cell_lab::stock::Client;

use crate::netd::Netd;
use crate::road::{self, SERVER};
use crate::state::{self, FAR, OWN_KEY, PORT, Size, addresses, near};

const CELL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

/// The machines, and how they are joined.
pub struct Machines {
    /// Somewhere on the internet.
    pub client: Namespace,
    /// The cell.
    pub cell: Namespace,
    /// The far end of all exits, and the server behind them.
    pub far: Namespace,
    /// Has the server's address too, which it gets what leaks for.
    isp: Namespace,
}

impl Machines {
    /// Joins them.
    pub fn new() -> Result<Self> {
        let [client, cell, far, isp] = ["client", "cell", "far", "isp"].map(Namespace::new);
        let (client, cell, far, isp) = (client?, cell?, far?, isp?);
        let links: [(&Namespace, &str, &str, Ipv4Addr, &str); 3] = [
            (
                &client,
                "eth0",
                "client",
                Ipv4Addr::new(203, 0, 114, 10),
                "203.0.114.1",
            ),
            (&cell, "uplink", "cell", CELL, "203.0.113.1"),
            (&far, "eth0", "far", FAR, "192.0.2.1"),
        ];
        for (machine, name, at_isp, address, gateway) in links {
            join((machine, name), (&isp, at_isp))?;
            machine.add_address(name, format!("{address}/24").parse()?)?;
            isp.add_address(at_isp, format!("{gateway}/24").parse()?)?;
            machine.ip(&format!("route add default via {gateway}"))?;
        }
        isp.add_address("lo", host(SERVER))?;
        isp.forward()?;
        cell.forward()?;
        Ok(Machines {
            client,
            cell,
            far,
            isp,
        })
    }
}

/// A cell of that size on these machines. Its last peer is the client, whose exit is the first.
pub struct Tunnelled<'a> {
    pub machines: &'a Machines,
    pub size: Size,
    pub netd: Netd,
    /// What the cell sent to the server by its own way.
    pub leaked: Counter,
    _client: Client<'a>,
    /// None: it is down.
    pub far: Option<Client<'a>>,
    _iperf: Process,
}

impl<'a> Tunnelled<'a> {
    /// Builds it, and sees that an echo comes through.
    pub fn new(machines: &'a Machines, size: Size) -> Result<Self> {
        let mut netd = Netd::start(&machines.cell)?;
        netd.apply(size.spec())?;
        let far = Client::up(&machines.far, &far_file())?;
        let client = Client::up(&machines.client, &client_file(size))?;
        let leaked = Counter::install(&machines.isp, Spec::to(host(SERVER), Protocol::Any))?;
        client.wait_for_handshake()?;
        let iperf = road::serve(&machines.far)?;
        let road = Tunnelled {
            machines,
            size,
            netd,
            leaked,
            _client: client,
            far: Some(far),
            _iperf: iperf,
        };
        machines
            .client
            .run("ping", &["-c", "3", "-W", "20", &SERVER.to_string()])?;
        Ok(road)
    }

    /// Which tunnels they are.
    pub fn way(&self) -> &'static str {
        match self.netd.in_kernel {
            true => "through the kernel's WireGuard twice",
            false => "through cell-wg twice",
        }
    }

    /// As [`road::throughput`], all of it by the tunnel of the exit.
    pub fn throughput(&self) -> Result<f64> {
        self.by_the_exit(|| road::throughput(&self.machines.client))
    }

    /// As [`road::latency`], all of it by the tunnel of the exit.
    pub fn latency(&self) -> Result<Duration> {
        self.by_the_exit(|| road::latency(&self.machines.client, 3000))
    }

    fn by_the_exit<T>(&self, measure: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.carried()?;
        let measured = measure()?;
        let carried = self.carried()? - before;
        ensure!(
            carried > 100_000,
            "the tunnel of the exit carried {carried} bytes"
        );
        ensure!(self.leaked.packets()? == 0, "packets left by the cell's own way");
        Ok(measured)
    }

    /// Bytes that came to the far end of the exit.
    fn carried(&self) -> Result<u64> {
        let peers = self.far.as_ref().context("the far end is down")?.peers()?;
        Ok(peers.iter().map(|peer| peer.received_bytes).sum())
    }
}

fn client_file(size: Size) -> String {
    let [own, _] = addresses(size.peers);
    let keys = [
        STANDARD.encode(state::peer_key(size.peers)),
        STANDARD.encode(state::public(OWN_KEY)),
    ];
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = {own}/32\n\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = {SERVER}/32\nEndpoint = {CELL}:{PORT}\n",
        keys[0], keys[1],
    )
}

/// Of the first exit. The server's address is the tunnel's own.
pub fn far_file() -> String {
    let keys = [
        STANDARD.encode(state::far_key(0)),
        STANDARD.encode(state::public(state::near_key(0))),
    ];
    let [near, _] = near(0);
    format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\nAddress = {SERVER}/32\n\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = {near}/32\n",
        keys[0], keys[1],
    )
}

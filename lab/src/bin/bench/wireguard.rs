//! Peers into the kernel's WireGuard: netd's own messages, beside `wg setconf` of the same peers on the same device; and
//! reading them back, beside `wg show`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cell_lab::netns::Namespace;
use cell_lab::process;
use cell_netd::kernel::linux::has_wireguard;
use cell_netd::kernel::wireguard::Backend;
use cell_netd::kernel::wireguard::kernel::InKernel;
use cell_netd_core::model::InterfaceName;
use cell_netd_core::plan::PeerUpdate;
use tokio::runtime::Runtime;

use crate::state;
use cell_lab::measure::{Bench, Goal};

const ROUNDS: u32 = 3;
const DEVICE: &str = "wg0";
/// The name that netd would mark its links with.
const TABLE: &str = "cell";
/// Peers by which the time of all is estimated.
const TRIAL: u32 = 200;
/// How often all peers are put into the device, or taken out of it, in a round.
const PASSES: u32 = 4;

/// Whether the kernel has WireGuard.
///
/// # Errors
/// When it cannot be asked.
pub fn in_kernel() -> Result<bool> {
    Namespace::new("bench-wg")?.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(runtime.block_on(has_wireguard(&TABLE.parse()?))?)
    })?
}

/// Adds the rows, for `largest` peers, or for as many as keep it within `budget`: an interpreted machine is slow.
///
/// # Errors
/// Where the kernel has no WireGuard, and when the device does not hold what was put into it.
pub fn run(bench: &mut Bench, scratch: &Path, largest: u32, budget: Duration) -> Result<()> {
    let namespace = Namespace::new("bench-wg")?;
    namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut device = Device::new(runtime, scratch)?;
        let trial = device.round(&Peers::new(TRIAL, scratch)?)?;
        let each = trial.ours.max(trial.theirs) / TRIAL;
        let bearable = budget.as_micros() / u128::from(PASSES * ROUNDS) / each.as_micros().max(1);
        let count = largest.min(u32::try_from(bearable)?.max(TRIAL));
        let peers = Peers::new(count, scratch)?;
        let mut best = device.round(&peers)?;
        for _ in 1..ROUNDS {
            best = best.min(&device.round(&peers)?);
        }
        best.rows(bench, count);
        Ok(())
    })?
}

/// How long each part of a round took.
struct Times {
    ours: Duration,
    read_back: Duration,
    theirs: Duration,
    show: Duration,
}

impl Times {
    fn min(&self, other: &Times) -> Times {
        Times {
            ours: self.ours.min(other.ours),
            read_back: self.read_back.min(other.read_back),
            theirs: self.theirs.min(other.theirs),
            show: self.show.min(other.show),
        }
    }

    fn rows(&self, bench: &mut Bench, count: u32) {
        bench.time(format!("{count} WireGuard peers, netd"), self.ours);
        bench.time(
            format!("{count} WireGuard peers, netd: re-read after that"),
            self.read_back,
        );
        bench.time(format!("{count} WireGuard peers, wg setconf"), self.theirs);
        bench.time(format!("{count} WireGuard peers, wg show dump"), self.show);
        let name = format!("netd / wg setconf at {count} WireGuard peers");
        bench.ratio(name, self.ours, self.theirs, Goal::AtMost(1.3));
    }
}

/// The same peers, as either side takes them.
struct Peers {
    update: PeerUpdate,
    file: String,
}

impl Peers {
    fn new(count: u32, scratch: &Path) -> Result<Self> {
        let update = state::sample(count)?
            .peer_update()
            .map_err(|rejection| anyhow!("{rejection:?}"))?;
        let mut text = String::new();
        for (key, peer) in &update.upserted {
            let nets: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
            write!(
                text,
                "[Peer]\nPublicKey = {key}\nAllowedIPs = {}\n",
                nets.join(", ")
            )?;
        }
        let file = file(scratch, "peers.conf", &text)?;
        Ok(Peers { update, file })
    }
}

/// A device, made by the stock tools, that both sides fill.
struct Device {
    runtime: Runtime,
    netd: InKernel,
    name: InterfaceName,
    /// The file of a device without peers.
    empty: String,
}

impl Device {
    fn new(runtime: Runtime, scratch: &Path) -> Result<Self> {
        process::run(Command::new("ip").args(["link", "add", DEVICE, "type", "wireguard"]))?;
        // With a key: that is what makes a new peer costly, for the kernel multiplies it with the peer's.
        let key = process::run(Command::new("wg").arg("genkey"))?;
        std::fs::write(scratch.join("wg.key"), key)?;
        let key = scratch.join("wg.key");
        let key = key.to_str().context("a path in UTF-8")?;
        process::run(Command::new("wg").args(["set", DEVICE, "listen-port", "51820", "private-key", key]))?;
        let empty = file(scratch, "empty.conf", "")?;
        let table = TABLE.parse()?;
        let netd = runtime.block_on(async { InKernel::new(&table) })?;
        Ok(Device {
            runtime,
            netd,
            name: DEVICE.parse()?,
            empty,
        })
    }

    /// Both sides once, from a device without peers.
    fn round(&mut self, peers: &Peers) -> Result<Times> {
        self.clear()?;
        let start = Instant::now();
        self.runtime
            .block_on(self.netd.update(&self.name, &peers.update))?;
        let ours = start.elapsed();
        let start = Instant::now();
        let found = self.runtime.block_on(self.netd.device(&self.name))?;
        let read_back = start.elapsed();
        let found = found.context("the device is gone")?.device.peers;
        ensure!(found == peers.update.upserted, "the device holds other peers");
        self.clear()?;
        let start = Instant::now();
        process::run(Command::new("wg").args(["setconf", DEVICE, &peers.file]))?;
        let theirs = start.elapsed();
        let start = Instant::now();
        let dump = process::run(Command::new("wg").args(["show", DEVICE, "dump"]))?;
        let show = start.elapsed();
        // The first line is the device's own.
        ensure!(
            dump.lines().count() == found.len() + 1,
            "wg setconf left other peers"
        );
        Ok(Times {
            ours,
            read_back,
            theirs,
            show,
        })
    }

    fn clear(&self) -> Result<()> {
        process::run(Command::new("wg").args(["setconf", DEVICE, &self.empty]))?;
        ensure!(self.count()? == 0, "the device is not empty");
        Ok(())
    }

    fn count(&self) -> Result<usize> {
        let peers = process::run(Command::new("wg").args(["show", DEVICE, "peers"]))?;
        Ok(peers.lines().count())
    }
}

/// Writes a configuration file for `wg setconf`, which keeps key and port only if it names them.
fn file(scratch: &Path, name: &str, peers: &str) -> Result<String> {
    let path = scratch.join(name);
    let key = std::fs::read_to_string(scratch.join("wg.key")).context("no key yet")?;
    let text = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = 51820\n{peers}",
        key.trim()
    );
    std::fs::write(&path, text)?;
    Ok(path.to_str().context("a path in UTF-8")?.to_owned())
}

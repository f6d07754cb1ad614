//! Peers into the kernel's WireGuard: netd's update with its read-back, beside `wg setconf` of the same peers on the same
//! device.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cell_lab::netns::Namespace;
use cell_lab::process;
use cell_lab::report::Report;
use cell_netd::kernel::linux::has_wireguard;
use cell_netd::kernel::wireguard::Backend;
use cell_netd::kernel::wireguard::kernel::InKernel;
use cell_netd_core::model::{InterfaceName, PublicKey};
use cell_netd_core::observed::DevicePeer;
use cell_netd_core::plan::PeerUpdate;
use tokio::runtime::Runtime;

use crate::measure::ratio;
use crate::state;

const ROUNDS: u32 = 3;
const DEVICE: &str = "wg0";
/// Peers by which the time of all is estimated.
const TRIAL: u32 = 200;
/// How often all peers are put into the device, or taken out of it, in a round.
const PASSES: u32 = 4;

/// Adds the rows, for `largest` peers, or for as many as keep it within `budget`: an interpreted machine is slow.
///
/// # Errors
/// Where the kernel has no WireGuard, and when the device does not hold what was put into it.
pub fn run(report: &mut Report, scratch: &Path, largest: u32, budget: Duration) -> Result<()> {
    let namespace = Namespace::new("bench-wg")?;
    namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        if !runtime.block_on(has_wireguard())? {
            bail!("this kernel has no WireGuard; `make systemtest-vm` measures one that has");
        }
        let mut bench = Bench::new(runtime, scratch)?;
        let (ours, theirs) = bench.round(&Peers::new(TRIAL, scratch)?)?;
        let each = ours.max(theirs) / TRIAL;
        let bearable = budget.as_micros() / u128::from(PASSES * ROUNDS) / each.as_micros().max(1);
        let count = largest.min(u32::try_from(bearable)?.max(TRIAL));
        let peers = Peers::new(count, scratch)?;
        let mut best = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            let (ours, theirs) = bench.round(&peers)?;
            best = (best.0.min(ours), best.1.min(theirs));
        }
        rows(report, count, best.0, best.1);
        Ok(())
    })?
}

fn rows(report: &mut Report, count: u32, ours: Duration, theirs: Duration) {
    for (who, time) in [("netd, read back", ours), ("wg setconf", theirs)] {
        let name = format!("{count} WireGuard peers by {who}");
        report.add(name, format!("{:.1}", time.as_secs_f64() * 1e3), "ms", "", true);
    }
    let ratio = ratio(ours, theirs);
    report.add(
        format!("netd / wg setconf at {count} peers"),
        format!("{ratio:.2}"),
        "ratio",
        "<= 1.3",
        ratio <= 1.3,
    );
}

/// The same peers, as either side takes them.
struct Peers {
    update: PeerUpdate,
    file: String,
}

impl Peers {
    fn new(count: u32, scratch: &Path) -> Result<Self> {
        let mut update = PeerUpdate::default();
        let mut text = String::new();
        for number in 0..count {
            let mut key = [0x42; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            let key = PublicKey::try_from(key.as_slice())?;
            let [v4, v6] = state::addresses(number);
            write!(
                text,
                "[Peer]\nPublicKey = {key}\nAllowedIPs = {v4}/32, {v6}/128\n"
            )?;
            let peer = DevicePeer {
                endpoint: None,
                keepalive: 0,
                allowed_ips: [v4.into(), v6.into()].into(),
            };
            update.upserted.insert(key, peer);
        }
        let file = file(scratch, "peers.conf", &text)?;
        Ok(Peers { update, file })
    }
}

/// A device, made by the stock tools, that both sides fill.
struct Bench {
    runtime: Runtime,
    netd: InKernel,
    name: InterfaceName,
    /// The file of a device without peers.
    empty: String,
}

impl Bench {
    fn new(runtime: Runtime, scratch: &Path) -> Result<Self> {
        process::run(Command::new("ip").args(["link", "add", DEVICE, "type", "wireguard"]))?;
        // With a key: that is what makes a new peer costly, for the kernel multiplies it with the peer's.
        let key = process::run(Command::new("wg").arg("genkey"))?;
        std::fs::write(scratch.join("wg.key"), key)?;
        let key = scratch.join("wg.key");
        let key = key.to_str().context("a path in UTF-8")?;
        process::run(Command::new("wg").args(["set", DEVICE, "listen-port", "51820", "private-key", key]))?;
        let empty = file(scratch, "empty.conf", "")?;
        let netd = runtime.block_on(async { InKernel::new() })?;
        Ok(Bench {
            runtime,
            netd,
            name: DEVICE.parse()?,
            empty,
        })
    }

    /// Both sides once, from a device without peers.
    fn round(&mut self, peers: &Peers) -> Result<(Duration, Duration)> {
        self.clear()?;
        let start = Instant::now();
        let found = self.runtime.block_on(async {
            self.netd.update(&self.name, &peers.update).await?;
            self.netd.device(&self.name).await
        })?;
        let ours = start.elapsed();
        let found = found.context("the device is gone")?.device.peers;
        ensure!(found == peers.update.upserted, "the device holds other peers");
        self.clear()?;
        let start = Instant::now();
        process::run(Command::new("wg").args(["setconf", DEVICE, &peers.file]))?;
        let theirs = start.elapsed();
        ensure!(self.count()? == found.len(), "wg setconf left other peers");
        Ok((ours, theirs))
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

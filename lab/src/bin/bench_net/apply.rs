//! The whole state at once, beside `nft -f`, `ip -batch` and `wg setconf` of the same; and one peer's other exit.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cell_lab::measure::{Bench, Goal, median};
use cell_lab::netns::Namespace;
use cell_lab::process::{Process, run, until};
use cell_netd_core::model::Family;

use crate::netd::{Netd, place};
use crate::state::{CELL, DEVICE, Size};

/// Peers of the small cell.
pub const FEW: Size = Size { peers: 10, exits: 2 };
/// The private key of both sides' devices.
const PRIVATE_KEY: [u8; 32] = [0x40; 32];

/// Adds the rows of the whole state.
pub fn whole(bench: &mut Bench, scratch: &Path, size: Size, rounds: usize) -> Result<()> {
    let mut best: Option<(Duration, Stock)> = None;
    let mut kernel = false;
    for _ in 0..rounds {
        let (ours, in_kernel) = netd_once(size)?;
        kernel = in_kernel;
        let stock = Stock::once(scratch, size, in_kernel)?;
        best = Some(match best {
            None => (ours, stock),
            Some((ours_before, before)) => (ours.min(ours_before), stock.min(before)),
        });
    }
    let (ours, stock) = best.context("no round")?;
    let Size { peers, exits } = size;
    let state = format!("{peers} peers over {exits} exits");
    let device = if kernel {
        "the kernel's WireGuard"
    } else {
        "cell-wg"
    };
    bench.time(
        format!("{state}, netd with {device}: request to answer, read back"),
        ours,
    );
    bench.time(format!("{state}, nft -f"), stock.nft);
    bench.time(format!("{state}, ip -batch"), stock.ip);
    let device = if kernel { "the kernel" } else { "wireguard-go" };
    bench.time(format!("{state}, wg setconf to {device}"), stock.wg);
    let theirs = stock.nft + stock.ip + stock.wg;
    bench.ratio(
        format!("netd / (nft + ip + wg) at {state}"),
        ours,
        theirs,
        Goal::AtMost(1.0),
    );
    Ok(())
}

/// A netd without a state gets all of it.
fn netd_once(size: Size) -> Result<(Duration, bool)> {
    let namespace = place("bench-ours", size)?;
    let mut netd = Netd::start(&namespace)?;
    let took = netd.apply(size.spec())?;
    let (rules, wanted) = (namespace.ip("rule")?, size.exits as usize);
    // Two for each tunnel.
    let made = rules.matches("lookup 1").count();
    ensure!(made == wanted, "netd made {made} rules of {wanted}");
    let routes = namespace.ip("-4 route show table all")?;
    let made = routes.matches("default dev wgext_").count();
    ensure!(made == wanted / 2, "netd made {made} routes of {}", wanted / 2);
    Ok((took, netd.in_kernel))
}

/// How long the stock tools take, with the calls that a script would make.
struct Stock {
    nft: Duration,
    ip: Duration,
    wg: Duration,
}

impl Stock {
    fn min(self, other: Stock) -> Stock {
        Stock {
            nft: self.nft.min(other.nft),
            ip: self.ip.min(other.ip),
            wg: self.wg.min(other.wg),
        }
    }

    fn once(scratch: &Path, size: Size, in_kernel: bool) -> Result<Stock> {
        use base64::Engine as _;
        let key = base64::engine::general_purpose::STANDARD.encode(PRIVATE_KEY);
        let namespace = place("bench-stock", size)?;
        let _go = if in_kernel {
            namespace.ip(&format!("link add {DEVICE} type wireguard"))?;
            None
        } else {
            Some(wireguard_go(&namespace)?)
        };
        let ip = |family, net| {
            let routing = size.ip(family)?;
            anyhow::Ok(format!(
                "address add {net} dev {DEVICE}\nlink set {DEVICE} up\n{routing}"
            ))
        };
        let [v4, v6] = CELL;
        let files = [
            ("nft", size.nft()?),
            ("wg", size.wg(&key)),
            ("ip4", ip(Family::V4, v4)?),
            ("ip6", ip(Family::V6, v6)?),
        ];
        let mut paths = Vec::new();
        for (name, text) in &files {
            let path = scratch.join(format!("stock.{name}"));
            std::fs::write(&path, text)?;
            paths.push(path.to_str().context("a path in UTF-8")?.to_owned());
        }
        let timed = |program: &str, arguments: &[&str]| {
            let start = Instant::now();
            namespace.run(program, arguments)?;
            anyhow::Ok(start.elapsed())
        };
        Ok(Stock {
            nft: timed("nft", &["-f", &paths[0]])?,
            wg: timed("wg", &["setconf", DEVICE, &paths[1]])?,
            ip: timed("ip", &["-4", "-batch", &paths[2]])? + timed("ip", &["-6", "-batch", &paths[3]])?,
        })
    }
}

/// The stock device where the kernel has none. In the foreground, so that it ends with its owner.
fn wireguard_go(namespace: &Namespace) -> Result<Process> {
    let mut command = Command::new("wireguard-go");
    let go = namespace.spawn(
        "wireguard-go",
        command.args(["--foreground", DEVICE]).env("LOG_LEVEL", "error"),
    )?;
    until(Duration::from_secs(10), "wireguard-go's device", || {
        namespace
            .inside(|| run(Command::new("wg").args(["show", DEVICE])))
            .ok()?
            .ok()
    })?;
    Ok(go)
}

/// Adds the rows of one peer that goes from exit to exit, in a large and in a small cell in turn.
pub fn assignments(bench: &mut Bench, size: Size) -> Result<()> {
    const SAMPLES: u32 = 40;
    let sizes = [FEW, size];
    let mut cells = Vec::new();
    for size in sizes {
        let namespace = place("bench-assign", size)?;
        let mut netd = Netd::start(&namespace)?;
        netd.apply(size.spec())?;
        cells.push((netd, size, namespace, Vec::new()));
    }
    for sample in 1..=SAMPLES {
        for (netd, size, _, times) in &mut cells {
            let index = size.peers;
            times.push(netd.assign(index, size.exit_of(index + sample))?);
        }
    }
    let mut medians = cells.into_iter().map(|(.., times)| median(times));
    let (few, many) = (medians.next().flatten(), medians.next().flatten());
    let (few, many) = few.zip(many).context("no sample")?;
    bench.time(
        format!(
            "another exit of one peer at {} peers, request to answer (median)",
            FEW.peers
        ),
        few,
    );
    bench.time(format!("the same at {} peers", size.peers), many);
    bench.ratio(
        format!(
            "another exit of one peer, {} peers / {} peers",
            size.peers, FEW.peers
        ),
        many,
        few,
        Goal::AtMost(2.0),
    );
    Ok(())
}

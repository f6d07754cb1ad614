//! The whole state at once, beside `nft -f`, `ip -batch` and `wg setconf` of the same; and one peer's other exit.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cell_lab::measure::{Bench, Goal, median};
use cell_lab::netns::Namespace;
use cell_lab::process::{Process, until};
use cell_lab::stock;
use cell_netd_core::model::Family;

use crate::netd::Netd;
use crate::state::{self, DEVICE, Size};

/// Peers of the small cell.
pub const FEW: Size = Size { peers: 10, exits: 2 };

/// Adds the rows of the whole state. Neither side has an interface before the clock runs.
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
    let ([device, theirs], interfaces) = match kernel {
        true => (["the kernel's WireGuard", "the kernel's WireGuard"], ""),
        false => (["cell-wg", "wireguard-go"], " + wireguard-go"),
    };
    bench.time(
        format!("{size}, netd with {device}: request to answer, interfaces made, read back"),
        ours,
    );
    bench.time(format!("{size}, nft -f"), stock.nft);
    if let Some(go) = stock.go {
        bench.time(
            format!("{size}, wireguard-go for each interface, {AT_ONCE} at once"),
            go,
        );
    }
    bench.time(format!("{size}, ip -batch"), stock.ip);
    bench.time(
        format!("{size}, wg setconf of each interface of {theirs}"),
        stock.wg,
    );
    bench.ratio(
        format!("netd / (nft + ip + wg{interfaces}) at {size}"),
        ours,
        stock.tools() + stock.go.unwrap_or_default(),
        Goal::AtMost(1.0),
    );
    if stock.go.is_some() {
        let name = format!("the same, wireguard-go's start not counted for the tools, at {size}");
        bench.ratio(name, ours, stock.tools(), Goal::AtMost(1.0));
    }
    Ok(())
}

/// Interfaces that the stock tools make before they wait, uncounted, until each wireguard-go has read what it was told of them. It ends
/// where its socket has no room for more ("no buffer space available"), and of a hundred that begin at once some do.
const AT_ONCE: usize = 16;

/// An empty machine that forwards.
fn place(label: &str) -> Result<Namespace> {
    let namespace = Namespace::new(label)?;
    namespace.forward()?;
    Ok(namespace)
}

/// A netd without a state gets all of it.
fn netd_once(size: Size) -> Result<(Duration, bool)> {
    let namespace = place("bench-ours")?;
    let mut netd = Netd::start(&namespace)?;
    let took = netd.apply(size.spec())?;
    // What it leads into stands too: a route goes to a tunnel that is up, and to no other.
    let (rules, wanted) = (namespace.ip("rule")?, size.exits as usize);
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
    /// Where the kernel has no WireGuard: a process for each interface, as wg-quick(8) starts it.
    go: Option<Duration>,
    ip: Duration,
    wg: Duration,
}

impl Stock {
    fn min(self, other: Stock) -> Stock {
        Stock {
            nft: self.nft.min(other.nft),
            go: self.go.zip(other.go).map(|(one, two)| one.min(two)),
            ip: self.ip.min(other.ip),
            wg: self.wg.min(other.wg),
        }
    }

    fn tools(&self) -> Duration {
        self.nft + self.ip + self.wg
    }

    fn once(scratch: &Path, size: Size, in_kernel: bool) -> Result<Stock> {
        let namespace = place("bench-stock")?;
        let written = Files::write(scratch, size, in_kernel)?;
        let timed = |program: &str, arguments: &[&str]| {
            let start = Instant::now();
            namespace.run(program, arguments)?;
            anyhow::Ok(start.elapsed())
        };
        let mut processes = match in_kernel {
            true => None,
            false => Some(wireguard_go(&namespace, size)?),
        };
        let go = processes.as_ref().map(|(_, took)| *took);
        let mut wg = Duration::ZERO;
        let mut links = Duration::ZERO;
        for piece in &written.links {
            links += timed("ip", &["-batch", piece])?;
            told(&namespace)?;
        }
        for (interface, file) in &written.devices {
            let set = timed("wg", &["setconf", interface, file]);
            wg += set.with_context(|| match &mut processes {
                Some((processes, _)) => ended(processes),
                None => String::new(),
            })?;
        }
        Ok(Stock {
            nft: timed("nft", &["-f", &written.nft])?,
            go,
            wg,
            ip: links
                + timed("ip", &["-4", "-batch", &written.routing[0]])?
                + timed("ip", &["-6", "-batch", &written.routing[1]])?,
        })
    }
}

/// What the stock tools read.
struct Files {
    nft: String,
    /// One file; or one for [`AT_ONCE`] each where there is a wireguard-go for each.
    links: Vec<String>,
    /// Of IPv4 and of IPv6.
    routing: [String; 2],
    /// Interface and file.
    devices: Vec<(String, String)>,
}

impl Files {
    fn write(folder: &Path, size: Size, in_kernel: bool) -> Result<Self> {
        let file = |name: &str, text: String| {
            let path = folder.join(format!("stock.{name}"));
            std::fs::write(&path, text)?;
            anyhow::Ok(path.to_str().context("a path in UTF-8")?.to_owned())
        };
        let made = |name: &str| format!("link add {name} type wireguard\n");
        let links = match in_kernel {
            true => {
                let made: String = size.interfaces().map(|name| made(&name)).collect();
                vec![file("links", made + &state::addressed(size).concat())?]
            }
            false => (state::addressed(size).chunks(AT_ONCE).enumerate())
                .map(|(number, piece)| file(&format!("links{number}"), piece.concat()))
                .collect::<Result<_>>()?,
        };
        let mut devices = vec![(DEVICE.to_owned(), file(DEVICE, size.wg())?)];
        for (exit, name) in (0..).zip(size.tunnels()) {
            let path = file(&name, state::wg_exit(exit))?;
            devices.push((name, path));
        }
        Ok(Files {
            nft: file("nft", size.nft()?)?,
            links,
            routing: [
                file("ip4", size.ip(Family::V4)?)?,
                file("ip6", size.ip(Family::V6)?)?,
            ],
            devices,
        })
    }
}

/// The stock devices where the kernel has none, and how long they took to start. In the foreground, so that they end with their owner.
fn wireguard_go(namespace: &Namespace, size: Size) -> Result<(Vec<Process>, Duration)> {
    let (mut processes, mut took) = (Vec::new(), Duration::ZERO);
    let start = |name: &String| {
        // What a process that was killed left there says nothing.
        let _ = std::fs::remove_file(stock::socket(name));
        let mut command = Command::new("wireguard-go");
        command.args(["--foreground", name]).env("LOG_LEVEL", "error");
        namespace.spawn("wireguard-go", &mut command)
    };
    for names in size.interfaces().collect::<Vec<_>>().chunks(AT_ONCE) {
        let began = Instant::now();
        let mut some = names.iter().map(start).collect::<Result<Vec<Process>>>()?;
        for (process, name) in some.iter_mut().zip(names) {
            // Its socket is there before it has its inotify(7) instance, of which a user has 128, and where it gets none it ends.
            process.wait_for(Duration::from_secs(60), "wireguard-go's answer", |_| {
                answers(&stock::socket(name)).ok()
            })?;
        }
        took += began.elapsed();
        processes.append(&mut some);
        told(namespace)?;
    }
    Ok((processes, took))
}

/// Waits until every socket of netlink there has been read to its end (the fifth column of /proc/net/netlink).
fn told(namespace: &Namespace) -> Result<()> {
    let is_read = |line: &str| line.split_whitespace().nth(4) == Some("0");
    until(Duration::from_secs(60), "netlink to be read", || {
        let sockets = namespace.run("cat", &["/proc/net/netlink"]).ok()?;
        sockets.lines().skip(1).all(is_read).then_some(())
    })
}

/// The last words of those that have ended.
fn ended(processes: &mut [Process]) -> String {
    let ended = processes.iter_mut().filter_map(|process| {
        let status = process.ended().ok()??;
        Some(format!("ended ({status}): {}\n", process.output()))
    });
    ended.collect()
}

/// That a device answers there (the configuration protocol of the stock tools).
fn answers(socket: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"get=1\n\n")?;
    stream.read_exact(&mut [0])
}

/// Flows that are open for each peer.
const FLOWS: u32 = 5;

/// Puts so many flows of UDP into the kernel's table.
fn open(namespace: &Namespace, flows: u32) -> Result<()> {
    let line = |number: u32| {
        let [_, a, b, c] = (number / 50_000).to_be_bytes();
        let port = 1024 + number % 50_000;
        format!(
            "-I -p udp -t 3600 -s 10.{a}.{b}.{c} -d 9.9.9.9 --sport {port} --dport 443 \
             -r 9.9.9.9 -q 198.51.100.1 --reply-port-src 443 --reply-port-dst {port}\n"
        )
    };
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, (0..flows).map(line).collect::<String>())?;
    let path = file.path().to_str().context("path")?;
    namespace.run("conntrack", &["-R", path])?;
    let there: u32 = namespace.run("conntrack", &["-C"])?.trim().parse()?;
    ensure!(there >= flows, "{there} flows of {flows}");
    Ok(())
}

/// Adds the rows of one peer that goes from a tunnel to a relay and back, in a large and in a small cell in turn; each has as many flows open
/// as its peers would have.
pub fn assignments(bench: &mut Bench, size: Size) -> Result<()> {
    const SAMPLES: u32 = 40;
    let sizes = [FEW, size];
    let mut cells = Vec::new();
    for size in sizes {
        let namespace = place("bench-assign")?;
        open(&namespace, size.peers * FLOWS)?;
        let mut netd = Netd::start(&namespace)?;
        netd.apply(size.spec())?;
        cells.push((netd, size, namespace, Vec::new()));
    }
    for sample in 1..=SAMPLES {
        for (netd, size, _, times) in &mut cells {
            times.push(netd.assign(size.peers, size.in_turn(sample))?);
        }
    }
    let mut medians = cells.into_iter().map(|(.., times)| median(times));
    let (few, many) = (medians.next().flatten(), medians.next().flatten());
    let (few, many) = few.zip(many).context("no sample")?;
    bench.time(
        format!(
            "another exit of one peer at {} peers with {} flows, request to answer (median)",
            FEW.peers,
            FEW.peers * FLOWS
        ),
        few,
    );
    let flows = size.peers * FLOWS;
    bench.time(
        format!("the same at {} peers with {flows} flows", size.peers),
        many,
    );
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

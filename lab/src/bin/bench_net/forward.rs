//! What packets of a bound peer pay, with few peers and with many, and what the original's chains cost.

use std::time::Duration;

use anyhow::Result;
use cell_lab::measure::{Bench, Goal};

use crate::apply::FEW;
use crate::down;
use crate::road::{By, Road};
use crate::state::Size;

/// Adds the rows.
pub fn run(bench: &mut Bench, size: Size, rounds: usize) -> Result<()> {
    let roads = [
        Road::new(FEW, By::Netd)?,
        Road::new(size, By::Netd)?,
        Road::new(size, By::Chains)?,
    ];
    let mut rates = [0.0_f64; 3];
    let mut times = [Duration::MAX; 3];
    for _ in 0..rounds * 2 {
        for ((rate, time), road) in rates.iter_mut().zip(&mut times).zip(&roads) {
            *rate = rate.max(road.throughput()?);
            *time = (*time).min(road.latency()?);
        }
    }
    rows(bench, size, rates, times);
    let [_, road, _] = roads;
    down::run(bench, &road)
}

/// Of few peers, of many, and of many with chains.
fn rows(bench: &mut Bench, size: Size, rates: [f64; 3], times: [Duration; 3]) {
    let many = format!("{} peers over {} exits", size.peers, size.exits);
    let names = [
        format!("{} peers over {} exits", FEW.peers, FEW.exits),
        many.clone(),
        format!("{many}, a chain of iptables for each"),
    ];
    for (name, rate) in names.iter().zip(rates) {
        bench.number(format!("TCP of a bound peer, {name}"), rate / 1e9, "Gbit/s");
    }
    for (name, time) in names.iter().zip(times) {
        bench.number(
            format!("round trip of a bound peer, {name}"),
            time.as_secs_f64() * 1e6,
            "us",
        );
    }
    let goal = Goal::AtLeast(0.97);
    let few = FEW.peers;
    bench.judge(
        format!("TCP, {} peers / {few} peers", size.peers),
        rates[1] / rates[0],
        "ratio",
        goal,
    );
    bench.ratio(
        format!("round trip, {few} peers / {} peers", size.peers),
        times[0],
        times[1],
        goal,
    );
    bench.judge(
        format!("TCP at {} peers, netd / chains of iptables", size.peers),
        rates[1] / rates[2],
        "ratio",
        Goal::AtLeast(1.0),
    );
    bench.judge(
        format!("round trip at {} peers, chains of iptables / netd", size.peers),
        times[2].as_secs_f64() / times[1].as_secs_f64(),
        "ratio",
        Goal::AtLeast(1.0),
    );
}

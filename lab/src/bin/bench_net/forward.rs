//! What packets of a bound peer pay, with few peers and with many: by the policy alone, beside the original's chains; and on
//! their whole way, through two tunnels.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_lab::measure::{Bench, Goal, median};

use crate::apply::FEW;
use crate::down;
use crate::road::{By, Road};
use crate::state::Size;
use crate::tunnelled::{Machines, Tunnelled};

const GOAL: Goal = Goal::AtLeast(0.97);

/// Adds the rows.
pub fn run(bench: &mut Bench, size: Size, rounds: usize) -> Result<()> {
    by_policy(bench, size, rounds)?;
    let machines = [Machines::new()?, Machines::new()?, Machines::new()?];
    let mut roads = [
        Tunnelled::new(&machines[0], FEW)?,
        Tunnelled::new(&machines[1], size)?,
        Tunnelled::new(&machines[2], FEW)?,
    ];
    through_tunnels(bench, size, &roads, rounds)?;
    let [_, road, _] = &mut roads;
    down::run(bench, road)
}

/// The best of many rounds of all roads by turns.
fn best<const N: usize>(
    rounds: usize,
    mut measure: impl FnMut(usize) -> Result<(f64, Duration)>,
) -> Result<([f64; N], [Duration; N])> {
    let mut rates = [0.0_f64; N];
    let mut times = [Duration::MAX; N];
    for _ in 0..rounds * 2 {
        for (index, (best_rate, best_time)) in rates.iter_mut().zip(&mut times).enumerate() {
            let (rate, time) = measure(index)?;
            *best_rate = best_rate.max(rate);
            *best_time = (*best_time).min(time);
        }
    }
    Ok((rates, times))
}

fn shown<const N: usize>(bench: &mut Bench, names: [String; N], rates: [f64; N], times: [Duration; N]) {
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
}

fn by_policy(bench: &mut Bench, size: Size, rounds: usize) -> Result<()> {
    let roads = [
        Road::new(FEW, By::Netd)?,
        Road::new(size, By::Netd)?,
        Road::new(size, By::Chains)?,
    ];
    let (rates, times) = best::<3>(rounds, |index| {
        let road = &roads[index];
        Ok((road.throughput()?, road.latency()?))
    })?;
    let many = format!("{} peers over {} exits", size.peers, size.exits);
    let names = [
        format!("{} peers over {} exits, the policy alone", FEW.peers, FEW.exits),
        format!("{many}, the policy alone"),
        format!("{many}, a chain of iptables for each"),
    ];
    shown(bench, names, rates, times);
    beside_few(
        bench,
        size,
        "the policy alone",
        [rates[0], rates[1]],
        [times[0], times[1]],
    );
    bench.judge(
        format!("TCP at {} peers, netd / chains of iptables", size.peers),
        rates[1] / rates[2],
        "ratio",
        Goal::AtLeast(1.0),
    );
    bench.ratio(
        format!("round trip at {} peers, chains of iptables / netd", size.peers),
        times[2],
        times[1],
        Goal::AtLeast(1.0),
    );
    Ok(())
}

/// The last road is as the first: what is told of the two says how much of a ratio is the machine's.
fn through_tunnels(bench: &mut Bench, size: Size, roads: &[Tunnelled<'_>; 3], rounds: usize) -> Result<()> {
    let (rates, times) = medians(roads, rounds * 8)?;
    let way = roads[1].way();
    let names = roads.each_ref().map(|road| {
        let Size { peers, exits } = road.size;
        format!("{peers} peers over {exits} exits, {way}")
    });
    let [few, many, again] = names;
    shown(bench, [few, many, format!("{again}, again")], rates, times);
    beside_few(bench, size, way, [rates[0], rates[1]], [times[0], times[1]]);
    let control = format!("control: the same {} peers twice, {way}", FEW.peers);
    bench.number(format!("{control}, TCP"), rates[2] / rates[0], "ratio");
    let trips = times[0].as_secs_f64() / times[2].as_secs_f64();
    bench.number(format!("{control}, round trip"), trips, "ratio");
    for road in &roads[..2] {
        if let Some(bytes) = road.netd.wg_bytes()? {
            let name = format!(
                "memory of cell-wg, {} peers over {} exits, one of whom spoke",
                road.size.peers, road.size.exits
            );
            bench.number(name, bytes as f64 / f64::from(1 << 20), "MiB");
        }
    }
    Ok(())
}

/// Of as many rounds of each road, by turns and each first as often: programs that share two processors with one another are now slow
/// and now fast for seconds, so that the best of one road says little about the best of another.
fn medians<const N: usize>(roads: &[Tunnelled<'_>; N], rounds: usize) -> Result<([f64; N], [Duration; N])> {
    // How long a gigabit takes: numbers of floating point have no order.
    let (mut gigabits, mut times) = ([const { Vec::new() }; N], [const { Vec::new() }; N]);
    for round in 0..rounds {
        for index in (0..N).map(|place| (place + round) % N) {
            gigabits[index].push(Duration::from_secs_f64(1e9 / roads[index].throughput()?));
            times[index].push(roads[index].latency()?);
        }
    }
    let (mut rates, mut middles) = ([0.0; N], [Duration::ZERO; N]);
    for (index, (all, trips)) in gigabits.into_iter().zip(times).enumerate() {
        rates[index] = 1e9 / median(all).context("no round")?.as_secs_f64();
        middles[index] = median(trips).context("no round")?;
    }
    Ok((rates, middles))
}

/// Of few, and of many.
fn beside_few(bench: &mut Bench, size: Size, way: &str, rates: [f64; 2], times: [Duration; 2]) {
    let few = FEW.peers;
    bench.judge(
        format!("TCP, {} peers / {few} peers, {way}", size.peers),
        rates[1] / rates[0],
        "ratio",
        GOAL,
    );
    bench.ratio(
        format!("round trip, {few} peers / {} peers, {way}", size.peers),
        times[0],
        times[1],
        GOAL,
    );
}

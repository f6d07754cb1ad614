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
const GOAL_OF_EXITS: Goal = Goal::AtLeast(0.85);

/// Adds the rows.
pub fn run(bench: &mut Bench, size: Size, rounds: usize) -> Result<()> {
    by_policy(bench, size, rounds)?;
    let machine = |_| Machines::new();
    let machines: Vec<_> = (0..4).map(machine).collect::<Result<_>>()?;
    let mut roads = [
        Tunnelled::new(&machines[0], few(size))?,
        Tunnelled::new(&machines[1], size)?,
        Tunnelled::new(&machines[2], few(size))?,
        Tunnelled::new(&machines[3], FEW)?,
    ];
    through_tunnels(bench, size, &roads, rounds)?;
    let [_, road, ..] = &mut roads;
    down::run(bench, road)
}

/// Few peers over as many exits: what peers cost is one thing, and what exits do another.
fn few(size: Size) -> Size {
    Size {
        peers: FEW.peers,
        ..size
    }
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
    let sizes = [few(size), size, FEW];
    let roads = [
        Road::new(sizes[0], By::Netd)?,
        Road::new(sizes[1], By::Netd)?,
        Road::new(sizes[2], By::Netd)?,
        Road::new(size, By::Chains)?,
    ];
    let (rates, times) = best::<4>(rounds, |index| {
        let road = &roads[index];
        Ok((road.throughput()?, road.latency()?))
    })?;
    let [few, many, exits] = sizes.map(|size| format!("{size}, the policy alone"));
    let chains = format!("{size}, a chain of iptables for each");
    shown(bench, [few, many, exits, chains], rates, times);
    beside_few(bench, size, "the policy alone", &rates, &times);
    bench.judge(
        format!("TCP at {} peers, netd / chains of iptables", size.peers),
        rates[1] / rates[3],
        "ratio",
        Goal::AtLeast(1.0),
    );
    bench.ratio(
        format!("round trip at {} peers, chains of iptables / netd", size.peers),
        times[3],
        times[1],
        Goal::AtLeast(1.0),
    );
    Ok(())
}

/// The third road is as the first: many peers are held against both together, and what is told of the two says how much of a ratio is
/// the machine's.
fn through_tunnels(bench: &mut Bench, size: Size, roads: &[Tunnelled<'_>; 4], rounds: usize) -> Result<()> {
    let [one, many, other, exits] = by_turns(roads, rounds * 8)?;
    let few = Samples::of_both(&one, &other).middle()?;
    let [one, many, other, exits] = [one.middle()?, many.middle()?, other.middle()?, exits.middle()?];
    let way = roads[1].way();
    let name = |road: &Tunnelled<'_>| format!("{}, {way}", road.size);
    let [of_one, of_many, again, of_exits] = roads.each_ref().map(name);
    shown(
        bench,
        [of_one, of_many, format!("{again}, again"), of_exits],
        [one.0, many.0, other.0, exits.0],
        [one.1, many.1, other.1, exits.1],
    );
    let (rates, times) = ([few.0, many.0, exits.0], [few.1, many.1, exits.1]);
    beside_few(bench, size, way, &rates, &times);
    let control = format!("control: the same {} peers twice, {way}", FEW.peers);
    bench.number(format!("{control}, TCP"), other.0 / one.0, "ratio");
    bench.number(format!("{control}, round trip"), over(one.1, other.1), "ratio");
    for road in [&roads[3], &roads[1]] {
        if let Some(bytes) = road.netd.wg_bytes()? {
            let name = format!("memory of cell-wg, {}, one of whom spoke", road.size);
            bench.number(name, bytes as f64 / f64::from(1 << 20), "MiB");
        }
    }
    Ok(())
}

fn over(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// What rounds of a road measured.
struct Samples {
    /// How long a gigabit took: numbers of floating point have no order.
    gigabits: Vec<Duration>,
    trips: Vec<Duration>,
}

impl Samples {
    fn of_both(one: &Samples, other: &Samples) -> Samples {
        Samples {
            gigabits: [&*one.gigabits, &other.gigabits].concat(),
            trips: [&*one.trips, &other.trips].concat(),
        }
    }

    /// Bits per second, and the round trip: medians.
    fn middle(&self) -> Result<(f64, Duration)> {
        let gigabit = median(self.gigabits.clone()).context("no round")?;
        let trip = median(self.trips.clone()).context("no round")?;
        Ok((1e9 / gigabit.as_secs_f64(), trip))
    }
}

/// As many rounds of each road, by turns, each first as often, and forwards as often as backwards: programs that share two processors
/// with one another are now slow and now fast for seconds, so that the best of one road says little about the best of another.
fn by_turns<const N: usize>(roads: &[Tunnelled<'_>; N], rounds: usize) -> Result<[Samples; N]> {
    let mut samples = [const {
        Samples {
            gigabits: Vec::new(),
            trips: Vec::new(),
        }
    }; N];
    for round in 0..rounds {
        let mut order: Vec<_> = (0..N).map(|place| (place + round) % N).collect();
        if round % (2 * N) >= N {
            order.reverse();
        }
        for index in order {
            let gigabit = Duration::from_secs_f64(1e9 / roads[index].throughput()?);
            samples[index].gigabits.push(gigabit);
            samples[index].trips.push(roads[index].latency()?);
        }
    }
    Ok(samples)
}

/// Of few peers, of many, and of few over few exits. Peers cost nothing; exits may, each tunnel of cell-wg's having timers of its own.
fn beside_few(bench: &mut Bench, size: Size, way: &str, rates: &[f64], times: &[Duration]) {
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
    let exits = format!("{} exits / {} exits, {few} peers, {way}", size.exits, FEW.exits);
    bench.judge(
        format!("TCP, {exits}"),
        rates[0] / rates[2],
        "ratio",
        GOAL_OF_EXITS,
    );
    let trips = format!("round trip, the other way round, {exits}");
    bench.ratio(trips, times[2], times[0], GOAL_OF_EXITS);
}

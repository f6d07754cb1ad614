//! `make leaktest`: a whole cell with real exits behind an ISP that counts. While everything that may happen to them happens, in
//! a random order, not one packet of a peer or of a service that is bound to an exit goes by the machine's own way, and nothing comes
//! out at the far end of an exit that is not its own.

#![forbid(unsafe_code)]

mod back;
mod controls;
mod deck;
mod each;
mod ear;
mod far;
mod found;
mod isp;
mod key;
mod kind;
mod lab;
mod met;
mod said;
mod speaker;
mod times;
mod transition;
mod ways;
mod wrong;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_lab::random::Random;
use cell_lab::topology::{Device, World};
use clap::Parser;

use crate::deck::Deck;
use crate::each::Each;
use crate::ear::{FIRST_SERVICE, SPEAKERS};
use crate::found::{Form, Found};
use crate::key::{Key, Meant, Tally};
use crate::kind::Kind;
use crate::lab::{Lab, Places, Renderer, gather};
use crate::met::Met;
use crate::said::now;
use crate::speaker::{ROUND, ROUND_OF_SERVICES, Speaker};

/// Between two transitions, milliseconds: at least, and what is drawn on top.
const BETWEEN: (u64, u64) = (40, 120);
/// How long it may take until everything is carried: Tor learns of its network, and the machine may have other things to do.
const CARRIED: Duration = Duration::from_secs(180);

/// Changes, breaks and kills at random while bound peers speak, and counts what the ISP sees of them.
#[derive(Parser)]
struct Options {
    /// How many transitions; fewer than its form wants are a report that fails.
    #[arg(long)]
    transitions: Option<usize>,
    /// Seed of their order; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// The short form: 200 transitions that hold each kind, instead of 2,000 that hold each kind with each type of exit.
    #[arg(long)]
    short: bool,
    /// By what netd holds the policy. With iptables the short form has 60 transitions.
    #[arg(long, value_enum, default_value_t = Renderer::Nftables)]
    renderer: Renderer,
}

impl Options {
    /// What the report is called, and what it must hold.
    fn form(&self) -> (&'static str, Form) {
        let form = |transitions, each_type| Form {
            transitions,
            each_type,
        };
        match (self.short, self.renderer) {
            (true, Renderer::Nftables) => ("leaktest-short", form(200, false)),
            (false, Renderer::Nftables) => ("leaktest", form(2000, true)),
            (true, Renderer::Iptables) => ("leaktest-iptables-short", form(60, false)),
            (false, Renderer::Iptables) => ("leaktest-iptables", form(2000, true)),
        }
    }

    fn transitions(&self) -> usize {
        self.transitions.unwrap_or(self.form().1.transitions)
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| std::process::id().into());
    println!("seed {seed}, {} transitions", options.transitions());
    let mut world = World::new()?;
    let devices = |world: &mut World, names: &[&str]| -> Result<Vec<Device>> {
        names.iter().map(|name| world.device(name)).collect()
    };
    let fars = devices(&mut world, &Kind::ALL.map(Kind::label))?;
    let helper = world.device("helper")?;
    let mouths = devices(&mut world, &["a", "b", "c", "d", "e", "f", "control"])?;
    let boxes = Kind::ALL.map(|_| Namespace::new("box"));
    let containers = boxes.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(
        mouths.len() == FIRST_SERVICE && mouths.len() + containers.len() == SPEAKERS,
        "a device and a service for each type, and the control"
    );
    let places = Places {
        world: &world,
        fars: &fars,
        helper: &helper,
        devices: &mouths,
        containers: &containers,
    };
    let (name, form) = options.form();
    let found = speak(&places, &options, seed)?;
    found.report(name, seed, form).finish(Path::new("target"))
}

/// All devices speak while everything happens.
fn speak(places: &Places, options: &Options, seed: u64) -> Result<Found> {
    let lab = Lab::start(places, isp::open(&places.world.internet)?, options.renderer)?;
    let meant = Kind::ALL.into_iter().map(Meant::For).chain([Meant::Direct]);
    let devices = places
        .devices
        .iter()
        .zip(meant)
        .map(|(device, meant)| (&device.namespace, meant, ROUND));
    let services = places
        .containers
        .iter()
        .zip(Kind::ALL)
        .map(|(container, kind)| (container, Meant::Service(kind), ROUND_OF_SERVICES));
    let speakers: Vec<_> = devices
        .chain(services)
        .enumerate()
        .map(|(number, (namespace, meant, pause))| Speaker::new(namespace, number, meant, pause))
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = speakers
            .iter()
            .map(|speaker| scope.spawn(|| speaker.run(&stop)))
            .collect();
        let (onlooker, ways) = (lab.onlooker(), Arc::clone(&lab.ways));
        let stopped = &stop;
        let looks = scope.spawn(move || gather::watch(onlooker, &ways, stopped));
        let found = drive(lab, &speakers, options, seed);
        stop.store(true, Ordering::Relaxed);
        looks
            .join()
            .map_err(|_| anyhow::anyhow!("the onlooker panicked"))?;
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a speaker panicked"))??;
        }
        found
    })
}

fn drive(mut lab: Lab, speakers: &[Speaker], options: &Options, seed: u64) -> Result<Found> {
    let outcome = prove(&mut lab, speakers, options, seed);
    if outcome.is_err() {
        eprintln!("--- output of the cell:\n{}", lab.cell.output());
        eprintln!("--- the cell as it is:\n{}", lab.as_it_is());
    }
    let found = outcome?;
    lab.peers.clear();
    lab.cell.stop()?;
    Ok(found)
}

fn prove(lab: &mut Lab, speakers: &[Speaker], options: &Options, seed: u64) -> Result<Found> {
    all_carry(lab, Tor::MayBeStartedAnew).context("at first")?;
    let bound = Kind::ALL.len();
    let mut deck = Deck::new(seed, bound, lab.cell.daemon("wg").is_ok());
    let met = Met::expecting(deck.of_the_machine().iter().copied(), options.form().1);
    let mut found = Found::expecting(deck.kinds(), Each::expecting(options.form().1), met);
    let mut pauses = Random::new(!seed);
    let start = Instant::now();
    for number in 1..=options.transitions() {
        let transition = deck.deal(found.met.lacking());
        let named = || format!("transition {number}: {transition}");
        if let Some(patience) = found.met.wants(transition) {
            lab.gather(speakers, patience).with_context(named)?;
        } else if let Some(patience) = found.each.wants(transition, &lab.touched(transition)) {
            lab.bring(transition, speakers, patience).with_context(named)?;
        }
        let carrying = lab.carrying(transition.whose());
        found.met.happened(transition, &carrying, &lab.carrying_all());
        let happened = Instant::now();
        let met = lab.happen(transition, speakers).with_context(named)?;
        lab.over = now();
        found.each.happened(transition, &met, &carrying);
        std::thread::sleep(Duration::from_millis(BETWEEN.0 + pauses.below(BETWEEN.1)));
        found.happened(number, transition, happened.elapsed());
        lab.look_what_is_back();
        found.look(lab)?;
        if number.is_multiple_of(50) {
            found.tell(number, options.transitions(), start.elapsed(), lab);
        }
    }
    (0..bound).for_each(|peer| lab.note_move(peer));
    lab.mend(speakers).context("at the end")?;
    all_carry(lab, Tor::HasToCome).context("at the end")?;
    found.settle(lab, speakers)?;
    controls::planted(lab, &mut found, speakers)?;
    Ok(found)
}

/// What is made of a Tor that does not carry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tor {
    /// Nothing has happened to it yet.
    MayBeStartedAnew,
    /// It has been killed among other things, and comes back by itself.
    HasToCome,
}

/// Everything that an exit can carry arrives at its far end, and what the control sends at the ISP. Where that is not so of Tor alone at
/// first, Tor is started anew once, and that is told: on a busy machine it may stay half way through its start for as long as requests wait
/// at it. What may not leak is judged all the while.
fn all_carry(lab: &mut Lab, tor: Tor) -> Result<()> {
    let mut missing = missing_after(lab, CARRIED)?;
    if missing.is_empty() {
        return Ok(());
    }
    let is_tors = |key: &Key| matches!(key.meant, Meant::For(Kind::Tor) | Meant::Service(Kind::Tor));
    if tor == Tor::MayBeStartedAnew && missing.iter().all(is_tors) {
        println!(
            "  Tor has not started in {} s and is started anew",
            CARRIED.as_secs()
        );
        lab.cell.crash("tor")?;
        missing = missing_after(lab, CARRIED)?;
        if missing.is_empty() {
            return Ok(());
        }
    }
    let named: Vec<String> = missing.iter().map(Key::to_string).collect();
    bail!("not everything was carried: {}", named.join("; "))
}

/// What has not arrived meanwhile: nothing, as soon as all of it has.
fn missing_after(lab: &mut Lab, patience: Duration) -> Result<Vec<Key>> {
    let before = arrived(lab)?;
    let mut missing = Vec::new();
    let all = until(patience, "everything to be carried", || {
        let came = arrived(lab).ok()?.since(&before);
        let must = |key: &Key| match key.meant {
            Meant::For(kind) => lab
                .peers
                .iter()
                .any(|peer| peer.exit == Some(kind) && !peer.on_spare),
            Meant::Service(kind) => lab.services.iter().any(|service| service.exit == kind),
            Meant::Direct => true,
        };
        missing = Key::all()
            .filter(|key| key.is_carried() && must(key))
            .filter(|key| came.of(*key) == 0)
            .collect();
        missing.is_empty().then_some(())
    });
    // Without a single look at it nothing is known.
    if all.is_err() {
        ensure!(!missing.is_empty(), "what arrives could not be read");
    }
    Ok(missing)
}

/// What came where it must: at the far end of the exit's type, and at the ISP of the control. Of DNS it is the questions that the
/// resolvers there were asked.
fn arrived(lab: &Lab) -> Result<Tally> {
    let direct = lab.direct.with_questions(isp::read(&lab.world.internet)?);
    let far: Vec<Tally> = lab
        .far
        .iter()
        .map(|far| Ok(far.ear.with_questions(isp::read(&far.device.namespace)?)))
        .collect::<Result<_>>()?;
    let mut tally = Tally([0; Key::COUNT]);
    for key in Key::all() {
        tally.0[key.place()] = match key.meant {
            Meant::For(kind) | Meant::Service(kind) => far[kind.index()].of(key),
            Meant::Direct => direct.of(key),
        };
    }
    Ok(tally)
}

//! A service comes and goes, and each time somebody is killed at a moment that nobody chose. It ends installed, or gone without a trace.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cell_lab::cell::Cell;
use cell_lab::docker::Docker;
use cell_lab::household::DOMAIN;
use cell_lab::netns::Namespace;
use cell_lab::random::Random;
use cell_lab::report::Report;
use cell_lab::store::{Apartment, CORE, Leftovers, Storehouse, Wishes, nothing_of};
use nix::sys::signal::Signal;
use serde_json::json;

/// What comes and goes: two containers, two volumes, a name, a certificate, an entry.
const ID: &str = "calendar";
/// A kill falls into this time after what was asked for, milliseconds: an installation takes about as long.
const WITHIN: u64 = 4000;
/// How long anything may be left of a service that is gone. Zones and the proxy follow within a second once they run; the
/// killed may have been Docker itself, and CoreDNS and Caddy come back after it.
const LEFT_LONGEST: Duration = Duration::from_secs(60);
/// The same of a bridge that a killed Docker left, with its routes: netd waits for a minute before it removes it.
const BRIDGE_LONGEST: Duration = Duration::from_secs(90);
/// The bridge of the service that comes first, as a killed Docker leaves it.
const LEFT_BRIDGE: &str = "cellsvc1";
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(100);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Broker,
    Api,
    Dockerd,
}

impl Victim {
    const ALL: [Victim; 3] = [Victim::Broker, Victim::Api, Victim::Dockerd];

    fn name(self) -> &'static str {
        match self {
            Victim::Broker => "broker",
            Victim::Api => "api",
            Victim::Dockerd => "dockerd",
        }
    }
}

/// What the rounds need.
pub struct Killed<'a, 'd> {
    /// The cell.
    pub cell: &'a Cell,
    /// Where it lives.
    pub namespace: &'a Namespace,
    /// What root put onto the machine.
    pub house: &'a Storehouse,
    /// The administrator.
    pub wishes: &'a Wishes<'a>,
    /// Who opens the service.
    pub phone: &'a Apartment<'a>,
    /// Its Docker.
    pub docker: &'a mut Docker<'d>,
}

impl Killed<'_, '_> {
    /// All of them.
    pub fn rounds(&mut self, report: &mut Report, rounds: usize, seed: u64) -> Result<()> {
        let mut random = Random::new(seed);
        let mut kills = [0_usize; 3];
        let (mut orphans, mut slowest, mut longest) = (Vec::new(), Duration::ZERO, Duration::ZERO);
        self.prepare()?;
        self.control(report)?;
        self.namespace
            .ip(&format!("link add {LEFT_BRIDGE} type bridge"))?;
        for round in 1..=rounds {
            let start = Instant::now();
            let (who, left, after) = self
                .round(&mut random, &mut kills, round)
                .with_context(|| format!("round {round}"))?;
            let seconds = start.elapsed().as_secs();
            println!(
                "  round {round} of {rounds}: {who}: {seconds} s, {} left",
                left.count()
            );
            if left.count() > 0 {
                orphans.push(format!("round {round}, {who}: {left:?}"));
            }
            slowest = slowest.max(start.elapsed());
            longest = longest.max(after);
        }
        for orphan in &orphans {
            println!("  {orphan}");
        }
        for (victim, count) in Victim::ALL.iter().zip(kills) {
            let what = format!("SIGKILL of {}", victim.name());
            report.add(what, count, "times", "", count > 0);
        }
        report.add("installed, opened, and removed", rounds, "rounds", "all", true);
        report.add("slowest round", slowest.as_secs(), "s", "", true);
        let what = "until nothing was left of what is gone, longest";
        let goal = format!("<= {}", LEFT_LONGEST.as_secs());
        report.add(what, longest.as_secs(), "s", &goal, longest <= LEFT_LONGEST);
        let what = "left of it anywhere, after any round";
        report.add(what, orphans.len(), "rounds", "0", orphans.is_empty());
        for id in CORE {
            let healthy = self.wishes.installed(id).and_then(|_| self.wishes.healthy(id));
            healthy.with_context(|| format!("{id} at the end"))?;
        }
        report.fact("the cell's own containers at the end", "healthy", true);
        Ok(())
    }

    /// The cell's own containers run, and what the story left goes, with nobody killed.
    fn prepare(&self) -> Result<()> {
        for id in CORE {
            self.wishes.install(id, &json!({}))?;
            self.wishes.installed(id)?;
        }
        for id in [ID, "files", "email"] {
            self.wishes.remove(id)?;
            self.wishes.gone(id)?;
        }
        Ok(())
    }

    /// Where nothing is to be left something is found while the service is there, and nothing after it with nobody killed.
    fn control(&self, report: &mut Report) -> Result<()> {
        self.wishes.install(ID, &json!({"allowed_peers": ["phone"]}))?;
        let told = self.wishes.installed(ID)?;
        self.reachable()?;
        let address = told["address"].as_str().context("no address")?;
        let seen = nothing_of(self.docker, self.namespace, self.house, &[ID], &[address])?;
        for (place, found) in &seen.0 {
            let what = format!("control: {place} of it while it is there");
            report.add(what, found.len(), "", "> 0", !found.is_empty());
        }
        self.wishes.remove(ID)?;
        self.wishes.gone(ID)?;
        let (left, _) = self.left(address)?;
        let what = "control: left of it anywhere, with nobody killed";
        report.add(what, left.count(), "", "0", left.count() == 0);
        Ok(())
    }

    /// Who was killed when, what is left, and how long something but a bridge was. In the first rounds everybody is killed once; in the
    /// very first Docker finds the service's bridge there, uses it, and leaves it.
    fn round(
        &mut self,
        random: &mut Random,
        kills: &mut [usize; 3],
        number: usize,
    ) -> Result<(String, Leftovers, Duration)> {
        let in_turn = number <= 2;
        self.wishes.install(ID, &json!({"allowed_peers": ["phone"]}))?;
        let first = self.kill(random, kills, in_turn)?;
        let was = || format!("{first} was killed");
        let told = self.wishes.installed(ID).with_context(was)?;
        ensure!(told["error"].is_null(), "{first} was killed: {told}");
        self.reachable().with_context(was)?;
        if number == 1 {
            let ports = self.namespace.ip(&format!("link show master {LEFT_BRIDGE}"))?;
            ensure!(
                !ports.is_empty(),
                "the service is on another bridge than {LEFT_BRIDGE}"
            );
        }
        let address = told["address"].as_str().context("no address")?;
        self.wishes.remove(ID)?;
        let second = self.kill(random, kills, in_turn)?;
        let gone = self.wishes.gone(ID);
        gone.with_context(|| format!("{second} was killed"))?;
        let (left, after) = self.left(address)?;
        Ok((format!("{first}, {second}"), left, after))
    }

    fn kill(&mut self, random: &mut Random, kills: &mut [usize; 3], in_turn: bool) -> Result<String> {
        let place = if in_turn {
            (kills.iter().sum::<usize>()) % Victim::ALL.len()
        } else {
            random.place(Victim::ALL.len())
        };
        let (victim, after) = (Victim::ALL[place], Duration::from_millis(random.below(WITHIN)));
        kills[place] += 1;
        std::thread::sleep(after);
        match victim {
            Victim::Broker | Victim::Api => self.cell.crash(victim.name())?,
            Victim::Dockerd => self.docker.restart(Signal::SIGKILL)?,
        }
        Ok(format!("{} after {} ms", victim.name(), after.as_millis()))
    }

    /// The phone finds it by name and it answers.
    fn reachable(&self) -> Result<()> {
        let url = format!("https://{ID}.{DOMAIN}/");
        self.wishes.until(&url, || {
            let answer = self.phone.status(&url, &[])?;
            ensure!(["200", "302", "401"].contains(&answer.as_str()), "{answer}");
            Ok(())
        })
    }

    /// What is left at last, and after how long nothing but a bridge was.
    fn left(&self, address: &str) -> Result<(Leftovers, Duration)> {
        let start = Instant::now();
        let mut after = None;
        loop {
            let left = nothing_of(self.docker, self.namespace, self.house, &[ID], &[address]);
            let now = start.elapsed();
            match left {
                Ok(left) => {
                    if left.beside_bridges() == 0 {
                        after.get_or_insert(now);
                    }
                    // netd's set of prefixes follows a bridge some seconds later.
                    let longest = after.map_or(LEFT_LONGEST, |_| BRIDGE_LONGEST);
                    if left.count() == 0 || now > longest {
                        return Ok((left, after.unwrap_or(now)));
                    }
                }
                Err(error) if now > LEFT_LONGEST => return Err(error),
                Err(_) => {}
            }
            std::thread::sleep(LOOK);
        }
    }
}

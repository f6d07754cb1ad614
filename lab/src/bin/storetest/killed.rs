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
    pub cell: &'a Cell,
    pub namespace: &'a Namespace,
    pub house: &'a Storehouse,
    pub wishes: &'a Wishes<'a>,
    pub phone: &'a Apartment<'a>,
    pub docker: &'a mut Docker<'d>,
}

impl Killed<'_, '_> {
    /// All of them.
    pub fn rounds(&mut self, report: &mut Report, rounds: usize, seed: u64) -> Result<()> {
        let mut random = Random::new(seed);
        let mut kills = [0_usize; 3];
        let (mut orphans, mut slowest) = (Vec::new(), Duration::ZERO);
        for id in CORE {
            self.wishes.install(id, &json!({}))?;
            self.wishes.installed(id)?;
        }
        // What the story left, with nobody killed.
        for id in [ID, "files", "email"] {
            self.wishes.remove(id)?;
            self.wishes.gone(id)?;
        }
        for round in 1..=rounds {
            let start = Instant::now();
            let body = json!({"allowed_peers": ["phone"]});
            self.wishes.install(ID, &body)?;
            let first = self.kill(&mut random, &mut kills, round)?;
            let told = self
                .wishes
                .installed(ID)
                .with_context(|| format!("round {round}, {first} was killed"))?;
            ensure!(told["error"].is_null(), "round {round}: {told}");
            self.reachable()
                .with_context(|| format!("round {round}, {first} was killed"))?;
            let address = told["address"].as_str().context("no address")?.to_owned();
            self.wishes.remove(ID)?;
            let second = self.kill(&mut random, &mut kills, round)?;
            self.wishes
                .gone(ID)
                .with_context(|| format!("round {round}, {second} was killed"))?;
            let left = self.left(&address)?;
            if left.count() > 0 {
                orphans.push(format!("round {round}, {first} and {second}: {left:?}"));
            }
            slowest = slowest.max(start.elapsed());
            println!(
                "  round {round} of {rounds}: {first}, {second}: {} s, {} left",
                start.elapsed().as_secs(),
                left.count()
            );
        }
        for orphan in &orphans {
            println!("  {orphan}");
        }
        for (victim, count) in Victim::ALL.iter().zip(kills) {
            report.add(
                format!("SIGKILL of {}", victim.name()),
                count,
                "times",
                "",
                count > 0,
            );
        }
        report.add("installed, opened, and removed", rounds, "rounds", "all", true);
        report.add("slowest round", slowest.as_secs(), "s", "", true);
        let goal = "0";
        report.add(
            "left of it anywhere, after any round",
            orphans.len(),
            "rounds",
            goal,
            orphans.is_empty(),
        );
        for id in CORE {
            self.wishes
                .installed(id)
                .with_context(|| format!("{id} at the end"))?;
            self.wishes
                .healthy(id)
                .with_context(|| format!("{id} at the end"))?;
        }
        report.fact("the cell's own containers at the end", "healthy", true);
        Ok(())
    }

    fn kill(&mut self, random: &mut Random, kills: &mut [usize; 3], round: usize) -> Result<String> {
        // In the first rounds everybody is.
        let place = if round <= 2 {
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

    /// What is left a moment later: zones and the proxy follow within a second.
    fn left(&self, address: &str) -> Result<Leftovers> {
        let mut last = Leftovers::default();
        let looked = self.wishes.until("nothing of it", || {
            last = nothing_of(self.docker, self.namespace, self.house, &[ID], &[address])?;
            ensure!(last.count() == 0, "{last:?}");
            Ok(())
        });
        match looked {
            Ok(()) => Ok(last),
            Err(_) if last.count() > 0 => Ok(last),
            Err(error) => Err(error),
        }
    }
}

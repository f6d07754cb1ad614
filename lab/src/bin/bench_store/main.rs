//! `make bench-store`: what the broker costs beside a client of Docker's own, how soon names and routes follow, what the cell's own
//! containers take, and how long a click takes until a device has the service. In one whole cell, with real parts.

#![forbid(unsafe_code)]

mod calls;
mod click;
mod memory;
mod names;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use cell_lab::cell::Cell;
use cell_lab::docker::Docker;
use cell_lab::household::{claimed, join};
use cell_lab::measure::Bench;
use cell_lab::process::{hold, pid};
use cell_lab::report::Report;
use cell_lab::store::{Apartment, CORE, CORE_IMAGES, Storehouse, Wishes};
use cell_lab::topology::{Device, World};
use clap::Parser;
use nix::sys::signal::{Signal, kill};
use serde_json::json;

/// Measures the store.
#[derive(Parser)]
struct Options {
    /// Measure everything once, with few names, and judge no number: shows that the benchmark works.
    #[arg(long)]
    short: bool,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Size {
    /// How often each is measured.
    pub rounds: usize,
    /// Names, and routes, that there are.
    pub names: &'static [usize],
}

/// What every part needs.
pub struct Lab<'a> {
    /// The rows.
    pub bench: Bench,
    /// How much.
    pub size: Size,
    /// The cell.
    pub cell: &'a Cell,
    /// Its Docker.
    pub docker: &'a Docker<'a>,
    /// What root put onto the machine.
    pub house: &'a Storehouse,
    /// The administrator.
    pub wishes: Wishes<'a>,
    /// A device.
    pub device: &'a Device,
    /// Its programs.
    pub phone: Apartment<'a>,
}

impl Lab<'_> {
    /// While cell-api stands still, nobody puts right what is measured.
    pub fn without_api<T>(&mut self, measure: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let api = pid(self.cell.daemon("api")?)?;
        hold(api)?;
        let measured = measure(self);
        kill(api, Signal::SIGCONT)?;
        measured
    }
}

fn main() -> Result<ExitCode> {
    let Options { short } = Options::parse();
    let (name, size) = if short {
        let (rounds, names): (_, &[usize]) = (3, &[10, 100]);
        ("bench-store-short", Size { rounds, names })
    } else {
        let (rounds, names): (_, &[usize]) = (15, &[10, 1_000, 10_000]);
        ("bench-store", Size { rounds, names })
    };
    let mut world = World::new()?;
    let device = world.device("phone")?;
    let docker = Docker::start(&world.cell)?;
    let images: Vec<&str> = CORE_IMAGES.into_iter().chain(["accounts", "radicale"]).collect();
    let house = Storehouse::new(&docker, &images)?;
    let cell = Cell::start_edited(&world.cell, house.policies(&docker))?;
    let mut rest = claimed(&cell)?;
    let root = rest.get("/api/trust/root.pem")?.body;
    let client = join(&mut rest, &device, json!({"name": "phone", "tunnel": "split"}))?;
    let mut lab = Lab {
        bench: Bench {
            report: Report::new(name),
            judged: !short,
        },
        size,
        cell: &cell,
        docker: &docker,
        house: &house,
        wishes: Wishes::new(&cell),
        phone: Apartment::new(&device, client, &root)?,
        device: &device,
    };
    if let Err(error) = measure(&mut lab) {
        println!("{}", lab.bench.report);
        eprintln!("--- output of the cell:\n{}", cell.output());
        eprintln!("broken off: {error:#}");
        return Ok(ExitCode::FAILURE);
    }
    // The cell ends when it is dropped.
    lab.bench.report.finish(Path::new("target"))
}

fn measure(lab: &mut Lab<'_>) -> Result<()> {
    for id in CORE {
        lab.wishes.install(id, &json!({}))?;
    }
    for id in CORE {
        lab.wishes.installed(id)?;
    }
    let address = click::run(lab).context("click")?;
    memory::run(lab).context("memory")?;
    lab.without_api(calls::run).context("calls")?;
    lab.without_api(|lab| names::run(lab, &address)).context("names")
}

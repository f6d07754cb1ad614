//! `make storetest`: the store as a household uses it, with nothing of it replaced. Devices find services by name, use them with
//! published clients, and fail without access at each of three places; and services come and go whoever is killed meanwhile.

#![forbid(unsafe_code)]

mod accounts;
mod clock;
mod denied;
mod files;
mod follows;
mod killed;
mod mail;
mod remote;
mod story;
mod used;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use cell_lab::cell::Cell;
use cell_lab::docker::Docker;
use cell_lab::household::{claimed, join};
use cell_lab::publisher::Publisher;
use cell_lab::report::Report;
use cell_lab::store::{Apartment, CORE_IMAGES, Storehouse, Wishes, inspected};
use cell_lab::topology::World;
use clap::Parser;
use serde_json::json;

use crate::killed::Killed;
use crate::story::Scene;

/// Uses services as devices do, and installs and removes one while daemons are killed.
#[derive(Parser)]
struct Options {
    /// How often a service is installed and removed while somebody is killed.
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Seed of who is killed and when; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// Writes its report as the short form.
    #[arg(long)]
    short: bool,
    /// Leaves out what needs services but for the one that comes and goes.
    #[arg(long)]
    only_killed: bool,
}

/// What images the services of the story are made of.
const IMAGES: [&str; 6] = ["accounts", "radicale", "webdav", "exim", "dovecot", "webmail"];

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| std::process::id().into());
    println!("seed {seed}, {} rounds", options.rounds);
    let name = if options.short {
        "storetest-short"
    } else {
        "storetest"
    };
    let mut report = Report::new(name);
    let mut world = World::new()?;
    let (phone, tv) = (world.device("phone")?, world.device("tv")?);
    let mut docker = Docker::start(&world.cell)?;
    let images: Vec<&str> = CORE_IMAGES.into_iter().chain(IMAGES).collect();
    let publisher = Publisher::new()?;
    let house = Storehouse::new(&docker, &images)?.trusting(publisher.key()?);
    let cell = Cell::start_edited(&world.cell, house.policies(&docker))?;
    let mut rest = claimed(&cell)?;
    let root = rest.get("/api/trust/root.pem")?.body;
    let device = |rest: &mut _, device, name: &str| -> Result<Apartment<'_>> {
        let client = join(rest, device, json!({"name": name, "tunnel": "split"}))?;
        Apartment::new(device, client, &root)
    };
    let (phone, tv) = (device(&mut rest, &phone, "phone")?, device(&mut rest, &tv, "tv")?);
    let wishes = Wishes::new(&cell);
    let proven = (|| {
        if !options.only_killed {
            let scene = Scene {
                world: &world,
                docker: &docker,
                house: &house,
                wishes: &wishes,
                phone: &phone,
                tv: &tv,
                publisher: &publisher,
                short: options.short,
            };
            story::tell(&mut report, &scene)?;
            let judged = inspected(&docker, &house, &cell)?;
            report.fact(
                "containers that another judge finds right",
                judged,
                judged > CORE_IMAGES.len(),
            );
        }
        let mut killed = Killed {
            cell: &cell,
            namespace: &world.cell,
            house: &house,
            wishes: &wishes,
            phone: &phone,
            docker: &mut docker,
        };
        killed.rounds(&mut report, options.rounds, seed)
    })();
    if let Err(error) = proven {
        broke_off(&report, &cell, &error);
        return Ok(ExitCode::FAILURE);
    }
    cell.stop()?;
    report.finish(Path::new("target"))
}

/// What was found until then, and what the cell said.
fn broke_off(report: &Report, cell: &Cell, error: &anyhow::Error) {
    println!("{report}");
    let output = cell.output();
    // Every look at a service is a line.
    let told = output.lines().filter(|line| !line.contains("verb=show"));
    eprintln!("--- output of the cell:\n{}", told.collect::<Vec<_>>().join("\n"));
    eprintln!("the story broke off: {error:#}");
}

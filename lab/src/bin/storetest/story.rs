//! From an empty cell to services in use.

use anyhow::{Context, Result, ensure};
use cell_lab::docker::Docker;
use cell_lab::household::DOMAIN;
use cell_lab::publisher::Publisher;
use cell_lab::report::Report;
use cell_lab::store::{Apartment, CORE, Storehouse, Wishes};
use cell_lab::topology::World;
use serde_json::{Value, json};

use crate::{accounts, denied, remote, used};

/// Whom the phone belongs to.
pub const PHONE: &str = "alice";
/// The same of the TV.
pub const TV: &str = "bob";

/// Where devices find a service.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its whole name.
    pub name: String,
    /// Its address in the VPN.
    pub address: String,
}

impl Found {
    /// By what the store tells of it.
    pub fn of(told: &Value, subdomain: &str) -> Result<Found> {
        let address = told["address"].as_str().context("a service without an address")?;
        Ok(Found {
            name: format!("{subdomain}.{DOMAIN}"),
            address: address.to_owned(),
        })
    }
}

/// Everybody and everything in it.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The networks.
    pub world: &'a World,
    /// The cell's Docker.
    pub docker: &'a Docker<'a>,
    /// What root put onto the machine.
    pub house: &'a Storehouse,
    /// The administrator.
    pub wishes: &'a Wishes<'a>,
    /// A device that may use everything.
    pub phone: &'a Apartment<'a>,
    /// One that may use files and mail alone.
    pub tv: &'a Apartment<'a>,
    /// Somebody out on the internet, with a catalog.
    pub publisher: &'a Publisher,
    /// Whether numbers are shown alone, on a machine that does other things too.
    pub short: bool,
}

/// Tells it.
pub fn tell(report: &mut Report, scene: &Scene<'_>) -> Result<()> {
    let Scene {
        wishes, phone, tv, ..
    } = *scene;
    // They install themselves.
    for id in CORE {
        wishes.installed(id)?;
    }
    report.fact("the cell's own containers", CORE.join(", "), true);
    let both = json!(["phone", "tv"]);
    let (none, mail) = (json!({}), json!({"domain": DOMAIN}));
    let all = [
        ("calendar", json!(["phone"]), none.clone()),
        ("files", both.clone(), none),
        ("email", both, mail),
    ];
    for (id, peers, parameters) in &all {
        wishes.install(id, &json!({"allowed_peers": peers, "parameters": parameters}))?;
    }
    let mut found = Vec::new();
    for ((id, ..), subdomain) in all.iter().zip(["calendar", "files", "mail"]) {
        let told = wishes.installed(id)?;
        ensure!(told["error"].is_null(), "{told}");
        found.push(Found::of(&told, subdomain)?);
    }
    let [calendar, files, mail] = found.as_slice() else {
        anyhow::bail!("three services");
    };
    report.fact("installed by REST", "calendar, files, email", true);
    names(report, wishes, phone, &found)?;
    let made = accounts::make(report, wishes)?;
    used::all(report, scene, [calendar, files, mail], &made)?;
    denied::each(report, scene.world, wishes, [phone, tv], [calendar, files])?;
    remote::offered(report, scene, files)
}

/// Each name has its service's address, by the device's own question.
fn names(report: &mut Report, wishes: &Wishes<'_>, phone: &Apartment<'_>, found: &[Found]) -> Result<()> {
    for service in found {
        let answer = wishes.until(&format!("{} is found", service.name), || {
            let answer = phone.dig(&service.name)?;
            ensure!(answer == service.address, "{answer}");
            Ok(answer)
        })?;
        report.fact(format!("dig {}", service.name), answer, true);
    }
    Ok(())
}

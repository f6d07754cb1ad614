//! From an empty cell to services in use.

use anyhow::{Context, Result, ensure};
use cell_lab::household::DOMAIN;
use cell_lab::report::Report;
use cell_lab::store::{Apartment, CORE, Storehouse, Wishes};
use cell_lab::topology::World;
use serde_json::{Value, json};

use crate::{accounts, denied, used};

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
    fn of(told: &Value, subdomain: &str) -> Result<Found> {
        let address = told["address"].as_str().context("a service without an address")?;
        Ok(Found {
            name: format!("{subdomain}.{DOMAIN}"),
            address: address.to_owned(),
        })
    }
}

/// Tells it. The phone may use everything, the TV files and mail alone.
pub fn tell(
    report: &mut Report,
    world: &World,
    house: &Storehouse,
    wishes: &Wishes<'_>,
    phone: &Apartment<'_>,
    tv: &Apartment<'_>,
) -> Result<()> {
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
    used::all(
        report,
        world,
        house,
        wishes,
        [phone, tv],
        [calendar, files, mail],
        &made,
    )?;
    denied::each(report, world, wishes, [phone, tv], [calendar, files])
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

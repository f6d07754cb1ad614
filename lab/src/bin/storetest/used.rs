//! Services used by published clients from devices: by their names, over HTTPS with the cell's authority.

use anyhow::{Context, Result, ensure};
use cell_lab::report::Report;
use cell_lab::store::{Account, Apartment, Storehouse, Wishes, repository};
use cell_lab::topology::World;
use serde_json::{Value, json};

use crate::accounts::of;
use crate::story::{Found, PHONE, Scene, TV};
use crate::{clock, files, mail};

/// All of them.
pub fn all(
    report: &mut Report,
    scene: &Scene<'_>,
    [calendar, files, mail]: [&Found; 3],
    accounts: &[Account],
) -> Result<()> {
    let Scene {
        wishes, phone, tv, ..
    } = *scene;
    https(report, wishes, phone, calendar)?;
    let own = of(accounts, "calendar", PHONE)?;
    caldav(report, phone, calendar, own)?;
    carddav(report, phone, calendar, own)?;
    let folders = [of(accounts, "files", PHONE)?, of(accounts, "files", TV)?];
    files::used(report, [phone, tv], files, folders)?;
    let mailboxes = [of(accounts, "email", PHONE)?, of(accounts, "email", TV)?];
    mail::used(report, wishes, [phone, tv], mail, mailboxes)?;
    clock::told(report, scene)?;
    running(report, scene.world, scene.house)
}

/// A file of the tests of images.
pub fn script(name: &str) -> String {
    repository()
        .join("lab/tests/images")
        .join(name)
        .display()
        .to_string()
}

/// A client of ours by its name, as `lab/tests/images` has it; what it printed last.
pub fn client(device: &Apartment<'_>, name: &str, arguments: &[&str]) -> Result<Value> {
    let script = script(name);
    let mut all = vec![script.as_str()];
    all.extend(arguments);
    let said = device.run("/usr/bin/python3", &all)?;
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| said.clone())
}

/// The page opens with the cell's authority, and not without it.
fn https(report: &mut Report, wishes: &Wishes<'_>, phone: &Apartment<'_>, calendar: &Found) -> Result<()> {
    let url = format!("https://{}/", calendar.name);
    let answer = wishes.until("HTTPS", || {
        let answer = phone.status(&url, &[])?;
        ensure!(["200", "302", "401"].contains(&answer.as_str()), "{answer}");
        Ok(answer)
    })?;
    report.fact(format!("{url} with the cell's authority"), answer, true);
    let stranger = phone.status(&url, &["--cacert", "/etc/ssl/certs/ca-certificates.crt"])?;
    report.fact(
        "the same with those of the web alone",
        &stranger,
        stranger == "curl 60",
    );
    let plain = phone.status(&format!("http://{}/", calendar.name), &[])?;
    report.fact("HTTP leads to HTTPS", &plain, plain == "308");
    Ok(())
}

fn caldav(report: &mut Report, phone: &Apartment<'_>, calendar: &Found, account: &Account) -> Result<()> {
    let url = format!("https://{}/", calendar.name);
    let said = client(
        phone,
        "caldav_client.py",
        &["write", &url, &account.user, &account.password],
    )?;
    let right = json!({"calendars": 1, "events": ["Meet Bob"], "changed": ["Meet Bob"]});
    report.fact("python-caldav makes an event and syncs", &said, said == right);
    Ok(())
}

fn carddav(report: &mut Report, phone: &Apartment<'_>, calendar: &Found, account: &Account) -> Result<()> {
    let (script, url) = (script("contacts.sh"), format!("https://{}/", calendar.name));
    let root = phone.path("root.pem").display().to_string();
    let said = phone.run("bash", &[&script, &url, &account.user, &account.password, &root])?;
    report.fact(
        "vdirsyncer writes a contact, and another address book reads and changes it",
        &said,
        said == "Carol, Carol of the choir",
    );
    Ok(())
}

/// The configuration that runs is one that `caddy validate` takes.
fn running(report: &mut Report, world: &World, house: &Storehouse) -> Result<()> {
    let socket = house.caddy_socket().display().to_string();
    let config = world.cell.run(
        "curl",
        &[
            "-sS",
            "--max-time",
            "10",
            "--unix-socket",
            &socket,
            "http://127.0.0.1/config/",
        ],
    )?;
    let root = house.unpacked("caddy")?;
    std::fs::write(root.join("tmp/running.json"), &config)?;
    let root = root.display().to_string();
    // It makes what it validates, so it has an empty socket's folder of its own.
    let said = world.cell.run(
        "sh",
        &[
            "-c",
            "HOME=/data chroot \"$1\" /usr/bin/caddy validate --config /tmp/running.json 2>&1",
            "sh",
            &root,
        ],
    );
    let said = said.map_or_else(|error| format!("{error:#}"), |said| said.trim().to_owned());
    let last = said.lines().last().unwrap_or_default().to_owned();
    report.fact(
        "caddy validate of what runs",
        &last,
        last.contains("Valid configuration"),
    );
    Ok(())
}

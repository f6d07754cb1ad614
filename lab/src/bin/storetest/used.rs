//! Services used by published clients from devices: by their names, over HTTPS with the cell's authority.

use anyhow::{Context, Result, ensure};
use cell_lab::household::{CELL_IN_VPN, DOMAIN};
use cell_lab::report::Report;
use cell_lab::store::{Account, Apartment, Storehouse, Wishes, repository};
use cell_lab::topology::World;
use serde_json::{Value, json};

use crate::accounts::of;
use crate::story::{Found, PHONE, TV};

/// Largest difference of the machine's time from itself, seconds.
const OFFSET_MAX: f64 = 0.1;

/// All of them.
pub fn all(
    report: &mut Report,
    world: &World,
    house: &Storehouse,
    wishes: &Wishes<'_>,
    [phone, tv]: [&Apartment<'_>; 2],
    [calendar, files, mail]: [&Found; 3],
    accounts: &[Account],
) -> Result<()> {
    https(report, wishes, phone, calendar)?;
    caldav(report, phone, calendar, of(accounts, "calendar", PHONE)?)?;
    webdav(report, phone, files, of(accounts, "files", PHONE)?)?;
    browser(report, tv, files, of(accounts, "files", TV)?)?;
    let mailboxes = [of(accounts, "email", PHONE)?, of(accounts, "email", TV)?];
    letters(report, wishes, [phone, tv], mail, mailboxes)?;
    time(report, wishes, house, phone)?;
    running(report, world, house)
}

/// A client of ours by its name, as `lab/tests/images` has it; what it printed last.
fn client(device: &Apartment<'_>, name: &str, arguments: &[&str]) -> Result<Value> {
    let script = repository()
        .join("lab/tests/images")
        .join(name)
        .display()
        .to_string();
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

fn webdav(report: &mut Report, phone: &Apartment<'_>, files: &Found, account: &Account) -> Result<()> {
    let hidden = phone.run("rclone", &["obscure", &account.password])?;
    let remote = format!(
        ":webdav,url='https://{}/dav/{}/',user={},pass='{hidden}':",
        files.name, account.user, account.user
    );
    let local = phone.path("up");
    std::fs::create_dir_all(local.join("Größe & co"))?;
    std::fs::write(local.join("Größe & co/a b#c.txt"), "hello")?;
    std::fs::write(local.join("big"), vec![7; 3_000_000])?;
    let local = local.display().to_string();
    let few = ["--config=", "--retries=1", "--low-level-retries=2"];
    for what in [vec!["copy"], vec!["check", "--download"]] {
        let mut arguments = what;
        arguments.extend(few);
        arguments.extend([local.as_str(), &remote]);
        phone.run("rclone", &arguments)?;
    }
    let listed = phone.run(
        "rclone",
        &["--config=", "lsf", "--recursive", "--files-only", &remote],
    )?;
    let listed: Vec<&str> = listed.lines().collect();
    report.fact(
        "rclone writes and reads back",
        listed.join(", "),
        listed.len() == 2,
    );
    Ok(())
}

fn browser(report: &mut Report, tv: &Apartment<'_>, files: &Found, account: &Account) -> Result<()> {
    let script = repository().join("lab/tests/images/files_browser.mjs");
    let (script, url) = (script.display().to_string(), format!("https://{}/", files.name));
    let said = tv.run("node", &[&script, &url, &account.user, &account.password])?;
    report.fact(
        "the file manager in Chromium",
        &said,
        said.ends_with("the page works"),
    );
    Ok(())
}

fn letters(
    report: &mut Report,
    wishes: &Wishes<'_>,
    [phone, tv]: [&Apartment<'_>; 2],
    mail: &Found,
    [alice, bob]: [&Account; 2],
) -> Result<()> {
    let (root, name) = (phone.path("root.pem").display().to_string(), mail.name.as_str());
    let (from, to) = (
        format!("{}@{DOMAIN}", alice.user),
        format!("{}@{DOMAIN}", bob.user),
    );
    let sent = wishes.until("submission", || {
        let arguments = [
            "send",
            name,
            &root,
            &alice.user,
            &alice.password,
            &from,
            &to,
            "Dinner",
        ];
        client(phone, "mail_client.py", &arguments)
    })?;
    report.fact("submission from the phone", &sent, sent["code"] == 250);
    let root = tv.path("root.pem").display().to_string();
    let read = wishes.until("the letter", || {
        let read = client(
            tv,
            "mail_client.py",
            &["read", name, &root, &bob.user, &bob.password],
        )?;
        ensure!(read["subjects"] == json!(["Dinner"]), "{read}");
        Ok(read)
    })?;
    report.fact("IMAPS on the TV", &read["subjects"], true);
    let forged = client(
        phone,
        "mail_client.py",
        &[
            "read",
            name,
            &phone.path("root.pem").display().to_string(),
            &bob.user,
            &alice.password,
        ],
    )?;
    report.fact("another's password at IMAPS", &forged, forged["login"] == false);
    Ok(())
}

/// A second chronyd asks as a device would, and sets nothing. It is the image's own, since the machine need not have one.
fn time(report: &mut Report, wishes: &Wishes<'_>, house: &Storehouse, phone: &Apartment<'_>) -> Result<()> {
    let root = house.unpacked("chrony")?;
    let server = format!("server {CELL_IN_VPN} iburst maxsamples 4");
    let root = root.display().to_string();
    let said = wishes.until("the time", || {
        let arguments = [
            &root,
            "/usr/sbin/chronyd",
            "-Q",
            "-x",
            "-U",
            "-u",
            "cell",
            "-t",
            "20",
            &server,
        ];
        let output = phone.outcome("chroot", &arguments)?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(said.contains("System clock wrong by"), "{said}");
        Ok(said)
    })?;
    let offset = said
        .split("wrong by ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let offset: f64 = offset.context("no offset")?.parse()?;
    let what = format!("chronyd asks {CELL_IN_VPN}");
    report.add(what, offset, "s", "< 0.1", offset.abs() < OFFSET_MAX);
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

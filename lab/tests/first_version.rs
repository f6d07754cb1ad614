//! A whole cell that takes over what the first version kept of exits: its files go in by cellctl, the secrets end at the real vaultd
//! and come back out by the exit alone, and kills of `cell-api` in the middle leave all of it or nothing. Needs root, the package
//! `openvpn` and the built programs.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../netd/tests/support/openvpn.rs"]
mod provider;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cell_lab::cell::{Cell, program};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::household::{claimed, join};
use cell_lab::probe::{EchoServer, tcp_echo};
use cell_lab::process::until;
use cell_lab::rest::Rest;
use cell_lab::topology::{Device, FAR_HOST, World};
use provider::{Offer, OpenvpnServer, PASSWORD, USERNAME};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
/// Health is looked at every 3 s, and OpenVPN begins anew after a pause.
const PATIENCE: Duration = Duration::from_secs(60);
const KILLS: u64 = 6;
const PROXY_PASSWORD: &str = "battery@staple:2";
/// Of OpenVPN two keys, user name and password; the password of the proxy.
const SECRETS: usize = 5;

fn signed_in(cell: &Cell) -> Result<Rest> {
    let rest = until(PATIENCE, "the API answers", || {
        let mut rest = cell.rest();
        rest.login("ada", "correct horse battery staple").ok()?;
        Some(rest)
    });
    rest.with_context(|| cell.output())
}

/// The files as the first version left them.
struct Files {
    _folder: tempfile::TempDir,
    config: PathBuf,
    peers: PathBuf,
}

impl Files {
    fn write(server: &OpenvpnServer) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [config, peers] = ["cell_config.json", "peers.json"].map(|name| folder.path().join(name));
        let exits = json!({
            "openvpn": {"enabled": true, "mark": "0x20", "table": 120, "profile": server.profile(),
                "username": USERNAME, "password": PASSWORD},
            "tor": {"enabled": true, "mark": "0x30", "table": 130},
            "proxy": {"enabled": true, "mark": "0x50", "table": 150, "host": "192.0.2.77", "port": 1080,
                "username": "anna", "password": PROXY_PASSWORD},
        });
        let whole =
            json!({"_identity": {"cell_name": "casa"}, "connectivity": {"version": 1, "exits": exits}});
        std::fs::write(&config, whole.to_string())?;
        let phone = json!([{"name": "phone", "public_key": "x", "exit_via": "openvpn", "failopen": null}]);
        std::fs::write(&peers, phone.to_string())?;
        Ok(Files {
            _folder: folder,
            config,
            peers,
        })
    }

    fn import(&self, home: &Path, more: &[&str]) -> Result<Output> {
        let mut command = Command::new(program("cellctl")?);
        let command = command.env("CELL_HOME", home).arg("import").arg(&self.config);
        let said = command.arg("--peers").arg(&self.peers).args(more).output()?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
        for secret in [PASSWORD, PROXY_PASSWORD, "PRIVATE KEY"] {
            ensure!(!text.contains(secret), "a secret is said: {text}");
        }
        Ok(said)
    }
}

fn connections(rest: &mut Rest) -> Result<Vec<Value>> {
    let all = rest.get("/api/connectivity/connections")?.expect(200)?;
    Ok(all["connections"].as_array().context("a list")?.clone())
}

fn exit_of_phone(rest: &mut Rest) -> Result<Value> {
    Ok(rest.get("/api/peers/phone")?.expect(200)?["exit_connection_id"].clone())
}

/// The names of connections' secrets in vaultd's own folder.
fn sealed(cell: &Cell) -> BTreeSet<String> {
    let files = std::fs::read_dir(cell.home().join("lib/vaultd/vault")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let secrets = names.filter_map(|name| {
        let at = name.find("conn_")?;
        Some(name[at..].split('.').next()?.to_owned())
    });
    secrets.collect()
}

/// vaultd has what connections refer to and nothing else, sooner or later.
fn no_orphans(cell: &Cell, rest: &mut Rest) -> Result<BTreeSet<String>> {
    let names = |one: &Value| one["vault_names"].as_array().unwrap().clone();
    let names = connections(rest)?.iter().flat_map(names).collect::<Vec<_>>();
    let referred: BTreeSet<String> = names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    until(PATIENCE, "no secret is left over", || {
        (sealed(cell) == referred).then_some(())
    })
    .with_context(|| format!("{:?} instead of {referred:?}", sealed(cell)))?;
    Ok(referred)
}

/// Back to where nothing was imported.
fn clean(rest: &mut Rest) -> Result<()> {
    let path = "/api/connectivity/peers/phone/exit";
    rest.put(path, &json!({"connection_id": null}))?.expect(200)?;
    for one in connections(rest)? {
        rest.delete(&format!(
            "/api/connectivity/connections/{}",
            one["id"].as_str().unwrap()
        ))?
        .expect(204)?;
    }
    Ok(())
}

fn far_answers(device: &Device) -> bool {
    let far = std::net::SocketAddr::new(FAR_HOST.each()[0], 80);
    tcp_echo(&device.namespace, far, SECOND).unwrap_or(false)
}

/// Only asked.
fn planned(cell: &Cell, rest: &mut Rest, files: &Files) -> Result<()> {
    let said = files.import(cell.home(), &["--dry-run"])?;
    let text = String::from_utf8(said.stdout)?;
    ensure!(
        said.status.success() && text.ends_with("Nothing was changed.\n"),
        "{text}"
    );
    ensure!(text.contains("phone: bound to openvpn-v1."), "{text}");
    ensure!(
        connections(rest)?.is_empty() && sealed(cell).is_empty(),
        "a plan does nothing"
    );
    Ok(())
}

/// Killed somewhere in the middle, and once long after; whether it was wholly there then.
fn killed(cell: &Cell, files: &Files, round: u64) -> Result<bool> {
    let pause = if round == 0 {
        SECOND * 2
    } else {
        Duration::from_micros(9_000 * round)
    };
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| files.import(cell.home(), &[]).map(drop));
        std::thread::sleep(pause);
        cell.crash("api")
    })?;
    let mut rest = signed_in(cell)?;
    match (connections(&mut rest)?.len(), exit_of_phone(&mut rest)?.is_null()) {
        (0, true) => Ok(false),
        (3, false) => Ok(true),
        found => anyhow::bail!("round {round}: {found:?} is half of it\n{}", cell.output()),
    }
}

/// Begun again it comes to its end, and a further time does nothing.
fn comes_to_its_end(cell: &Cell, rest: &mut Rest, files: &Files) -> Result<()> {
    let said = files.import(cell.home(), &[])?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let made = connections(rest)?;
    ensure!(made.len() == 3, "{made:?}");
    let referred = no_orphans(cell, rest)?;
    ensure!(referred.len() == SECRETS, "{referred:?}");
    let again = String::from_utf8(files.import(cell.home(), &[])?.stdout)?;
    ensure!(again.contains("There is nothing to do."), "{again}");
    Ok(())
}

/// What went to the vault is what the exit signs in with.
fn goes_by_the_exit(
    cell: &Cell,
    rest: &mut Rest,
    device: &Device,
    server: &OpenvpnServer,
    direct: &Counter,
) -> Result<()> {
    until(PATIENCE, "the exit works", || {
        let all = connections(rest).ok()?;
        let works = |one: &Value| one["name"] == "openvpn-v1" && one["status"]["health"] == "working";
        all.iter().any(works).then_some(())
    })
    .with_context(|| cell.output())?;
    let (before, came) = (direct.packets()?, server.packets()[0]);
    until(PATIENCE, "the exit carries the phone", || {
        far_answers(device).then_some(())
    })?;
    ensure!(server.packets()[0] > came, "it came out at the provider");
    ensure!(direct.packets()? == before, "and nowhere else");
    Ok(())
}

#[test]
fn a_household_of_the_first_version_goes_on_by_the_same_exit() -> Result<()> {
    let mut world = World::new()?;
    let device = world.device("phone")?;
    let offer = Offer { v6: true, tcp: false };
    let server = OpenvpnServer::start(&mut world, offer)?;
    EchoServer::start(&world.internet, 80)?;
    let cell = Cell::start(&world.cell)?;
    let mut rest = claimed(&cell)?;
    let _client = join(
        &mut rest,
        &device,
        json!({"name": "phone", "tunnel": "full",
        "access": {"internet": true, "peer_to_peer": false, "services": []}}),
    )?;
    until(PATIENCE, "control: the machine's own way", || {
        far_answers(&device).then_some(())
    })?;
    let spec = Spec::to(host(FAR_HOST.each()[0]), Protocol::Any);
    let direct = Counter::install(&world.internet, spec)?;
    ensure!(
        far_answers(&device) && direct.packets()? > 0,
        "control: it is counted"
    );
    let files = Files::write(&server)?;
    planned(&cell, &mut rest, &files)?;

    let mut whole = 0;
    for round in 0..KILLS {
        whole += u64::from(killed(&cell, &files, round)?);
        rest = signed_in(&cell)?;
        comes_to_its_end(&cell, &mut rest, &files).with_context(|| format!("round {round}"))?;
        if round + 1 < KILLS {
            clean(&mut rest)?;
            no_orphans(&cell, &mut rest)?;
        }
    }
    println!("kills: {} came before the end, {whole} after it", KILLS - whole);
    ensure!(whole > 0, "a kill after it takes nothing back");

    goes_by_the_exit(&cell, &mut rest, &device, &server, &direct)?;
    let log = cell.output();
    for secret in [PASSWORD, PROXY_PASSWORD, "PRIVATE KEY"] {
        ensure!(!log.contains(secret), "a secret is in the log");
    }
    Ok(())
}

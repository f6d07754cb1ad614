//! A whole cell with an exit of OpenVPN: a profile as providers sell it goes in by cellctl, and a stock client's packets come out at
//! the provider, its questions at the provider's resolver; whichever daemon dies, nothing goes by the machine's own way. Needs root,
//! the package `openvpn` and the built programs.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../netd/tests/support/openvpn.rs"]
mod provider;

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cell_lab::cell::{Cell, program};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::household::{claimed, join};
use cell_lab::probe::{EchoServer, ping, tcp_echo, udp_echo};
use cell_lab::process::{run, until};
use cell_lab::resolver;
use cell_lab::rest::Rest;
use cell_lab::topology::{Device, FAR_HOST, World};
use provider::{Offer, OpenvpnServer, PASSWORD, RESOLVER, USERNAME};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
/// Health is looked at every 3 s, and OpenVPN begins anew after a pause.
const PATIENCE: Duration = Duration::from_secs(60);
/// TCP, UDP and ping, of both families.
const ALL: usize = 6;
/// What the provider's resolver has for every name.
const ANYWHERE: [u8; 4] = [198, 51, 100, 77];

struct Stage {
    world: World,
    device: Device,
    server: OpenvpnServer,
    /// What leaves the cell for the far host itself, or from the device's own address.
    direct: Vec<Counter>,
}

fn stage() -> Result<Stage> {
    let mut world = World::new()?;
    let device = world.device("phone")?;
    let server = OpenvpnServer::start(&mut world, Offer { v6: true, tcp: false })?;
    EchoServer::start(&world.internet, 80)?;
    resolver::serve(
        server.namespace(),
        SocketAddr::new(RESOLVER.parse()?, 53),
        ANYWHERE.into(),
    )?;
    let to = FAR_HOST.each().map(|far| Spec::to(host(far), Protocol::Any));
    let from =
        ["10.67.0.2", "fd67::2"].map(|own| Spec::from(host(own.parse::<IpAddr>().unwrap()), Protocol::Any));
    let direct = to
        .into_iter()
        .chain(from)
        .map(|spec| Counter::install(&world.internet, spec))
        .collect::<Result<_>>()?;
    Ok(Stage {
        world,
        device,
        server,
        direct,
    })
}

impl Stage {
    fn direct(&self) -> u64 {
        self.direct.iter().map(|counter| counter.packets().unwrap()).sum()
    }

    fn answered(&self) -> usize {
        let from = &self.device.namespace;
        let one = |far: IpAddr| {
            let to = SocketAddr::new(far, 80);
            [
                tcp_echo(from, to, SECOND).unwrap(),
                udp_echo(from, to, 2, SECOND).unwrap() > 0,
                ping(from, far, 2, Duration::from_millis(200), SECOND)
                    .unwrap()
                    .received
                    > 0,
            ]
        };
        let answers = FAR_HOST.each().into_iter().flat_map(one);
        answers.filter(|answered| *answered).count()
    }

    /// All is answered, and came out at the provider.
    fn all_by_exit(&self) -> Result<()> {
        let before = self.server.packets();
        until(PATIENCE, "the exit carries all", || {
            (self.answered() == ALL).then_some(())
        })?;
        let after = self.server.packets();
        ensure!(
            after[0] >= before[0] + 6 && after[1] >= before[1] + 6,
            "{before:?} {after:?}"
        );
        Ok(())
    }
}

/// By cellctl, from files, as somebody would who bought it.
fn import(cell: &Cell, server: &OpenvpnServer) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [profile, password] = ["provider.ovpn", "password"].map(|name| folder.path().join(name));
    std::fs::write(&profile, server.profile())?;
    std::fs::write(&password, format!("{PASSWORD}\n"))?;
    let mut command = Command::new(program("cellctl")?);
    command
        .env("CELL_HOME", cell.home())
        .args([
            "connection",
            "add",
            "provider",
            "--type",
            "openvpn",
            "--username",
            USERNAME,
        ])
        .arg("--from")
        .arg(&profile)
        .arg("--password-file")
        .arg(&password);
    run(&mut command).map(drop)
}

fn connection(rest: &mut Rest) -> Result<Value> {
    let all = rest.get("/api/connectivity/connections")?.expect(200)?;
    Ok(all["connections"][0].clone())
}

fn becomes(rest: &mut Rest, health: &str) -> Result<Value> {
    until(PATIENCE, &format!("its health is {health}"), || {
        let found = connection(rest).ok()?;
        (found["status"]["health"] == health).then_some(found)
    })
}

fn asked_through_exit(stage: &Stage) -> Result<()> {
    until(PATIENCE, "a name is looked up through the exit", || {
        let resolver = stage.device.namespace.run(
            "/usr/bin/python3",
            &["-c", &format!("{ASK}\nprint(ask('10.67.0.1'))")],
        );
        let answer = resolver.ok()?;
        (answer.trim() == IpAddr::from(ANYWHERE).to_string()).then_some(())
    })
}

#[test]
fn a_profile_becomes_an_exit_and_whatever_dies_nothing_goes_another_way() -> Result<()> {
    let stage = stage()?;
    let cell = Cell::start(&stage.world.cell)?;
    let mut rest = claimed(&cell)?;
    let _client = join(
        &mut rest,
        &stage.device,
        json!({"name": "phone", "tunnel": "full",
        "access": {"internet": true, "peer_to_peer": false, "services": []}}),
    )?;
    until(PATIENCE, "control: the machine's own way", || {
        (stage.answered() == ALL).then_some(())
    })?;
    let control = stage.direct();
    assert!(control > 0, "control: it is counted");

    import(&cell, &stage.server)?;
    let found = becomes(&mut rest, "working").with_context(|| cell.output())?;
    let id = found["id"].as_str().context("an id")?.to_owned();
    assert!(found["iface"].as_str().unwrap().starts_with("ovpn_"), "{found}");
    rest.put(
        "/api/connectivity/peers/phone/exit",
        &json!({"connection_id": id}),
    )?
    .expect(200)?;
    stage.all_by_exit().with_context(|| cell.output())?;
    let bound = stage.direct();

    // Its questions go to the provider's resolver, through it.
    asked_through_exit(&stage).with_context(|| cell.output())?;

    for daemon in ["openvpn", "netd", "egress", "api", "vaultd"] {
        cell.crash(daemon)?;
        stage.answered();
        assert_eq!(
            stage.direct(),
            bound,
            "nothing by itself after the end of {daemon}"
        );
        stage
            .all_by_exit()
            .with_context(|| format!("{daemon}\n{}", cell.output()))?;
    }
    assert_eq!(stage.direct(), bound, "nothing by itself");

    // The session is new after cell-openvpn died, and its proof as well.
    let mut rest = cell.rest();
    rest.login("ada", "correct horse battery staple")?;
    let found = becomes(&mut rest, "working")?;
    let secrets = found.to_string();
    assert!(!secrets.contains(PASSWORD) && !cell.output().contains(PASSWORD));
    rest.put(
        "/api/connectivity/peers/phone/exit",
        &json!({"connection_id": null}),
    )?
    .expect(200)?;
    rest.delete(&format!("/api/connectivity/connections/{id}"))?
        .expect(204)?;
    until(PATIENCE, "its interface is gone", || {
        let links = stage.world.cell.ip("link show").ok()?;
        (!links.contains("ovpn_")).then_some(())
    })
}

/// Asks a resolver for an address, by the few bytes that this takes.
const ASK: &str = "
import socket
def ask(at):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
    name = b''.join(bytes([len(l)]) + l for l in (b'www', b'example', b'org')) + b'\\0'
    s.sendto(b'\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0' + name + b'\\0\\x01\\0\\x01', (at, 53))
    return '.'.join(str(b) for b in s.recv(512)[-4:])
";

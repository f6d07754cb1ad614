//! The measure of the proof is itself measured: against a gateway made by hand, of stock WireGuard and nft alone, a passage
//! says "passes" and "denied" when that is so, and neither when packets leak one way. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use cell_lab::counter::Protocol;
use cell_lab::probe::{EchoServer, Flow};
use cell_lab::prober::Prober;
use cell_lab::scenario::{Passage, Verdict};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, World};
use wireguard_control::KeyPair;

const ECHO: u16 = 7000;

fn gateway_file(own: &KeyPair, phone: &KeyPair) -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nListenPort = 51820\nAddress = 10.67.0.1/24, fd67::1/64\n\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = 10.67.0.2/32, fd67::2/128\n",
        own.private.to_base64(),
        phone.public.to_base64()
    )
}

fn phone_file(own: &KeyPair, gateway: &KeyPair) -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.67.0.2/32, fd67::2/128\n\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {}:51820\n",
        own.private.to_base64(),
        gateway.public.to_base64(),
        CELL.v4
    )
}

/// Forwards and masquerades; `verdict` is a rule of the forward chain.
fn set_policy(world: &World, rule: &str) -> Result<()> {
    let table = format!(
        "add table inet gateway
         delete table inet gateway
         table inet gateway {{
            chain forward {{ type filter hook forward priority 0; policy accept; {rule}; }}
            chain out {{ type nat hook postrouting priority 100; oifname \"uplink\" masquerade; }}
         }}"
    );
    world.cell.run("nft", &[&table]).map(drop)
}

fn gateway<'a>(world: &'a World, phone: &'a Device) -> Result<(Client<'a>, Client<'a>)> {
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        world.cell.set_sysctl(key, "1")?;
    }
    let (gateway_keys, phone_keys) = (KeyPair::generate(), KeyPair::generate());
    let gateway = Client::up(&world.cell, &gateway_file(&gateway_keys, &phone_keys))?;
    let client = Client::up(&phone.namespace, &phone_file(&phone_keys, &gateway_keys))?;
    client.wait_for_handshake()?;
    Ok((gateway, client))
}

#[test]
fn passes_and_denied_are_told_apart_and_a_leak_is_neither() -> Result<()> {
    let mut world = World::new()?;
    let phone = world.device("phone")?;
    EchoServer::start(&world.internet, ECHO)?;
    let (_gateway, client) = gateway(&world, &phone)?;
    for (v6, to) in [(false, FAR_HOST.each()[0]), (true, FAR_HOST.each()[1])] {
        let (namespace, source) = (&phone.namespace, client.address(v6)?);
        let to = SocketAddr::new(to, ECHO);
        let way = Passage {
            from: namespace,
            source,
            cell: &world.cell,
            at: &world.internet,
            to,
        };
        for protocol in [
            Protocol::Tcp(Some(ECHO)),
            Protocol::Udp(Some(ECHO)),
            Protocol::Ping,
        ] {
            let attempt = |rule: &str| -> Result<_> {
                set_policy(&world, rule)?;
                let outcome = way.attempt(protocol)?;
                println!("{protocol} {v6} {rule}: {outcome}");
                Ok((outcome.is(Verdict::Passes), outcome.is(Verdict::Denied)))
            };
            assert_eq!(attempt("oifname \"uplink\" accept")?, (true, false));
            assert_eq!(attempt("oifname \"uplink\" drop")?, (false, true));
            assert_eq!(
                attempt("iifname \"uplink\" drop")?,
                (false, false),
                "only the answers are dropped"
            );
        }
    }
    Ok(())
}

#[test]
fn the_end_of_an_established_flow_is_timed() -> Result<()> {
    let mut world = World::new()?;
    let phone = world.device("phone")?;
    EchoServer::start(&world.internet, ECHO)?;
    let (_gateway, _client) = gateway(&world, &phone)?;
    set_policy(&world, "oifname \"uplink\" accept")?;
    let to = SocketAddr::new(FAR_HOST.v4.into(), ECHO);
    let mut flow = Flow::open(&phone.namespace, to, Duration::from_secs(5))?;
    flow.echo(Duration::from_secs(2))?;
    let prober = Prober::start(&phone.namespace, to, Duration::from_millis(10))?;
    std::thread::sleep(Duration::from_millis(700));
    let asked = Instant::now();
    set_policy(&world, "oifname \"uplink\" drop")?;
    let done = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    assert!(flow.echo(Duration::from_millis(500)).is_err());
    let report = prober.stop()?;
    let last = report.last_answered().unwrap();
    let slack = Duration::from_millis(100);
    assert!(
        last + slack > asked && last < done + slack,
        "{:?} {:?}",
        last.duration_since(asked),
        done - asked
    );
    Ok(())
}

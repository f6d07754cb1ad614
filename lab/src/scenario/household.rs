//! A household moves in: claim, wizard, two devices added through the API, each brought up with a stock client from
//! the file as downloaded.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wireguard_control::KeyPair;

use crate::cell::Cell;
use crate::counter::Protocol;
use crate::probe::EchoServer;
use crate::quick;
use crate::report::Report;
use crate::rest::{Rest, Setup};
use crate::stock::Client;
use crate::topology::{self, Both, Device, FAR_HOST, LAN_HOST, World};

use super::{Passage, Verdict};

/// Port of the echo servers out on the internet and on the devices.
pub const ECHO: u16 = 7000;
/// Port of the service on the LAN.
pub const SERVICE: u16 = 8080;

/// The namespaces of the proof.
pub struct Stage {
    /// Internet, cell, LAN.
    pub world: World,
    /// First device.
    pub phone: Device,
    /// Second device.
    pub laptop: Device,
}

/// Builds the world with its echo servers.
///
/// # Errors
/// Without root.
pub fn world() -> Result<Stage> {
    let mut world = World::new()?;
    let (phone, laptop) = (world.device("phone")?, world.device("laptop")?);
    for namespace in [&world.internet, &phone.namespace, &laptop.namespace] {
        EchoServer::start(namespace, ECHO)?;
    }
    EchoServer::start(&world.lan, SERVICE)?;
    EchoServer::start(&world.lan, SERVICE + 1)?;
    Ok(Stage { world, phone, laptop })
}

/// A device that belongs to the household.
pub struct Member<'a> {
    /// Name of its peer.
    pub name: &'static str,
    /// Where it is.
    pub device: &'a Device,
    /// Its stock client.
    pub client: Client<'a>,
}

/// A claimed cell with two devices.
pub struct Household<'a> {
    /// Where it all is.
    pub stage: &'a Stage,
    /// The administrator's session.
    pub rest: Rest,
    /// May reach the internet, nothing else.
    pub phone: Member<'a>,
    /// May reach the service on the LAN, nothing else. Comes in over IPv6.
    pub laptop: Member<'a>,
    /// `GET /api/config`.
    pub config: Value,
}

impl<'a> Household<'a> {
    /// Claims a fresh cell and adds both devices.
    ///
    /// # Errors
    /// At the first step that is refused.
    pub fn move_in(stage: &'a Stage, cell: &Cell, report: &mut Report) -> Result<Self> {
        let mut rest = cell.rest();
        let closed = rest.get("/api/peers")?;
        report.fact(
            "before setup: everything else is closed",
            closed.code(),
            closed.code() == "SETUP_REQUIRED",
        );
        rest.setup(&setup(cell)?)?;
        report.fact("claim, wizard and login", "done", true);
        let config = rest.get("/api/config")?.expect(200)?;

        let nothing = json!([]);
        let phone_access = json!({"internet": true, "peer_to_peer": false, "services": nothing});
        let phone = join(&mut rest, "phone", &stage.phone, &phone_access)?;
        // From here on devices are told to come in over IPv6: their files say so as they are downloaded.
        rest.put(
            "/api/config",
            &json!({"endpoint_host": topology::CELL.v6.to_string()}),
        )?
        .expect(200)?;
        let services: Vec<_> = LAN_HOST
            .each()
            .map(|address| json!({"address": address, "protocol": "tcp", "port": SERVICE}))
            .into();
        let laptop_access = json!({"internet": false, "peer_to_peer": false, "services": services});
        let laptop = join(&mut rest, "laptop", &stage.laptop, &laptop_access)?;
        let household = Household {
            stage,
            rest,
            phone,
            laptop,
            config,
        };
        household.shake_hands(report)?;
        Ok(household)
    }

    fn shake_hands(&self, report: &mut Report) -> Result<()> {
        for (member, over) in [(&self.phone, "IPv4"), (&self.laptop, "IPv6")] {
            member.client.wait_for_handshake()?;
            let endpoint = member
                .client
                .peers()?
                .first()
                .and_then(|peer| peer.endpoint)
                .context("an endpoint")?;
            let name = format!("{}: handshake of a stock client over {over}", member.name);
            report.fact(name, endpoint, endpoint.is_ipv6() == (over == "IPv6"));
        }
        Ok(())
    }

    /// Sets what a member may.
    ///
    /// # Errors
    /// When it is refused.
    pub fn grant(&mut self, name: &str, access: &Value) -> Result<()> {
        self.rest
            .put(&format!("/api/peers/{name}"), &json!({"access": access}))?
            .expect(200)
            .map(drop)
    }

    /// Tries a way from a member to a target and reports it.
    ///
    /// # Errors
    /// When it cannot be tried.
    pub fn expect(
        &self,
        report: &mut Report,
        member: &Member,
        target: Target,
        protocol: Protocol,
        verdict: Verdict,
    ) -> Result<()> {
        for v6 in [false, true] {
            let outcome = self.passage(member, target, v6)?.attempt(protocol)?;
            let family = if v6 { "IPv6" } else { "IPv4" };
            let says = if verdict == Verdict::Passes {
                "may"
            } else {
                "may not"
            };
            let name = format!(
                "{} {says} reach {} by {protocol}, {family}",
                member.name, target.name
            );
            // Here it is netd that denies, and it counts what it drops.
            report.fact(name, outcome, outcome.is(verdict) && outcome.dropped.is_some());
        }
        self.explained(report, member, target, protocol, verdict)
    }

    /// What the cell says of the same packets when it is asked.
    fn explained(
        &self,
        report: &mut Report,
        member: &Member,
        target: Target,
        protocol: Protocol,
        verdict: Verdict,
    ) -> Result<()> {
        let how = match protocol {
            Protocol::Tcp(Some(port)) => format!("&protocol=tcp&port={port}"),
            Protocol::Udp(Some(port)) => format!("&protocol=udp&port={port}"),
            Protocol::Tcp(None) | Protocol::Udp(None) | Protocol::Ping | Protocol::Any => String::new(),
        };
        let mut rest = self.rest.clone();
        let mut said = Vec::new();
        for to in target.addresses(self)? {
            let path = format!("/api/peers/{}/explain?destination={to}{how}", member.name);
            let answer = rest.get(&path)?.json();
            said.push((answer["passes"] == true, answer["reason"].to_string()));
        }
        let agrees = said
            .iter()
            .all(|(passes, _)| *passes == (verdict == Verdict::Passes));
        let reason = said.pop().map(|(_, reason)| reason).unwrap_or_default();
        let name = format!(
            "asked, the cell explains the same of {} and {} by {protocol}",
            member.name, target.name
        );
        report.fact(name, reason.trim_matches('"'), agrees);
        Ok(())
    }

    /// The way from a member to a target.
    ///
    /// # Errors
    /// When the member has no address of the family.
    pub fn passage<'b>(&'b self, member: &'b Member, target: Target, v6: bool) -> Result<Passage<'b>> {
        let world = &self.stage.world;
        let [v4_address, v6_address] = target.addresses(self)?;
        Ok(Passage {
            from: &member.device.namespace,
            source: member.client.address(v6)?,
            cell: &world.cell,
            at: match target.place {
                Place::Internet => &world.internet,
                Place::Lan => &world.lan,
                Place::Phone => &self.phone.device.namespace,
                Place::Laptop => &self.laptop.device.namespace,
            },
            to: SocketAddr::new(if v6 { v6_address } else { v4_address }, target.port),
        })
    }
}

/// Something that a member may reach or not.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// In words.
    pub name: &'static str,
    place: Place,
    /// Its port.
    pub port: u16,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Internet,
    Lan,
    Phone,
    Laptop,
}

impl Target {
    /// A host far out.
    pub const INTERNET: Target = Target {
        name: "the internet",
        place: Place::Internet,
        port: ECHO,
    };
    /// The service on the LAN.
    pub const SERVICE: Target = Target {
        name: "the service",
        place: Place::Lan,
        port: SERVICE,
    };
    /// Another port of the same host, which nobody may reach.
    pub const BESIDE_SERVICE: Target = Target {
        name: "the port beside it",
        place: Place::Lan,
        port: SERVICE + 1,
    };
    /// The phone.
    pub const PHONE: Target = Target {
        name: "the phone",
        place: Place::Phone,
        port: ECHO,
    };
    /// The laptop.
    pub const LAPTOP: Target = Target {
        name: "the laptop",
        place: Place::Laptop,
        port: ECHO,
    };

    fn addresses(self, household: &Household) -> Result<[IpAddr; 2]> {
        let of = |member: &Member| Ok([member.client.address(false)?, member.client.address(true)?]);
        match self.place {
            Place::Internet => Ok(Both::each(FAR_HOST)),
            Place::Lan => Ok(Both::each(LAN_HOST)),
            Place::Phone => of(&household.phone),
            Place::Laptop => of(&household.laptop),
        }
    }
}

fn setup(cell: &Cell) -> Result<Setup> {
    Ok(Setup {
        claim_token: cell.claim_token()?,
        cell_name: "casa".into(),
        vpn_range_ipv4: "10.67.0.0/24".into(),
        vpn_range_ipv6: "fd67::/64".into(),
        endpoint_host: topology::CELL.v4.to_string(),
        username: "ada".into(),
        password: "correct horse battery staple".into(),
    })
}

/// Adds a device and brings it up from the file as downloaded, with the private key that never left the device.
/// Everything is sent into the tunnel, so that what a device may not reach is refused by the cell and not by the device.
fn join<'a>(rest: &mut Rest, name: &'static str, device: &'a Device, access: &Value) -> Result<Member<'a>> {
    let keys = KeyPair::generate();
    let peer =
        json!({"name": name, "public_key": keys.public.to_base64(), "access": access, "tunnel": "full"});
    let (_, file) = rest.add_peer(&peer).with_context(|| format!("adding {name}"))?;
    let file = quick::with_private_key(&file, &keys.private.to_base64());
    let client = Client::up(&device.namespace, &file).with_context(|| format!("{name}:\n{file}"))?;
    Ok(Member { name, device, client })
}

//! The cell, its exits and its peers, and what is done to them: over REST as a user would ([`exits`]), to what runs ([`ends`]), by
//! hand as root might ([`hands`]), so that each type of exit meets it at work ([`gather`], [`who`]), and with the aim of a leak
//! ([`plant`]).

mod ends;
mod exits;
pub mod gather;
mod hands;
mod happen;
mod plant;
mod services;
mod who;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::cell::{Cell, Edit};
use cell_lab::docker::Docker;
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_lab::rest::{Answer, Rest, Setup};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, World};
use cell_launch::house::Daemon;
use http::Method;
use serde_json::{Value, json};

use crate::back::Back;
use crate::ear::Ear;
use crate::far::FarEnd;
use crate::key::{RESOLVER, far_host};
use crate::kind::Kind;
use crate::speaker::Speaker;
use crate::times::Measured;
use crate::ways::Ways;
use exits::own_word;
use services::Service;

/// How long the cell may take to answer while its daemons die, and to be itself again: on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long something that a hand has undone for a moment stays undone.
const MOMENT: Duration = Duration::from_millis(150);

/// A peer, its device's stock client and what it is bound to.
pub struct Peer<'a> {
    name: String,
    client: Client<'a>,
    file: String,
    /// Its exit's type; `None`: it has no exit, and is the control.
    pub exit: Option<Kind>,
    /// Whether it has the connection that was created last instead of the first of the type.
    pub on_spare: bool,
    /// The same, where its connection can carry anything.
    carrier: Option<Kind>,
    /// What stands in for its exit while that does not work.
    fallback: Option<Kind>,
    moved: Option<Moved>,
}

/// A peer has been bound to another exit.
struct Moved {
    /// Than this.
    from: Kind,
    /// When the API said so.
    acknowledged: Duration,
    /// Whether the far end of that one or its link was down since: what is in flight arrives whenever they are back.
    cut: bool,
}

/// The namespaces that a lab stands on.
pub struct Places<'a> {
    /// Everything.
    pub world: &'a World,
    /// Of the far ends, in the order of [`Kind::ALL`].
    pub fars: &'a [Device],
    /// For what far ends need elsewhere.
    pub helper: &'a Device,
    /// Of the bound peers, in the order of [`Kind::ALL`], and of the control.
    pub devices: &'a [Device],
    /// Of the services, in the order of [`Kind::ALL`].
    pub containers: &'a [Namespace],
}

/// By what netd holds the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Renderer {
    /// As it is shipped.
    Nftables,
    /// Legacy iptables.
    Iptables,
}

/// Policies of the daemons as shipped, with what far ends want to be told behind, and netd's with this renderer.
fn policies(told: Vec<(Daemon, String)>, renderer: Renderer) -> Vec<(Daemon, Edit)> {
    let behind = |(daemon, lines): (Daemon, String)| -> (Daemon, Edit) {
        (daemon, Box::new(move |shipped: String| shipped + &lines))
    };
    let mut edits: Vec<_> = told.into_iter().map(behind).collect();
    if renderer == Renderer::Iptables {
        let legacy = |shipped: String| {
            // A set of ipset has no more interfaces.
            let shipped = shipped.replace("\nmax = 256\nredirect_ports", "\nmax = 64\nredirect_ports");
            shipped.replace("renderer = \"nftables\"", "renderer = \"iptables\"")
        };
        edits.push((Daemon::Netd, Box::new(legacy)));
    }
    edits
}

/// Everything.
pub struct Lab<'a> {
    /// The namespaces.
    pub world: &'a World,
    /// The cell.
    pub cell: Cell,
    /// The far ends, in the order of [`Kind::ALL`].
    pub far: Vec<FarEnd<'a>>,
    /// What is heard at the ISP.
    pub direct: Arc<Ear>,
    /// By which exits who may go.
    pub ways: Arc<Ways>,
    /// The bound peers, then the control.
    pub peers: Vec<Peer<'a>>,
    /// The services.
    pub services: Vec<Service>,
    /// What was measured.
    pub times: Measured,
    /// What came back.
    pub back: Back,
    /// When the last transition was over, on the clock of [`crate::said::now`].
    pub over: Duration,
    renderer: Renderer,
    docker: Docker<'a>,
    rest: Rest,
    ids: Vec<String>,
    spare: Option<(String, Kind)>,
    linked: [bool; Kind::ALL.len()],
    /// Programs below cell-openvpn that were ended last, until others are there.
    ended: Vec<u32>,
}

impl<'a> Lab<'a> {
    /// Starts a cell, gives it an exit of each type and a peer for each, and one peer without. `direct`: what is heard at the ISP.
    ///
    /// # Errors
    /// At the first step that fails.
    pub fn start(places: &Places<'a>, direct: Arc<Ear>, renderer: Renderer) -> Result<Self> {
        let world = places.world;
        let ways = Arc::new(Ways::default());
        let far = Kind::ALL.into_iter().zip(places.fars);
        let far = far.map(|(kind, device)| FarEnd::start(kind, device, places.helper, &ways));
        let far: Vec<_> = far.collect::<Result<_>>()?;
        let docker = Docker::start(&world.cell)?;
        let told: Vec<_> = far.iter().filter_map(FarEnd::told_to_the_cell).collect();
        let cell = Cell::start_edited(&world.cell, policies(told, renderer))?;
        let mut lab = Lab {
            world,
            far,
            direct,
            ways,
            peers: Vec::new(),
            services: Vec::new(),
            times: Measured::default(),
            back: Back::default(),
            over: Duration::ZERO,
            renderer,
            docker,
            rest: cell.rest(),
            cell,
            ids: Vec::new(),
            spare: None,
            linked: [true; Kind::ALL.len()],
            ended: Vec::new(),
        };
        lab.sign_in()?;
        lab.set_resolvers()?;
        for kind in Kind::ALL {
            let id = lab.create(kind, kind.label(), true)?;
            lab.ids.push(id);
        }
        let exits = Kind::ALL.into_iter().map(Some).chain([None]);
        for (exit, device) in exits.zip(places.devices) {
            lab.ways.may_go(lab.peers.len(), exit.as_slice());
            let peer = lab.join(exit, device)?;
            lab.peers.push(peer);
        }
        lab.open_services(places.containers)?;
        lab.converged()?;
        Ok(lab)
    }

    fn sign_in(&mut self) -> Result<()> {
        self.rest.setup(&Setup {
            claim_token: self.cell.claim_token()?,
            cell_name: "leaktest".into(),
            vpn_range_ipv4: "10.87.0.0/24".into(),
            vpn_range_ipv6: "fd87::/64".into(),
            endpoint_host: CELL.v4.to_string(),
            username: "admin".into(),
            password: "correct horse battery".into(),
        })
    }

    /// The ones that are asked for who has no exit, and through exits that bring none.
    fn set_resolvers(&mut self) -> Result<()> {
        let [v4, v6] = far_host(RESOLVER).each();
        let body = json!({"dns_upstreams": [v4.to_string(), v6.to_string()]});
        let answer = self.ask(Method::PUT, "/api/config", &body)?;
        answer.expect(200).context("dns_upstreams").map(drop)
    }

    fn join(&mut self, exit: Option<Kind>, device: &'a Device) -> Result<Peer<'a>> {
        let name = exit.map_or("control", Kind::label).to_owned();
        let mut asked = json!({"name": name, "server_makes_key": true, "tunnel": "full",
            "access": {"internet": true, "peer_to_peer": false, "services": []}});
        if let Some(kind) = exit {
            asked["exit_connection_id"] = json!(self.ids[kind.index()]);
            asked["fail_open"] = own_word(self.peers.len(), kind);
        }
        let (_, file) = self.rest.add_peer(&asked)?;
        let client = Client::up(&device.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(Peer {
            name,
            client,
            file,
            exit,
            carrier: exit,
            on_spare: false,
            fallback: None,
            moved: None,
        })
    }

    /// Asks until the API answers: it, and what it needs, may be coming back.
    fn ask(&mut self, method: Method, path: &str, body: &Value) -> Result<Answer> {
        let start = Instant::now();
        loop {
            let sent = (!body.is_null()).then_some(body);
            match self.rest.request(method.clone(), path, sent) {
                Ok(answer) if answer.status < 500 && answer.status != 429 => return Ok(answer),
                Ok(answer) if start.elapsed() > PATIENCE => {
                    answer.expect(200).with_context(|| format!("{method} {path}"))?;
                }
                Err(error) if start.elapsed() > PATIENCE => return Err(error),
                Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Waits until the kernel has what is wanted.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn converged(&mut self) -> Result<()> {
        let rest = &mut self.rest;
        until(PATIENCE, "observed = desired", || {
            let status = rest
                .get("/api/status")
                .ok()
                .filter(|answer| answer.status == 200)?
                .json();
            (status["generation"] == status["observed_generation"]).then_some(())
        })
    }

    /// For whoever looks into a failure: what the cell's namespace has, and what it says of its devices.
    pub fn as_it_is(&mut self) -> String {
        let cell = &self.world.cell;
        let shown = [
            ("ip", &["-s", "address", "show", "dev", "wg0"][..]),
            ("ip", &["rule"]),
            ("ss", &["-uanpem"]),
            ("nft", &["list", "counters", "table", "inet", "cell"]),
        ];
        let shown = shown.map(|(program, arguments)| match cell.run(program, arguments) {
            Ok(text) => text,
            Err(error) => format!("{program}: {error:#}"),
        });
        let peers = self.ask(Method::GET, "/api/peers", &Value::Null);
        let peers = peers.map_or_else(|error| format!("{error:#}"), |answer| answer.json().to_string());
        format!("{}\n{peers}", shown.join("\n"))
    }

    /// All far ends are there, and the cell has put everything right.
    ///
    /// # Errors
    /// When something does not come back.
    pub fn mend(&mut self, speakers: &[Speaker]) -> Result<()> {
        // Each type of exit has a peer and a service again, and nothing else carries it, or nothing could be seen of it.
        for (peer, kind) in Kind::ALL.into_iter().enumerate() {
            self.assign(peer, kind, speakers)?;
            self.set_fallback(peer, None)?;
            self.assign_service(peer, kind, speakers)?;
        }
        self.raise()?;
        self.converged()
    }
}

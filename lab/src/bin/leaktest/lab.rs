//! The cell, its exits and its peers, and what is done to them: over REST as a user would, and by hand as root might.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cell_lab::cell::Cell;
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_lab::rest::{Answer, Rest, Setup};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, World};
use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::far::{FarEnd, Kind};
use crate::isp::Meant;
use crate::speaker::Speaker;
use crate::transition::Transition;

const CONNECTIONS: &str = "/api/connectivity/connections";
/// How long the cell may take to answer while its daemons die, and to be itself again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long something that a hand has undone for a moment stays undone.
const MOMENT: Duration = Duration::from_millis(150);

/// A peer, its device's stock client and its mouth.
pub struct Peer<'a> {
    name: String,
    client: Client<'a>,
    file: String,
    /// Its exit's type; `None`: it has no exit, and is the control.
    pub exit: Option<Kind>,
    /// Whether it has the connection that was created last instead of the first of the type.
    pub on_spare: bool,
}

/// Everything.
pub struct Lab<'a> {
    /// The namespaces.
    pub world: &'a World,
    /// The cell.
    pub cell: Cell,
    /// The far ends, in the order of [`Kind::ALL`].
    pub far: Vec<FarEnd<'a>>,
    /// The bound peers, then the control.
    pub peers: Vec<Peer<'a>>,
    rest: Rest,
    ids: Vec<String>,
    spare: Option<(String, Kind)>,
    linked: [bool; Kind::ALL.len()],
    /// By exit type, how long after its end came the last answer through it.
    pub last_answers: Vec<(Kind, Duration)>,
}

impl<'a> Lab<'a> {
    /// Starts a cell, gives it an exit of each type and a peer for each, and one peer without.
    ///
    /// # Errors
    /// At the first step that fails.
    pub fn start(world: &'a World, fars: &'a [Device], devices: &'a [Device]) -> Result<Self> {
        let far = Kind::ALL
            .into_iter()
            .zip(fars)
            .map(|(kind, device)| FarEnd::start(kind, device));
        let far = far.collect::<Result<_>>()?;
        let cell = Cell::start(&world.cell)?;
        let mut lab = Lab {
            world,
            far,
            peers: Vec::new(),
            rest: cell.rest(),
            cell,
            ids: Vec::new(),
            spare: None,
            linked: [true; Kind::ALL.len()],
            last_answers: Vec::new(),
        };
        lab.sign_in()?;
        for kind in Kind::ALL {
            let id = lab.create(kind, kind.label(), true)?;
            lab.ids.push(id);
        }
        let exits = Kind::ALL.into_iter().map(Some).chain([None]);
        for (exit, device) in exits.zip(devices) {
            let peer = lab.join(exit, device)?;
            lab.peers.push(peer);
        }
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

    fn join(&mut self, exit: Option<Kind>, device: &'a Device) -> Result<Peer<'a>> {
        let name = exit.map_or("control", Kind::label).to_owned();
        let mut asked = json!({"name": name, "server_makes_key": true, "tunnel": "full",
            "access": {"internet": true, "peer_to_peer": false, "services": []}});
        if let Some(kind) = exit {
            asked["exit_connection_id"] = json!(self.ids[usize::from(kind.place())]);
        }
        let (_, file) = self.rest.add_peer(&asked)?;
        if exit.is_some() {
            let path = format!("/api/connectivity/peers/{name}/failopen");
            self.ask(Method::PUT, &path, &json!({"fail_open": false}))?
                .expect(200)?;
        }
        let client = Client::up(&device.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(Peer {
            name,
            client,
            file,
            exit,
            on_spare: false,
        })
    }

    fn create(&mut self, kind: Kind, name: &str, is_first: bool) -> Result<String> {
        let import = self.far[usize::from(kind.place())].import(is_first)?;
        let body = json!({"name": name, "type": kind.api_type(), "import": import});
        let answer = self.ask(Method::POST, CONNECTIONS, &body)?;
        // A daemon that died between the change and the answer leaves the change made.
        if answer.code() == "CONNECTION_EXISTS" && !is_first {
            return self.named(name);
        }
        let id = answer.expect(201)?["connection"]["id"]
            .as_str()
            .map(str::to_owned);
        id.context("a connection without an id")
    }

    fn named(&mut self, name: &str) -> Result<String> {
        let all = self.ask(Method::GET, CONNECTIONS, &Value::Null)?.expect(200)?;
        let all = all["connections"].as_array().context("a list of connections")?;
        let one = all
            .iter()
            .find(|one| one["name"] == name)
            .context("no such connection")?;
        one["id"].as_str().map(str::to_owned).context("an id")
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

    /// Lets it happen; the speakers of bound peers learn what they are assigned to.
    ///
    /// # Errors
    /// When the cell does not do as it must.
    pub fn happen(&mut self, transition: Transition, speakers: &[Speaker]) -> Result<()> {
        match transition {
            Transition::Create(kind, peer) => self.create_spare(kind, peer, speakers),
            Transition::Delete => self.delete_spare(speakers),
            Transition::DeleteUsed(kind) => self.delete_used(kind, speakers),
            Transition::Assign(peer, kind) => self.assign(peer, kind, speakers),
            Transition::Swap(one, other) => {
                let (Some(to), Some(back)) = (self.peers[other].exit, self.peers[one].exit) else {
                    bail!("a peer without an exit is not swapped");
                };
                self.assign(one, to, speakers)?;
                self.assign(other, back, speakers)
            }
            Transition::FarEnd(kind) => self.far_end(kind, speakers),
            Transition::FarLink(kind) => self.far_link(kind),
            Transition::Interface => {
                // What netd is just making anew is not there.
                let _down = self.by_hand("ip", &format!("link set {} down", self.interface()));
                std::thread::sleep(MOMENT / 4);
                let _up = self.by_hand("ip", &format!("link set {} up", self.interface()));
                Ok(())
            }
            Transition::NoInterface => {
                let _gone = self.by_hand("ip", &format!("link delete {}", self.interface()));
                Ok(())
            }
            Transition::NoTunnel => {
                self.by_hand("ip", "link delete wg0")?;
                std::thread::sleep(MOMENT);
                self.reconnect()
            }
            Transition::Uplink => {
                self.world.internet.ip("link set p10 down")?;
                std::thread::sleep(MOMENT);
                self.world.internet.ip("link set p10 up").map(drop)
            }
            Transition::Flush => self.by_hand("nft", "flush ruleset"),
            Transition::NoRules => self.no_rules(),
            Transition::NoRoutes => self.no_routes(),
            Transition::ForeignRule => self.foreign_rule(),
            Transition::Conntrack => self.by_hand("conntrack", "-F"),
            Transition::Daemon(name, signal) => self.daemon(name, signal),
            Transition::Headless => {
                let world = self.world;
                std::thread::scope(|scope| {
                    let killed = scope.spawn(|| self.cell.crash("netd"));
                    let undone = [no_rules(&world.cell), no_routes(&world.cell)];
                    killed
                        .join()
                        .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
                    undone.into_iter().collect()
                })
            }
        }
    }

    fn interface(&self) -> String {
        let digits = self.ids[usize::from(Kind::Wireguard.place())].replace('-', "");
        format!("wgext_{}", &digits[..8])
    }

    fn by_hand(&self, program: &str, arguments: &str) -> Result<()> {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        self.world.cell.run(program, &arguments).map(drop)
    }

    fn no_rules(&self) -> Result<()> {
        no_rules(&self.world.cell)
    }

    fn no_routes(&self) -> Result<()> {
        no_routes(&self.world.cell)
    }

    fn foreign_rule(&self) -> Result<()> {
        let rules = [
            "-4 rule %% pref 50 from 10.87.0.0/24 lookup main",
            "-6 rule %% pref 50 from fd87::/64 lookup main",
        ];
        for rule in rules {
            self.by_hand("ip", &rule.replace("%%", "add"))?;
        }
        std::thread::sleep(MOMENT);
        for rule in rules {
            self.by_hand("ip", &rule.replace("%%", "delete"))?;
        }
        Ok(())
    }

    fn assign(&mut self, peer: usize, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        let id = self.ids[usize::from(kind.place())].clone();
        self.bind(peer, &id)?;
        self.peers[peer].exit = Some(kind);
        self.peers[peer].on_spare = false;
        speakers[peer].assign(Meant::For(kind));
        Ok(())
    }

    fn bind(&mut self, peer: usize, id: &str) -> Result<()> {
        let path = format!("/api/connectivity/peers/{}/exit", self.peers[peer].name);
        let bound = self
            .ask(Method::PUT, &path, &json!({"connection_id": id}))?
            .expect(200)?;
        ensure!(bound["exit_connection_id"] == id, "{bound}");
        ensure!(
            bound["fail_open"] == false,
            "it is not fail-closed any more: {bound}"
        );
        Ok(())
    }

    fn create_spare(&mut self, kind: Kind, peer: usize, speakers: &[Speaker]) -> Result<()> {
        if self.spare.is_none() {
            self.spare = Some((self.create(kind, "spare", false)?, kind));
        }
        let Some((id, kind)) = self.spare.clone() else {
            bail!("no spare connection");
        };
        self.bind(peer, &id)?;
        self.peers[peer].exit = Some(kind);
        self.peers[peer].on_spare = true;
        speakers[peer].assign(Meant::For(kind));
        Ok(())
    }

    fn delete_spare(&mut self, speakers: &[Speaker]) -> Result<()> {
        let Some((id, kind)) = self.spare.clone() else {
            return self.delete_used(Kind::Wireguard, speakers);
        };
        for peer in 0..self.peers.len() {
            if self.peers[peer].on_spare {
                self.assign(peer, kind, speakers)?;
            }
        }
        let answer = self.ask(Method::DELETE, &format!("{CONNECTIONS}/{id}"), &Value::Null)?;
        ensure!(
            matches!(answer.status, 200 | 204 | 404),
            "deleting what nobody uses: {} {}",
            answer.status,
            answer.code()
        );
        self.spare = None;
        Ok(())
    }

    /// Somebody uses it: if nobody does, the first peer is given it first.
    fn delete_used(&mut self, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        let uses = |peer: &Peer| peer.exit == Some(kind) && !peer.on_spare;
        if !self.peers.iter().any(uses) {
            self.assign(0, kind, speakers)?;
        }
        let path = format!("{CONNECTIONS}/{}", self.ids[usize::from(kind.place())]);
        let answer = self.ask(Method::DELETE, &path, &Value::Null)?;
        ensure!(answer.status == 409, "{} {}", answer.status, answer.code());
        Ok(())
    }

    fn far_end(&mut self, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        // One at a time, or nothing would be carried most of the time.
        if let Some(far) = self.far.iter_mut().find(|far| !far.is_up()) {
            return far.up();
        }
        self.far[usize::from(kind.place())].down();
        let ended = Instant::now();
        std::thread::sleep(MOMENT);
        let users = self
            .peers
            .iter()
            .zip(speakers)
            .filter(|(peer, _)| peer.exit == Some(kind));
        if let Some(last) = users.map(|(_, speaker)| speaker.last_answer()).max() {
            self.last_answers
                .push((kind, last.saturating_duration_since(ended)));
        }
        Ok(())
    }

    fn far_link(&mut self, kind: Kind) -> Result<()> {
        let cut = self.linked.iter().position(|linked| !linked);
        let place = cut.unwrap_or(usize::from(kind.place()));
        let to = if self.linked[place] { "down" } else { "up" };
        let port = self.far[place].device.address.v4.octets()[3];
        self.world.internet.ip(&format!("link set p{port} {to}"))?;
        self.linked[place] = !self.linked[place];
        Ok(())
    }

    fn daemon(&mut self, name: &'static str, signal: Signal) -> Result<()> {
        self.cell.end_daemon(name, signal)?;
        if name == "wg" {
            self.reconnect()?;
        }
        Ok(())
    }

    /// Devices begin new sessions at once; a client that gets no answer would wait up to 15 s, and say nothing meanwhile.
    fn reconnect(&mut self) -> Result<()> {
        self.converged()?;
        for peer in &self.peers {
            peer.client.configure(&peer.file)?;
        }
        for peer in &self.peers {
            peer.client.wait_for_handshake().context(peer.name.clone())?;
        }
        Ok(())
    }

    /// All far ends are there, and the cell has put everything right.
    ///
    /// # Errors
    /// When something does not come back.
    pub fn mend(&mut self, speakers: &[Speaker]) -> Result<()> {
        // Each type of exit has a peer again, or nothing could be seen of it.
        for (peer, kind) in Kind::ALL.into_iter().enumerate() {
            self.assign(peer, kind, speakers)?;
        }
        for kind in Kind::ALL {
            if !self.far[usize::from(kind.place())].is_up() {
                self.far[usize::from(kind.place())].up()?;
            }
        }
        if let Some(place) = self.linked.iter().position(|linked| !linked) {
            self.far_link(Kind::ALL[place])?;
        }
        self.converged()
    }

    /// Takes netd and everything that holds peers to their exits away, as somebody with root might who wants a leak.
    ///
    /// # Errors
    /// When it cannot be taken away.
    pub fn plant(&self) -> Result<()> {
        self.cell.hold_launcher()?;
        let netd = self.cell.daemon("netd")?;
        nix::sys::signal::kill(cell_lab::process::pid(netd)?, Signal::SIGKILL)?;
        // Its table is nobody's from the moment on in which it is dead.
        until(PATIENCE, "the table to go", || {
            self.by_hand("nft", "delete table inet cell").ok()
        })?;
        self.no_rules()
    }

    /// Lets the cell put it right.
    ///
    /// # Errors
    /// When it does not.
    pub fn unplant(&mut self) -> Result<()> {
        self.cell.release_launcher()?;
        let table = || self.by_hand("nft", "list table inet cell").ok();
        until(PATIENCE, "netd to be back", table)?;
        self.converged()
    }
}

fn no_rules(cell: &Namespace) -> Result<()> {
    cell.ip("-4 rule flush protocol 206")?;
    cell.ip("-6 rule flush protocol 206").map(drop)
}

/// What is not there any more cannot go again.
fn no_routes(cell: &Namespace) -> Result<()> {
    for family in ["-4", "-6"] {
        let _none = cell.ip(&format!("{family} route flush table all proto 206"));
    }
    Ok(())
}

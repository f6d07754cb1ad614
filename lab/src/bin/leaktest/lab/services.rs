//! Services: namespaces on bridges of the cell's, as Docker lays containers, whose networks are in cell-api's database as an installation
//! writes them there. What carries each is said over REST, as for devices.

use anyhow::{Context, Result, ensure};
use cell_lab::netns::Namespace;
use http::Method;
use rusqlite::Connection;
use serde_json::json;

use super::exits::own_word;
use super::{Lab, MOMENT};
use crate::ear::FIRST_SERVICE;
use crate::key::Meant;
use crate::kind::Kind;
use crate::speaker::Speaker;

/// A service with one container.
pub struct Service {
    pub(super) name: String,
    /// Its exit's type.
    pub exit: Kind,
}

/// The bridge of a service.
pub(super) fn bridge(place: usize) -> String {
    format!("cellsvc{}", place + 1)
}

/// The port of its container there.
pub(super) fn port(place: usize) -> String {
    format!("box{}", place + 1)
}

impl Lab<'_> {
    /// A service for each type of exit, bound to it.
    pub(super) fn open_services(&mut self, containers: &[Namespace]) -> Result<()> {
        for (place, (kind, container)) in Kind::ALL.into_iter().zip(containers).enumerate() {
            lay(&self.world.cell, place, container)?;
            let name = format!("for-{}", kind.label());
            self.register(place, &name).context("a service's network")?;
            self.services.push(Service { name, exit: kind });
            self.bind_service(place, kind)?;
        }
        Ok(())
    }

    /// What the installation of a service writes down of its network; cell-api reads it anew for each specification.
    fn register(&self, place: usize, name: &str) -> Result<()> {
        let database = Connection::open(self.cell.home().join("lib/api/cell.db"))?;
        database.busy_timeout(super::PATIENCE)?;
        let sql = "INSERT INTO service_network (service, number, subnet, egress) VALUES (?1, ?2, ?3, 'none')";
        let subnet = format!("172.21.0.{}/28", place * 16);
        database.execute(sql, (name, place + 1, subnet))?;
        Ok(())
    }

    pub(super) fn assign_service(&mut self, place: usize, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        self.bind_service(place, kind)?;
        speakers[FIRST_SERVICE + place].assign(Meant::Service(kind));
        Ok(())
    }

    fn bind_service(&mut self, place: usize, kind: Kind) -> Result<()> {
        let (id, word) = (self.ids[kind.index()].clone(), own_word(place, kind));
        self.ways.may_go(FIRST_SERVICE + place, &[kind]);
        let path = format!("/api/connectivity/services/{}/exit", self.services[place].name);
        let body = json!({"connection_id": id, "fail_open": word});
        let bound = self.ask(Method::PUT, &path, &body)?.expect(200)?;
        ensure!(
            bound["network"]["connection_id"] == id && bound["network"]["fail_open"] == word,
            "{bound}"
        );
        self.ways.has(FIRST_SERVICE + place, &[kind]);
        self.services[place].exit = kind;
        Ok(())
    }

    pub(super) fn flap_bridge(&self, place: usize) -> Result<()> {
        let bridge = bridge(place);
        self.by_hand("ip", &format!("link set {bridge} down"))?;
        std::thread::sleep(MOMENT / 4);
        self.by_hand("ip", &format!("link set {bridge} up"))
    }
}

/// IPv6 too, with a neighbour that need not be asked for: that it is refused is to be seen, and not that nobody sends it.
fn lay(cell: &Namespace, place: usize, container: &Namespace) -> Result<()> {
    let (bridge, number) = (bridge(place), place + 1);
    let (net, near) = (place * 16, port(place));
    let mac = format!("02:00:00:00:21:{number:02x}");
    cell.ip(&format!("link add {bridge} address {mac} type bridge"))?;
    cell.ip(&format!("link set {bridge} up"))?;
    cell.ip(&format!("address add 172.21.0.{}/28 dev {bridge}", net + 1))?;
    cell.ip(&format!("address add fd30:{number}::1/64 dev {bridge} nodad"))?;
    cell.ip(&format!(
        "link add {near} type veth peer name eth0 netns {}",
        container.name()
    ))?;
    cell.ip(&format!("link set {near} master {bridge} up"))?;
    for command in [
        "link set eth0 up".to_owned(),
        format!("address add 172.21.0.{}/28 dev eth0", net + 2),
        format!("address add fd30:{number}::2/64 dev eth0 nodad"),
        format!("-6 neigh replace fd30:{number}::1 lladdr {mac} dev eth0 nud permanent"),
        format!("route add default via 172.21.0.{}", net + 1),
        format!("-6 route add default via fd30:{number}::1"),
    ] {
        container.ip(&command)?;
    }
    Ok(())
}

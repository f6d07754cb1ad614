//! Leaks that are made by hand, so that it is seen that they would be seen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use cell_lab::process::run_with_input;
use cell_lab::resolver;
use cell_lab::topology::GATEWAY;
use http::Method;
use serde_json::json;

use super::Lab;
use super::services::port;
use crate::ear::FIRST_SERVICE;
use crate::key::{Key, Meant, Protocol, RESOLVER, far_host};
use crate::kind::Kind;
use crate::speaker::Speaker;

/// How long a connection is tried that is only to be seen.
const TRIED: Duration = Duration::from_secs(1);

impl Lab<'_> {
    /// Has what comes from devices and services go out by the uplink before anybody judges it, as somebody with root might who wants a leak. The
    /// policy itself nobody can take away, dead or alive as netd may be.
    ///
    /// # Errors
    /// With nft's words.
    pub fn plant(&self) -> Result<()> {
        // A container's packets at the port: where br_netfilter is, those that reach the bridge itself have been judged.
        let ports = (0..self.services.len()).map(|place| format!(", \"{}\"", port(place)));
        let ports: String = ports.collect();
        let rules = format!(
            "table netdev planted {{\nchain in {{\ntype filter hook ingress devices = {{ \"wg0\"{ports} }} priority 0;\n\
             meta protocol ip fwd ip to {} device \"uplink\"\nmeta protocol ip6 fwd ip6 to {} device \"uplink\"\n}}\n}}\n",
            GATEWAY.v4, GATEWAY.v6
        );
        let load = || run_with_input(Command::new("nft").args(["-f", "-"]), &rules);
        self.world.cell.inside(load)?.map(drop)
    }

    /// Leads each peer and each service by the exit so many types after its own, which nobody tells the judge of wrong exits. They
    /// speak to other targets, as after each move: what goes on between the same hosts stays cut.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn lead(&mut self, types: usize, speakers: &[Speaker]) -> Result<()> {
        for place in 0..Kind::ALL.len() {
            let next = (place + types) % Kind::ALL.len();
            let (id, kind) = (self.ids[next].clone(), Kind::ALL[next]);
            let peer = format!("/api/connectivity/peers/{}/exit", self.peers[place].name);
            self.ask(
                Method::PUT,
                &peer,
                &json!({"connection_id": id, "fail_open": false}),
            )?
            .expect(200)?;
            let service = format!("/api/connectivity/services/{}/exit", self.services[place].name);
            let body = json!({"connection_id": id, "fail_open": false});
            self.ask(Method::PUT, &service, &body)?.expect(200)?;
            speakers[place].assign(Meant::For(kind));
            speakers[FIRST_SERVICE + place].assign(Meant::Service(kind));
        }
        Ok(())
    }

    /// Undoes what is planted.
    ///
    /// # Errors
    /// With nft's words.
    pub fn unplant(&self) -> Result<()> {
        self.by_hand("nft", "delete table netdev planted")
    }

    /// Asks the ISP's resolver from the cell itself what bound peers ask, as its relay must not, by UDP; and by TCP, as it does for
    /// nobody by this way.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn plant_questions(&self) -> Result<()> {
        let bound = |key: &Key| key.protocol == Protocol::Dns && key.meant != Meant::Direct;
        let [v4, v6] = far_host(RESOLVER).each();
        self.world.cell.inside(|| -> Result<()> {
            for key in Key::all().filter(bound) {
                let any: IpAddr = if key.v6 {
                    Ipv6Addr::UNSPECIFIED.into()
                } else {
                    Ipv4Addr::UNSPECIFIED.into()
                };
                let to = if key.v6 { v6 } else { v4 };
                // In capitals, as a relay may have it.
                let name = key.name('z', 0).to_uppercase();
                UdpSocket::bind((any, 0))?.send_to(&resolver::question(1, &name)?, (to, 53))?;
            }
            for to in [v4, v6] {
                TcpStream::connect_timeout(&(to, 53).into(), TRIED)?;
            }
            Ok(())
        })?
    }
}

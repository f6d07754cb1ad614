//! Asks the authority of the cell's services, which is told which peer asks.

use std::net::IpAddr;

use cell_egress_core::dns::address::Resolver;
use cell_egress_core::dns::proxied::{Over, header};

use super::socket::Via;
use super::upstream::{NoAnswer, TCP_PATIENCE, UDP_PATIENCE, by_tcp, by_udp, in_time};
use super::wire::{Asked, Outgoing, Reply};

/// What the authority says to `peer`.
///
/// # Errors
/// [`NoAnswer`]; nobody else is asked.
pub async fn ask(at: Resolver, peer: IpAddr, asked: &Asked) -> Result<Reply, NoAnswer> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|_| NoAnswer::Unspeakable)?;
    let outgoing = Outgoing::new(asked, u16::from_be_bytes(id)).ok_or(NoAnswer::Unspeakable)?;
    let [udp, tcp] = [Over::Udp, Over::Tcp].map(|over| header(over, peer, at.address()));
    match in_time(UDP_PATIENCE, by_udp(Via::Routes, at, &outgoing, &udp)).await? {
        Some(reply) => Ok(reply),
        None => in_time(TCP_PATIENCE, by_tcp(Via::Routes, at, &outgoing, &tcp)).await,
    }
}

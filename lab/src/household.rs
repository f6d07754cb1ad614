//! A cell that somebody has claimed, and devices in it.

use anyhow::Result;
use serde_json::{Value, json};
use wireguard_control::KeyPair;

use crate::cell::Cell;
use crate::quick;
use crate::rest::{Rest, Setup};
use crate::stock::Client;
use crate::topology::{CELL, Device};

/// The administrator.
pub const USER: &str = "ada";
/// Theirs.
pub const PASSWORD: &str = "correct horse battery staple";
/// The cell's domain.
pub const DOMAIN: &str = "casa.cell";
/// The cell's own address in the VPN.
pub const CELL_IN_VPN: &str = "10.67.0.1";

/// Claims the cell; signed in as the administrator.
///
/// # Errors
/// At the first step that is refused.
pub fn claimed(cell: &Cell) -> Result<Rest> {
    let mut rest = cell.rest();
    rest.setup(&Setup {
        claim_token: cell.claim_token()?,
        cell_name: "casa".into(),
        vpn_range_ipv4: "10.67.0.0/24".into(),
        vpn_range_ipv6: "fd67::/64".into(),
        endpoint_host: CELL.v4.to_string(),
        username: USER.into(),
        password: PASSWORD.into(),
    })?;
    Ok(rest)
}

/// Adds the device as this peer, whose key it makes itself, and brings its tunnel up.
///
/// # Errors
/// When the peer is refused, or there is no handshake.
pub fn join<'a>(rest: &mut Rest, device: &'a Device, mut peer: Value) -> Result<Client<'a>> {
    let keys = KeyPair::generate();
    peer["public_key"] = json!(keys.public.to_base64());
    let (_, file) = rest.add_peer(&peer)?;
    let file = quick::with_private_key(&file, &keys.private.to_base64());
    let client = Client::up(&device.namespace, &file)?;
    client.wait_for_handshake()?;
    Ok(client)
}

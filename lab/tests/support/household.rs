//! A cell that somebody has claimed, and the first device in it.

use anyhow::Result;
use cell_lab::cell::Cell;
use cell_lab::quick;
use cell_lab::rest::{Rest, Setup};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device};
use serde_json::{Value, json};
use wireguard_control::KeyPair;

/// The administrator.
pub const USER: &str = "ada";
/// Theirs.
pub const PASSWORD: &str = "correct horse battery staple";

/// Claims the cell; signed in as the administrator.
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
pub fn join<'a>(rest: &mut Rest, device: &'a Device, mut peer: Value) -> Result<Client<'a>> {
    let keys = KeyPair::generate();
    peer["public_key"] = json!(keys.public.to_base64());
    let (_, file) = rest.add_peer(&peer)?;
    let file = quick::with_private_key(&file, &keys.private.to_base64());
    let client = Client::up(&device.namespace, &file)?;
    client.wait_for_handshake()?;
    Ok(client)
}

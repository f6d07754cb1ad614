//! WireGuard by the stock tools.

use anyhow::Result;
use cell_lab::stock::Client;
use cell_lab::topology::Device;
use serde_json::{Value, json};
use wireguard_control::{Key, KeyPair};

use super::Server;

const PORT: u16 = 51_999;

/// Its tunnel, and the keys of both sides.
pub struct Wireguard<'a> {
    device: &'a Device,
    server: KeyPair,
    near: KeyPair,
    tunnel: Option<Client<'a>>,
}

impl<'a> Wireguard<'a> {
    /// Makes keys.
    pub fn new(device: &'a Device) -> Self {
        Wireguard {
            device,
            server: KeyPair::generate(),
            near: KeyPair::generate(),
            tunnel: None,
        }
    }

    fn near_file(&self, private: &str, host: u8) -> String {
        format!(
            "[Interface]\nPrivateKey = {private}\nAddress = 172.20.0.{host}/32, fd20::{host}/128\nMTU = 1380\n\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {}:{PORT}\nPersistentKeepalive = 1\n",
            self.server.public.to_base64(),
            self.device.address.v4,
        )
    }

    fn own_file(&self) -> String {
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\nAddress = 172.21.0.1/32, fd21::1/128\n\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 172.20.0.2/32, fd20::2/128\n",
            self.server.private.to_base64(),
            self.near.public.to_base64(),
        )
    }
}

impl Server for Wireguard<'_> {
    fn up(&mut self) -> Result<()> {
        self.tunnel = Some(Client::up(&self.device.namespace, &self.own_file())?);
        Ok(())
    }

    fn down(&mut self) {
        self.tunnel = None;
    }

    /// Only the first has the key that the far end knows: another device with the same key would take the session away from the
    /// first.
    fn import(&self, is_first: bool) -> Result<Option<Value>> {
        let (near, host) = if is_first {
            (self.near.private.to_base64(), 2)
        } else {
            (Key::generate_private().to_base64(), 3)
        };
        Ok(Some(json!({"file": self.near_file(&near, host)})))
    }
}

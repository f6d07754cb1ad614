//! OpenVPN by the stock program.

use anyhow::Result;
use cell_lab::openvpn_server::{OpenvpnServer, PORT, V6, crash};
use cell_lab::process::Process;
use cell_lab::topology::Device;
use serde_json::{Value, json};

use super::Server;

/// It, with the keys of both sides.
pub struct Openvpn<'a> {
    device: &'a Device,
    server: OpenvpnServer,
    running: Option<Process>,
}

impl<'a> Openvpn<'a> {
    /// Makes keys.
    ///
    /// # Errors
    /// With the words of openssl or openvpn.
    pub fn new(device: &'a Device) -> Result<Self> {
        Ok(Openvpn {
            device,
            server: OpenvpnServer::new()?,
            running: None,
        })
    }
}

impl Server for Openvpn<'_> {
    fn up(&mut self) -> Result<()> {
        // A second connection has the certificate of the first.
        let lines = format!("{V6}proto udp\nduplicate-cn\npush \"redirect-gateway def1 ipv6\"\n");
        self.running = Some(self.server.start(&self.device.namespace, &lines)?);
        Ok(())
    }

    fn down(&mut self) {
        if let Some(Err(error)) = self.running.take().map(crash) {
            eprintln!("{error:#}");
        }
    }

    fn import(&self, _is_first: bool) -> Result<Option<Value>> {
        let at = (self.device.address.v4, PORT).into();
        Ok(Some(json!({"file": self.server.profile(at, "proto udp\n")?})))
    }
}

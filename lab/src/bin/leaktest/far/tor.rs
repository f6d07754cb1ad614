//! A private Tor network. Its exit relay is the far end; the cell's own Tor is told of this network instead of the world's.

use anyhow::Result;
use cell_lab::topology::Device;
use cell_lab::tor_network::TorNetwork;
use cell_launch::house::Daemon;
use serde_json::Value;

use super::Server;

/// It, and where its exit relay is.
pub struct Tor<'a> {
    device: &'a Device,
    network: TorNetwork,
}

impl<'a> Tor<'a> {
    /// Starts the network.
    ///
    /// # Errors
    /// With the words of the program that failed.
    pub fn new(device: &'a Device, authorities: &'a Device) -> Result<Self> {
        let network = TorNetwork::start(authorities, device)?;
        Ok(Tor { device, network })
    }
}

impl Server for Tor<'_> {
    fn up(&mut self) -> Result<()> {
        self.network.exit_up(self.device)
    }

    fn down(&mut self) {
        self.network.exit_down();
    }

    fn import(&self, _is_first: bool) -> Result<Option<Value>> {
        Ok(None)
    }

    fn told_to_the_cell(&self) -> Option<(Daemon, String)> {
        Some((Daemon::Tor, self.network.membership().to_owned()))
    }
}

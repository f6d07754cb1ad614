//! Proxies that ask for a password: microsocks and tinyproxy.

use std::process::Command;

use anyhow::Result;
use cell_lab::topology::Device;
use serde_json::{Value, json};

use super::Server;
use super::program::{PASSWORD, Program, USER, folder};

const SOCKS_PORT: u16 = 1080;
const HTTP_PORT: u16 = 3128;

/// microsocks.
pub struct Socks5<'a> {
    device: &'a Device,
    running: Option<Program>,
}

impl<'a> Socks5<'a> {
    /// Does not run yet.
    pub fn new(device: &'a Device) -> Self {
        let running = None;
        Socks5 { device, running }
    }
}

impl Server for Socks5<'_> {
    fn up(&mut self) -> Result<()> {
        let mut command = Command::new("microsocks");
        let (address, port) = (self.device.address.v4.to_string(), SOCKS_PORT.to_string());
        command.args(["-i", &address, "-p", &port, "-u", USER, "-P", PASSWORD]);
        self.running = Some(Program::start(self.device, "microsocks", SOCKS_PORT, &command)?);
        Ok(())
    }

    fn down(&mut self) {
        self.running = None;
    }

    fn import(&self, _is_first: bool) -> Result<Option<Value>> {
        let at = format!("{}:{SOCKS_PORT}", self.device.address.v4);
        Ok(Some(json!({"url": format!("socks5://{USER}:{PASSWORD}@{at}")})))
    }
}

/// tinyproxy.
pub struct HttpProxy<'a> {
    device: &'a Device,
    folder: tempfile::TempDir,
    running: Option<Program>,
}

impl<'a> HttpProxy<'a> {
    /// Writes its configuration.
    ///
    /// # Errors
    /// As write(2).
    pub fn new(device: &'a Device) -> Result<Self> {
        let folder = folder()?;
        let address = device.address.v4;
        let text = format!(
            "Listen {address}\nPort {HTTP_PORT}\nTimeout 600\nMaxClients 1000\nBasicAuth {USER} {PASSWORD}\nLogLevel Error\n"
        );
        std::fs::write(folder.path().join("tinyproxy"), text)?;
        let running = None;
        Ok(HttpProxy {
            device,
            folder,
            running,
        })
    }
}

impl Server for HttpProxy<'_> {
    fn up(&mut self) -> Result<()> {
        let mut command = Command::new("tinyproxy");
        command
            .arg("-d")
            .arg("-c")
            .arg(self.folder.path().join("tinyproxy"));
        self.running = Some(Program::start(self.device, "tinyproxy", HTTP_PORT, &command)?);
        Ok(())
    }

    fn down(&mut self) {
        self.running = None;
    }

    fn import(&self, _is_first: bool) -> Result<Option<Value>> {
        let at = format!("{}:{HTTP_PORT}", self.device.address.v4);
        Ok(Some(json!({"url": format!("http://{USER}:{PASSWORD}@{at}")})))
    }
}

//! The far ends of exits: servers that people have, each in a namespace of its own behind the ISP, with an internet of its own
//! behind it. A type of exit is a file here that implements [`Server`], and a line in [`server`].

mod openvpn;
mod program;
mod proxy;
mod ssh;
mod tor;
mod wireguard;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cell_lab::topology::Device;
use cell_launch::house::Daemon;
use serde_json::Value;

use crate::ear::{Ear, SPEAKERS};
use crate::isp;
use crate::key::{Meant, RESOLVER, far_host};
use crate::kind::Kind;
use crate::said::now;
use crate::ways::Ways;

/// What one type of far end is.
pub trait Server {
    /// Starts it, as the one that it was.
    ///
    /// # Errors
    /// With its output.
    fn up(&mut self) -> Result<()>;

    /// Ends it as a crash would: its tunnel is gone, its connections break.
    fn down(&mut self);

    /// What a person gives the cell to use it, if anything. Where `is_first` is not set, a second connection beside the first.
    ///
    /// # Errors
    /// When a file of it cannot be read.
    fn import(&self, is_first: bool) -> Result<Option<Value>>;

    /// Lines for the policy of a daemon of the cell, without which the cell would look for it in the real world.
    fn told_to_the_cell(&self) -> Option<(Daemon, String)> {
        None
    }
}

/// Makes the keys and files of a type's server.
fn server<'a>(kind: Kind, device: &'a Device, helper: &'a Device) -> Result<Box<dyn Server + 'a>> {
    Ok(match kind {
        Kind::Wireguard => Box::new(wireguard::Wireguard::new(device)),
        Kind::Socks5 => Box::new(proxy::Socks5::new(device)),
        Kind::HttpProxy => Box::new(proxy::HttpProxy::new(device)?),
        Kind::Ssh => Box::new(ssh::Ssh::new(device)?),
        Kind::Openvpn => Box::new(openvpn::Openvpn::new(device)?),
        Kind::Tor => Box::new(tor::Tor::new(device, helper)?),
    })
}

/// One far end.
pub struct FarEnd<'a> {
    /// Its type.
    pub kind: Kind,
    /// Where it is.
    pub device: &'a Device,
    /// What is heard behind it.
    pub ear: Arc<Ear>,
    server: Box<dyn Server + 'a>,
    ended: Option<Duration>,
}

impl<'a> FarEnd<'a> {
    /// Makes its internet, its keys and files, and starts it; `helper` is a host for what it needs elsewhere, `ways` judge who is
    /// heard behind it.
    ///
    /// # Errors
    /// With the words of the tool that failed.
    pub fn start(kind: Kind, device: &'a Device, helper: &'a Device, ways: &Arc<Ways>) -> Result<Self> {
        let hosts = Meant::all().map(Meant::target).chain([far_host(RESOLVER)]);
        for address in hosts.flat_map(|host| host.each()) {
            device.namespace.add_address("lo", address.into())?;
        }
        let ear = Ear::open(&device.namespace, Some((kind, Arc::clone(ways))))?;
        isp::install_far(&device.namespace)?;
        let mut server = server(kind, device, helper)?;
        server.up()?;
        Ok(FarEnd {
            kind,
            device,
            ear,
            server,
            ended: None,
        })
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.ended.is_none()
    }

    /// See [`Server::down`].
    pub fn down(&mut self) {
        // What comes through while it ends counts.
        let ending = now();
        self.server.down();
        self.ended = Some(ending);
    }

    /// Starts it again, and answers how long after its end the last packet of a device came through it: zero, when none did.
    ///
    /// # Errors
    /// With its output.
    pub fn up(&mut self) -> Result<Option<Duration>> {
        let ended = self.ended.take();
        let last = ended.map(|ended| {
            let heard = (0..SPEAKERS).filter_map(|speaker| self.ear.heard_after(speaker, ended));
            heard.max().unwrap_or_default()
        });
        self.server.up()?;
        Ok(last)
    }

    /// See [`Server::import`].
    ///
    /// # Errors
    /// When a file of it cannot be read.
    pub fn import(&self, is_first: bool) -> Result<Option<Value>> {
        self.server.import(is_first)
    }

    /// See [`Server::told_to_the_cell`].
    pub fn told_to_the_cell(&self) -> Option<(Daemon, String)> {
        self.server.told_to_the_cell()
    }
}

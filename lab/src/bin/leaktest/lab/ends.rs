//! What runs ends and comes back: far ends and their links, and daemons of the cell.

use anyhow::{Context, Result};
use cell_lab::process::until;
use nix::sys::signal::Signal;

use super::{Lab, PATIENCE};
use crate::kind::Kind;

impl Lab<'_> {
    /// One at a time, or nothing would be carried most of the time. Answers the type of what went down; none: one came back.
    pub(super) fn far_end(&mut self, kind: Kind) -> Result<Option<Kind>> {
        if let Some(place) = self.far.iter().position(|far| !far.is_up()) {
            self.bring_up(place)?;
            return Ok(None);
        }
        self.far[kind.index()].down();
        Ok(Some(kind))
    }

    pub(super) fn bring_up(&mut self, place: usize) -> Result<()> {
        let far = &mut self.far[place];
        if let Some(last) = far.up()? {
            self.times.after_end.push((far.kind, last));
        }
        Ok(())
    }

    /// Answers as [`Lab::far_end`].
    pub(super) fn far_link(&mut self, kind: Kind) -> Result<Option<Kind>> {
        let cut = self.linked.iter().position(|linked| !linked);
        let place = cut.unwrap_or(kind.index());
        let to = if self.linked[place] { "down" } else { "up" };
        let port = self.far[place].device.address.v4.octets()[3];
        self.world.internet.ip(&format!("link set p{port} {to}"))?;
        self.linked[place] = !self.linked[place];
        Ok((!self.linked[place]).then_some(kind))
    }

    pub(super) fn daemon(&mut self, name: &'static str, signal: Signal) -> Result<()> {
        self.cell.end_daemon(name, signal)?;
        if name == "wg" {
            self.reconnect()?;
        }
        Ok(())
    }

    /// Devices begin new sessions at once; a client that gets no answer would wait up to 15 s, and say nothing meanwhile.
    pub(super) fn reconnect(&mut self) -> Result<()> {
        self.converged()?;
        for peer in &self.peers {
            peer.client.configure(&peer.file)?;
        }
        for peer in &self.peers {
            // A session that is not there in time, as on a machine that is busy with other things, is begun anew.
            until(PATIENCE, "a handshake", || {
                let begun = peer.client.wait_for_handshake();
                begun.or_else(|_| peer.client.configure(&peer.file)).ok()?;
                peer.client.wait_for_handshake().ok()
            })
            .context(peer.name.clone())?;
        }
        Ok(())
    }
}

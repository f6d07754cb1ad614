//! What runs ends and comes back: far ends and their links, and daemons of the cell.

use std::fs;

use anyhow::{Context, Result};
use cell_lab::process::{pid, until};
use nix::sys::signal::{Signal, kill};

use super::{Lab, PATIENCE};
use crate::back::Part;
use crate::ear::SPEAKERS;
use crate::kind::Kind;
use crate::said::now;

impl Lab<'_> {
    /// One at a time, or nothing would be carried most of the time. Answers the type of what went down; none: one came back.
    pub(super) fn far_end(&mut self, kind: Kind) -> Result<Option<Kind>> {
        if let Some(place) = self.far.iter().position(|far| !far.is_up()) {
            self.bring_up(place)?;
            return Ok(None);
        }
        self.far[kind.index()].down();
        self.back.ended(Part::FarEnd, kind);
        self.note_cut(kind);
        Ok(Some(kind))
    }

    pub(super) fn bring_up(&mut self, place: usize) -> Result<()> {
        let far = &mut self.far[place];
        if let Some(last) = far.up()? {
            self.times.after_end.push((far.kind, last));
            self.back.may_carry(Part::FarEnd, far.kind, now());
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
        match self.linked[place] {
            true => self.back.may_carry(Part::Link, Kind::ALL[place], now()),
            false => self.back.ended(Part::Link, Kind::ALL[place]),
        }
        self.note_cut(Kind::ALL[place]);
        Ok((!self.linked[place]).then_some(kind))
    }

    fn note_cut(&mut self, kind: Kind) {
        let moves = self.peers.iter_mut().filter_map(|peer| peer.moved.as_mut());
        for one in moves.filter(|one| one.from == kind) {
            one.cut = true;
        }
    }

    pub(super) fn daemon(&mut self, name: &'static str, signal: Signal) -> Result<()> {
        self.cell.end_daemon(name, signal)?;
        if name == "wg" {
            self.reconnect()?;
        }
        Ok(())
    }

    /// The programs below cell-openvpn. Answers the type where there was one: it may just wait before the next.
    pub(super) fn program(&mut self, signal: Signal) -> Result<Option<Kind>> {
        let daemon = self.cell.daemon("openvpn")?;
        let mut ended = Vec::new();
        for program in children(daemon)? {
            if kill(pid(program)?, signal).is_ok() {
                ended.push(program);
            }
        }
        if ended.is_empty() {
            return Ok(None);
        }
        self.back.ended(Part::Program, Kind::Openvpn);
        self.ended = ended;
        Ok(Some(Kind::Openvpn))
    }

    /// Keeps what came back and carries somebody again.
    pub fn look_what_is_back(&mut self) {
        // One that was asked to end may carry something until it has; where the daemon itself is dead nothing is known.
        let programs = match self.ended.is_empty() {
            true => Vec::new(),
            false => {
                let daemon = self.cell.daemon("openvpn");
                daemon.and_then(children).unwrap_or_default()
            }
        };
        if !programs.is_empty() && !programs.iter().any(|one| self.ended.contains(one)) {
            self.ended.clear();
            self.back.may_carry(Part::Program, Kind::Openvpn, now());
        }
        let far = &self.far;
        self.back.look(|kind, since| {
            let ear = &far[kind.index()].ear;
            (0..SPEAKERS).any(|speaker| ear.said_after(speaker, since).is_some())
        });
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

/// The processes that one has begun itself (proc_pid_task_children(5)); none: it has gone.
fn children(of: u32) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for thread in fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten() {
        let list = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        for id in list.split_whitespace() {
            all.push(id.parse()?);
        }
    }
    Ok(all)
}

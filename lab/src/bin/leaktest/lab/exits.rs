//! What a user does: connections, and which of them carries whom.

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::{Lab, Moved, Peer};
use crate::key::Meant;
use crate::kind::Kind;
use crate::said::now;
use crate::speaker::Speaker;

const CONNECTIONS: &str = "/api/connectivity/connections";

/// What is said of failing open with a connection of this type, of this peer or service: that it fails closed; and of each second one
/// nothing, where its type does so by itself, as all do but Tor.
pub(super) fn own_word(place: usize, kind: Kind) -> Value {
    if place.is_multiple_of(2) || kind == Kind::Tor {
        json!(false)
    } else {
        Value::Null
    }
}

impl Lab<'_> {
    pub(super) fn create(&mut self, kind: Kind, name: &str, is_first: bool) -> Result<String> {
        let mut body = json!({"name": name, "type": kind.api_type()});
        if let Some(import) = self.far[kind.index()].import(is_first)? {
            body["import"] = import;
        }
        let answer = self.ask(Method::POST, CONNECTIONS, &body)?;
        // A daemon that died between the change and the answer leaves the change made.
        if answer.code() == "CONNECTION_EXISTS" && !is_first {
            return self.named(name);
        }
        let id = answer.expect(201)?["connection"]["id"]
            .as_str()
            .map(str::to_owned);
        id.context("a connection without an id")
    }

    fn named(&mut self, name: &str) -> Result<String> {
        let all = self.ask(Method::GET, CONNECTIONS, &Value::Null)?.expect(200)?;
        let all = all["connections"].as_array().context("a list of connections")?;
        let one = all
            .iter()
            .find(|one| one["name"] == name)
            .context("no such connection")?;
        one["id"].as_str().map(str::to_owned).context("an id")
    }

    pub(super) fn assign(&mut self, peer: usize, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        let id = self.ids[kind.index()].clone();
        self.bind(peer, &id, kind)?;
        self.peers[peer].on_spare = false;
        speakers[peer].assign(Meant::For(kind));
        Ok(())
    }

    fn bind(&mut self, peer: usize, id: &str, kind: Kind) -> Result<()> {
        self.note_move(peer);
        let fallback = self.peers[peer].fallback;
        let own = self.carries(id, kind).then_some(kind);
        let ways: Vec<_> = own.into_iter().chain(fallback).collect();
        self.ways.may_go(peer, &ways);
        let path = format!("/api/connectivity/peers/{}/exit", self.peers[peer].name);
        let word = own_word(peer, kind);
        let body = json!({"connection_id": id, "fail_open": word});
        let bound = self.ask(Method::PUT, &path, &body)?.expect(200)?;
        let said = now();
        ensure!(bound["exit_connection_id"] == id, "{bound}");
        ensure!(
            bound["fail_open"] == word,
            "it is not fail-closed as it was: {bound}"
        );
        let fallback = self.kind_of(&bound["fallback_connection_ids"])?;
        let ways: Vec<_> = own.into_iter().chain(fallback).collect();
        self.ways.has(peer, &ways);
        let before = self.peers[peer].carrier.filter(|before| own != Some(*before));
        let cut = before.is_some_and(|before| !self.is_there(before));
        let peer = &mut self.peers[peer];
        peer.exit = Some(kind);
        (peer.carrier, peer.fallback) = (own, fallback);
        // With something that stands in for it, it may be carried by that at any time.
        peer.moved = before.filter(|_| peer.fallback.is_none()).map(|from| Moved {
            from,
            acknowledged: said,
            cut,
        });
        Ok(())
    }

    /// The type of the one connection in a list of at most one.
    fn kind_of(&self, ids: &Value) -> Result<Option<Kind>> {
        let ids = ids.as_array().context("a list of connections")?;
        let Some(first) = ids.first() else {
            return Ok(None);
        };
        let place = self.ids.iter().position(|id| first == id);
        ensure!(ids.len() == 1, "more than one stands in: {ids:?}");
        Ok(Some(Kind::ALL[place.context("a connection of ours")?]))
    }

    /// Whether this connection of that type can carry anything: a second one of WireGuard cannot.
    fn carries(&self, id: &str, kind: Kind) -> bool {
        kind != Kind::Wireguard || self.ids.get(kind.index()).is_some_and(|first| first == id)
    }

    /// Before the peer is bound anew, how long its last exit carried something of it after it had been bound elsewhere, and what it
    /// said after that was in force.
    pub fn note_move(&mut self, peer: usize) {
        let Some(Moved {
            from,
            acknowledged,
            cut,
        }) = self.peers[peer].moved.take()
        else {
            return;
        };
        let ear = &self.far[from.index()].ear;
        let heard = |moment| (from, ear.heard_after(peer, moment).unwrap_or_default());
        let left = self.ways.left(peer, from);
        // Where it is not in force yet, it has taken so long already.
        let in_force = left.unwrap_or_else(now).saturating_sub(acknowledged);
        self.times.until_force.push((from, in_force));
        if !cut {
            self.times.after_move.push(heard(acknowledged));
            self.times.in_flight.extend(left.map(heard));
        }
        let said = left.map(|left| ear.said_after(peer, left).unwrap_or_default());
        self.times.said_after.extend(said.map(|said| (from, said)));
    }

    /// Answers the type of what was created; none: there was one already, which the peer is given.
    pub(super) fn create_spare(
        &mut self,
        kind: Kind,
        peer: usize,
        speakers: &[Speaker],
    ) -> Result<Option<Kind>> {
        let is_new = self.spare.is_none();
        if is_new {
            self.spare = Some((self.create(kind, "spare", false)?, kind));
        }
        let Some((id, kind)) = self.spare.clone() else {
            bail!("no spare connection");
        };
        self.bind(peer, &id, kind)?;
        self.peers[peer].on_spare = true;
        speakers[peer].assign(Meant::For(kind));
        Ok(is_new.then_some(kind))
    }

    /// Answers the type of what was deleted and its peers moved from; none: nobody had it, or there was nothing but what is in use, and
    /// that was asked for.
    pub(super) fn delete_spare(&mut self, speakers: &[Speaker]) -> Result<Option<Kind>> {
        let Some((id, kind)) = self.spare.clone() else {
            self.delete_used(Kind::Wireguard, speakers)?;
            return Ok(None);
        };
        let all = 0..self.peers.len();
        let its: Vec<usize> = all.filter(|peer| self.peers[*peer].on_spare).collect();
        for peer in &its {
            self.assign(*peer, kind, speakers)?;
        }
        let answer = self.ask(Method::DELETE, &format!("{CONNECTIONS}/{id}"), &Value::Null)?;
        ensure!(
            matches!(answer.status, 200 | 204 | 404),
            "deleting what nobody uses: {} {}",
            answer.status,
            answer.code()
        );
        self.spare = None;
        Ok((!its.is_empty()).then_some(kind))
    }

    /// Somebody uses it: if nobody does, the first peer is given it first.
    pub(super) fn delete_used(&mut self, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        let uses = |peer: &Peer| peer.exit == Some(kind) && !peer.on_spare;
        if !self.peers.iter().any(uses) {
            self.assign(0, kind, speakers)?;
        }
        let path = format!("{CONNECTIONS}/{}", self.ids[kind.index()]);
        let answer = self.ask(Method::DELETE, &path, &Value::Null)?;
        ensure!(answer.status == 409, "{} {}", answer.status, answer.code());
        Ok(())
    }

    /// Another exit stands in for the peer's from now on; none: nothing does any more. Of a peer that is bound to that exit itself, or
    /// has it for that already, it is the next one. Answers which stands in.
    pub(super) fn change_fallback(&mut self, peer: usize, kind: Option<Kind>) -> Result<Option<Kind>> {
        let Some(kind) = kind else {
            self.set_fallback(peer, None)?;
            return Ok(None);
        };
        let bound = Kind::ALL.len();
        let mut from_here = (0..bound).map(|more| (peer + more) % bound);
        let other = from_here.find(|place| {
            let peer = &self.peers[*place];
            peer.exit != Some(kind) && peer.fallback != Some(kind)
        });
        let Some(peer) = other else {
            return Ok(None);
        };
        self.set_fallback(peer, Some(kind))?;
        Ok(Some(kind))
    }

    pub(super) fn set_fallback(&mut self, peer: usize, kind: Option<Kind>) -> Result<()> {
        let ids: Vec<_> = kind.iter().map(|kind| &self.ids[kind.index()]).collect();
        let own = self.peers[peer].carrier;
        let ways: Vec<_> = own.into_iter().chain(kind).collect();
        self.ways.may_go(peer, &ways);
        let path = format!("/api/connectivity/peers/{}/fallbacks", self.peers[peer].name);
        let body = json!({"connection_ids": ids});
        let changed = self.ask(Method::PUT, &path, &body)?.expect(200)?;
        ensure!(
            changed["fallback_connection_ids"] == body["connection_ids"],
            "{changed}"
        );
        self.ways.has(peer, &ways);
        self.peers[peer].fallback = kind;
        self.peers[peer].moved = None;
        Ok(())
    }
}

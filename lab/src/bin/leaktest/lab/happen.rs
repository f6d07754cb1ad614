//! What of all that may happen is done by what.

use anyhow::{Result, bail};

use super::Lab;
use crate::kind::Kind;
use crate::speaker::Speaker;
use crate::transition::Transition;

impl Lab<'_> {
    /// Lets it happen; the speakers of bound peers learn what they are assigned to. Answers the exit types that it really met: what
    /// is asked of a type may find nothing there to do.
    ///
    /// # Errors
    /// When the cell does not do as it must.
    pub fn happen(&mut self, transition: Transition, speakers: &[Speaker]) -> Result<Vec<Kind>> {
        let whose = transition.whose();
        let met = match transition {
            Transition::Swap(one, kind) | Transition::SwapServices(one, kind) => {
                return self.swap(whose, one, kind, speakers);
            }
            Transition::Assign(one, kind) | Transition::Service(one, kind) => {
                self.give(whose, one, kind, speakers)
            }
            Transition::Create(kind, peer) => self.create_spare(kind, peer, speakers),
            Transition::Delete => self.delete_spare(speakers),
            Transition::Fallback(peer, kind) => self.change_fallback(peer, kind),
            Transition::FarEnd(kind) => self.far_end(kind),
            Transition::FarLink(kind) => self.far_link(kind),
            Transition::Interface(kind) => Ok(self.flap_interface(kind).then_some(kind)),
            Transition::NoInterface(kind) => Ok(self.no_interface(kind).then_some(kind)),
            Transition::Program(signal) => self.program(signal),
            Transition::DeleteUsed(kind) => self.delete_used(kind, speakers).map(|()| Some(kind)),
            Transition::Bridge(service) => self.flap_bridge(service).map(|()| None),
            _ => self.happen_to_all(transition).map(|()| None),
        };
        met.map(Vec::from_iter)
    }

    fn happen_to_all(&mut self, transition: Transition) -> Result<()> {
        match transition {
            Transition::NoTunnel => self.no_tunnel(),
            Transition::Uplink => self.flap_uplink(),
            Transition::Flush => self.flush(),
            Transition::NoRules => self.no_rules(),
            Transition::NoRoutes => self.no_routes(),
            Transition::ForeignRule => self.foreign_rule(),
            Transition::Conntrack => self.no_flows(),
            Transition::Daemon(name, signal) => self.daemon(name, signal),
            Transition::Headless => self.headless(),
            Transition::FlushHeadless => self.flush_headless(),
            Transition::Docker(signal) => self.docker.restart(signal),
            other => bail!("{other} does not happen to the whole machine"),
        }
    }
}

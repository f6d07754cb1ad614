//! Becoming one of Cell's users: for whoever starts daemons, and for tests that must not be root.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::capabilities::drop_bounding;

/// A user to become, by ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids; all others are given up.
    pub groups: Vec<u32>,
}

impl Identity {
    /// Turns this thread from root into the user, with `kept` in the permitted, effective, inheritable, ambient and
    /// bounding sets and nothing else in any, as systemd does for `User=`, `AmbientCapabilities=` and
    /// `CapabilityBoundingSet=`. What is kept survives execve(2). Allocates, so between fork(2) and execve(2) it is only
    /// for a process that had one thread.
    ///
    /// # Errors
    /// When the process lacks CAP_SETUID, CAP_SETGID or CAP_SETPCAP, or a kept capability.
    pub fn assume(&self, kept: &[Capability]) -> io::Result<()> {
        let kept: CapsHashSet = kept.iter().copied().collect();
        drop_bounding(&kept).map_err(io::Error::other)?;
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups)?;
        let gid = Gid::from_raw(self.gid);
        setresgid(gid, gid, gid)?;
        // Without it the change of uid empties the permitted set.
        prctl::set_keepcaps(true)?;
        let uid = Uid::from_raw(self.uid);
        setresuid(uid, uid, uid)?;
        prctl::set_keepcaps(false)?;
        self.take(&kept).map_err(io::Error::other)
    }

    /// Order matters: ambient ⊆ inheritable and permitted, effective ⊆ permitted (capabilities(7)).
    fn take(&self, kept: &CapsHashSet) -> Result<(), caps::errors::CapsError> {
        caps::clear(None, CapSet::Ambient)?;
        caps::set(None, CapSet::Effective, kept)?;
        caps::set(None, CapSet::Permitted, kept)?;
        caps::set(None, CapSet::Inheritable, kept)?;
        kept.iter()
            .try_for_each(|capability| caps::raise(None, CapSet::Ambient, *capability))
    }
}

//! Capabilities: exactly the kept ones permitted and effective, nothing that could come back.
//!
//! The inheritable and ambient sets act only through execve(2), which the sandbox refuses. They are emptied,
//! where whoever started us lets that be; the inheritable set may hold the kept ones. A process that runs programs passes
//! the kept ones on to them.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};

use crate::status::SelfStatus;

/// Why the capability sets are not what they must be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CapabilityError {
    /// A system call failed.
    #[error(transparent)]
    Change(#[from] caps::errors::CapsError),
    /// The outcome cannot be read back.
    #[error("/proc/self/status")]
    ReadBack(#[source] io::Error),
    /// A capability that the daemon needs was not given to it.
    #[error("{0} is needed and not permitted: start the daemon by its unit or by `make run`")]
    NotGiven(Capability),
    /// More is left than may be.
    #[error("the {set} set is {found:#x} and may hold {allowed:#x} at most")]
    Left {
        /// Which set.
        set: &'static str,
        /// Its mask.
        found: u64,
        /// The mask it may have.
        allowed: u64,
    },
}

/// Gives up everything but `kept`, and reads back that it is so.
/// `passed_on`: programs that it starts have them too.
pub(crate) fn keep_only(kept: &[Capability], passed_on: bool) -> Result<(), CapabilityError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    if let Some(lacking) = kept.iter().find(|capability| !permitted.contains(capability)) {
        return Err(CapabilityError::NotGiven(*lacking));
    }
    let kept: CapsHashSet = kept.iter().copied().collect();
    // Only CAP_SETPCAP shrinks the bounding set. Without it whoever started us has done so, or the check below tells.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        drop_bounding(&kept)?;
    }
    if !passed_on {
        caps::clear(None, CapSet::Ambient)?;
    }
    // The units' filter refuses capset(2) (`@privileged`), and they give exact sets: no call where nothing would change. What
    // they give is in the inheritable set too, and may stay there: `verify` holds it to the kept ones.
    let given = SelfStatus::read().map_err(CapabilityError::ReadBack)?;
    let mask = mask(&kept);
    if passed_on {
        pass_on(&kept, mask, &given)?;
    } else if given.inheritable != 0 {
        let cleared = caps::clear(None, CapSet::Inheritable);
        if given.inheritable & !mask != 0 {
            cleared?;
        }
    }
    if given.effective != mask {
        caps::set(None, CapSet::Effective, &kept)?;
    }
    if given.permitted != mask {
        caps::set(None, CapSet::Permitted, &kept)?;
    }
    let ambient = if passed_on { mask } else { 0 };
    verify(
        mask,
        ambient,
        &SelfStatus::read().map_err(CapabilityError::ReadBack)?,
    )
}

/// Units and the launcher have done so; the rest is for who was started otherwise.
fn pass_on(kept: &CapsHashSet, mask: u64, given: &SelfStatus) -> Result<(), CapabilityError> {
    if given.inheritable != mask {
        caps::set(None, CapSet::Inheritable, kept)?;
    }
    if given.ambient != mask {
        caps::set(None, CapSet::Ambient, kept)?;
    }
    Ok(())
}

fn mask(set: &CapsHashSet) -> u64 {
    set.iter()
        .map(Capability::bitmask)
        .fold(0, |mask, bit| mask | bit)
}

/// Removes all but `kept` from the bounding set.
pub(crate) fn drop_bounding(kept: &CapsHashSet) -> Result<(), caps::errors::CapsError> {
    for capability in caps::runtime::thread_all_supported().difference(kept) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    Ok(())
}

/// The kernel's own masks are compared, so that a capability that this program does not know by name counts too.
fn verify(kept: u64, ambient: u64, status: &SelfStatus) -> Result<(), CapabilityError> {
    let sets = [
        ("permitted", status.permitted, kept),
        ("effective", status.effective, kept),
        ("bounding", status.bounding, kept),
        ("inheritable", status.inheritable, kept),
        ("ambient", status.ambient, ambient),
    ];
    match sets.into_iter().find(|(_, found, allowed)| found & !allowed != 0) {
        Some((set, found, allowed)) => Err(CapabilityError::Left { set, found, allowed }),
        None => Ok(()),
    }
}

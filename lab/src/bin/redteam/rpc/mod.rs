//! G: what the daemons' own sockets could be talked into. The control is a call that `cell-api` is meant to make: it
//! shows that the daemon is there and that the attacker is who the daemon takes it for.

use crate::attempt::Outcome;
use crate::stance::Stance;
use crate::target::Target;

/// A line of the list.
pub struct RpcCheck {
    /// As in the list, e.g. `G01`.
    pub id: &'static str,
    /// What is attempted.
    pub what: &'static str,
    /// Open when the daemon answers an ordinary call.
    pub control: fn(&Target) -> Outcome,
    /// As whom the attack is made.
    pub stance: Stance,
    /// The attack.
    pub attack: fn(&Target) -> Outcome,
}

/// All lines.
pub fn checks() -> Vec<RpcCheck> {
    Vec::new()
}

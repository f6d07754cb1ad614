//! The decision. Pure: the same inputs give the same verdict, and only its permits can be executed.

use std::fmt;

use crate::lifecycle;
use crate::model::{Container, ContainerId, ContainerState, Observed, Ownership, ServiceName};
use crate::request::Request;
use crate::verb::{Act, Role, Verb};

/// What the root-owned policy file fixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which containers are this cell's.
    pub ownership: Ownership,
}

/// What becomes of a request.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<A> {
    /// It is done.
    Allow(Permit<A>),
    /// It is not.
    Deny(Reasons),
}

/// Leave to do `A` to one container. Only [`judge`] makes one.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit<A> {
    container: Container,
    act: A,
}

impl<A> Permit<A> {
    /// The id of the container that was judged.
    pub fn id(&self) -> &ContainerId {
        &self.container.id
    }

    /// What is to be done.
    pub fn act(&self) -> &A {
        &self.act
    }

    /// The container as it was when it was judged.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The container as it was when it was judged, and the permit is used up.
    pub fn into_container(self) -> Container {
        self.container
    }
}

/// Why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The verb is not for this caller.
    Role,
    /// Docker described another container than the one that was asked for.
    OtherId,
    /// The owner label is absent or names another cell.
    Owner,
    /// The service label is absent, not a name, or names another service.
    Service,
    /// The container is the cell's, and in a state in which this means nothing.
    State {
        /// What was asked.
        verb: Verb,
        /// Its state.
        state: ContainerState,
    },
}

impl Reason {
    /// Stable code for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Role => "ROLE",
            Reason::OtherId => "OTHER_ID",
            Reason::Owner => "OWNER_LABEL",
            Reason::Service => "SERVICE_LABEL",
            Reason::State { .. } => "STATE",
        }
    }
}

/// At least one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasons(Vec<Reason>);

impl Reasons {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Reason> + '_ {
        self.0.iter().copied()
    }

    /// The state that stands in the way, if nothing else does: only then may the caller be told about it.
    pub fn wrong_state(&self) -> Option<ContainerState> {
        match self.0.as_slice() {
            [Reason::State { state, .. }] => Some(*state),
            _ => None,
        }
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, reason) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            f.write_str(reason.code())?;
        }
        Ok(())
    }
}

/// Why no container stands for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// None is listed.
    #[error("no container of that service is this cell's")]
    None,
    /// Several are; acting on either would be a guess.
    #[error("several containers bear the labels of that service")]
    Several,
}

/// The one container that Docker lists for a service.
pub fn resolve(listed: &[ContainerId]) -> Result<&ContainerId, Unresolved> {
    match listed {
        [] => Err(Unresolved::None),
        [id] => Ok(id),
        [_, _, ..] => Err(Unresolved::Several),
    }
}

/// Decides on `request` from what Docker says of the container `asked`. A state is judged only when the container is the
/// cell's own, so that no refusal tells anything of another.
pub fn judge<A: Act>(
    policy: &Policy,
    role: Role,
    request: &Request<A>,
    asked: &ContainerId,
    observed: &Observed,
) -> Verdict<A> {
    let mut reasons = Vec::new();
    if !A::VERB.is_for(role) {
        reasons.push(Reason::Role);
    }
    if observed.id != *asked {
        reasons.push(Reason::OtherId);
    }
    if !policy.ownership.owns(&observed.labels) {
        reasons.push(Reason::Owner);
    }
    if policy.ownership.service(&observed.labels).as_ref() != Some(request.service()) {
        reasons.push(Reason::Service);
    }
    if reasons.is_empty() && !state_allows(A::VERB, observed.state) {
        reasons.push(Reason::State {
            verb: A::VERB,
            state: observed.state,
        });
    }
    if reasons.is_empty() {
        Verdict::Allow(Permit {
            container: shown(request.service(), observed),
            act: *request.act(),
        })
    } else {
        Verdict::Deny(Reasons(reasons))
    }
}

fn state_allows(verb: Verb, state: ContainerState) -> bool {
    match verb {
        Verb::List | Verb::Show => true,
        Verb::Logs => lifecycle::has_log(state),
        Verb::Stats => lifecycle::has_stats(state),
        Verb::Backup => state != ContainerState::Removing,
        Verb::Start => lifecycle::can_start(state),
        Verb::Stop => lifecycle::can_stop(state),
        Verb::Restart => lifecycle::can_restart(state),
        Verb::Reload => state == ContainerState::Running,
        // Of manifests, not of containers: no act has one of these.
        Verb::PutManifest | Verb::Deploy | Verb::Remove | Verb::Pull => false,
    }
}

/// Field by field, so that a new one of `Observed` is shown only after somebody decided so.
fn shown(service: &ServiceName, observed: &Observed) -> Container {
    Container {
        service: service.clone(),
        id: observed.id.clone(),
        image: crate::logs::printable(&observed.image),
        state: observed.state,
        started_unix_ms: observed.started_unix_ms,
        exit_code: if observed.state == ContainerState::Exited {
            observed.exit_code
        } else {
            0
        },
        health: observed.health,
        restart_count: observed.restart_count,
        memory_limit_bytes: observed.memory_limit_bytes,
    }
}

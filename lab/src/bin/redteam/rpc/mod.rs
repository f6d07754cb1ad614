//! G: what the daemons' own sockets could be talked into. The control is a call that `cell-api` is meant to make: it
//! shows that the daemon is there and that the attacker is who the daemon takes it for.

mod broker;
mod callers;
mod deployments;
mod egress;
#[path = "../../../../../containerd-shim/core/tests/support/expected.rs"]
mod expected;
pub mod iptables;
mod netd;
mod openvpn;
mod raw;
mod vault_certificates;
mod vault_secrets;

use std::time::Duration;

use cell_proto::fault;
use tonic::{Code, Response, Status};

use crate::attempt::Outcome;
use crate::stance::Stance;
use crate::target::Target;

/// How long one line may take.
const DEADLINE: Duration = Duration::from_secs(20);

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
    /// Whether Docker must hear nothing of the attack, and have nothing more after it.
    pub is_quiet: bool,
    /// The attack.
    pub attack: fn(&Target) -> Outcome,
}

/// All lines, those that use up a quota last.
pub fn checks() -> Vec<RpcCheck> {
    [
        callers::checks(),
        callers::exit_checks(),
        vault_secrets::checks(),
        netd::checks(),
        egress::checks(),
        openvpn::checks(),
        broker::checks(),
        deployments::checks(),
        vault_certificates::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A line made as the sandboxed `cell-api`.
fn check(
    id: &'static str,
    what: &'static str,
    control: fn(&Target) -> Outcome,
    attack: fn(&Target) -> Outcome,
) -> RpcCheck {
    RpcCheck {
        id,
        what,
        control,
        stance: Stance::Sandboxed,
        is_quiet: false,
        attack,
    }
}

/// A line of which Docker must hear nothing.
fn quiet(
    id: &'static str,
    what: &'static str,
    control: fn(&Target) -> Outcome,
    stance: Stance,
    attack: fn(&Target) -> Outcome,
) -> RpcCheck {
    RpcCheck {
        stance,
        is_quiet: true,
        ..check(id, what, control, attack)
    }
}

/// Runs one attack on a runtime of its own.
fn run(attack: impl Future<Output = Outcome>) -> Outcome {
    run_within(DEADLINE, attack)
}

/// The same with another deadline: for lines of many calls.
fn run_within(deadline: Duration, attack: impl Future<Output = Outcome>) -> Outcome {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return Outcome::Void(e.to_string()),
    };
    let outcome = runtime.block_on(async { tokio::time::timeout(deadline, attack).await });
    outcome.unwrap_or_else(|_| Outcome::Void("no answer in time".to_owned()))
}

/// Code and reason, e.g. `PermissionDenied/ABOVE_CEILING`.
fn told(status: &Status) -> String {
    match fault::reason(status) {
        Some(reason) => format!("{:?}/{reason}", status.code()),
        None => format!("{:?}", status.code()),
    }
}

/// Whether an ordinary call is answered. A daemon that is away cannot be attacked either.
fn answers<T>(answer: Result<Response<T>, Status>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Open,
        Err(status) if status.code() == Code::Unavailable => Outcome::Void("the daemon is away".to_owned()),
        Err(status) => Outcome::Closed(told(&status)),
    }
}

/// Whether a call was refused, and with one of `codes`: a daemon that is away or broken refuses nothing.
fn refused<T>(answer: Result<Response<T>, Status>, codes: &[Code]) -> Outcome {
    match answer {
        Ok(_) => Outcome::Open,
        Err(status) if codes.contains(&status.code()) => Outcome::Closed(told(&status)),
        Err(status) => Outcome::Void(format!("{}: {}", told(&status), status.message())),
    }
}

/// The worst of several: open before void before closed.
fn worst(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Closed(_) => 0,
        Outcome::Void(_) => 1,
        Outcome::Open => 2,
    };
    outcomes
        .into_iter()
        .max_by_key(rank)
        .unwrap_or_else(|| Outcome::Void("nothing was tried".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_is_away_refuses_nothing() {
        let answer = |code| Err::<Response<()>, _>(Status::new(code, ""));
        assert_eq!(
            refused(answer(Code::NotFound), &[Code::NotFound]),
            Outcome::Closed("NotFound".to_owned())
        );
        assert!(matches!(
            refused(answer(Code::Unavailable), &[Code::NotFound]),
            Outcome::Void(_)
        ));
        assert_eq!(refused(Ok(Response::new(())), &[Code::NotFound]), Outcome::Open);
    }

    #[test]
    fn one_open_attempt_makes_all_open() {
        let closed = || Outcome::Closed("x".to_owned());
        assert_eq!(worst([closed(), Outcome::Open, closed()]), Outcome::Open);
        assert_eq!(
            worst([Outcome::Void(String::new()), Outcome::Open]),
            Outcome::Open
        );
        assert!(matches!(
            worst([closed(), Outcome::Void(String::new())]),
            Outcome::Void(_)
        ));
        assert!(matches!(worst([]), Outcome::Void(_)));
    }
}

//! One structured line for every verdict, allowed or denied. Never a label, an environment, a log line or Docker's words.

use cell_broker_core::{Reasons, Unresolved, Verb};
use cell_proto::ipc::Caller;

/// Whose request for what: the fields that every line has.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    uid: u32,
    pid: Option<i32>,
    verb: Verb,
    /// Empty when there is none, or when what was sent is not a service's name: that is not repeated.
    service: String,
}

impl Subject {
    pub(crate) fn new(caller: &Caller, verb: Verb, service: impl ToString) -> Self {
        Subject {
            uid: caller.uid,
            pid: caller.pid,
            verb,
            service: service.to_string(),
        }
    }

    pub(crate) fn allowed(&self, id: &str) {
        self.line("allow", "", id);
    }

    pub(crate) fn denied(&self, reasons: &Reasons, id: &str) {
        self.line("deny", &reasons.to_string(), id);
    }

    pub(crate) fn unresolved(&self, unresolved: Unresolved) {
        let reason = match unresolved {
            Unresolved::None => "NO_CONTAINER",
            Unresolved::Several => "SEVERAL_CONTAINERS",
        };
        self.line("deny", reason, "");
    }

    /// Refused before anything was looked up, or not decided because Docker did not answer.
    pub(crate) fn refused(&self, reason: &str) {
        self.line("deny", reason, "");
    }

    pub(crate) fn done(&self, id: &str, outcome: &str) {
        let Subject {
            uid,
            pid,
            verb,
            service,
        } = self;
        tracing::info!(target: "audit", uid, ?pid, %verb, service, container = id, outcome, "act");
    }

    fn line(&self, verdict: &str, reason: &str, id: &str) {
        let Subject {
            uid,
            pid,
            verb,
            service,
        } = self;
        tracing::info!(target: "audit", uid, ?pid, %verb, service, verdict, reason, container = id, "verdict");
    }
}

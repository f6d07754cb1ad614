//! What netd does not take of DNS, and how that is told.

use cell_proto::common::v1::ConditionStatus;
use cell_proto::fault::Violation;

use super::{Told, words};

/// What netd does not take, with its words.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The port where whoever is bound asks, and nothing else: its ceiling is from before ADR 0048.
    BoundPort(String),
    /// Ports or resolvers: DNS.
    All(String),
}

impl Refusal {
    /// Of what netd says; None: nothing of it is of DNS. That netd does without the port of the bound is for its ceiling alone to say
    /// (`is_above`).
    pub(super) fn of(violations: &[Violation], is_above: bool) -> Option<Self> {
        let is_of_dns = |fault: &&Violation| {
            fault.field.starts_with("spec.cell_ports") || fault.field.starts_with("spec.dns_upstreams")
        };
        let faults: Vec<Violation> = violations.iter().filter(is_of_dns).cloned().collect();
        let is_of_bound = |fault: &Violation| is_above && fault.field.ends_with(".bound_target_port");
        match faults.as_slice() {
            [] => None,
            all if all.iter().all(is_of_bound) => Some(Refusal::BoundPort(words(all))),
            all => Some(Refusal::All(words(all))),
        }
    }

    /// Whether it is more than was refused before.
    pub(super) fn is_news_after(&self, before: Option<&Self>) -> bool {
        matches!(
            (before, self),
            (None, _) | (Some(Refusal::BoundPort(_)), Refusal::All(_))
        )
    }
}

pub(super) fn refused_by_netd(words: &str) -> Told {
    let message = format!("netd lets nobody ask it: {words}; see service_targets in netd.toml");
    (ConditionStatus::False, "NETD_REFUSES", message)
}

pub(super) fn bound_port_refused(words: &str) -> Told {
    let message = format!(
        "whoever has an exit asks through it by the relay's table alone, not by a port of its own too: {words}; \
         add \"udp/9054\" and \"tcp/9054\" to service_targets in netd.toml and start netd anew"
    );
    (ConditionStatus::False, "NETD_REFUSES", message)
}

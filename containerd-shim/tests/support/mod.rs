//! What the broker's tests share: a Docker of their own, a stand-in, a recording proxy, a served broker.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod deployed;
pub mod dockerd;
pub mod fake;
pub mod program;
pub mod proxy;
pub mod registry;
pub mod report;
pub mod served;
#[path = "../../core/tests/support/mod.rs"]
pub mod signed;
pub mod vault;

use cell_broker_core::Policy;
use cell_broker_core::model::Ownership;

/// The policy of all tests: cell "default".
pub fn policy() -> Policy {
    let ownership = Ownership::new(
        "cell.owner".try_into().unwrap(),
        "default".try_into().unwrap(),
        "cell.service".try_into().unwrap(),
    );
    Policy {
        ownership: ownership.unwrap(),
    }
}

/// A program for containers that says two lines, and ends with 7 when it is asked to.
pub const SERVICE: &str = "trap 'exit 7' TERM; echo one; echo two >&2; while :; do sleep 1 & wait $!; done";

//! The rest of what netd reads from outside: the first byte says whether it is a change of some peers or a question about a flow, both
//! from `cell-api`, what cell-egress asks of a socket's mark, or what the state folder has as the last good state. (`apply_network` has
//! whole specs.)
#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;

use cell_fuzz::{again, chosen, request, uid_of};
use cell_netd::config::Config;
use cell_netd::proto::{delta_spec, from_desired, network_spec};
use cell_netd::{explain, kept};
use cell_netd_core::confirm::Window;
use cell_netd_core::explain::fate;
use cell_netd_core::mark_request;
use cell_netd_core::plan::element_delta;
use cell_netd_core::policy::{ElementDelta, compile};
use cell_netd_core::validate::{validate, validate_delta};
use cell_netd_core::{Ceiling, Desired};
use cell_proto::netd::v1;
use libfuzzer_sys::fuzz_target;
use prost::Message;

static CEILING: LazyLock<Ceiling> = LazyLock::new(|| {
    let policy = include_str!("../../systemd/etc/netd.toml");
    Config::parse(policy, uid_of).expect("the shipped policy").ceiling
});

/// What the change is made against: the seeds of `apply_network` put together.
static BASE: LazyLock<Desired> = LazyLock::new(|| {
    let seed = |bytes: &[u8]| v1::ApplyNetworkRequest::decode(bytes).ok().and_then(|request| request.spec);
    let mut spec = seed(include_bytes!("../corpus/apply_network/whole.binpb")).expect("a seed");
    spec.dns_upstreams = vec!["192.0.2.53:53".parse::<SocketAddr>().expect("an address").into()];
    validate(&network_spec(spec), &CEILING, None).expect("the seed is accepted")
});

fn is_named(rejection: &cell_netd_core::validate::Rejection) {
    assert!(!rejection.violations().is_empty(), "a refusal names a fault");
}

/// Some peers, and what they are in the sets, however they came there.
fn delta(bytes: &[u8]) {
    let Some(message) = request::<v1::ApplyNetworkDeltaRequest>(bytes) else { return };
    if let Ok(Some(window)) = Window::of_seconds(message.confirm_within_seconds) {
        assert!((5_000..=3_600_000).contains(&window.millis()));
    }
    let spec = delta_spec(message.upserted_peers, message.removed_peers);
    let delta = match validate_delta(&spec, &BASE, &CEILING) {
        Ok(delta) => delta,
        Err(rejection) => return is_named(&rejection),
    };
    let mut after = BASE.clone();
    let inverse = after.apply(delta.clone());
    let whole = validate(&network_spec(from_desired(&after)), &CEILING, None);
    assert_eq!(whole.as_ref(), Ok(&after), "a change leads where a whole spec could");
    let elements = |desired: &Desired| compile(desired, &CEILING, &Default::default()).expect("it stands").elements;
    let by_whole = ElementDelta::between(&elements(&BASE), &elements(&after));
    assert_eq!(element_delta(&delta), by_whole, "its sets are those of the whole");
    assert_eq!(validate_delta(&spec, &after, &CEILING), Ok(Default::default()), "twice changes nothing");
    let _delta = after.apply(inverse);
    assert_eq!(after, *BASE, "its inverse takes it back");
}

/// A flow is answered alike however often it is asked about, and what is dropped has a reason.
fn question(bytes: &[u8]) {
    let Some(message) = request::<v1::ExplainFlowRequest>(bytes) else { return };
    match explain::question(message) {
        Err(faults) => assert!(!faults.is_empty()),
        Ok(question) => {
            let Ok(found) = fate(&BASE, &CEILING, &Default::default(), &question) else { return };
            let answer = explain::answer(&found);
            assert_eq!(again(&answer), answer);
            assert!(!answer.reason.is_empty() && !answer.target.is_empty());
            assert!(!answer.passes || answer.counter.is_empty(), "what passes is counted nowhere");
        }
    }
}

/// A message that names an exit is the one that cell-egress would send for it.
fn mark(bytes: &[u8]) {
    let Ok(exit) = mark_request::exit_of(bytes) else { return };
    assert_eq!([&[1], exit.as_str().as_bytes()].concat(), bytes);
    assert!(bytes.len() <= mark_request::BYTES_MAX, "it fits where it is read to");
}

/// The first byte of it says where a bit is flipped.
fn last_good(bytes: &[u8]) {
    let Some((at, body)) = bytes.split_first() else { return };
    let _as_it_is = kept::decode(bytes);
    let file = kept::framed(body);
    let mut damaged = file.clone();
    let place = usize::from(*at) * damaged.len() / 256;
    damaged[place] ^= 1 << (at & 7);
    assert!(kept::decode(&damaged).is_err(), "damage is noticed");
    assert!(kept::decode(&file[..place]).is_err(), "a cut is noticed");
    let Ok(state) = kept::decode(&file) else { return };
    assert_eq!(kept::decode(&kept::framed(&state.encode_to_vec())).ok().as_ref(), Some(&state));
    let Some(spec) = state.last_good else { return };
    match validate(&network_spec(spec), &CEILING, None) {
        Err(rejection) => is_named(&rejection),
        Ok(desired) => {
            let kept = network_spec(from_desired(&desired));
            assert_eq!(validate(&kept, &CEILING, None), Ok(desired), "it comes back as it was kept");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    match chosen(input) {
        Some((b'd', bytes)) => delta(bytes),
        Some((b'q', bytes)) => question(bytes),
        Some((b'm', bytes)) => mark(bytes),
        Some((b'k', bytes)) => last_good(bytes),
        _ => {}
    }
});

//! What may never be approved, for any input.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use cell_broker_core::model::{Container, ContainerId, ContainerState, Health, Observed, Ownership};
use cell_broker_core::{Act, Permit, Policy, Reason, Request, Role, Unresolved, Verdict, judge, resolve};
use cell_broker_core::{can_restart, can_start, can_stop};
use proptest::prelude::*;

fn policy() -> Policy {
    let ownership = Ownership::new(
        "cell.owner".try_into().unwrap(),
        "default".try_into().unwrap(),
        "cell.service".try_into().unwrap(),
    );
    Policy {
        ownership: ownership.unwrap(),
    }
}

fn id(digit: char) -> ContainerId {
    ContainerId::try_from(&*digit.to_string().repeat(64)).unwrap()
}

fn observed(labels: &[(&str, &str)], state: ContainerState) -> Observed {
    Observed {
        id: id('a'),
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        image: "img:1".to_owned(),
        state,
        started_unix_ms: Some(1_000),
        exit_code: 3,
        health: Health::Unchecked,
        restart_count: 0,
        memory_limit_bytes: 0,
    }
}

fn reasons<A: Act>(verdict: Verdict<A>) -> Vec<Reason> {
    match verdict {
        Verdict::Deny(reasons) => reasons.iter().collect(),
        Verdict::Allow(permit) => panic!("allowed: {permit:?}"),
    }
}

type Labels = &'static [(&'static str, &'static str)];

const OWN: Labels = &[("cell.owner", "default"), ("cell.service", "files")];

#[test]
fn labels_decide_and_each_missing_one_is_named() {
    let cases: &[(Labels, &[Reason])] = &[
        (&[], &[Reason::Owner, Reason::Service]),
        (&[("cell.owner", "default")], &[Reason::Service]),
        (&[("cell.service", "files")], &[Reason::Owner]),
        (
            &[("cell.owner", "other"), ("cell.service", "files")],
            &[Reason::Owner],
        ),
        (
            &[("cell.owner", "default"), ("cell.service", "photos")],
            &[Reason::Service],
        ),
        (
            &[("cell.owner", "default"), ("cell.service", "Files")],
            &[Reason::Service],
        ),
        (
            &[("CELL.OWNER", "default"), ("cell.service", "files")],
            &[Reason::Owner],
        ),
        (
            &[("cell.owner", "default "), ("cell.service", "files")],
            &[Reason::Owner],
        ),
        (
            &[("cell.owner", ""), ("cell.service", "")],
            &[Reason::Owner, Reason::Service],
        ),
    ];
    let request = Request::stop("files", 0).unwrap();
    for (labels, expected) in cases {
        let verdict = judge(
            &policy(),
            Role::Api,
            &request,
            &id('a'),
            &observed(labels, ContainerState::Running),
        );
        assert_eq!(reasons(verdict), *expected, "{labels:?}");
    }
}

#[test]
fn an_answer_about_another_container_is_refused() {
    let request = Request::show("files").unwrap();
    let verdict = judge(
        &policy(),
        Role::Api,
        &request,
        &id('b'),
        &observed(OWN, ContainerState::Running),
    );
    assert_eq!(reasons(verdict), [Reason::OtherId]);
}

#[test]
fn the_state_of_a_foreign_container_is_never_a_reason() {
    let request = Request::start("files").unwrap();
    let foreign = observed(&[("cell.service", "files")], ContainerState::Running);
    let Verdict::Deny(reasons) = judge(&policy(), Role::Api, &request, &id('a'), &foreign) else {
        panic!("allowed")
    };
    assert_eq!(reasons.wrong_state(), None);
    assert_eq!(reasons.to_string(), "OWNER_LABEL");
    let own = observed(OWN, ContainerState::Running);
    let Verdict::Deny(reasons) = judge(&policy(), Role::Api, &request, &id('a'), &own) else {
        panic!("allowed")
    };
    assert_eq!(reasons.wrong_state(), Some(ContainerState::Running));
}

#[test]
fn one_container_per_service_or_none() {
    assert_eq!(resolve(&[]), Err(Unresolved::None));
    assert_eq!(resolve(&[id('a')]), Ok(&id('a')));
    assert_eq!(resolve(&[id('a'), id('b')]), Err(Unresolved::Several));
}

#[test]
fn both_labels_cannot_share_a_key() {
    let key = || "cell.owner".try_into().unwrap();
    assert!(Ownership::new(key(), "default".try_into().unwrap(), key()).is_err());
}

#[test]
fn what_is_shown_has_no_labels_and_an_exit_code_only_after_the_exit() {
    let show = |state| {
        let request = Request::show("files").unwrap();
        match judge(&policy(), Role::Api, &request, &id('a'), &observed(OWN, state)) {
            Verdict::Allow(permit) => permit.into_container(),
            Verdict::Deny(reasons) => panic!("{reasons}"),
        }
    };
    let Container {
        service, exit_code, ..
    } = show(ContainerState::Running);
    assert_eq!((service.as_str(), exit_code), ("files", 0));
    assert_eq!(show(ContainerState::Exited).exit_code, 3);
}

fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop_oneof![
        Just("cell.owner".to_owned()),
        Just("cell.service".to_owned()),
        ".{0,12}"
    ];
    let value = prop_oneof![Just("default".to_owned()), Just("files".to_owned()), ".{0,12}"];
    proptest::collection::btree_map(key, value, 0..5)
}

fn any_observed() -> impl Strategy<Value = Observed> {
    (
        any_labels(),
        prop::sample::select(&ContainerState::ALL[..]),
        prop::sample::select(vec!['a', 'b']),
    )
        .prop_map(|(labels, state, digit)| Observed {
            id: id(digit),
            labels,
            ..observed(&[], state)
        })
}

/// The permit, if there is one; holds every refusal to telling strangers nothing.
fn permit<A: Act>(request: Request<A>, seen: &Observed) -> Result<Option<Permit<A>>, TestCaseError> {
    let own = seen.labels.get("cell.owner").is_some_and(|v| v == "default")
        && seen
            .labels
            .get("cell.service")
            .is_some_and(|v| v == request.service().as_str())
        && seen.id == id('a');
    match judge(&policy(), Role::Api, &request, &id('a'), seen) {
        Verdict::Allow(permit) => {
            prop_assert!(own);
            prop_assert_eq!(permit.id(), &seen.id);
            prop_assert_eq!(&permit.container().service, request.service());
            Ok(Some(permit))
        }
        Verdict::Deny(reasons) => {
            prop_assert!(reasons.iter().next().is_some());
            // Only the owner of a container learns that it exists.
            prop_assert!(own || reasons.wrong_state().is_none());
            Ok(None)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn nothing_is_approved_without_both_labels(
        service in prop_oneof![Just("files".to_owned()), "[a-z][a-z0-9-]{0,8}"],
        n in 0..=60_u32,
        seen in any_observed(),
    ) {
        let state = seen.state;
        permit(Request::show(&service).unwrap(), &seen)?;
        permit(Request::logs(&service, n).unwrap(), &seen)?;
        permit(Request::stats(&service).unwrap(), &seen)?;
        prop_assert!(permit(Request::start(&service).unwrap(), &seen)?.is_none() || can_start(state));
        prop_assert!(permit(Request::stop(&service, n).unwrap(), &seen)?.is_none() || can_stop(state));
        prop_assert!(permit(Request::restart(&service, n).unwrap(), &seen)?.is_none() || can_restart(state));
    }
}

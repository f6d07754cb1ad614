#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn id(number: u8) -> ConnectionId {
    ConnectionId::from_random([number; 16])
}

fn fact() -> impl Strategy<Value = ExitFact> {
    let health = select(vec![Health::Working, Health::Down, Health::Unknown]);
    (select(Kind::ALL.to_vec()), health, any::<bool>()).prop_map(|(kind, health, carried)| ExitFact {
        kind,
        health,
        carried,
    })
}

/// Connections 0 to 5, each of which may be missing.
fn facts() -> impl Strategy<Value = ExitFacts> {
    proptest::collection::btree_map((0u8..6).prop_map(id), fact(), 0..6)
}

fn choice() -> impl Strategy<Value = ExitChoice> {
    let fallbacks = proptest::collection::vec((0u8..6).prop_map(id), 0..5);
    let bound = proptest::option::of((0u8..6).prop_map(id));
    (bound, proptest::option::of(any::<bool>()), fallbacks)
        .prop_filter_map("not a choice", |(bound, fail_open, fallbacks)| {
            ExitChoice::try_new(bound, fail_open, fallbacks).ok()
        })
}

fn works(facts: &ExitFacts, id: &ConnectionId) -> bool {
    facts
        .get(id)
        .is_some_and(|fact| fact.carried && fact.health == Health::Working)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn who_fails_closed_never_goes_directly(choice in choice(), facts in facts()) {
        let Some(bound) = choice.bound() else { return Ok(()) };
        let opens = match choice.fail_open() {
            Some(own) => own,
            None => facts.get(&bound).is_some_and(|fact| fact.kind == Kind::Tor),
        };
        let way = route(&choice, &facts);
        prop_assert!(opens || way != Route::Own, "{choice}: {way:?}");
    }

    #[test]
    fn nobody_goes_through_what_was_not_listed(choice in choice(), facts in facts()) {
        if let Route::Exit(id) = route(&choice, &facts) {
            let is_bound = choice.bound() == Some(id);
            prop_assert!(is_bound || choice.fallbacks().contains(&id));
            prop_assert!(facts[&id].carried, "netd must have it");
            prop_assert!(is_bound || works(&facts, &id), "what stands in must work");
        }
    }

    #[test]
    fn the_first_that_works_is_taken(choice in choice(), facts in facts()) {
        let Some(bound) = choice.bound() else { return Ok(()) };
        let mut order = std::iter::once(&bound).chain(choice.fallbacks());
        if let Some(first) = order.find(|id| works(&facts, id)) {
            prop_assert_eq!(route(&choice, &facts), Route::Exit(*first));
        }
    }

    #[test]
    fn unknown_is_down(choice in choice(), facts in facts()) {
        let down = facts.iter().map(|(id, fact)| {
            let health = match fact.health {
                Health::Working => Health::Working,
                Health::Down | Health::Unknown => Health::Down,
            };
            (*id, ExitFact { health, ..*fact })
        });
        prop_assert_eq!(route(&choice, &facts), route(&choice, &down.collect()));
    }

    #[test]
    fn every_change_of_a_choice_is_a_choice(
        choice in choice(),
        bound in proptest::option::of((0u8..6).prop_map(id)),
        fail_open in proptest::option::of(any::<bool>()),
    ) {
        for changed in [choice.bound_to(bound), choice.failing_open(fail_open)] {
            let again = ExitChoice::try_new(
                changed.bound(), changed.fail_open(), changed.fallbacks().to_vec());
            prop_assert_eq!(again, Ok(changed));
        }
        prop_assert_eq!(choice.bound_to(bound).bound(), bound);
        prop_assert_eq!(choice.failing_open(fail_open).fail_open(), fail_open);
    }
}

#[test]
fn a_tor_peer_goes_directly_until_tor_works_unless_it_says_otherwise() {
    let of = |health| {
        let fact = ExitFact {
            kind: Kind::Tor,
            health,
            carried: true,
        };
        ExitFacts::from([(id(1), fact)])
    };
    let choice = ExitChoice::default().bound_to(Some(id(1)));
    for health in [Health::Unknown, Health::Down] {
        assert_eq!(route(&choice, &of(health)), Route::Own);
        let closed = choice.failing_open(Some(false));
        assert_eq!(route(&closed, &of(health)), Route::Exit(id(1)));
    }
    assert_eq!(route(&choice, &of(Health::Working)), Route::Exit(id(1)));
}

#[test]
fn a_connection_that_netd_does_not_have_is_nowhere() {
    let fact = ExitFact {
        kind: Kind::Openvpn,
        health: Health::Working,
        carried: false,
    };
    let choice = ExitChoice::default().bound_to(Some(id(1)));
    assert_eq!(route(&choice, &ExitFacts::from([(id(1), fact)])), Route::Nowhere);
    let gone = choice.failing_open(Some(true));
    assert_eq!(
        route(&gone, &ExitFacts::new()),
        Route::Nowhere,
        "a connection of which nothing is known opens nothing"
    );
    assert_eq!(route(&gone, &ExitFacts::from([(id(1), fact)])), Route::Own);
}

#[test]
fn fallbacks_are_checked() {
    let bound = Some(id(1));
    let new = |bound, fallbacks: Vec<ConnectionId>| ExitChoice::try_new(bound, None, fallbacks);
    assert!(new(bound, vec![id(2), id(3)]).is_ok());
    assert_eq!(new(bound, vec![id(2), id(2)]), Err(InvalidFallbacks::Twice));
    assert_eq!(new(bound, vec![id(1)]), Err(InvalidFallbacks::Bound));
    assert_eq!(new(None, vec![id(2)]), Err(InvalidFallbacks::Unbound));
    let many = (10..19).map(id).collect();
    assert_eq!(new(bound, many), Err(InvalidFallbacks::TooMany));
}

#[test]
fn every_part_of_a_choice_is_in_its_text() {
    let choice = ExitChoice::try_new(Some(id(1)), Some(true), vec![id(2), id(3)]).unwrap();
    let others = [
        choice.bound_to(Some(id(4))),
        choice.failing_open(Some(false)),
        choice.failing_open(None),
        choice.falling_back_to(vec![id(3), id(2)]).unwrap(),
        ExitChoice::default(),
    ];
    for other in others {
        assert_ne!(other.to_string(), choice.to_string());
    }
}

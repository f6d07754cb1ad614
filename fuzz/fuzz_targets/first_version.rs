//! Files of the original's first version that an administrator imports: what is read plans, and planned twice does nothing.
#![no_main]

use std::collections::BTreeMap;

use cell_api_core::connection::choice::ExitChoice;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::kind::Kind;
use cell_api_core::connection::reference::Known;
use cell_api_core::migrate::{Carried, Cell, File, Plan, Target, Texts, plan, read};
use cell_api_core::name::PeerName;
use libfuzzer_sys::fuzz_target;

type Peers = BTreeMap<PeerName, ExitChoice>;

/// The plan for a cell with the connections that earlier plans made, and one of its own.
fn planned(texts: Texts<'_>, made: &[(ConnectionId, String, Kind)], state: &Peers) -> Option<Plan> {
    let known: Vec<Known<'_>> = made
        .iter()
        .map(|(id, name, kind)| Known {
            id: *id,
            name,
            kind: *kind,
        })
        .collect();
    let carried: Carried = made.iter().skip(1).map(|(id, _, kind)| (*kind, *id)).collect();
    let cell = Cell {
        connections: &known,
        carried: &carried,
        peers: state,
    };
    match read(texts) {
        Ok(File::First(first)) => match plan(first, &cell) {
            Ok(plan) => Some(plan),
            Err(faults) => {
                assert!(!faults.is_empty());
                None
            }
        },
        Ok(File::Later(version)) => {
            assert!(version >= 2);
            None
        }
        Err(faults) => {
            assert!(!faults.is_empty() && faults.violations().len() <= 101);
            None
        }
    }
}

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, '\0');
    let texts = Texts {
        config: parts.next().unwrap_or_default(),
        peers: parts.next(),
        secrets: parts.next(),
    };
    let mut made = vec![(
        ConnectionId::from_random([9; 16]),
        "own".to_owned(),
        Kind::WireguardExt,
    )];
    let mut state: Peers = ["phone", "a", "tv"]
        .into_iter()
        .filter_map(|name| Some((PeerName::parse(name).ok()?, ExitChoice::default())))
        .collect();
    let Some(plan) = planned(texts, &made, &state) else {
        return;
    };
    assert!(plan.make.len() <= 5 && plan.notes.len() <= 101 && !plan.words().is_empty());
    for make in &plan.make {
        for secret in make
            .imported
            .secrets
            .iter()
            .filter(|secret| secret.value.len() > 20)
        {
            let told = plan.words().join("\n");
            assert!(
                !told.contains(secret.value.as_str()),
                "a secret in a plan's words"
            );
        }
        let number = u8::try_from(made.len()).unwrap_or(u8::MAX);
        made.push((
            ConnectionId::from_random([number; 16]),
            make.name.to_string(),
            make.kind(),
        ));
    }
    for bind in &plan.bind {
        let to = bind.to.and_then(|to| match to {
            Target::There(id) => Some(id),
            Target::Made(kind) => made.iter().skip(1).find(|one| one.2 == kind).map(|one| one.0),
        });
        if let Some(choice) = state.get_mut(&bind.peer)
            && let Some(after) = bind.applied_to(choice, to)
        {
            *choice = after;
        }
    }
    let again = planned(texts, &made, &state);
    assert!(again.is_some_and(|plan| plan.is_done()), "planned twice");
});

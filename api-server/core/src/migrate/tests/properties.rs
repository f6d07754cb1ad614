//! What holds of every household.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The types of a file's exits, and its peers, each with what it uses and its own word.
type Household = (Vec<&'static str>, Vec<(String, String, Option<bool>)>);

fn exits() -> BTreeMap<&'static str, Value> {
    let all: Value = serde_json::from_str(&with_key(ALL)).unwrap();
    let of = |name: &'static str| (name, all["connectivity"]["exits"][name].clone());
    ["wireguard_ext", "openvpn", "tor", "sshuttle", "proxy"]
        .map(of)
        .into()
}

/// Some of the exits, and peers with what they use: of the file's types, of a connection that is there, or nothing.
fn households() -> impl Strategy<Value = Household> {
    let kinds = vec!["wireguard_ext", "openvpn", "tor", "sshuttle", "proxy"];
    let exits = proptest::sample::subsequence(kinds, 0..=5).prop_shuffle();
    exits.prop_flat_map(|exits| {
        let mut uses: Vec<String> = exits.iter().map(|kind| (*kind).to_owned()).collect();
        uses.extend(["default".to_owned(), "own".to_owned()]);
        let peer = (0..8u8, proptest::sample::select(uses), any::<Option<bool>>());
        let peer = peer.prop_map(|(number, exit, open)| (format!("p{number}"), exit, open));
        let peers = proptest::collection::btree_map(0..8u8, peer, 0..8);
        let peers = peers.prop_map(|peers| {
            let named = |(number, (_, exit, open))| (format!("p{number}"), exit, open);
            peers.into_iter().map(named).collect::<Vec<_>>()
        });
        (Just(exits), peers.prop_shuffle())
    })
}

fn written((kinds, peers): &Household) -> (String, String) {
    let exits = exits();
    let listed: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let mut exit = exits[kind].clone();
            exit["type"] = json!(kind);
            exit
        })
        .collect();
    let peers: Vec<Value> = peers
        .iter()
        .map(|(name, exit, open)| json!({"name": name, "exit_via": exit, "failopen": open}))
        .collect();
    let config = json!({"connectivity": {"version": 1, "exits": listed}});
    (config.to_string(), Value::from(peers).to_string())
}

fn start() -> State {
    let mut state = State::with_peers(&["p0", "p1", "p2", "p3", "p4", "p5"]);
    state.add("own", Kind::WireguardExt);
    state
}

proptest! {
    /// What is migrated plans nothing more, however often it is asked.
    #[test]
    fn once_is_enough(household in households()) {
        let (config, peers) = written(&household);
        let mut state = start();
        let plan = state.plan(&config, Some(&peers)).unwrap();
        state.apply(&plan);
        let again = state.plan(&config, Some(&peers)).unwrap();
        prop_assert!(again.is_done(), "{again:?}");
        let before = state.clone();
        state.apply(&again);
        prop_assert_eq!(state, before);
    }

    /// The order of exits and peers in the files means nothing; and in parts it comes to the same as at once.
    #[test]
    fn the_order_means_nothing((household, turned) in households().prop_flat_map(|(kinds, peers)| {
        (Just((kinds.clone(), peers.clone())), (Just(kinds).prop_shuffle(), Just(peers).prop_shuffle()))
    })) {
        let (config, peers) = written(&household);
        let (other_config, other_peers) = written(&turned);
        let (mut one, mut other, mut apart) = (start(), start(), start());
        let plan = one.plan(&config, Some(&peers)).unwrap();
        let words = plan.words();
        one.apply(&plan);
        let plan = other.plan(&other_config, Some(&other_peers)).unwrap();
        prop_assert_eq!(plan.words(), words);
        other.apply(&plan);
        prop_assert_eq!(&one, &other);
        apart.apply(&apart.plan(&config, None).unwrap());
        apart.apply(&apart.plan(&config, Some(&peers)).unwrap());
        prop_assert_eq!(&one, &apart);
    }

    /// Any text is read or refused, and nothing of it comes back but names of fields.
    #[test]
    fn any_text_is_read_or_refused(config in ".{0,300}", peers in proptest::option::of(".{0,100}")) {
        let secrets = peers.as_deref();
        if let Err(faults) = read(Texts { secrets, ..texts(&config, peers.as_deref()) }) {
            prop_assert!(!faults.is_empty());
        }
    }

    /// A byte that is lost or doubled anywhere in a real file never makes a panic, nor shows a secret.
    #[test]
    fn a_damaged_file_keeps_its_secrets(at in 0..2_000usize, what in 0..3u8) {
        let mut text = with_key(ALL);
        let at = (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        match what {
            0 => _ = text.remove(at),
            1 => text.insert(at, '"'),
            _ => text.truncate(at),
        }
        if let Err(faults) = read(texts(&text, Some(ALL_PEERS))) {
            for secret in ["yAnz5TF", "FpCyhws9", "correct-horse-1", "battery@staple:2"] {
                prop_assert!(!faults.to_string().contains(secret), "{faults}");
            }
        }
    }
}

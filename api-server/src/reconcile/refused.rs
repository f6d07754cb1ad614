//! What to leave out when netd refuses a request: pure, from the fields that it names.

use std::collections::BTreeMap;

use cell_proto::fault::Violation;

use crate::network::Trouble;

/// Peers of whom the message for people speaks.
const NAMED_AT_MOST: usize = 5;

/// Peers, or exits by their ids, that netd does not take, each with why.
pub(super) type Refused = BTreeMap<String, String>;

/// Those of `names` that `violations` name by their place in `path`, e.g. `spec.peers[2].public_key`.
pub(super) fn named(path: &str, names: &[String], violations: &[Violation]) -> Refused {
    let mut refused = Refused::new();
    for Violation { field, description } in violations {
        let place = field
            .strip_prefix(path)
            .and_then(|rest| rest.strip_prefix('['))
            .and_then(|rest| rest.split_once(']'));
        let Some((index, rest)) = place else { continue };
        let name = index.parse::<usize>().ok().and_then(|index| names.get(index));
        if let Some(name) = name {
            let why = format!("{} {description}", rest.trim_start_matches('.'));
            refused.entry(name.clone()).or_insert(why.trim().to_owned());
        }
    }
    refused
}

/// Whether the list itself is what is wrong: it is too long.
pub(super) fn is_too_long(path: &str, violations: &[Violation]) -> bool {
    violations.iter().any(|violation| violation.field == path)
}

/// The last `count` of `names`, for a list that is too long. `what` they are, for people.
pub(super) fn excess(names: &[String], count: usize, what: &str) -> Refused {
    let kept = names.len().saturating_sub(count);
    let why = || format!("netd's ceiling allows no more {what}");
    names[kept..].iter().map(|name| (name.clone(), why())).collect()
}

/// Those that `violations` name; where the list itself is too long, its end: more of it each time (`excess` doubles). `path` is with
/// what they are, for people.
pub(super) fn some(
    (path, what): (&str, &str),
    names: &[String],
    violations: &[Violation],
    excess: &mut usize,
) -> Refused {
    let refused = named(path, names, violations);
    if !refused.is_empty() || !is_too_long(path, violations) {
        return refused;
    }
    let refused = self::excess(names, *excess, what);
    *excess *= 2;
    refused
}

/// What to tell of the peers that netd did not take.
pub(super) fn trouble(refused: &Refused) -> Option<Trouble> {
    let shown = shown(refused)?;
    Some(Trouble {
        reason: "PEERS_REFUSED".to_owned(),
        message: format!("netd refuses some devices, which cannot connect until they are changed: {shown}"),
    })
}

/// What to tell of the peers that nothing carries.
pub(super) fn nowhere(nowhere: &Refused) -> Option<Trouble> {
    let shown = shown(nowhere)?;
    Some(Trouble {
        reason: "EXITS_REFUSED".to_owned(),
        message: format!(
            "nothing carries some devices, which reach the cell and not the internet until their exits are changed: {shown}"
        ),
    })
}

/// Some of them by name, each with why.
fn shown(refused: &Refused) -> Option<String> {
    if refused.is_empty() {
        return None;
    }
    let shown = refused.iter().take(NAMED_AT_MOST);
    let shown: Vec<String> = shown.map(|(name, why)| format!("{name} ({why})")).collect();
    let more = refused.len().saturating_sub(NAMED_AT_MOST);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    Some(format!("{}{more}", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn peers_are_found_by_their_place() {
        let names = names(&["a", "b", "c"]);
        let violations = [
            Violation::new("spec.peers[2].access.services[0].address", "is link-local"),
            Violation::new("spec.peers[2].public_key", "is taken"),
            Violation::new("spec.peers[9].name", "is none of ours"),
            Violation::new("spec.peers[x].name", "is none of ours"),
            Violation::new("spec.wireguard.listen_port", "is too low"),
            Violation::new("upserted_peers[0].name", "is another list's"),
        ];
        let refused = named("spec.peers", &names, &violations);
        let expected = (
            "c".to_owned(),
            "access.services[0].address is link-local".to_owned(),
        );
        assert_eq!(refused, Refused::from([expected]));
        assert!(!is_too_long("spec.peers", &violations));
    }

    #[test]
    fn a_list_that_is_too_long_loses_its_end() {
        let names = names(&["a", "b", "c"]);
        assert!(is_too_long(
            "spec.peers",
            &[Violation::new("spec.peers", "at most 2")]
        ));
        let left = |count| excess(&names, count, "peers").into_keys().collect::<Vec<_>>();
        assert_eq!(
            (left(1), left(2).len(), left(8).len()),
            (vec!["c".to_owned()], 2, 3)
        );
    }

    #[test]
    fn people_are_told_whom_and_how_many() {
        assert_eq!(trouble(&Refused::new()), None);
        let many = (0..7).map(|n| (format!("p{n}"), "why".to_owned())).collect();
        let message = trouble(&many).map(|trouble| trouble.message).unwrap_or_default();
        assert!(
            message.contains("p0 (why), p1 (why)") && message.ends_with("and 2 more"),
            "{message}"
        );
    }
}

//! How a connection is named by people: by its id, by its name, or by its type where one alone is of it. The last is how
//! the original's first version named exits.

use super::id::ConnectionId;
use super::kind::Kind;

/// The word for the machine's own way.
pub const OWN_WAY: &str = "default";

/// A connection by what it may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<'a> {
    /// Its id.
    pub id: ConnectionId,
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub kind: Kind,
}

/// The most connections that are named of those that a type could mean.
const NAMED: usize = 10;

/// A name that leads to no connection. Never repeats it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchExit {
    /// There is none.
    #[error(
        "names no connection: it must be the id or the name of one, or \"default\" for the cell's own way"
    )]
    Unknown,
    /// A type, and no connection has it.
    #[error("names the type {0}, and no connection has it: add one, or name another")]
    None(Kind),
    /// A type, and these have it, in the order of names.
    #[error("names the type {kind}, which several connections have: name one of {}", shown(.names))]
    Several {
        /// The type.
        kind: Kind,
        /// Their names.
        names: Vec<String>,
    },
}

/// Finds what `text` names; `None` is the machine's own way.
///
/// # Errors
/// [`NoSuchExit`].
pub fn resolve<'a>(
    text: &str,
    known: impl IntoIterator<Item = Known<'a>>,
) -> Result<Option<ConnectionId>, NoSuchExit> {
    if text.is_empty() || text == OWN_WAY {
        return Ok(None);
    }
    let (kind, mut of_kind) = (Kind::parse(text).ok(), Vec::new());
    for one in known {
        if one.name == text || one.id.to_string() == text {
            return Ok(Some(one.id));
        }
        if kind == Some(one.kind) {
            of_kind.push(one);
        }
    }
    match (kind, &of_kind[..]) {
        (None, _) => Err(NoSuchExit::Unknown),
        (Some(kind), []) => Err(NoSuchExit::None(kind)),
        (Some(_), [one]) => Ok(Some(one.id)),
        (Some(kind), [_, _, ..]) => {
            let mut names: Vec<String> = of_kind.iter().map(|one| one.name.to_owned()).collect();
            names.sort();
            Err(NoSuchExit::Several { kind, names })
        }
    }
}

fn shown(names: &[String]) -> String {
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn known(number: u8, name: &str, kind: Kind) -> Known<'_> {
        let id = ConnectionId::from_random([number; 16]);
        Known { id, name, kind }
    }

    #[test]
    fn a_connection_is_found_by_id_name_and_lone_type() {
        let all = [
            known(1, "onion", Kind::Tor),
            known(2, "work", Kind::Proxy),
            known(3, "home", Kind::Proxy),
            known(4, "sshuttle", Kind::WireguardExt),
        ];
        let find = |text: &str| resolve(text, all);
        for one in all {
            assert_eq!(find(&one.id.to_string()), Ok(Some(one.id)));
            assert_eq!(find(one.name), Ok(Some(one.id)));
        }
        assert_eq!(find("tor"), Ok(Some(all[0].id)));
        assert_eq!(find("wireguard_ext"), Ok(Some(all[3].id)));
        let several = find("proxy").unwrap_err();
        assert_eq!(
            several.to_string(),
            "names the type proxy, which several connections have: name one of home, work"
        );
        assert_eq!(find("openvpn"), Err(NoSuchExit::None(Kind::Openvpn)));
        for own in ["", "default"] {
            assert_eq!(find(own), Ok(None));
        }
        for bad in ["Onion", "Default", "none", &all[0].id.digits()] {
            assert_eq!(find(bad), Err(NoSuchExit::Unknown), "{bad}");
        }
    }
}

//! Texts for `ipset -exist restore`: sets of Cell's are made, filled, emptied and destroyed, and no others.

use crate::{Family, NotOurs, lines, word};

/// Types that netd makes. None of them reads a file or a name.
const TYPES: [&str; 6] = [
    "hash:ip",
    "hash:net",
    "hash:ip,port",
    "hash:net,port",
    "hash:ip,port,ip",
    "hash:net,iface",
];

/// Judges a text.
///
/// # Errors
/// [`NotOurs`] names the first line that is not Cell's to restore.
pub fn judge_sets(text: &str) -> Result<(), NotOurs> {
    for (number, line) in lines(text)? {
        let words: Vec<&str> = line.split(' ').collect();
        let judged = match words.as_slice() {
            [
                "create",
                set,
                kind,
                "family",
                "inet" | "inet6",
                "maxelem",
                most,
                options @ ..,
            ] => {
                let known =
                    TYPES.contains(kind) && word::decimal(most) && matches!(options, [] | ["skbinfo"]);
                (word::set(set) && known).then_some(())
            }
            ["add", set, entry] | ["del", set, entry] => {
                (word::set(set) && is_entry(set, entry)).then_some(())
            }
            ["add", set, entry, "skbmark", mark] => {
                (word::set(set) && is_entry(set, entry) && word::mark(mark)).then_some(())
            }
            ["destroy", set] => word::set(set).then_some(()),
            _ => None,
        };
        judged.ok_or(NotOurs::Line {
            line: number,
            why: "only sets of Cell's are made, changed and destroyed",
        })?;
    }
    Ok(())
}

/// Sets that have interfaces begin so. In others ipset(8) would look a name up as that of a service.
const WAYS: [&str; 2] = ["CELL-exit_", "CELL-svc_hosts"];

/// An address or a prefix, and up to two parts more: protocol and port, an address, an interface.
fn is_entry(set: &str, text: &str) -> bool {
    let net = |text: &str| word::net(text, Family::V4) || word::net(text, Family::V6);
    let at = |text: &str| {
        text.split_once(':')
            .is_some_and(|(protocol, port)| matches!(protocol, "tcp" | "udp") && word::port(port))
    };
    let parts: Vec<&str> = text.split(',').collect();
    match parts.as_slice() {
        [address] => net(address),
        [address, second] => {
            net(address)
                && (at(second) || WAYS.iter().any(|ways| set.starts_with(ways)) && word::interface(second))
        }
        [address, port, to] => net(address) && at(port) && net(to),
        _ => false,
    }
}

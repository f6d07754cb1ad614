//! Texts for `iptables-restore --noflush`. The grammar is closed: a word that it does not have is refused, whatever it would do.
//!
//! Chains of others keep their rules and their policies: a text can declare, fill, empty and delete chains of Cell's, and put
//! jumps to them into built-in chains and into Docker's for the machine's owner, or take jumps to them away, wherever they stand.

use crate::{Family, NotOurs, lines, word};

/// Tables, with the chains of others that may have jumps to Cell's.
const TABLES: [(&str, &[&str]); 4] = [
    ("nat", &["PREROUTING", "POSTROUTING"]),
    ("raw", &["PREROUTING"]),
    ("filter", &["FORWARD", "DOCKER-USER"]),
    (
        "mangle",
        &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
    ),
];

/// Judges a text.
///
/// # Errors
/// [`NotOurs`] names the first line that is not Cell's to restore.
pub fn judge_rules(text: &str, family: Family) -> Result<(), NotOurs> {
    let mut seen = Vec::new();
    let mut hooks: Option<&[&str]> = None;
    let mut last = 0;
    for (number, line) in lines(text)? {
        let refused = |why| NotOurs::Line { line: number, why };
        last = number;
        let words: Vec<&str> = line.split(' ').collect();
        match (hooks, words.as_slice()) {
            (None, [table]) => {
                let table = table.strip_prefix('*').unwrap_or_default();
                let known = TABLES.iter().find(|(name, _)| *name == table);
                let (name, chains) = known.ok_or_else(|| refused("a table is nat, raw, filter or mangle"))?;
                if seen.contains(name) {
                    return Err(refused("a table stands there once"));
                }
                seen.push(*name);
                hooks = Some(chains);
            }
            (None, _) => return Err(refused("a table begins with its name")),
            (Some(_), ["COMMIT"]) => hooks = None,
            (Some(hooks), words) => line_of_table(words, hooks, family).map_err(refused)?,
        }
    }
    match hooks {
        None => Ok(()),
        Some(_) => Err(NotOurs::Line {
            line: last + 1,
            why: "a table ends with COMMIT",
        }),
    }
}

fn line_of_table(words: &[&str], hooks: &[&str], family: Family) -> Result<(), &'static str> {
    let own = |chain: &&str| word::chain(chain);
    match words {
        [declared, "-", "[0:0]"] => match declared.strip_prefix(':') {
            Some(chain) if word::chain(chain) => Ok(()),
            _ => Err("only chains of Cell's are declared"),
        },
        ["-F" | "-X", chain] if own(chain) => Ok(()),
        ["-A", chain, rule @ ..] if own(chain) => rule_of_chain(rule, family),
        ["-A", from, "-j", to] if hooks.contains(from) && own(to) => Ok(()),
        // Wherever root has put it: a chain that somebody jumps to cannot be taken away.
        ["-D", from, "-j", to] if word::any_chain(from) && own(to) => Ok(()),
        ["-I", from, "1" | "2", "-j", to] if hooks.contains(from) && own(to) => Ok(()),
        _ => Err("only chains of Cell's are changed, and jumps to them"),
    }
}

/// Conditions, then one target.
fn rule_of_chain(words: &[&str], family: Family) -> Result<(), &'static str> {
    let mut rest = words;
    loop {
        let (not, condition) = match rest {
            ["!", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        rest = match condition {
            ["-j" | "-g", ..] if not => return Err("a target is not turned round"),
            ["-j", target @ ..] => return target_of_rule(target, family),
            ["-g", chain] if word::chain(chain) => return Ok(()),
            ["-m", "set", set @ ..] if !not => set_module(set)?,
            ["-m", module, rest @ ..] if !not => module_options(module, rest, family)?,
            [flag, value, rest @ ..] if head(flag, value, family) => rest,
            _ => return Err("a condition is not one of those that netd has"),
        };
    }
}

fn head(flag: &str, value: &str, family: Family) -> bool {
    match flag {
        "-s" | "-d" => word::net(value, family),
        "-i" | "-o" => word::interfaces(value),
        "-p" => matches!(
            (value, family),
            ("tcp" | "udp", _) | ("icmp", Family::V4) | ("ipv6-icmp", Family::V6)
        ),
        _ => false,
    }
}

fn set_module<'a, 'b>(words: &'a [&'b str]) -> Result<&'a [&'b str], &'static str> {
    let words = match words {
        ["!", rest @ ..] => rest,
        rest => rest,
    };
    match words {
        ["--match-set", set, directions, rest @ ..] if word::set(set) && word::directions(directions) => {
            Ok(rest)
        }
        _ => Err("a set is one of Cell's"),
    }
}

/// A module with one option.
fn module_options<'a, 'b>(
    module: &str,
    words: &'a [&'b str],
    family: Family,
) -> Result<&'a [&'b str], &'static str> {
    let words = match words {
        ["!", rest @ ..] => rest,
        rest => rest,
    };
    let states = |value: &str| matches!(value, "INVALID" | "RELATED" | "RELATED,ESTABLISHED" | "DNAT");
    match (module, words) {
        ("conntrack", ["--ctstate", value, rest @ ..]) if states(value) => Ok(rest),
        ("conntrack", ["--ctdir", "ORIGINAL" | "REPLY", rest @ ..]) => Ok(rest),
        ("conntrack", ["--ctstatus", "CONFIRMED", rest @ ..]) => Ok(rest),
        ("conntrack", ["--ctreplsrc", value, rest @ ..]) if word::net(value, family) => Ok(rest),
        ("mark" | "connmark", ["--mark", value, rest @ ..]) if word::mark(value) => Ok(rest),
        ("tcp", ["--tcp-flags", "SYN,RST", "SYN", rest @ ..]) => Ok(rest),
        ("tcp" | "udp", ["--dport", value, rest @ ..]) if word::port(value) => Ok(rest),
        ("tcp", ["--sport", value, rest @ ..]) if word::port(value) => Ok(rest),
        ("addrtype", ["--dst-type", "LOCAL", rest @ ..]) if family == Family::V4 => Ok(rest),
        ("icmp", ["--icmp-type", "8", rest @ ..]) => Ok(rest),
        ("icmp6", ["--icmpv6-type", "128", rest @ ..]) => Ok(rest),
        ("owner", ["--uid-owner", value, rest @ ..]) if word::decimal(value) => Ok(rest),
        _ => Err("a module or its option is not one of those that netd has"),
    }
}

fn target_of_rule(words: &[&str], family: Family) -> Result<(), &'static str> {
    match words {
        ["ACCEPT" | "DROP" | "RETURN" | "MASQUERADE"] => Ok(()),
        [chain] if word::chain(chain) => Ok(()),
        ["MARK", "--set-xmark", value] if word::mark(value) => Ok(()),
        ["CONNMARK", "--set-xmark", value] if word::mark(value) => Ok(()),
        [
            "CONNMARK",
            "--save-mark" | "--restore-mark",
            "--nfmask",
            one,
            "--ctmask",
            other,
        ] if word::bits(one) && word::bits(other) => Ok(()),
        ["SET", "--map-set", set, "src" | "dst", "--map-mark"] if word::set(set) => Ok(()),
        ["DNAT", "--to-destination", to] if word::destination(to, family) => Ok(()),
        ["REJECT", "--reject-with", "icmp-admin-prohibited"] if family == Family::V4 => Ok(()),
        ["REJECT", "--reject-with", "icmp6-adm-prohibited"] if family == Family::V6 => Ok(()),
        ["TCPMSS", "--clamp-mss-to-pmtu"] => Ok(()),
        _ => Err("a target is not one of those that netd has"),
    }
}

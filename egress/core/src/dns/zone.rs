//! The cell's own names. What is asked of them is answered here, whole, whatever the state of any exit.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::decide::Kind;
use super::name::{Name, wildcard};

/// Longest chain of aliases that is followed; a longer one is refused when it is asked for.
pub const ALIASES_MAX: usize = 8;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// A.
    V4(Ipv4Addr),
    /// AAAA.
    V6(Ipv6Addr),
    /// CNAME.
    Alias(Name),
    /// PTR.
    Pointer(Name),
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose it is.
    pub owner: Name,
    /// How long it may be kept, seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With what was asked for.
    Found,
    /// The name is there and has nothing of the kind.
    NoData,
    /// There is no such name.
    NoName,
}

/// An answer that nobody else is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// What is said, aliases first.
    pub lines: Vec<Line>,
    /// How it ends.
    pub outcome: Outcome,
    /// The zone that speaks; none for names that are nobody's.
    pub zone: Option<Name>,
}

/// The records of one name; none at all where only something below it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    ttl: u32,
    v4: BTreeSet<Ipv4Addr>,
    v6: BTreeSet<Ipv6Addr>,
    alias: Option<Name>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && self.alias.is_none()
    }
}

/// Zones with their records. The cost of a question grows with the labels of its name and the logarithm of what there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones {
    apexes: BTreeSet<Name>,
    nodes: BTreeMap<Name, Node>,
    reverse: BTreeMap<IpAddr, (Name, u32)>,
}

/// Why a record is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It is in no zone.
    #[error("lies in none of the zones")]
    Outside,
    /// An alias beside something else.
    #[error("is an alias and something else as well: an alias stands alone (RFC 1034, section 3.6.2)")]
    AliasBeside,
    /// An alias out of the cell.
    #[error("is an alias of a name that lies in none of the zones")]
    AliasOutside,
    /// A chain of aliases that is too long, or goes round.
    #[error("is an alias that goes over more than {ALIASES_MAX} others, or round in a circle")]
    AliasChain,
}

impl Zones {
    /// Without a record.
    pub fn new(apexes: BTreeSet<Name>) -> Self {
        let nodes = apexes
            .iter()
            .map(|apex| (apex.clone(), Node::default()))
            .collect();
        Zones {
            apexes,
            nodes,
            reverse: BTreeMap::new(),
        }
    }

    /// Adds a record. Of several for one name the lowest lifetime counts for all (RFC 2181, section 5.2).
    ///
    /// # Errors
    /// [`Misfit`], and nothing changed.
    pub fn add(&mut self, line: Line) -> Result<(), Misfit> {
        let Line { owner, ttl, data } = line;
        let zone = self.zone_of(&owner).ok_or(Misfit::Outside)?.clone();
        if let Data::Alias(target) = &data {
            self.zone_of(target).ok_or(Misfit::AliasOutside)?;
        }
        let node = self.nodes.get(&owner);
        let beside = node.is_some_and(|node| match &data {
            Data::Alias(target) => !node.is_empty() && node.alias.as_ref() != Some(target),
            Data::V4(_) | Data::V6(_) | Data::Pointer(_) => node.alias.is_some(),
        });
        // At the top of a zone its SOA stands beside.
        if beside || (owner == zone && matches!(data, Data::Alias(_))) {
            return Err(Misfit::AliasBeside);
        }
        for ancestor in owner.suffixes().skip(1).map(Name::of_suffix) {
            if !ancestor.is_within(&zone) {
                break;
            }
            self.nodes.entry(ancestor).or_default();
        }
        let is_wildcard = owner.labels().next() == Some(b"*");
        if let (Data::V4(_) | Data::V6(_), false) = (&data, is_wildcard) {
            let address = match &data {
                Data::V4(ip) => Some(IpAddr::V4(*ip)),
                Data::V6(ip) => Some(IpAddr::V6(*ip)),
                Data::Alias(_) | Data::Pointer(_) => None,
            };
            if let Some(address) = address {
                self.reverse
                    .entry(address)
                    .or_insert_with(|| (owner.clone(), ttl));
            }
        }
        let node = self.nodes.entry(owner).or_default();
        node.ttl = if node.is_empty() { ttl } else { node.ttl.min(ttl) };
        match data {
            Data::V4(ip) => drop(node.v4.insert(ip)),
            Data::V6(ip) => drop(node.v6.insert(ip)),
            Data::Alias(target) => node.alias = Some(target),
            // Pointers follow from addresses, and are not added.
            Data::Pointer(_) => {}
        }
        Ok(())
    }

    /// The names whose aliases lead nowhere; to be asked when all records are there.
    pub fn endless(&self) -> Vec<&Name> {
        let follows = |node: &Node| {
            let mut next = node.alias.as_ref();
            for _ in 0..ALIASES_MAX {
                let Some(target) = next else { return true };
                next = self.node(target).and_then(|(_, node)| node.alias.as_ref());
            }
            next.is_none()
        };
        let endless = self.nodes.iter().filter(|(_, node)| !follows(node));
        endless.map(|(name, _)| name).collect()
    }

    /// Names with records.
    pub fn names(&self) -> usize {
        self.nodes.values().filter(|node| !node.is_empty()).count()
    }

    /// The answer for a name of the cell; None for any other.
    pub fn answer(&self, name: &Name, kind: Kind) -> Option<Local> {
        let zone = self.zone_of(name)?.clone();
        let (mut lines, mut owner) = (Vec::new(), name.clone());
        let outcome = loop {
            let Some((there, node)) = self.node(&owner) else {
                break Outcome::NoName;
            };
            debug_assert!(there.is_within(&zone) || !lines.is_empty());
            if let (Some(target), false) = (&node.alias, kind == Kind::Cname) {
                if lines.len() > ALIASES_MAX {
                    break Outcome::NoData;
                }
                let target = target.clone();
                lines.push(Line {
                    owner,
                    ttl: node.ttl,
                    data: Data::Alias(target.clone()),
                });
                owner = target;
                continue;
            }
            let before = lines.len();
            lines.extend(node.lines(&owner, kind));
            break if lines.len() > before {
                Outcome::Found
            } else {
                Outcome::NoData
            };
        };
        Some(Local {
            lines,
            outcome,
            zone: Some(zone),
        })
    }

    /// The name of an address of the cell.
    pub fn pointer(&self, address: IpAddr) -> Option<(&Name, u32)> {
        self.reverse.get(&address).map(|(name, ttl)| (name, *ttl))
    }

    /// The innermost zone of a name.
    fn zone_of(&self, name: &Name) -> Option<&Name> {
        name.suffixes().find_map(|suffix| self.apexes.get(suffix))
    }

    /// What holds for a name: its own records, or those of the wildcard beside the nearest name above it (RFC 4592).
    fn node(&self, name: &Name) -> Option<(&Name, &Node)> {
        let mut suffixes = name.suffixes();
        if let Some(own) = suffixes.next().and_then(|own| self.nodes.get_key_value(own)) {
            return Some(own);
        }
        let nearest = suffixes.find(|suffix| self.nodes.contains_key(*suffix))?;
        self.nodes.get_key_value(&wildcard(nearest)?)
    }
}

impl Node {
    fn lines(&self, owner: &Name, kind: Kind) -> Vec<Line> {
        let line = |data| Line {
            owner: owner.clone(),
            ttl: self.ttl,
            data,
        };
        match kind {
            Kind::A => self.v4.iter().map(|ip| line(Data::V4(*ip))).collect(),
            Kind::Aaaa => self.v6.iter().map(|ip| line(Data::V6(*ip))).collect(),
            Kind::Cname => self
                .alias
                .iter()
                .map(|to| line(Data::Alias(to.clone())))
                .collect(),
            Kind::Ptr | Kind::Soa | Kind::Ns | Kind::Any | Kind::Transfer | Kind::Other(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::of_record(text).unwrap()
    }

    fn a(owner: &str, last: u8) -> Line {
        Line {
            owner: name(owner),
            ttl: 60,
            data: Data::V4([10, 8, 0, last].into()),
        }
    }

    fn alias(owner: &str, target: &str) -> Line {
        Line {
            owner: name(owner),
            ttl: 60,
            data: Data::Alias(name(target)),
        }
    }

    fn zones(lines: Vec<Line>) -> Zones {
        let mut zones = Zones::new([name("home.arpa"), name("sub.home.arpa")].into());
        for line in lines {
            zones.add(line).unwrap();
        }
        zones
    }

    fn ask(zones: &Zones, owner: &str, kind: Kind) -> (Vec<Data>, Outcome) {
        let told = zones.answer(&name(owner), kind).unwrap();
        (
            told.lines.into_iter().map(|line| line.data).collect(),
            told.outcome,
        )
    }

    #[test]
    fn names_are_there_or_not_there() {
        let zones = zones(vec![
            a("nas.home.arpa", 1),
            a("deep.er.home.arpa", 2),
            a("home.arpa", 9),
        ]);
        let ip = |last| vec![Data::V4([10, 8, 0, last].into())];
        assert_eq!(ask(&zones, "nas.home.arpa", Kind::A), (ip(1), Outcome::Found));
        assert_eq!(ask(&zones, "home.arpa", Kind::A), (ip(9), Outcome::Found));
        assert_eq!(
            ask(&zones, "nas.home.arpa", Kind::Aaaa),
            (vec![], Outcome::NoData)
        );
        assert_eq!(
            ask(&zones, "er.home.arpa", Kind::A),
            (vec![], Outcome::NoData),
            "something is below"
        );
        assert_eq!(ask(&zones, "no.home.arpa", Kind::A), (vec![], Outcome::NoName));
        assert_eq!(ask(&zones, "x.nas.home.arpa", Kind::A), (vec![], Outcome::NoName));
        assert_eq!(zones.answer(&name("nas.example.org"), Kind::A), None);
        assert_eq!(
            zones.pointer("10.8.0.1".parse().unwrap()),
            Some((&name("nas.home.arpa"), 60))
        );
        assert_eq!(zones.names(), 3);
    }

    #[test]
    fn wildcards_and_aliases() {
        let zones = zones(vec![
            a("*.app.home.arpa", 1),
            a("own.app.home.arpa", 2),
            alias("www.home.arpa", "x.app.home.arpa"),
            alias("old.home.arpa", "gone.home.arpa"),
        ]);
        let ip = |last| vec![Data::V4([10, 8, 0, last].into())];
        assert_eq!(ask(&zones, "a.b.app.home.arpa", Kind::A), (ip(1), Outcome::Found));
        assert_eq!(ask(&zones, "own.app.home.arpa", Kind::A), (ip(2), Outcome::Found));
        assert_eq!(
            ask(&zones, "x.own.app.home.arpa", Kind::A),
            (vec![], Outcome::NoName)
        );
        let (told, outcome) = ask(&zones, "www.home.arpa", Kind::A);
        assert_eq!((told.len(), outcome), (2, Outcome::Found));
        assert_eq!(ask(&zones, "www.home.arpa", Kind::Cname).0.len(), 1);
        let (told, outcome) = ask(&zones, "old.home.arpa", Kind::A);
        assert_eq!((told.len(), outcome), (1, Outcome::NoName));
        assert_eq!(
            zones.pointer("10.8.0.1".parse().unwrap()),
            None,
            "a wildcard is no name of an address"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut zones = zones(vec![
            a("nas.home.arpa", 1),
            alias("www.home.arpa", "nas.home.arpa"),
        ]);
        for (line, why) in [
            (a("nas.example.org", 1), Misfit::Outside),
            (alias("x.home.arpa", "example.org"), Misfit::AliasOutside),
            (alias("nas.home.arpa", "x.home.arpa"), Misfit::AliasBeside),
            (a("www.home.arpa", 1), Misfit::AliasBeside),
            (alias("www.home.arpa", "x.home.arpa"), Misfit::AliasBeside),
            (alias("sub.home.arpa", "nas.home.arpa"), Misfit::AliasBeside),
        ] {
            let before = zones.clone();
            assert_eq!(zones.add(line), Err(why));
            assert_eq!(zones, before);
        }
        assert!(zones.endless().is_empty());
        zones.add(alias("a.home.arpa", "b.home.arpa")).unwrap();
        zones.add(alias("b.home.arpa", "a.home.arpa")).unwrap();
        assert_eq!(zones.endless(), [&name("a.home.arpa"), &name("b.home.arpa")]);
        assert_eq!(
            ask(&zones, "a.home.arpa", Kind::A).1,
            Outcome::NoData,
            "and yet there is an end"
        );
    }

    fn any_name() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 0..4).prop_map(|labels| {
            // An asterisk stands first or nowhere.
            let from = labels.iter().rposition(|label| *label == "*").unwrap_or(0);
            labels[from..]
                .iter()
                .map(|label| format!("{label}."))
                .collect::<String>()
                + "home.arpa"
        })
    }

    proptest! {
        /// Against RFC 4592 read word by word over a plain list.
        #[test]
        fn answers_are_those_of_a_list(there in prop::collection::btree_set(any_name(), 0..8), asked in any_name()) {
            prop_assume!(!asked.contains('*'));
            let zones = zones(there.iter().map(|owner| a(owner, 1)).collect());
            let exists = |owner: &str| {
                owner == "home.arpa" || owner == "sub.home.arpa"
                    || there.iter().any(|known| known == owner || known.ends_with(&format!(".{owner}")))
            };
            let mut above = asked.as_str();
            while !exists(above) {
                above = above.split_once('.').unwrap().1;
            }
            let expected = if above == asked {
                if there.contains(&asked) { Outcome::Found } else { Outcome::NoData }
            } else if exists(&format!("*.{above}")) {
                Outcome::Found
            } else {
                Outcome::NoName
            };
            prop_assert_eq!(ask(&zones, &asked, Kind::A).1, expected);
        }
    }
}

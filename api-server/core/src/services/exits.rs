//! Which ways to the internet the manifests of a service let it have.

use std::collections::BTreeSet;

use cell_manifest::Manifest;

use crate::connection::id::ConnectionId;
use crate::connection::kind::Kind;
use crate::service_network::Egress;

/// The ways that a service may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayOut {
    /// None: its containers have no route out of their network, whatever netd lets pass.
    Closed,
    /// The cell's own, and exits of these types.
    Open(BTreeSet<Kind>),
}

/// Why a way cannot be a service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It has none at all.
    Closed,
    /// It takes other types alone.
    NotAllowed {
        /// The type that it does not take.
        kind: Kind,
        /// Those that it takes.
        allowed: BTreeSet<Kind>,
    },
}

impl WayOut {
    /// What all of them allow: what a service is to be made of, and what runs until then.
    pub fn of<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Self {
        let one = |manifest: &Manifest| match manifest.has_way_out() {
            false => WayOut::Closed,
            true => WayOut::Open(
                manifest
                    .exits()
                    .into_iter()
                    .filter_map(|kind| Kind::parse(kind).ok())
                    .collect(),
            ),
        };
        let both = |left: WayOut, right: WayOut| match (left, right) {
            (WayOut::Open(left), WayOut::Open(right)) => WayOut::Open(&left & &right),
            (WayOut::Closed, _) | (_, WayOut::Closed) => WayOut::Closed,
        };
        manifests.into_iter().map(one).fold(WayOut::any(), both)
    }

    /// Every way.
    pub fn any() -> Self {
        WayOut::Open(Kind::ALL.into())
    }

    /// The types that it takes, in their order.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        let kinds = match self {
            WayOut::Closed => None,
            WayOut::Open(kinds) => Some(kinds),
        };
        kinds.into_iter().flatten().copied()
    }

    /// Whether it has a way at all.
    pub fn is_open(&self) -> bool {
        matches!(self, WayOut::Open(_))
    }

    /// Judges a choice; stand-ins too. A connection that is not known any more is the database's to refuse.
    ///
    /// # Errors
    /// [`Refused`]: the first reason.
    pub fn takes(
        &self,
        egress: &Egress,
        kind_of: impl Fn(&ConnectionId) -> Option<Kind>,
    ) -> Result<(), Refused> {
        match (self, egress) {
            (_, Egress::Nowhere) | (WayOut::Open(_), Egress::Direct) => Ok(()),
            (WayOut::Closed, Egress::Direct | Egress::Exit(_)) => Err(Refused::Closed),
            (WayOut::Open(allowed), Egress::Exit(_)) => {
                let bound = egress.bound();
                let mut kinds = bound.iter().chain(egress.fallbacks()).filter_map(kind_of);
                match kinds.find(|kind| !allowed.contains(kind)) {
                    None => Ok(()),
                    Some(kind) => Err(Refused::NotAllowed {
                        kind,
                        allowed: allowed.clone(),
                    }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::*;

    fn manifest(change: &Value) -> Manifest {
        let mut whole = json!({"schema_version": 3, "kind": "store", "id": "box", "name": "Box", "version": "1.0.0",
            "flags": {"has_subdomain": true}, "routing": {"subdomain": "box", "backend": "box:8080"},
            "containers": [{"name": "box", "image": format!("reg.example/box@sha256:{}", "0f".repeat(32)),
                "user": "1000:1000", "ports": [{"port": 8080}],
                "limits": {"memory_mib": 32, "cpu_milli": 100, "pids": 16}}]});
        for (key, value) in change.as_object().unwrap() {
            whole[key] = value.clone();
        }
        Manifest::parse(&serde_json::to_vec(&whole).unwrap()).unwrap()
    }

    fn with_egress(allowed: &Value) -> Manifest {
        manifest(
            &json!({"egress": {"allowed": allowed}, "flags": {"has_subdomain": true, "has_egress": true}}),
        )
    }

    #[test]
    fn what_all_manifests_allow_is_allowed() {
        let (closed, tor) = (manifest(&json!({})), with_egress(&json!(["tor"])));
        let both = with_egress(&json!(["tor", "proxy"]));
        // Without a name of its own, its port is devices' to open.
        let direct = manifest(&json!({"routing": null, "flags": {}}));
        assert_eq!(WayOut::of([&closed]), WayOut::Closed);
        assert_eq!(WayOut::of([&both, &closed]), WayOut::Closed);
        assert_eq!(WayOut::of([&direct]), WayOut::any());
        assert_eq!(
            WayOut::of([&tor, &both, &direct]),
            WayOut::Open([Kind::Tor].into())
        );
        assert_eq!(WayOut::of([]), WayOut::any());
    }

    #[test]
    fn a_choice_is_judged_with_what_stands_in() {
        let (tor, proxy) = (
            ConnectionId::from_random([1; 16]),
            ConnectionId::from_random([2; 16]),
        );
        let kind_of = |one: &ConnectionId| Some(if *one == tor { Kind::Tor } else { Kind::Proxy });
        let only_tor = WayOut::Open([Kind::Tor].into());
        let by = |one| Egress::through(one, None);
        let refused = Err(Refused::NotAllowed {
            kind: Kind::Proxy,
            allowed: [Kind::Tor].into(),
        });
        assert_eq!(only_tor.takes(&by(tor), kind_of), Ok(()));
        assert_eq!(only_tor.takes(&by(proxy), kind_of), refused);
        let stands_in = by(tor).falling_back_to(vec![proxy]).unwrap();
        assert_eq!(only_tor.takes(&stands_in, kind_of), refused);
        assert_eq!(only_tor.takes(&Egress::Direct, kind_of), Ok(()));
        assert_eq!(WayOut::Closed.takes(&Egress::Nowhere, kind_of), Ok(()));
        for egress in [Egress::Direct, by(tor)] {
            assert_eq!(WayOut::Closed.takes(&egress, kind_of), Err(Refused::Closed));
        }
    }
}

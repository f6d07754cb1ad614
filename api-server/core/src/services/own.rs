//! Services that are part of the cell: it wishes for them by itself, one after the other, and nobody removes them.

use cell_manifest::{Manifest, Purpose};

use super::phase::{Doing, Phase};

/// Their ids, in the order in which they are installed: the proxy last, since it is what devices see.
pub const IDS: [&str; 3] = ["chrony", "coredns", "caddy"];

/// Whether a service of this manifest is part of the cell.
pub fn is_own(manifest: &Manifest) -> bool {
    match manifest.purpose {
        Purpose::Core => IDS.contains(&manifest.id.as_str()),
        Purpose::Store => false,
    }
}

/// What is to be done for them now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// One is on its way: the others wait for it.
    Wait,
    /// This one is wished for, if the catalog has it; else the others are looked at without it.
    Install(&'static str),
    /// All are installed, or went no further: these may be tried again.
    Again(Vec<&'static str>),
}

/// What is next; `phase` says where a service stands, and `None` that it is not there. Ids of `lacking` are in no catalog.
pub fn next(lacking: &[&str], phase: impl Fn(&str) -> Option<Phase>) -> Next {
    let mut failed = Vec::new();
    for id in IDS {
        match phase(id) {
            None if lacking.contains(&id) => {}
            None => return Next::Install(id),
            Some(Phase::Installing(_) | Phase::Updating(_) | Phase::Removing(_)) => return Next::Wait,
            Some(Phase::Failed(Doing::Installing)) => failed.push(id),
            // What failed otherwise is for an administrator to look at.
            Some(Phase::Installed | Phase::Failed(Doing::Updating | Doing::Removing)) => {}
        }
    }
    Next::Again(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::phase::Update;

    #[test]
    fn one_after_the_other_and_what_failed_again() {
        let installed = Some(Phase::Installed);
        let failed = Some(Phase::Failed(Doing::Installing));
        let at = |chrony, coredns, caddy| {
            next(&[], |id| match id {
                "chrony" => chrony,
                "coredns" => coredns,
                _ => caddy,
            })
        };
        assert_eq!(at(None, None, None), Next::Install("chrony"));
        assert_eq!(at(Some(Phase::FIRST), None, None), Next::Wait);
        assert_eq!(at(installed, None, None), Next::Install("coredns"));
        assert_eq!(
            at(failed, None, None),
            Next::Install("coredns"),
            "one that fails keeps none back"
        );
        assert_eq!(
            at(installed, Some(Phase::Updating(Update::Images)), None),
            Next::Wait
        );
        assert_eq!(at(installed, installed, None), Next::Install("caddy"));
        assert_eq!(
            at(failed, installed, failed),
            Next::Again(vec!["chrony", "caddy"])
        );
        assert_eq!(at(installed, installed, installed), Next::Again(vec![]));
        let for_people = Some(Phase::Failed(Doing::Updating));
        assert_eq!(at(for_people, installed, installed), Next::Again(vec![]));
    }

    #[test]
    fn what_no_catalog_has_is_passed_over() {
        assert_eq!(next(&["chrony"], |_| None), Next::Install("coredns"));
        assert_eq!(next(&IDS, |_| None), Next::Again(vec![]));
    }
}

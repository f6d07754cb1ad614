//! What becomes of a service: phases with their steps, and which follows which. Each step can be done twice, so that whoever is
//! killed in the middle of one begins with it again.

use std::fmt;

/// Where a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// On the way to [`Phase::Installed`].
    Installing(Install),
    /// It is deployed, and devices that may reach it.
    Installed,
    /// On the way to another manifest or other parameters.
    Updating(Update),
    /// On the way out.
    Removing(Remove),
    /// It went no further; the error says why.
    Failed(Doing),
}

/// Steps of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// Its network is at netd, before there is a bridge.
    Network,
    /// The broker has its manifest.
    Manifest,
    /// Its images are there.
    Images,
    /// Its containers run.
    Deploy,
    /// netd lets devices reach it.
    Publish,
}

/// Steps of an update. What runs goes on until the new one has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// The broker has the new manifest.
    Manifest,
    /// The new images are there.
    Images,
    /// The new containers run.
    Deploy,
    /// The former ones run again: the new ones were never there.
    RollBack,
    /// netd has their addresses.
    Publish,
    /// The new containers work ([`super::trial`]); where there is nothing to go back to, nobody waits for that.
    Health,
    /// The former ones run again: the new ones ran, and do not work.
    Revert,
}

/// Steps of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remove {
    /// No device reaches it any more.
    Withdraw,
    /// Its containers are gone.
    Undeploy,
    /// Its network and its address are free.
    Free,
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// An installation: nothing of it is reached, part of it may be there.
    Installing,
    /// An update whose way back failed too.
    Updating,
    /// A removal.
    Removing,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The broker does not have the manifest any more.
    NoManifest,
    /// An image is not there any more.
    NoImage,
    /// It was refused, and would be again.
    Refused,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This.
    Phase(Phase),
    /// Nothing: it is gone.
    Gone,
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// An installation that failed, once more.
    InstallAgain,
    /// Another manifest or other parameters.
    Update,
    /// Its removal.
    Remove,
    /// Its containers to be stopped or started.
    Run,
}

/// A wish that does not fit where the service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the service is {0}: wait until that is done, or remove the service")]
pub struct NotNow(pub Phase);

impl Phase {
    /// What a new service begins with.
    pub const FIRST: Phase = Phase::Installing(Install::Network);

    /// What follows a step. What is not under way stays.
    pub fn after(self, outcome: Outcome) -> Next {
        Next::Phase(match self {
            Phase::Installing(step) => step.after(outcome),
            Phase::Updating(step) => step.after(outcome),
            Phase::Removing(step) => match (step, outcome) {
                (Remove::Withdraw, Outcome::Done) => Phase::Removing(Remove::Undeploy),
                (Remove::Undeploy, Outcome::Done) => Phase::Removing(Remove::Free),
                (Remove::Free, Outcome::Done) => return Next::Gone,
                (_, Outcome::NoManifest | Outcome::NoImage | Outcome::Refused) => {
                    Phase::Failed(Doing::Removing)
                }
            },
            Phase::Installed | Phase::Failed(_) => self,
        })
    }

    /// Where a wish leads.
    ///
    /// # Errors
    /// [`NotNow`].
    pub fn wished(self, wish: Wish) -> Result<Phase, NotNow> {
        match (wish, self) {
            (Wish::InstallAgain, Phase::Failed(Doing::Installing)) => Ok(Phase::FIRST),
            (Wish::Update, Phase::Installed | Phase::Failed(Doing::Updating)) => {
                Ok(Phase::Updating(Update::Manifest))
            }
            // What was let through stays so; what was not begun needs no end.
            (Wish::Remove, Phase::Removing(step)) => Ok(Phase::Removing(step)),
            (
                Wish::Remove,
                Phase::Installing(_) | Phase::Installed | Phase::Updating(_) | Phase::Failed(_),
            ) => Ok(Phase::Removing(Remove::Withdraw)),
            // What runs of an update that failed can be stopped too: its volumes are put back only while nobody writes to them.
            (Wish::Run, Phase::Installed | Phase::Failed(Doing::Updating)) => Ok(self),
            (Wish::InstallAgain | Wish::Update | Wish::Run, _) => Err(NotNow(self)),
        }
    }

    /// Whether something is to be done by itself.
    pub fn is_under_way(self) -> bool {
        match self {
            Phase::Installing(_) | Phase::Updating(_) | Phase::Removing(_) => true,
            Phase::Installed | Phase::Failed(_) => false,
        }
    }

    /// Whether its containers run and are to run on, though nothing else is to be done: after a boot somebody has to ask for them.
    pub fn is_kept_up(self) -> bool {
        match self {
            Phase::Installed | Phase::Failed(Doing::Updating) => true,
            Phase::Installing(_)
            | Phase::Updating(_)
            | Phase::Removing(_)
            | Phase::Failed(Doing::Installing | Doing::Removing) => false,
        }
    }

    /// Whether its containers are of what it is to be made of, though there is still something to go back to.
    pub fn runs_the_new(self) -> bool {
        match self {
            Phase::Updating(Update::Publish | Update::Health | Update::Revert) => true,
            Phase::Installing(_)
            | Phase::Installed
            | Phase::Updating(_)
            | Phase::Removing(_)
            | Phase::Failed(_) => false,
        }
    }

    /// Whether its containers run and devices are led to them, so that it can be given what it needs to work.
    pub fn is_open(self) -> bool {
        matches!(self, Phase::Installed | Phase::Updating(Update::Health))
    }

    /// Whether other services may count on it.
    pub fn is_there(self) -> bool {
        match self {
            Phase::Installed | Phase::Updating(_) => true,
            Phase::Installing(_) | Phase::Removing(_) | Phase::Failed(_) => false,
        }
    }

    /// As it is stored and told: the phase, and its step; a failure's is what was being done.
    pub fn words(self) -> (&'static str, &'static str) {
        let (_, phase, step) = *TABLE
            .iter()
            .find(|(phase, _, _)| *phase == self)
            .unwrap_or(&TABLE[0]);
        (phase, step)
    }

    /// Reads what [`Phase::words`] gives.
    pub fn from_words(phase: &str, step: &str) -> Option<Phase> {
        let found = TABLE.iter().find(|row| row.1 == phase && row.2 == step);
        found.map(|(phase, _, _)| *phase)
    }

    /// All there are.
    pub fn all() -> impl Iterator<Item = Phase> {
        TABLE.iter().map(|(phase, _, _)| *phase)
    }
}

const TABLE: &[(Phase, &str, &str)] = &[
    (Phase::Installing(Install::Network), "installing", "network"),
    (Phase::Installing(Install::Manifest), "installing", "manifest"),
    (Phase::Installing(Install::Images), "installing", "images"),
    (Phase::Installing(Install::Deploy), "installing", "deploy"),
    (Phase::Installing(Install::Publish), "installing", "publish"),
    (Phase::Installed, "installed", ""),
    (Phase::Updating(Update::Manifest), "updating", "manifest"),
    (Phase::Updating(Update::Images), "updating", "images"),
    (Phase::Updating(Update::Deploy), "updating", "deploy"),
    (Phase::Updating(Update::RollBack), "updating", "roll_back"),
    (Phase::Updating(Update::Publish), "updating", "publish"),
    (Phase::Updating(Update::Health), "updating", "health"),
    (Phase::Updating(Update::Revert), "updating", "revert"),
    (Phase::Removing(Remove::Withdraw), "removing", "withdraw"),
    (Phase::Removing(Remove::Undeploy), "removing", "undeploy"),
    (Phase::Removing(Remove::Free), "removing", "free"),
    (Phase::Failed(Doing::Installing), "failed", "installing"),
    (Phase::Failed(Doing::Updating), "failed", "updating"),
    (Phase::Failed(Doing::Removing), "failed", "removing"),
];

impl Install {
    fn after(self, outcome: Outcome) -> Phase {
        let next = match (self, outcome) {
            (_, Outcome::Refused) => return Phase::Failed(Doing::Installing),
            (_, Outcome::NoManifest) | (Install::Network, Outcome::Done) => Install::Manifest,
            (_, Outcome::NoImage) | (Install::Manifest, Outcome::Done) => Install::Images,
            (Install::Images, Outcome::Done) => Install::Deploy,
            (Install::Deploy, Outcome::Done) => Install::Publish,
            (Install::Publish, Outcome::Done) => return Phase::Installed,
        };
        Phase::Installing(next)
    }
}

impl Update {
    fn after(self, outcome: Outcome) -> Phase {
        let next = match (self, outcome) {
            // The way back does all of its steps at once: what it needs was there before.
            (
                Update::RollBack | Update::Revert,
                Outcome::NoManifest | Outcome::NoImage | Outcome::Refused,
            ) => return Phase::Failed(Doing::Updating),
            (Update::RollBack | Update::Revert | Update::Deploy, Outcome::Done) => Update::Publish,
            (Update::Publish, Outcome::Done) => Update::Health,
            (Update::Health, Outcome::Done) => return Phase::Installed,
            (Update::Publish | Update::Health, Outcome::NoManifest | Outcome::NoImage | Outcome::Refused) => {
                Update::Revert
            }
            (_, Outcome::Refused) => Update::RollBack,
            (_, Outcome::NoManifest) => Update::Manifest,
            (_, Outcome::NoImage) | (Update::Manifest, Outcome::Done) => Update::Images,
            (Update::Images, Outcome::Done) => Update::Deploy,
        };
        Phase::Updating(next)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            (phase, "") => f.write_str(phase),
            (phase, step) => write!(f, "{phase} ({step})"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const OUTCOMES: [Outcome; 4] = [
        Outcome::Done,
        Outcome::NoManifest,
        Outcome::NoImage,
        Outcome::Refused,
    ];

    fn run(mut phase: Phase, mut outcome: impl FnMut(Phase) -> Outcome) -> (Next, usize) {
        for steps in 0..40 {
            if !phase.is_under_way() {
                return (Next::Phase(phase), steps);
            }
            match phase.after(outcome(phase)) {
                Next::Gone => return (Next::Gone, steps + 1),
                Next::Phase(next) => phase = next,
            }
        }
        panic!("{phase} never ends");
    }

    #[test]
    fn each_is_stored_as_words_of_its_own() {
        for phase in Phase::all() {
            let (word, step) = phase.words();
            assert_eq!(Phase::from_words(word, step), Some(phase), "{phase}");
        }
        assert_eq!(Phase::all().count(), 19);
        assert_eq!(Phase::from_words("installed", "deploy"), None);
    }

    #[test]
    fn what_is_done_ends_installed_or_gone() {
        let done = |_| Outcome::Done;
        assert_eq!(run(Phase::FIRST, done), (Next::Phase(Phase::Installed), 5));
        let update = Phase::Installed.wished(Wish::Update).unwrap();
        assert_eq!(run(update, done), (Next::Phase(Phase::Installed), 5));
        let remove = Phase::Installed.wished(Wish::Remove).unwrap();
        assert_eq!(run(remove, done), (Next::Gone, 3));
    }

    #[test]
    fn an_update_that_is_refused_anywhere_goes_back_to_what_ran() {
        for (refused, back) in [
            (Update::Manifest, Update::RollBack),
            (Update::Images, Update::RollBack),
            (Update::Deploy, Update::RollBack),
            (Update::Publish, Update::Revert),
            (Update::Health, Update::Revert),
        ] {
            let at = Phase::Updating(refused);
            let mut went_back = false;
            let (end, _) = run(Phase::Updating(Update::Manifest), |phase| {
                went_back |= phase == Phase::Updating(back);
                // What runs again is not tried again.
                if phase == at && !went_back {
                    Outcome::Refused
                } else {
                    Outcome::Done
                }
            });
            assert_eq!(end, Next::Phase(Phase::Installed));
            assert!(went_back, "{at}");
        }
        for begun in [Update::Manifest, Update::Health] {
            let never = run(Phase::Updating(begun), |_| Outcome::Refused);
            assert_eq!(never.0, Next::Phase(Phase::Failed(Doing::Updating)), "{begun:?}");
        }
    }

    /// What goes on by itself is kept up by its steps; what was never whole, or is to go, by nobody.
    #[test]
    fn what_is_there_and_stays_is_kept_up() {
        let kept: Vec<Phase> = Phase::all().filter(|phase| phase.is_kept_up()).collect();
        assert_eq!(kept, [Phase::Installed, Phase::Failed(Doing::Updating)]);
        assert!(!kept.iter().any(|phase| phase.is_under_way()));
    }

    /// What is told of a service is what runs: the new one from its deployment to its way back.
    #[test]
    fn the_new_one_runs_from_its_deployment_on() {
        let runs = |phase: &Phase| phase.runs_the_new();
        let new: Vec<Phase> = Phase::all().filter(runs).collect();
        let steps = [Update::Publish, Update::Health, Update::Revert];
        assert_eq!(new, steps.map(Phase::Updating));
        assert!(Phase::Updating(Update::Health).is_open() && Phase::Installed.is_open());
        assert_eq!(Phase::all().filter(|phase| phase.is_open()).count(), 2);
        for refused in [Outcome::NoManifest, Outcome::NoImage, Outcome::Refused] {
            let back = Phase::Updating(Update::Health).after(refused);
            assert_eq!(back, Next::Phase(Phase::Updating(Update::Revert)), "{refused:?}");
        }
    }

    #[test]
    fn no_step_leads_into_another_business() {
        for phase in Phase::all() {
            for outcome in OUTCOMES {
                let family = |phase: Phase| match phase {
                    Phase::Installing(_) | Phase::Failed(Doing::Installing) => 1,
                    Phase::Updating(_) | Phase::Failed(Doing::Updating) => 2,
                    Phase::Removing(_) | Phase::Failed(Doing::Removing) => 3,
                    Phase::Installed => 0,
                };
                match phase.after(outcome) {
                    Next::Gone => assert_eq!(family(phase), 3, "{phase}"),
                    Next::Phase(next) => {
                        let stays = family(next) == family(phase);
                        assert!(
                            stays || next == Phase::Installed && family(phase) != 3,
                            "{phase} {next}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn wishes_fit_or_are_refused() {
        for phase in Phase::all() {
            let removed = phase.wished(Wish::Remove).unwrap();
            assert!(
                matches!(removed, Phase::Removing(_)),
                "everything can be removed: {phase}"
            );
            let updates = matches!(phase, Phase::Installed | Phase::Failed(Doing::Updating));
            assert_eq!(phase.wished(Wish::Update).is_ok(), updates, "{phase}");
            assert_eq!(phase.wished(Wish::Run).is_ok(), updates, "{phase}");
            let again = phase == Phase::Failed(Doing::Installing);
            assert_eq!(phase.wished(Wish::InstallAgain).is_ok(), again, "{phase}");
        }
        // What a removal has done is not begun anew.
        let free = Phase::Removing(Remove::Free);
        assert_eq!(free.wished(Wish::Remove), Ok(free));
    }
}

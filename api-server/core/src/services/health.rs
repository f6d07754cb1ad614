//! How a service is, from what is stored and what its containers do, and what somebody has to be told of it. Pure: rules over what
//! was seen, and since when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::phase::{Doing, Phase};

/// How long something has to be wrong before somebody is told, milliseconds: a container that is started again is soon back.
pub const PATIENCE_MS: i64 = 10_000;
/// How long nobody may say how an installed service is before somebody is told, milliseconds: longer than a broker takes to be back.
pub const UNKNOWN_MS: i64 = 60_000;
/// How often a container may start by itself within [`RESTARTS_MS`] before somebody is told.
pub const RESTARTS: usize = 3;
/// Milliseconds.
pub const RESTARTS_MS: i64 = 600_000;
/// Most transitions that are kept of one service.
pub const HISTORY_MAX: u32 = 1_000;
/// Most characters of a detail.
const DETAIL_MAX: usize = 300;

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is being installed.
    Installing,
    /// It is being removed.
    Removing,
    /// Its installation or removal failed, or its update cannot be taken back.
    Failed,
    /// Somebody stopped it.
    Stopped,
    /// Nobody says how its containers are.
    Unknown,
    /// A container does not run.
    Down,
    /// A container runs and says that it does not work.
    Unhealthy,
    /// A container has not said yet whether it works.
    Starting,
    /// All containers run, and none says that it does not work.
    Healthy,
}

impl State {
    const ALL: [State; 9] = [
        State::Installing,
        State::Removing,
        State::Failed,
        State::Stopped,
        State::Unknown,
        State::Down,
        State::Unhealthy,
        State::Starting,
        State::Healthy,
    ];

    /// Reads [`State::as_str`].
    pub fn parse(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Installing => "installing",
            State::Removing => "removing",
            State::Failed => "failed",
            State::Stopped => "stopped",
            State::Unknown => "unknown",
            State::Down => "down",
            State::Unhealthy => "unhealthy",
            State::Starting => "starting",
            State::Healthy => "healthy",
        }
    }
}

/// A container as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name in the manifest.
    pub name: String,
    /// Docker's word for its state.
    pub state: String,
    /// Exit status of the last run.
    pub exit_code: i32,
    /// `healthy`, `unhealthy`, `starting`, or empty: it has no check.
    pub health: String,
    /// When it was started, milliseconds since 1970-01-01T00:00:00Z; 0: never, or not known.
    pub started_unix_ms: i64,
}

/// A service as it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Where it stands.
    pub phase: Phase,
    /// Whether somebody stopped it.
    pub stopped: bool,
    /// Why it is not as it was asked to be: a code and words.
    pub fault: Option<(&'a str, &'a str)>,
}

/// How a service is, with words for people. `containers` are none where nobody says.
pub fn judge(wanted: &Wanted<'_>, containers: Option<&[Seen]>) -> (State, String) {
    match wanted.phase {
        Phase::Installing(_) => return (State::Installing, wanted.phase.to_string()),
        Phase::Removing(_) => return (State::Removing, wanted.phase.to_string()),
        Phase::Failed(_) => return (State::Failed, fault_words(wanted)),
        Phase::Installed | Phase::Updating(_) => {}
    }
    if wanted.stopped {
        return (State::Stopped, "somebody stopped it".to_owned());
    }
    let Some(containers) = containers.filter(|all| !all.is_empty()) else {
        return (
            State::Unknown,
            "the broker does not say how its containers are".to_owned(),
        );
    };
    let first = |is_it: fn(&Seen) -> bool| containers.iter().find(|one| is_it(one));
    if let Some(down) = first(|one| one.state != "running") {
        let ended = format!("{}: {} (exit status {})", down.name, down.state, down.exit_code);
        return (State::Down, ended);
    }
    if let Some(sick) = first(|one| one.health == "unhealthy") {
        return (State::Unhealthy, format!("{}: its check fails", sick.name));
    }
    if let Some(new) = first(|one| one.health == "starting") {
        return (
            State::Starting,
            format!("{}: its check has not said yet", new.name),
        );
    }
    (
        State::Healthy,
        format!("{} of {} run", containers.len(), containers.len()),
    )
}

fn fault_words(wanted: &Wanted<'_>) -> String {
    let words = wanted.fault.map(|(code, message)| format!("{message} ({code})"));
    short(&words.unwrap_or_else(|| wanted.phase.to_string()))
}

fn short(text: &str) -> String {
    text.chars().take(DETAIL_MAX).collect()
}

/// What is known of one service over time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// How it is, and since when.
    pub now: Option<(State, i64)>,
    /// When each container was started.
    started: BTreeMap<String, i64>,
    /// When containers started by themselves.
    restarts: VecDeque<i64>,
}

/// What an observation means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// How it is now.
    pub state: State,
    /// For people.
    pub detail: String,
}

impl Watched {
    /// As the last transition that was written down left it.
    pub fn since(state: State, at: i64) -> Self {
        Watched {
            now: Some((state, at)),
            ..Watched::default()
        }
    }

    /// Takes note of what was seen at `now`; the transition that it is, if it is one.
    pub fn see(&mut self, wanted: &Wanted<'_>, containers: Option<&[Seen]>, now: i64) -> Option<Transition> {
        self.count_restarts(wanted, containers, now);
        let (state, detail) = judge(wanted, containers);
        if self.now.is_some_and(|(before, _)| before == state) {
            return None;
        }
        self.now = Some((state, now));
        Some(Transition { state, detail })
    }

    /// A container that runs since another time than before was started again. While something is done with the service that is
    /// what was asked for.
    fn count_restarts(&mut self, wanted: &Wanted<'_>, containers: Option<&[Seen]>, now: i64) {
        let by_itself = wanted.phase == Phase::Installed && !wanted.stopped;
        for one in containers
            .unwrap_or_default()
            .iter()
            .filter(|one| one.started_unix_ms > 0)
        {
            let before = self.started.insert(one.name.clone(), one.started_unix_ms);
            if by_itself && before.is_some_and(|before| before != one.started_unix_ms) {
                self.restarts.push_back(now);
            }
        }
        while self.restarts.front().is_some_and(|at| now - at > RESTARTS_MS) || self.restarts.len() > 100 {
            self.restarts.pop_front();
        }
    }

    /// Somebody had it started: that is no sign of anything.
    pub fn was_asked_for(&mut self) {
        self.started.clear();
        self.restarts.clear();
    }

    /// Milliseconds after which it is worth a look though nothing is heard; none: it is not.
    pub fn look_in(&self, now: i64) -> Option<i64> {
        let until_told = self
            .now
            .and_then(|(state, since)| Some(since + patience_of(state)? - now))
            .filter(|left| *left > 0);
        let until_over = self.restarts.front().map(|at| at + RESTARTS_MS + 1 - now);
        [until_told, until_over].into_iter().flatten().min()
    }
}

/// How long a state may last before somebody is told of it; none: it is nothing to tell.
fn patience_of(state: State) -> Option<i64> {
    match state {
        State::Down | State::Unhealthy => Some(PATIENCE_MS),
        State::Unknown => Some(UNKNOWN_MS),
        State::Installing
        | State::Removing
        | State::Failed
        | State::Stopped
        | State::Starting
        | State::Healthy => None,
    }
}

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Its installation failed.
    Install,
    /// It was not made as it was asked for, or not all of it is in force.
    Fault,
    /// A container does not run.
    Down,
    /// A container says that it does not work.
    Unhealthy,
    /// Nobody says how its containers are.
    Unknown,
    /// A container starts again and again.
    Restarting,
    /// A certificate cannot be had.
    Certificate,
    /// CoreDNS or Caddy does not have what is published.
    Told,
}

impl Kind {
    /// Its word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Install => "install",
            Kind::Fault => "fault",
            Kind::Down => "down",
            Kind::Unhealthy => "unhealthy",
            Kind::Unknown => "unknown",
            Kind::Restarting => "restarting",
            Kind::Certificate => "certificate",
            Kind::Told => "told",
        }
    }
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something does not work.
    Critical,
    /// Something may stop working.
    Warning,
}

impl Severity {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
        }
    }
}

/// Something that somebody is told, until it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The service.
    pub service: String,
    /// What it is. Of one service each is there once.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// For people.
    pub text: String,
}

/// What is to be told of a service at `now`. It is over when this does not say it any more.
pub fn alerts(service: &str, wanted: &Wanted<'_>, watched: &Watched, now: i64) -> Vec<Alert> {
    let alert = |kind, severity, text: String| Alert {
        service: service.to_owned(),
        kind,
        severity,
        text: short(&text),
    };
    let mut all = Vec::new();
    match (wanted.phase, wanted.fault) {
        (Phase::Failed(doing), _) => {
            let what = match doing {
                Doing::Installing => "installation",
                Doing::Updating => "update",
                Doing::Removing => "removal",
            };
            let text = format!("the {what} of {service} failed: {}", fault_words(wanted));
            all.push(alert(Kind::Install, Severity::Critical, text));
        }
        (_, Some((code, message))) => {
            let kind = match code.contains("CERTIFICATE") {
                true => Kind::Certificate,
                false => Kind::Fault,
            };
            all.push(alert(
                kind,
                Severity::Warning,
                format!("{service}: {message} ({code})"),
            ));
        }
        (_, None) => {}
    }
    let lasts = |state| {
        watched
            .now
            .is_some_and(|(is, since)| is == state && patience_of(is).is_some_and(|most| now - since >= most))
    };
    if lasts(State::Down) {
        let text = format!("{service} does not run");
        all.push(alert(Kind::Down, Severity::Critical, text));
    }
    if lasts(State::Unhealthy) {
        let text = format!("{service} runs, and its check says that it does not work");
        all.push(alert(Kind::Unhealthy, Severity::Warning, text));
    }
    if lasts(State::Unknown) {
        let text = format!(
            "nobody says whether {service} runs: the broker does not answer, or does not have it (see the status)"
        );
        all.push(alert(Kind::Unknown, Severity::Warning, text));
    }
    let recent = watched
        .restarts
        .iter()
        .filter(|at| now - **at <= RESTARTS_MS)
        .count();
    if recent >= RESTARTS {
        let minutes = RESTARTS_MS / 60_000;
        // Without the count: who has seen it is not told again of each.
        let text = format!("{service} was started again {RESTARTS} times or more within {minutes} minutes");
        all.push(alert(Kind::Restarting, Severity::Warning, text));
    }
    all
}

/// What is over, of what `is` told and what is `due`. One whose words differ is raised anew: it keeps its id, and nobody has seen it yet.
pub fn changes<'a>(is: &'a BTreeSet<(String, String)>, due: &'a [Alert]) -> Vec<&'a (String, String)> {
    let stays = |(service, kind): &&(String, String)| {
        let mut due = due.iter();
        !due.any(|alert| alert.service == *service && alert.kind.as_str() == kind)
    };
    is.iter().filter(stays).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::phase::{Install, Remove};
    use super::*;

    fn wanted() -> Wanted<'static> {
        Wanted {
            phase: Phase::Installed,
            stopped: false,
            fault: None,
        }
    }

    fn seen(state: &str, health: &str, started: i64) -> Seen {
        Seen {
            name: "web".to_owned(),
            state: state.to_owned(),
            exit_code: 3,
            health: health.to_owned(),
            started_unix_ms: started,
        }
    }

    #[test]
    fn the_worst_of_its_containers_is_how_a_service_is() {
        let fine = seen("running", "healthy", 1);
        let cases = [
            (vec![fine.clone()], State::Healthy),
            (vec![fine.clone(), seen("running", "", 1)], State::Healthy),
            (
                vec![fine.clone(), seen("running", "starting", 1)],
                State::Starting,
            ),
            (
                vec![seen("running", "starting", 1), seen("running", "unhealthy", 1)],
                State::Unhealthy,
            ),
            (
                vec![seen("running", "unhealthy", 1), seen("exited", "", 1)],
                State::Down,
            ),
            (vec![], State::Unknown),
        ];
        for (containers, state) in cases {
            assert_eq!(judge(&wanted(), Some(&containers)).0, state, "{containers:?}");
        }
        assert_eq!(judge(&wanted(), None).0, State::Unknown);
        let down = judge(&wanted(), Some(&[seen("exited", "", 1)]));
        assert_eq!(down.1, "web: exited (exit status 3)");
        let of = |phase, stopped| {
            judge(
                &Wanted {
                    phase,
                    stopped,
                    fault: Some(("DENIED", "no")),
                },
                Some(std::slice::from_ref(&fine)),
            )
        };
        assert_eq!(of(Phase::Installed, true).0, State::Stopped);
        assert_eq!(of(Phase::Installing(Install::Images), false).0, State::Installing);
        assert_eq!(of(Phase::Removing(Remove::Free), true).0, State::Removing);
        let failed = of(Phase::Failed(Doing::Installing), false);
        assert_eq!(failed, (State::Failed, "no (DENIED)".to_owned()));
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("well"), None);
    }

    #[test]
    fn a_transition_is_told_once_and_an_alert_when_it_lasts() {
        let mut watched = Watched::default();
        let (up, down) = ([seen("running", "", 1)], [seen("exited", "", 1)]);
        assert_eq!(
            watched.see(&wanted(), Some(&up), 0).unwrap().state,
            State::Healthy
        );
        assert_eq!(watched.see(&wanted(), Some(&up), 5), None);
        assert_eq!(
            watched.see(&wanted(), Some(&down), 10).unwrap().state,
            State::Down
        );
        assert_eq!(alerts("notes", &wanted(), &watched, 10 + PATIENCE_MS - 1), []);
        assert_eq!(watched.look_in(10), Some(PATIENCE_MS));
        let told = alerts("notes", &wanted(), &watched, 10 + PATIENCE_MS);
        assert_eq!((told[0].kind, told[0].severity), (Kind::Down, Severity::Critical));
        // What is down and still is is no transition, and what is up again is over.
        assert_eq!(watched.see(&wanted(), Some(&down), 20_000), None);
        watched.see(&wanted(), Some(&up), 20_001).unwrap();
        assert_eq!(alerts("notes", &wanted(), &watched, 90_000), []);
        assert_eq!(watched.look_in(90_000), None);
    }

    #[test]
    fn that_nobody_says_how_it_is_is_told_when_it_lasts() {
        let mut watched = Watched::default();
        watched.see(&wanted(), None, 0).unwrap();
        assert_eq!(watched.look_in(0), Some(UNKNOWN_MS));
        assert_eq!(alerts("notes", &wanted(), &watched, UNKNOWN_MS - 1), []);
        let told = alerts("notes", &wanted(), &watched, UNKNOWN_MS);
        assert_eq!((told[0].kind, told.len()), (Kind::Unknown, 1));
        assert_eq!(watched.look_in(UNKNOWN_MS), None);
        watched
            .see(&wanted(), Some(&[seen("running", "", 1)]), UNKNOWN_MS + 1)
            .unwrap();
        assert_eq!(alerts("notes", &wanted(), &watched, 2 * UNKNOWN_MS), []);
        // Somebody stopped it: nobody has to say.
        let stopped = Wanted {
            stopped: true,
            ..wanted()
        };
        watched.see(&stopped, None, 3 * UNKNOWN_MS);
        assert_eq!(alerts("notes", &stopped, &watched, 9 * UNKNOWN_MS), []);
    }

    #[test]
    fn what_starts_by_itself_again_and_again_is_told_until_it_does_not() {
        let mut watched = Watched::default();
        for start in 1..=4 {
            watched.see(&wanted(), Some(&[seen("running", "", start)]), start * 1_000);
            let told = alerts("notes", &wanted(), &watched, start * 1_000);
            assert_eq!(told.len(), usize::from(start == 4), "{start}");
        }
        let after = 2_000 + RESTARTS_MS + 1;
        assert_eq!(watched.look_in(4_000), Some(after - 4_000));
        watched.see(&wanted(), Some(&[seen("running", "", 4)]), after);
        assert_eq!(alerts("notes", &wanted(), &watched, after), []);
        // What somebody asked for counts nothing.
        let mut asked = Watched::default();
        for start in 1..=9 {
            asked.see(&wanted(), Some(&[seen("running", "", start)]), 0);
            asked.was_asked_for();
        }
        assert_eq!(alerts("notes", &wanted(), &asked, 0), []);
        let updating = Wanted {
            phase: Phase::Updating(super::super::phase::Update::Deploy),
            ..wanted()
        };
        for start in 10..=20 {
            asked.see(&updating, Some(&[seen("running", "", start)]), 0);
        }
        assert_eq!(alerts("notes", &wanted(), &asked, 0), []);
    }

    #[test]
    fn faults_are_told_at_once_and_by_what_they_are() {
        let of = |phase, fault| {
            alerts(
                "notes",
                &Wanted {
                    phase,
                    stopped: false,
                    fault,
                },
                &Watched::default(),
                0,
            )
        };
        let kinds = |all: Vec<Alert>| all.iter().map(|one| one.kind).collect::<Vec<_>>();
        let failed = of(Phase::Failed(Doing::Installing), Some(("DENIED", "no")));
        assert_eq!(failed[0].text, "the installation of notes failed: no (DENIED)");
        assert_eq!(kinds(failed), [Kind::Install]);
        let back = of(Phase::Installed, Some(("UPDATE_TAKEN_BACK", "x")));
        assert_eq!(kinds(back), [Kind::Fault]);
        let uncertified = of(Phase::Installed, Some(("NO_CERTIFICATE", "x")));
        assert_eq!(kinds(uncertified), [Kind::Certificate]);
        assert_eq!(of(Phase::Installed, None), []);
        let is = BTreeSet::from([
            ("notes".to_owned(), "down".to_owned()),
            ("notes".to_owned(), "fault".to_owned()),
        ]);
        let due = of(Phase::Installed, Some(("X", "x")));
        assert_eq!(changes(&is, &due), [&("notes".to_owned(), "down".to_owned())]);
    }
}

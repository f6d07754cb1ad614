//! Whether what an update has started works: each of its containers runs on, and says that it is healthy where it can say so.
//! Pure: rules over what was seen, and how long after the beginning.

use std::collections::BTreeMap;
use std::time::Duration;

use cell_manifest::{Container, Health, Manifest};

use super::health::Seen;

/// How long a container without a check of its own has to run on: what cannot work mostly ends sooner.
pub const SETTLED: Duration = Duration::from_secs(5);
/// Beyond what the checks take by themselves: Docker asks one container after the other, and a machine may be busy.
const SLACK: Duration = Duration::from_secs(15);

/// What was seen since the new containers were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trial {
    /// When each was started, as it was seen first.
    started: BTreeMap<String, i64>,
}

/// What is to be said now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet; what is waited for, for people.
    Waits(String),
    /// All of it works.
    Works,
    /// It does not, and would not later.
    Fails(Failure),
}

/// What does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The container's name in the manifest.
    pub container: String,
    /// Why.
    pub why: Why,
}

/// Why a container is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The broker does not have it any more.
    Gone,
    /// It does not run: Docker's word for what it does, and its exit status.
    Ended(String, i32),
    /// It was started again.
    Restarted,
    /// Its check failed so often in a row.
    Unhealthy(u32),
    /// Its check has not said within so many seconds that it works.
    Late(u64),
    /// Nobody could say how it is when so many seconds were over.
    Unseen(u64),
}

impl Failure {
    /// UPPER_SNAKE.
    pub fn code(&self) -> &'static str {
        match self.why {
            Why::Gone | Why::Ended(..) | Why::Restarted => "CONTAINER_ENDED",
            Why::Unhealthy(_) => "UNHEALTHY",
            Why::Late(_) | Why::Unseen(_) => "HEALTH_LATE",
        }
    }

    /// For people: what happened, and what can be done.
    pub fn message(&self) -> String {
        let name = &self.container;
        let (what, fix) = match &self.why {
            Why::Gone => (
                "was taken away by somebody else".to_owned(),
                "leave the service's containers to the cell, and update again",
            ),
            Why::Ended(state, status) => (
                format!("did not run on: {state}, exit status {status}"),
                "see whether what is set of it is right, or wait for another version",
            ),
            Why::Restarted => (
                "ended and was started again".to_owned(),
                "see whether what is set of it is right, or wait for another version",
            ),
            Why::Unhealthy(failures) => (
                format!("says that it does not work: its health check failed {failures} times in a row"),
                "see whether what is set of it is right, or wait for another version",
            ),
            Why::Late(seconds) => (
                format!("did not say within {seconds} s that it works: its health check is still starting"),
                "update again when the machine is less busy, or wait for another version",
            ),
            Why::Unseen(seconds) => (
                format!(
                    "could not be looked at when its {seconds} s were over: the broker or Docker had too much to do"
                ),
                "update again when the machine is less busy",
            ),
        };
        format!("the new container {name} {what}. Fix: {fix}")
    }
}

/// How long the containers of a manifest may take until all of them are known to work: the longest of their checks, each as often as
/// it may fail, each question as long as it may take. The manifest's schema bounds it (10.3 h); those of the catalog take some minutes.
pub fn patience(manifest: &Manifest) -> Duration {
    let checks = manifest.containers.iter().filter_map(|one| one.health.as_ref());
    let longest = checks.map(check_takes).max().unwrap_or_default();
    longest.max(SETTLED) + SLACK
}

fn check_takes(health: &Health) -> Duration {
    let each = u64::from(health.interval_seconds) + u64::from(health.timeout_seconds);
    let all = u64::from(health.start_period_seconds) + each * u64::from(health.retries);
    Duration::from_secs(all)
}

/// What follows where nobody can say `after` the beginning how a container is, since the broker or Docker has too much to do: the
/// trial goes on, with what it has seen, until its time is over.
pub fn unseen(manifest: &Manifest, container: &str, after: Duration) -> Option<Failure> {
    let patience = patience(manifest);
    (after >= patience).then(|| Failure {
        container: container.to_owned(),
        why: Why::Unseen(patience.as_secs()),
    })
}

impl Trial {
    /// Takes note of what was seen `after` the beginning, of all containers at once; one that is not among them is gone. What fails
    /// is told before what is late, and before what is waited for.
    pub fn see(&mut self, manifest: &Manifest, seen: &[Seen], after: Duration) -> Verdict {
        let mut waits = None;
        for container in &manifest.containers {
            let name = container.name.to_string();
            let now = seen.iter().find(|one| one.name == name);
            match self.see_one(container, now, after) {
                Ok(None) => {}
                Ok(Some(what)) => waits = waits.or(Some((name, what))),
                Err(why) => {
                    let container = name;
                    return Verdict::Fails(Failure { container, why });
                }
            }
        }
        let Some((container, what)) = waits else {
            return Verdict::Works;
        };
        let patience = patience(manifest);
        if after >= patience {
            let why = Why::Late(patience.as_secs());
            return Verdict::Fails(Failure { container, why });
        }
        Verdict::Waits(format!(
            "{container}: {what}, for at most {} s",
            patience.as_secs()
        ))
    }

    /// What is waited for of one; none: nothing.
    fn see_one(
        &mut self,
        container: &Container,
        now: Option<&Seen>,
        after: Duration,
    ) -> Result<Option<String>, Why> {
        let now = now.ok_or(Why::Gone)?;
        if now.state != "running" {
            return Err(Why::Ended(now.state.clone(), now.exit_code));
        }
        let first = self.started.entry(now.name.clone());
        if *first.or_insert(now.started_unix_ms) != now.started_unix_ms {
            return Err(Why::Restarted);
        }
        let Some(health) = &container.health else {
            let settles = || format!("whether it runs on for {} s", SETTLED.as_secs());
            return Ok((after < SETTLED).then(settles));
        };
        match now.health.as_str() {
            "healthy" => Ok(None),
            "unhealthy" => Err(Why::Unhealthy(health.retries)),
            _ => Ok(Some("whether its health check says that it works".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::*;

    fn container(name: &str, health: &Value) -> Value {
        let mut one = json!({"name": name, "image": format!("reg.example/x@sha256:{}", "0f".repeat(32)),
            "user": "1000:1000", "limits": {"memory_mib": 32, "cpu_milli": 100, "pids": 16}});
        if !health.is_null() {
            one["health"] = health.clone();
        }
        one
    }

    fn of(containers: &[Value]) -> Manifest {
        let manifest = json!({"schema_version": 3, "kind": "store", "id": "x", "name": "X", "version": "1",
            "containers": containers});
        Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap()
    }

    /// `web` with a check (5 s, then 2 times 10 + 5 s), `db` without.
    fn both() -> Manifest {
        let health = json!({"command": ["/check"], "interval_seconds": 10, "timeout_seconds": 5, "retries": 2,
            "start_period_seconds": 5});
        of(&[container("web", &health), container("db", &Value::Null)])
    }

    fn seen(name: &str, health: &str) -> Seen {
        Seen {
            name: name.to_owned(),
            state: "running".to_owned(),
            exit_code: 0,
            health: health.to_owned(),
            started_unix_ms: 7,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fails(verdict: &Verdict) -> (&str, &'static str) {
        match verdict {
            Verdict::Fails(failure) => (failure.container.as_str(), failure.code()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_has_to_say_so_or_to_run_on() {
        let manifest = both();
        let mut trial = Trial::default();
        let waits = |verdict: Verdict, what: &str| match verdict {
            Verdict::Waits(words) => assert!(words.starts_with(what), "{words}"),
            other => panic!("{other:?}"),
        };
        waits(
            trial.see(&manifest, &[seen("web", "starting"), seen("db", "")], at(0)),
            "web: whether its",
        );
        // A check that has not begun says nothing, which is not that there is none.
        waits(
            trial.see(&manifest, &[seen("web", ""), seen("db", "")], at(20)),
            "web: whether its",
        );
        waits(
            trial.see(&manifest, &[seen("web", "healthy"), seen("db", "")], at(4)),
            "db: whether it runs",
        );
        let end = trial.see(&manifest, &[seen("db", ""), seen("web", "healthy")], at(5));
        assert_eq!(end, Verdict::Works);
    }

    #[test]
    fn what_ends_starts_again_or_says_that_it_does_not_work_fails_at_once() {
        let manifest = both();
        let first = [seen("web", "starting"), seen("db", "")];
        let look = |now: [Seen; 2]| {
            let mut trial = Trial::default();
            trial.see(&manifest, &first, at(0));
            trial.see(&manifest, &now, at(1))
        };
        let sick = look([seen("web", "unhealthy"), seen("db", "")]);
        assert_eq!(fails(&sick), ("web", "UNHEALTHY"));
        let mut ended = seen("db", "");
        (ended.state, ended.exit_code) = ("exited".to_owned(), 3);
        let ended = look([seen("web", "starting"), ended]);
        assert_eq!(
            fails(&ended),
            ("db", "CONTAINER_ENDED"),
            "though the other may yet work"
        );
        let Verdict::Fails(failure) = ended else {
            unreachable!()
        };
        let message = failure.message();
        assert!(
            message.contains("container db") && message.contains("exit status 3"),
            "{message}"
        );
        let mut again = seen("db", "");
        again.started_unix_ms = 8;
        let again = look([seen("web", "healthy"), again]);
        assert!(
            matches!(&again, Verdict::Fails(it) if it.why == Why::Restarted),
            "{again:?}"
        );
        let gone = Trial::default().see(&manifest, &[seen("web", "healthy")], at(9));
        assert!(
            matches!(&gone, Verdict::Fails(it) if it.why == Why::Gone),
            "{gone:?}"
        );
    }

    #[test]
    fn what_never_says_so_is_late_at_the_manifests_bound() {
        let manifest = both();
        assert_eq!(patience(&manifest), at(5 + 2 * 15) + SLACK);
        let starts = [seen("web", "starting"), seen("db", "")];
        let mut trial = Trial::default();
        assert!(matches!(trial.see(&manifest, &starts, at(49)), Verdict::Waits(_)));
        let late = trial.see(&manifest, &starts, at(50));
        assert_eq!(fails(&late), ("web", "HEALTH_LATE"));
        // Who comes at the last moment has come.
        let healthy = [seen("web", "healthy"), seen("db", "")];
        assert_eq!(trial.see(&manifest, &healthy, at(50)), Verdict::Works);
        assert_eq!(unseen(&manifest, "db", at(49)), None);
        let never = unseen(&manifest, "db", at(50)).unwrap();
        assert_eq!((never.container.as_str(), never.code()), ("db", "HEALTH_LATE"));
        let unchecked = of(&[container("db", &Value::Null)]);
        assert_eq!(patience(&unchecked), SETTLED + SLACK);
    }

    #[test]
    fn every_failure_names_its_container_and_a_fix() {
        for why in [
            Why::Gone,
            Why::Ended("exited".to_owned(), 1),
            Why::Restarted,
            Why::Unhealthy(3),
            Why::Late(60),
            Why::Unseen(60),
        ] {
            let container = "web".to_owned();
            let message = Failure { container, why }.message();
            assert!(message.starts_with("the new container web "), "{message}");
            assert!(message.contains(". Fix: "), "{message}");
        }
    }
}

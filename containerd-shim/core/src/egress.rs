//! The last look before bytes leave for Docker: a closed table of operations, by method and target.
//!
//! The requests are made from checked values already. This holds also when that code, or the HTTP client below it, has
//! a fault: what is not in the table is not sent.

use cell_manifest::ReloadSignal;

use crate::model::ContainerId;

/// What may be sent to Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `GET /version`
    Version,
    /// `GET /containers/json` with a filter
    List,
    /// `GET /containers/{id}/json`
    Inspect,
    /// `GET /containers/{id}/logs`, not followed
    Logs,
    /// `GET /containers/{id}/logs`, followed: read by one that stops after a time and a number of bytes
    Follow,
    /// `GET /containers/{id}/stats`, one reading
    Stats,
    /// `GET /containers/{id}/archive?path=`, of one clean path
    Archive,
    /// `POST /containers/{id}/start`
    Start,
    /// `POST /containers/{id}/stop`
    Stop,
    /// `POST /containers/{id}/restart`
    Restart,
    /// `POST /containers/{id}/kill?signal=SIGHUP` or `SIGUSR1`
    Reload,
}

impl Operation {
    /// Whether it may be asked twice, and its answer ends by itself and soon: such a one goes over a connection that is kept.
    pub fn is_short_read(self) -> bool {
        match self {
            Operation::Version | Operation::List | Operation::Inspect => true,
            Operation::Logs
            | Operation::Follow
            | Operation::Stats
            | Operation::Archive
            | Operation::Start
            | Operation::Stop
            | Operation::Restart
            | Operation::Reload => false,
        }
    }
}

/// The operation that `method` on `target` (path and query) is, if it may be sent.
pub fn operation(method: &str, target: &str) -> Option<Operation> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameters = || query.split('&').filter(|p| !p.is_empty());
    match (method, path.strip_prefix("/containers/")) {
        ("GET", None) => (path == "/version" && query.is_empty()).then_some(Operation::Version),
        ("GET", Some("json")) => parameters()
            .any(|p| p.starts_with("filters=%7B%22label%22"))
            .then_some(Operation::List),
        ("GET" | "POST", Some(rest)) => {
            let (id, verb) = rest.split_once('/')?;
            if !ContainerId::is_valid(id) {
                return None;
            }
            match (method, verb) {
                ("GET", "json") => query.is_empty().then_some(Operation::Inspect),
                ("GET", "logs") => {
                    let has = |wanted: &str| parameters().any(|p| p == wanted);
                    match (has("follow=false"), has("follow=true")) {
                        (true, false) => Some(Operation::Logs),
                        (false, true) => Some(Operation::Follow),
                        (true, true) | (false, false) => None,
                    }
                }
                ("GET", "stats") => parameters()
                    .any(|p| p == "stream=false")
                    .then_some(Operation::Stats),
                ("GET", "archive") => archive_query(query).then_some(Operation::Archive),
                ("POST", "start") => query.is_empty().then_some(Operation::Start),
                ("POST", "stop") => stop_query(query).then_some(Operation::Stop),
                ("POST", "restart") => stop_query(query).then_some(Operation::Restart),
                ("POST", "kill") => {
                    let known = ReloadSignal::ALL.iter().any(|signal| {
                        query
                            .strip_prefix("signal=")
                            .is_some_and(|word| word == signal.word())
                    });
                    known.then_some(Operation::Reload)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether it is what root's command for the way back sends: an archive into the place of a volume. The broker itself never does.
pub fn is_put_back(method: &str, target: &str) -> bool {
    let Some((path, query)) = target.split_once('?') else {
        return false;
    };
    let id = path
        .strip_prefix("/containers/")
        .and_then(|rest| rest.strip_suffix("/archive"));
    method == "PUT" && id.is_some_and(ContainerId::is_valid) && archive_query(query)
}

/// Exactly one path as a manifest can have it, with `%2F` for its slashes, `%2B` and `%40` for what it may have beside.
fn archive_query(query: &str) -> bool {
    let Some(path) = query.strip_prefix("path=") else {
        return false;
    };
    // `%25` would be a second encoding, and no path has it.
    let path = path.replace("%2F", "/").replace("%2B", "+").replace("%40", "@");
    cell_manifest::AbsolutePath::new(&path).is_ok()
}

/// Exactly `t=1` to `t=60`.
fn stop_query(query: &str) -> bool {
    let seconds = query.strip_prefix("t=").and_then(|n| n.parse::<u32>().ok());
    seconds.is_some_and(|n| (1..=60).contains(&n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_back_is_one_form_and_not_in_the_table() {
        let id = "0f".repeat(32);
        let good = format!("/containers/{id}/archive?path=%2Fdata");
        assert!(is_put_back("PUT", &good));
        assert_eq!(operation("PUT", &good), None);
        for (method, target) in [
            ("POST", good.clone()),
            ("GET", good.clone()),
            ("PUT", format!("{good}&noOverwriteDirNonDir=1")),
            ("PUT", "/containers/files/archive?path=%2Fdata".to_owned()),
            ("PUT", format!("/containers/{id}/archive?path=%2Fdata%2F..")),
            ("PUT", format!("/containers/{id}/archive")),
        ] {
            assert!(!is_put_back(method, &target), "{method} {target}");
        }
    }

    #[test]
    fn an_archive_is_of_one_clean_path() {
        let id = "0f".repeat(32);
        let at = |query: &str| format!("/containers/{id}/archive{query}");
        for path in ["%2Fdata", "%2Fsrv%2Fa.b_c-d", "%2Fa%2Bb%40c"] {
            let target = at(&format!("?path={path}"));
            assert_eq!(operation("GET", &target), Some(Operation::Archive), "{path}");
        }
        for query in [
            "",
            "?path=",
            "?path=data",
            "?path=%2Fdata%2F..%2Fetc",
            "?path=%2Fdata%252F..",
            "?path=%2Fproc%2F1%2Fenviron",
            "?path=%2Fdata&path=%2Fetc",
            "?x=1&path=%2Fdata",
        ] {
            assert_eq!(operation("GET", &at(query)), None, "{query}");
        }
        for method in ["PUT", "HEAD", "POST"] {
            assert_eq!(operation(method, &at("?path=%2Fdata")), None, "{method}");
        }
    }

    #[test]
    fn the_table_is_closed() {
        let id = "0f".repeat(32);
        let at = |verb: &str| format!("/containers/{id}/{verb}");
        assert_eq!(operation("GET", "/version"), Some(Operation::Version));
        assert_eq!(operation("GET", &at("json")), Some(Operation::Inspect));
        assert_eq!(operation("POST", &at("stop?t=60")), Some(Operation::Stop));
        assert_eq!(operation("GET", &at("logs?follow=false")), Some(Operation::Logs));
        assert_eq!(operation("GET", &at("logs?follow=true")), Some(Operation::Follow));
        for signal in ["SIGHUP", "SIGUSR1"] {
            let target = at(&format!("kill?signal={signal}"));
            assert_eq!(operation("POST", &target), Some(Operation::Reload));
        }
        assert_eq!(
            operation(
                "GET",
                "/containers/json?all=true&filters=%7B%22label%22%3A%5B%5D%7D"
            ),
            Some(Operation::List)
        );
        let refused = [
            ("GET", "/containers/json".to_owned()),
            ("GET", "/containers/json?all=true".to_owned()),
            ("GET", at("archive?path=/")),
            ("GET", at("export")),
            ("GET", at("attach/ws")),
            ("GET", at("logs")),
            ("GET", at("logs?follow=1")),
            ("GET", at("logs?follow=false&follow=true")),
            ("GET", at("stats?stream=true")),
            ("GET", at("json?size=true")),
            ("GET", at("start")),
            ("POST", at("json")),
            ("POST", at("exec")),
            ("POST", at("update")),
            ("POST", at("rename?name=x")),
            ("POST", at("kill")),
            ("POST", at("kill?signal=SIGKILL")),
            ("POST", at("kill?signal=9")),
            ("POST", at("kill?signal=SIGHUP&signal=KILL")),
            ("GET", at("kill?signal=SIGHUP")),
            ("POST", at("stop")),
            ("POST", at("stop?t=-1")),
            ("POST", at("stop?t=999999")),
            ("POST", at("restart?t=1&signal=KILL")),
            ("DELETE", format!("/containers/{id}")),
            ("POST", "/containers/create".to_owned()),
            ("POST", "/containers/files/stop?t=1".to_owned()),
            ("POST", format!("/containers/{}/stop?t=1", "0F".repeat(32))),
            ("POST", format!("/containers/{id}/../x/stop?t=1")),
            ("GET", "/version?x=1".to_owned()),
            ("GET", "/images/json".to_owned()),
            ("GET", "/info".to_owned()),
            ("POST", "/build".to_owned()),
            ("POST", "/session".to_owned()),
            ("GET", format!("http://other/containers/{id}/json")),
            ("GET", format!("//containers/{id}/json")),
            ("get", "/version".to_owned()),
        ];
        for (method, target) in refused {
            assert_eq!(operation(method, &target), None, "{method} {target}");
        }
    }
}

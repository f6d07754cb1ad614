//! The second table of what may leave for Docker: operations that make and remove, each with a target of a closed form. The
//! bodies are the broker's own; that of a create request is looked at by [`crate::deploy::recheck`] where it leaves.

use cell_manifest::{Digest, Image, Name};

use crate::model::ContainerId;

/// What may be sent to make or remove something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// `POST /containers/create?name=cell-…`
    CreateContainer,
    /// `GET /containers/{id}/json`
    InspectContainer,
    /// `POST /containers/{id}/start`
    StartContainer,
    /// `POST /containers/{id}/stop?t=…`
    StopContainer,
    /// `DELETE /containers/{id}?force=true&v=true`
    RemoveContainer,
    /// `POST /networks/create`
    CreateNetwork,
    /// `GET /networks/{id}`
    InspectNetwork,
    /// `DELETE /networks/{id}`
    RemoveNetwork,
    /// `POST /networks/{id}/connect` and `/disconnect`
    Attach,
    /// `POST /volumes/create`
    CreateVolume,
    /// `GET /volumes/cell-…`
    InspectVolume,
    /// `DELETE /volumes/cell-…`
    RemoveVolume,
    /// `GET /containers/json` and `/networks`, by labels
    ListOwn,
    /// `GET /events`, of containers, by labels
    Events,
    /// `GET /images/{name@digest}/json`, and by id
    InspectImage,
    /// `POST /images/create?fromImage=…&tag=sha256:…`
    PullImage,
}

/// The operation that `method` on `target` is, if it may be sent.
pub fn making(method: &str, target: &str) -> Option<Making> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let plain = |making: Making| query.is_empty().then_some(making);
    match (method, path) {
        ("POST", "/containers/create") => created(query).then_some(Making::CreateContainer),
        ("POST", "/networks/create") => plain(Making::CreateNetwork),
        ("POST", "/volumes/create") => plain(Making::CreateVolume),
        ("POST", "/images/create") => pulled(query).then_some(Making::PullImage),
        ("GET", "/containers/json" | "/networks") => listed(query).then_some(Making::ListOwn),
        ("GET", "/events") => query
            .strip_prefix("filters=%7B%22event%22")
            .is_some_and(|rest| !rest.contains('&') && rest.contains("%22label%22"))
            .then_some(Making::Events),
        _ => below(method, path, query),
    }
}

fn below(method: &str, path: &str, query: &str) -> Option<Making> {
    let plain = query.is_empty();
    if let Some(volume) = path.strip_prefix("/volumes/") {
        return match (method, is_volume(volume) && plain) {
            ("GET", true) => Some(Making::InspectVolume),
            ("DELETE", true) => Some(Making::RemoveVolume),
            _ => None,
        };
    }
    if let Some(image) = path
        .strip_prefix("/images/")
        .and_then(|rest| rest.strip_suffix("/json"))
    {
        let exact = Digest::try_from(image).is_ok()
            || Image::try_from(image).is_ok_and(|parsed| parsed.to_string() == image);
        return (method == "GET" && exact && plain).then_some(Making::InspectImage);
    }
    let (kind, rest) = path.strip_prefix('/')?.split_once('/')?;
    let (id, verb) = rest.split_once('/').unwrap_or((rest, ""));
    if !ContainerId::is_valid(id) {
        return None;
    }
    match (kind, method, verb, query) {
        ("containers", "GET", "json", "") => Some(Making::InspectContainer),
        ("containers", "POST", "start", "") => Some(Making::StartContainer),
        ("containers", "POST", "stop", query) => stop(query).then_some(Making::StopContainer),
        ("containers", "DELETE", "", "force=true&v=true") => Some(Making::RemoveContainer),
        ("networks", "GET", "", "") => Some(Making::InspectNetwork),
        ("networks", "DELETE", "", "") => Some(Making::RemoveNetwork),
        ("networks", "POST", "connect" | "disconnect", "") => Some(Making::Attach),
        _ => None,
    }
}

/// `cell-SERVICE.VOLUME`.
fn is_volume(text: &str) -> bool {
    let parts = text.strip_prefix("cell-").and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(service, name)| Name::try_from(service).is_ok() && Name::try_from(name).is_ok())
}

/// `name=cell-…` of a container: a service's name, its container's, the attempt.
fn created(query: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    query
        .strip_prefix("name=cell-")
        .is_some_and(|name| (1..=120).contains(&name.len()) && name.bytes().all(known))
}

/// `fromImage=NAME&tag=sha256:DIGEST`, as they are: an image's name has nothing that a query would need to hide but slashes and
/// colons, which may stand there (RFC 3986, 3.4).
fn pulled(query: &str) -> bool {
    let parts = query
        .strip_prefix("fromImage=")
        .and_then(|rest| rest.split_once("&tag="));
    parts.is_some_and(|(name, digest)| {
        Digest::try_from(digest).is_ok()
            && Image::try_from(&*format!("{name}@{digest}")).is_ok_and(|i| i.name() == name)
    })
}

fn listed(query: &str) -> bool {
    let filter = query.strip_prefix("all=true&").unwrap_or(query);
    filter
        .strip_prefix("filters=%7B%22label%22")
        .is_some_and(|rest| !rest.contains('&'))
}

fn stop(query: &str) -> bool {
    let seconds = query.strip_prefix("t=").and_then(|n| n.parse::<u32>().ok());
    seconds.is_some_and(|n| n <= 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn the_table_is_closed() {
        let id = "0f".repeat(32);
        let image = format!("reg.example:5000/a/b@sha256:{id}");
        let good = [
            (
                "POST",
                "/containers/create?name=cell-files-main-1a".to_owned(),
                Making::CreateContainer,
            ),
            (
                "DELETE",
                format!("/containers/{id}?force=true&v=true"),
                Making::RemoveContainer,
            ),
            ("POST", format!("/networks/{id}/connect"), Making::Attach),
            (
                "DELETE",
                "/volumes/cell-files.data".to_owned(),
                Making::RemoveVolume,
            ),
            ("GET", format!("/images/{image}/json"), Making::InspectImage),
            ("GET", format!("/images/sha256:{id}/json"), Making::InspectImage),
            (
                "POST",
                format!("/images/create?fromImage=reg.example:5000/a/b&tag=sha256:{id}"),
                Making::PullImage,
            ),
            (
                "GET",
                "/networks?filters=%7B%22label%22%3A%5B%5D%7D".to_owned(),
                Making::ListOwn,
            ),
            (
                "GET",
                "/events?filters=%7B%22event%22%3A%5B%5D%2C%22label%22%3A%5B%5D%7D".to_owned(),
                Making::Events,
            ),
        ];
        for (method, target, making) in good {
            assert_eq!(super::making(method, &target), Some(making), "{method} {target}");
        }
        let bad = [
            ("POST", "/containers/create".to_owned()),
            ("POST", "/containers/create?name=..%2f..%2fx".to_owned()),
            (
                "POST",
                "/containers/create?name=cell-a&platform=linux/arm64".to_owned(),
            ),
            ("POST", "/containers/create?name=other".to_owned()),
            ("POST", "//containers/create?name=cell-a".to_owned()),
            ("POST", "/v1.41/./containers/create?name=cell-a".to_owned()),
            ("DELETE", format!("/containers/{id}")),
            ("DELETE", format!("/containers/{id}?force=true&v=true&link=true")),
            ("POST", format!("/containers/{id}/exec")),
            ("POST", format!("/containers/{id}/update")),
            ("POST", format!("/containers/{id}/rename?name=x")),
            ("POST", "/containers/prune".to_owned()),
            ("GET", format!("/containers/{id}/archive?path=/")),
            ("GET", "/networks".to_owned()),
            ("GET", "/events".to_owned()),
            ("GET", "/events?filters=%7B%22event%22%3A%5B%5D%7D".to_owned()),
            ("GET", "/events?since=0".to_owned()),
            ("DELETE", "/networks/bridge".to_owned()),
            ("POST", "/networks/prune".to_owned()),
            ("DELETE", "/volumes/other".to_owned()),
            ("DELETE", "/volumes/cell-a.b/../c".to_owned()),
            ("DELETE", "/volumes/cell-a.b?force=true".to_owned()),
            ("POST", "/images/create?fromSrc=http://evil/".to_owned()),
            ("POST", "/images/create?fromImage=a&tag=latest".to_owned()),
            (
                "POST",
                format!("/images/create?fromImage=a&tag=sha256:{id}&platform=x"),
            ),
            ("POST", "/images/load".to_owned()),
            ("GET", "/images/busybox/json".to_owned()),
            ("DELETE", format!("/images/{image}")),
            ("POST", "/build".to_owned()),
            ("POST", "/session".to_owned()),
            ("POST", "/swarm/init".to_owned()),
            ("POST", "/plugins/pull".to_owned()),
        ];
        for (method, target) in bad {
            assert_eq!(super::making(method, &target), None, "{method} {target}");
        }
    }
}

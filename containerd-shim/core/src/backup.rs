//! What a backup of a service holds, from which container it is read, and under which names: `<volume>/<path in it>`.

use cell_manifest::{BelowRoot, Manifest, Name, Source};
use serde::{Deserialize, Serialize};

/// The first entry of a backup: what it is of.
pub const HEAD: &str = "cell-backup.json";
/// Longest name of an entry, bytes: Linux' longest path.
const NAME_MAX_BYTES: usize = 4096;

/// What [`HEAD`] says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`Head::FORMAT`].
    pub format: u32,
    /// The deployed service, by its name.
    pub service: String,
    /// The version of its manifest.
    pub version: String,
    /// Its manifest.
    pub manifest_digest: String,
    /// When it was begun, milliseconds since 1970-01-01T00:00:00Z.
    pub made_unix_ms: u64,
    /// What it holds, as `<volume>` or `<volume>/<folder>`.
    pub parts: Vec<String>,
}

impl Head {
    /// The form of backups that is written and read here.
    pub const FORMAT: u32 = 1;
    /// Longest, bytes: sixteen parts of 255 bytes, with room to spare.
    pub const MAX_BYTES: u64 = 16 * 1024;
}

/// One folder of a volume that the manifest wants in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The volume, by its name in the manifest.
    pub volume: Name,
    /// The folder in it; empty: all of it.
    pub folder: BelowRoot,
    /// The container that mounts it, by its name in the manifest.
    pub container: Name,
    /// Where that container has the volume.
    pub target: String,
}

/// An entry whose name is not one of the archive that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry lies outside the folder that was asked for")]
pub struct Misplaced;

/// What is in a backup, in the manifest's order. Each volume is read, and put back, in the first container that may write to
/// it, or the first that has it at all.
pub fn parts(manifest: &Manifest) -> Vec<Part> {
    let wanted = manifest.backup.iter().flat_map(|backup| &backup.paths);
    let part = |(volume, folder): &(Name, BelowRoot)| {
        let mounts = || {
            let of = |mount: &&cell_manifest::Mount| mount.source == Source::Volume(volume.clone());
            manifest.containers.iter().flat_map(move |container| {
                let mounts = container.mounts.iter().filter(of);
                mounts.map(move |mount| (container, mount))
            })
        };
        let (container, mount) = mounts()
            .find(|(_, mount)| !mount.read_only)
            .or_else(|| mounts().next())?;
        Some(Part {
            volume: volume.clone(),
            folder: folder.clone(),
            container: container.name.clone(),
            target: mount.target.as_str().to_owned(),
        })
    };
    // The manifest's validator lets no volume through that nobody mounts.
    wanted.filter_map(part).collect()
}

impl Part {
    /// The folder as its container sees it: what Docker is asked for.
    pub fn path(&self) -> String {
        match self.folder.as_str() {
            "" => self.target.clone(),
            folder => format!("{}/{folder}", self.target),
        }
    }

    /// Where it lies in a backup.
    pub fn prefix(&self) -> String {
        match self.folder.as_str() {
            "" => self.volume.to_string(),
            folder => format!("{}/{folder}", self.volume),
        }
    }

    /// The name in a backup of what Docker calls `name` in its archive of [`Part::path`]: there all begins with the folder's own
    /// name.
    ///
    /// # Errors
    /// [`Misplaced`]: it does not, or is no clean name.
    pub fn kept(&self, name: &[u8]) -> Result<Vec<u8>, Misplaced> {
        let path = self.path();
        let base = path.rsplit('/').next().unwrap_or_default().as_bytes();
        let rest = clean(name)?.strip_prefix(base).ok_or(Misplaced)?;
        if !rest.is_empty() && !rest.starts_with(b"/") {
            return Err(Misplaced);
        }
        Ok([self.prefix().as_bytes(), rest].concat())
    }
}

/// The volume that an entry of a backup is of, and its name there; empty: the volume's root.
///
/// # Errors
/// [`Misplaced`]: no clean name.
pub fn placed(name: &[u8]) -> Result<(&str, &[u8]), Misplaced> {
    let name = clean(name)?;
    let end = name.iter().position(|byte| *byte == b'/').unwrap_or(name.len());
    let volume = std::str::from_utf8(&name[..end]).map_err(|_| Misplaced)?;
    Ok((volume, name.get(end + 1..).unwrap_or_default()))
}

/// `name` without a last slash, if it is relative, has no empty, `.` or `..` segment and no NUL.
fn clean(name: &[u8]) -> Result<&[u8], Misplaced> {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let bad = |segment: &[u8]| matches!(segment, b"" | b"." | b"..") || segment.contains(&0);
    if name.len() > NAME_MAX_BYTES || name.split(|byte| *byte == b'/').any(bad) {
        return Err(Misplaced);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn part(folder: &str) -> Part {
        Part {
            volume: Name::try_from("mail").unwrap(),
            folder: BelowRoot::new(folder).unwrap(),
            container: Name::try_from("main").unwrap(),
            target: "/var/mail".to_owned(),
        }
    }

    fn kept(folder: &str, name: &str) -> Option<String> {
        let kept = part(folder).kept(name.as_bytes()).ok()?;
        Some(String::from_utf8(kept).unwrap())
    }

    /// A volume with the name of a mount in two containers, the first of which may only read.
    fn manifest() -> Manifest {
        let container = |name: &str, target: &str, read_only: bool| {
            serde_json::json!({
                "name": name, "image": format!("reg.example/x@sha256:{}", "0f".repeat(32)), "user": "1000:1000",
                "command": ["/bin/true"], "limits": {"memory_mib": 32, "cpu_milli": 500, "pids": 32},
                "mounts": [{"type": "volume", "volume": "data", "target": target, "read_only": read_only},
                    {"type": "volume", "volume": format!("{name}s"), "target": "/own"}]
            })
        };
        let manifest = serde_json::json!({
            "schema_version": 3, "kind": "store", "id": "files", "name": "Files", "version": "1.0",
            "flags": {"has_storage": true},
            "containers": [container("web", "/srv/data", true), container("main", "/data", false)],
            "backup": {"paths": [{"volume": "data"}, {"volume": "webs", "path": "a/b"}]}
        });
        Manifest::parse(manifest.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_volume_is_read_where_it_can_be_put_back() {
        let parts: Vec<_> = parts(&manifest())
            .into_iter()
            .map(|part| (part.container.to_string(), part.path(), part.prefix()))
            .collect();
        let of = |container: &str, path: &str, prefix: &str| {
            (container.to_owned(), path.to_owned(), prefix.to_owned())
        };
        // "mains" is mounted, and not in backup.paths.
        assert_eq!(
            parts,
            [of("main", "/data", "data"), of("web", "/own/a/b", "webs/a/b")]
        );
    }

    #[test]
    fn entries_lie_below_their_volume() {
        let is = |name: &str| Some(name.to_owned());
        assert_eq!(kept("", "mail/"), is("mail"));
        assert_eq!(kept("", "mail/a/b"), is("mail/a/b"));
        assert_eq!(kept("in/box", "box/new/1"), is("mail/in/box/new/1"));
        assert_eq!(part("in").kept(b"in/\xff").unwrap(), b"mail/in/\xff");
    }

    #[test]
    fn what_is_not_of_the_folder_is_not_kept() {
        let long = format!("mail/{}", "a".repeat(NAME_MAX_BYTES));
        for name in [
            "",
            "/",
            "mail2",
            "mailbox/a",
            "etc/passwd",
            "/mail/a",
            "mail/../etc",
            "mail//a",
            "mail/./a",
            "mail/..",
            "mail/a\0b",
            "..",
            ".",
            &long,
        ] {
            assert_eq!(kept("", name), None, "{name:?}");
            assert!(
                name == "mail2"
                    || name == "mailbox/a"
                    || name == "etc/passwd"
                    || placed(name.as_bytes()).is_err()
            );
        }
    }

    #[test]
    fn an_entry_tells_its_volume() {
        assert_eq!(placed(b"mail").unwrap(), ("mail", &b""[..]));
        assert_eq!(placed(b"mail/").unwrap(), ("mail", &b""[..]));
        assert_eq!(placed(b"mail/a/\xff").unwrap(), ("mail", &b"a/\xff"[..]));
        assert_eq!(placed(b"\xff/a"), Err(Misplaced));
    }
}

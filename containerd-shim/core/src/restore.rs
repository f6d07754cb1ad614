//! What of a backup may be put back, and where: whoever knows a public key can make a file that it opens, so nothing in it is trusted.

use std::collections::BTreeSet;

use crate::backup::{Head, Misplaced, placed};

/// Most links that a backup may have: their names are kept while it is looked at.
const LINKS_MAX: usize = 1_000_000;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A file or folder.
    Plain,
    /// A symbolic link, wherever it points: it is put back and not followed.
    Symbolic,
    /// Another name of a file, by its name in the backup.
    Hard(&'a [u8]),
}

/// Where an entry belongs: its volume, its name there (empty: the volume's root) and, of a hard link, the file's.
pub type Placed<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);

/// Why a backup is not put back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its head is of another form.
    #[error("the backup is of format {0}, and this broker knows {known}", known = Head::FORMAT)]
    Format(u32),
    /// It is of another service.
    #[error("the backup is of the service {0}")]
    OtherService(String),
    /// A name that is none, or leads out of its volume.
    #[error("the backup has an entry whose name leads out of its volume")]
    Misplaced,
    /// A volume that the service's manifest has in no backup.
    #[error("the backup has the volume {0}, which is in no backup of the service as it is installed now")]
    Volume(String),
    /// An entry below a link, or another name of one.
    #[error("the backup has an entry that a link would lead elsewhere")]
    ThroughLink,
    /// More links than are looked at.
    #[error("the backup has more than {LINKS_MAX} links")]
    Links,
}

impl From<Misplaced> for Unfit {
    fn from(_: Misplaced) -> Self {
        Unfit::Misplaced
    }
}

/// Looks at all entries of a backup, in their order.
#[derive(Debug)]
pub struct Restorer {
    volumes: BTreeSet<String>,
    links: BTreeSet<Vec<u8>>,
}

impl Restorer {
    /// For `service`, whose manifest has `volumes` in its backups.
    ///
    /// # Errors
    /// [`Unfit`]: by its head it is of something else.
    pub fn new(head: &Head, service: &str, volumes: BTreeSet<String>) -> Result<Self, Unfit> {
        if head.format != Head::FORMAT {
            return Err(Unfit::Format(head.format));
        }
        if head.service != service {
            let told = head.service.chars().filter(|c| !c.is_control()).take(64);
            return Err(Unfit::OtherService(told.collect()));
        }
        Ok(Restorer {
            volumes,
            links: BTreeSet::new(),
        })
    }

    /// Where an entry belongs.
    ///
    /// # Errors
    /// [`Unfit`]: nothing of the backup is to be put back.
    pub fn place<'a>(&mut self, name: &'a [u8], kind: Kind<'a>) -> Result<Placed<'a>, Unfit> {
        let (volume, rest) = placed(name)?;
        if !self.volumes.contains(volume) {
            let told = volume.chars().filter(|c| !c.is_control()).take(64);
            return Err(Unfit::Volume(told.collect()));
        }
        // One name for `a` and `a/`: tar(5) has both, and links are known by it.
        let own = key(volume, rest);
        if self.is_through_link(&own) {
            return Err(Unfit::ThroughLink);
        }
        match kind {
            Kind::Plain => Ok((volume, rest, None)),
            // In the place of the volume itself there is none.
            Kind::Symbolic if rest.is_empty() => Err(Unfit::Misplaced),
            Kind::Symbolic => {
                if self.links.len() >= LINKS_MAX {
                    return Err(Unfit::Links);
                }
                self.links.insert(own);
                Ok((volume, rest, None))
            }
            Kind::Hard(to) => {
                let (other, file) = placed(to)?;
                if other != volume || file.is_empty() || rest.is_empty() {
                    return Err(Unfit::Misplaced);
                }
                let to = key(other, file);
                if self.is_through_link(&to) || self.links.contains(&to) {
                    return Err(Unfit::ThroughLink);
                }
                Ok((volume, rest, Some(file)))
            }
        }
    }

    /// Whether something above `name` is a link of this backup.
    fn is_through_link(&self, name: &[u8]) -> bool {
        let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes
            .into_iter()
            .any(|(end, _)| self.links.contains(&name[..end]))
    }
}

/// What a link is known by.
fn key(volume: &str, rest: &[u8]) -> Vec<u8> {
    [volume.as_bytes(), b"/", rest].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn head(service: &str, format: u32) -> Head {
        Head {
            format,
            service: service.to_owned(),
            version: "1.0".to_owned(),
            manifest_digest: String::new(),
            made_unix_ms: 0,
            parts: Vec::new(),
        }
    }

    fn restorer() -> Restorer {
        let volumes = ["data".to_owned(), "mail".to_owned()];
        Restorer::new(&head("files", 1), "files", volumes.into()).unwrap()
    }

    #[test]
    fn a_backup_of_something_else_is_refused() {
        let other = Restorer::new(&head("email", 1), "files", BTreeSet::new()).unwrap_err();
        assert_eq!(other, Unfit::OtherService("email".to_owned()));
        let later = Restorer::new(&head("files", 2), "files", BTreeSet::new()).unwrap_err();
        assert_eq!(later, Unfit::Format(2));
    }

    #[test]
    fn each_entry_has_a_place_in_its_volume() {
        let mut all = restorer();
        assert_eq!(all.place(b"data", Kind::Plain).unwrap(), ("data", &b""[..], None));
        assert_eq!(
            all.place(b"data/a/b", Kind::Plain).unwrap(),
            ("data", &b"a/b"[..], None)
        );
        let linked = all.place(b"data/c", Kind::Hard(b"data/a/b")).unwrap();
        assert_eq!(linked, ("data", &b"c"[..], Some(&b"a/b"[..])));
        assert_eq!(
            all.place(b"mail/to", Kind::Symbolic).unwrap(),
            ("mail", &b"to"[..], None)
        );
        // Beside a link is not below it.
        assert!(all.place(b"mail/to2/x", Kind::Plain).is_ok());
    }

    #[test]
    fn what_leads_out_of_its_volume_is_refused() {
        for name in [
            "",
            "/data/a",
            "data/../etc/passwd",
            "data//a",
            "data/./a",
            "..",
            "data/a\0",
        ] {
            let placed = restorer().place(name.as_bytes(), Kind::Plain).unwrap_err();
            assert_eq!(placed, Unfit::Misplaced, "{name:?}");
        }
        let cache = restorer().place(b"cache/a", Kind::Plain).unwrap_err();
        assert_eq!(cache, Unfit::Volume("cache".to_owned()));
        assert_eq!(restorer().place(b"data", Kind::Symbolic), Err(Unfit::Misplaced));
        for to in ["mail/a", "/etc/passwd", "data/../x", "data", ""] {
            let linked = restorer()
                .place(b"data/l", Kind::Hard(to.as_bytes()))
                .unwrap_err();
            assert_eq!(linked, Unfit::Misplaced, "{to:?}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link_of_the_backup() {
        let mut all = restorer();
        all.place(b"data/box", Kind::Symbolic).unwrap();
        assert_eq!(
            all.place(b"data/box/passwd", Kind::Plain),
            Err(Unfit::ThroughLink)
        );
        assert_eq!(
            all.place(b"data/box/a/b", Kind::Symbolic),
            Err(Unfit::ThroughLink)
        );
        assert_eq!(
            all.place(b"data/x", Kind::Hard(b"data/box/passwd")),
            Err(Unfit::ThroughLink)
        );
        assert_eq!(
            all.place(b"data/x", Kind::Hard(b"data/box")),
            Err(Unfit::ThroughLink)
        );
    }

    /// Found by the fuzz target `api_messages`: with a last slash it was kept under a name that nothing below it has.
    #[test]
    fn a_link_whose_name_ends_with_a_slash_is_one() {
        let mut all = restorer();
        let placed = all.place(b"data/box/", Kind::Symbolic).unwrap();
        assert_eq!(placed, ("data", &b"box"[..], None));
        for (name, kind) in [
            (&b"data/box/passwd"[..], Kind::Plain),
            (b"data/box/a/", Kind::Plain),
            (b"data/x", Kind::Hard(b"data/box/passwd")),
            (b"data/x", Kind::Hard(b"data/box")),
            (b"data/x", Kind::Hard(b"data/box/")),
        ] {
            let placed = all.place(name, kind);
            assert_eq!(placed, Err(Unfit::ThroughLink), "{:?}", name.escape_ascii());
        }
        all.place(b"data/other", Kind::Symbolic).unwrap();
        assert_eq!(
            all.place(b"data/x", Kind::Hard(b"data/other/")),
            Err(Unfit::ThroughLink)
        );
    }
}

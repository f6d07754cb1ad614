//! Images: by digest.

use std::fmt;

use crate::name::Name;

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Of the 32 bytes of a SHA-256.
    pub fn of_sha256(hash: [u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = "sha256:".to_owned();
        for byte in hash {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Digest(text)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits alone: fit for a file's name.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl TryFrom<&str> for Digest {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, &'static str> {
        let digit = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(digit) => Ok(Digest(text.to_owned())),
            _ => Err("is sha256: and 64 hexadecimal digits in lower case"),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `name[:tag]@sha256:…`. The tag is for people; what is used is name and digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    name: String,
    digest: Digest,
}

impl Image {
    /// Registry and repository, as they are written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The manifest's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether the image lies in `registry`: a host, or a host and the first folders of the repository.
    pub fn is_from(&self, registry: &str) -> bool {
        self.name
            .strip_prefix(registry)
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl TryFrom<&str> for Image {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, &'static str> {
        let Some((named, digest)) = text.split_once('@') else {
            return Err("names the image by digest: name[:tag]@sha256:…");
        };
        let digest = Digest::try_from(digest)?;
        // A tag comes after the last slash; a colon before it is the registry's port.
        let last = named.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match named[last..].split_once(':') {
            Some((repository, tag)) => (&named[..last + repository.len()], Some(tag)),
            None => (named, None),
        };
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let segment = |s: &str, port: bool| {
            let (host, port) = match s.split_once(':') {
                Some((host, digits)) if port => (host, digits.parse::<u16>().is_ok_and(|n| n > 0)),
                _ => (s, true),
            };
            port && !host.is_empty()
                && host.bytes().all(known)
                && host.as_bytes()[0].is_ascii_alphanumeric()
                && !host.contains("..")
        };
        let mut segments = name.split('/').enumerate();
        let good_name = name.len() <= 200 && segments.all(|(n, s)| segment(s, n == 0 && name.contains('/')));
        let good_tag = tag.is_none_or(|tag| {
            (1..=128).contains(&tag.len()) && tag.bytes().all(|b| known(b) || b.is_ascii_uppercase())
        });
        if good_name && good_tag {
            Ok(Image {
                name: name.to_owned(),
                digest,
            })
        } else {
            Err("names the image as registry/repository[:tag]@sha256:… in lower case")
        }
    }
}

/// Name and digest, without the tag.
impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.digest)
    }
}

/// What a container is made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageSource {
    /// A registry's, by digest.
    Registry(Image),
    /// `local:NAME`: one that root built on the machine and listed there under this name.
    Local(Name),
}

impl ImageSource {
    const LOCAL: &str = "local:";

    /// A registry's image; none where it is the machine's own.
    pub fn registry(&self) -> Option<&Image> {
        match self {
            ImageSource::Registry(image) => Some(image),
            ImageSource::Local(_) => None,
        }
    }

    /// The name of one that was built on the machine.
    pub fn local(&self) -> Option<&Name> {
        match self {
            ImageSource::Local(name) => Some(name),
            ImageSource::Registry(_) => None,
        }
    }
}

impl TryFrom<&str> for ImageSource {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, &'static str> {
        match text.strip_prefix(Self::LOCAL) {
            // A registry's image has a digest: `local:x@sha256:…` is of a repository "local" with a tag.
            Some(name) if !name.contains('@') => Name::try_from(name)
                .map(ImageSource::Local)
                .map_err(|_| "names a local image as local:NAME, of 1-32 characters of a-z, 0-9 and hyphens"),
            Some(_) | None => Image::try_from(text).map(ImageSource::Registry),
        }
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageSource::Registry(image) => image.fmt(f),
            ImageSource::Local(name) => write!(f, "{}{name}", Self::LOCAL),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_image_is_a_registrys_or_the_machines_own() {
        let local = ImageSource::try_from("local:caddy").unwrap();
        assert_eq!(local.local().map(Name::as_str), Some("caddy"));
        assert_eq!(
            (local.to_string().as_str(), local.registry()),
            ("local:caddy", None)
        );
        let digest = format!("sha256:{}", "0f".repeat(32));
        for text in [format!("reg.example/a@{digest}"), format!("local:1@{digest}")] {
            let image = ImageSource::try_from(&*text).unwrap();
            assert!(image.registry().is_some() && image.local().is_none(), "{text}");
        }
        for bad in [
            "local:",
            "local:A",
            "local:a/b",
            "local:-a",
            "local:a:1",
            "local",
            "local:..",
            &digest,
        ] {
            assert!(ImageSource::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn images_are_named_by_digest() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for (text, name) in [
            ("reg.example:5000/a/b:1.2", "reg.example:5000/a/b"),
            ("reg.example/a", "reg.example/a"),
            ("busybox:1", "busybox"),
        ] {
            let image = Image::try_from(&*format!("{text}@{digest}")).unwrap();
            assert_eq!(image.to_string(), format!("{name}@{digest}"));
        }
        let image = Image::try_from(&*format!("reg.example/store/a@{digest}")).unwrap();
        assert!(image.is_from("reg.example") && image.is_from("reg.example/store"));
        assert!(!image.is_from("reg.exam") && !image.is_from("reg.example/sto"));
        for bad in [
            "reg.example/a:1",
            "",
            "@",
            "a@sha256:00",
            "A/b",
            "a b",
            "a/../b",
            "-a/b",
            "a//b",
            "a:0/b",
            "a/b:c:d",
            "http://a/b",
        ] {
            assert!(Image::try_from(bad).is_err(), "{bad}");
            assert!(
                bad == "reg.example/a:1" || Image::try_from(&*format!("{bad}@{digest}")).is_err(),
                "{bad}"
            );
        }
        assert!(Image::try_from(&*format!("a@{}", digest.to_uppercase())).is_err());
    }
}

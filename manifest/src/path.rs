//! Paths inside a container, and below a registered root.

use std::fmt;

/// An absolute path inside a container: clean, not `/`, of at most 255 printable ASCII characters, and not below what the
/// kernel and Docker provide there (`/proc`, `/sys`, `/dev`, `/run/docker*`, `/var/run`, `/etc` itself).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbsolutePath(String);

impl AbsolutePath {
    /// From text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let Some(below) = text.strip_prefix('/') else {
            return Err("is an absolute path");
        };
        segments(below)?;
        let first = below.split('/').next().unwrap_or_default();
        if matches!(first, "proc" | "sys" | "dev") {
            return Err("is not below /proc, /sys or /dev");
        }
        if text.starts_with("/run/docker") || text.starts_with("/var/run") || text == "/etc" {
            return Err("is not below /run/docker or /var/run, and not /etc");
        }
        Ok(AbsolutePath(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether one of the two is the other, or lies below it.
    pub fn overlaps(&self, other: &AbsolutePath) -> bool {
        let below = |a: &str, b: &str| {
            a.strip_prefix(b)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        below(&self.0, &other.0) || below(&other.0, &self.0)
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path below a registered root: relative, clean; the root itself when empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BelowRoot(String);

impl BelowRoot {
    /// From text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if !text.is_empty() {
            segments(text)?;
        }
        Ok(BelowRoot(text.to_owned()))
    }

    /// As text, without a slash first or last.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `a/b/c` of known characters, without an empty, `.` or `..` segment.
fn segments(text: &str) -> Result<(), &'static str> {
    if text.len() > 254 {
        return Err("has at most 255 characters");
    }
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+' | b'@');
    for segment in text.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err("is a clean path: no //, no . and no .., and not /");
        }
        if !segment.bytes().all(known) {
            return Err("consists of letters, digits and . _ - + @ between slashes");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn paths_are_clean_and_apart_from_what_is_the_kernels() {
        for good in ["/data", "/srv/a.b/c_d", "/etc/radicale", "/run/app", "/devices"] {
            assert!(AbsolutePath::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "data",
            "/a//b",
            "/a/",
            "/a/.",
            "/a/../b",
            "/dev/shm/../../etc",
            "/proc/self/fd/8",
            "/sys",
            "/dev",
            "/run/docker.sock",
            "/run/dockershim",
            "/var/run/x",
            "/etc",
            "/a b",
            "/a\0",
            "/a:b",
            "/a,b",
            "/å",
        ] {
            assert!(AbsolutePath::new(bad).is_err(), "{bad:?}");
        }
        assert!(BelowRoot::new("").is_ok() && BelowRoot::new("a/b").is_ok());
        for bad in ["/a", "..", "a/../b", "a/", "."] {
            assert!(BelowRoot::new(bad).is_err(), "{bad:?}");
        }
        let path = |text| AbsolutePath::new(text).unwrap();
        assert!(path("/a/b").overlaps(&path("/a")) && path("/a").overlaps(&path("/a")));
        assert!(!path("/ab").overlaps(&path("/a")));
    }
}

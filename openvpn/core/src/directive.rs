//! The directives of openvpn(8) that an exit may have: how a client speaks with its server, and nothing else.
//!
//! cell-api refuses others when a profile is imported, and tells why. This table is the second look, of a process that does not
//! believe cell-api: what runs a program, reads or writes a file, opens a port, routes, or weakens what is checked, is not in it.

use std::fmt;

use crate::words::{WORD_MAX, is_word};

/// Most words of a directive, its name with them.
pub const WORDS_MAX: usize = 8;

/// Names, with how many values each may have at least and at most.
const ALLOWED: &[(&str, usize, usize)] = &[
    ("auth", 1, 1),
    ("cipher", 1, 1),
    ("comp-lzo", 0, 1),
    ("compress", 0, 1),
    ("connect-retry", 1, 2),
    ("connect-timeout", 1, 1),
    ("data-ciphers", 1, 1),
    ("data-ciphers-fallback", 1, 1),
    ("explicit-exit-notify", 0, 1),
    ("fast-io", 0, 0),
    ("float", 0, 0),
    ("fragment", 1, 2),
    ("hand-window", 1, 1),
    ("keepalive", 2, 2),
    ("key-direction", 1, 1),
    ("link-mtu", 1, 1),
    ("mssfix", 0, 2),
    ("mute-replay-warnings", 0, 0),
    ("ncp-ciphers", 1, 1),
    ("nobind", 0, 0),
    ("ping", 1, 1),
    ("ping-exit", 1, 1),
    ("ping-restart", 1, 1),
    ("ping-timer-rem", 0, 0),
    ("push-peer-info", 0, 0),
    ("rcvbuf", 1, 1),
    ("remote-cert-eku", 1, 1),
    ("remote-cert-tls", 1, 1),
    ("remote-random", 0, 0),
    ("reneg-bytes", 1, 1),
    ("reneg-pkts", 1, 1),
    ("reneg-sec", 1, 2),
    ("replay-window", 1, 2),
    ("server-poll-timeout", 1, 1),
    ("sndbuf", 1, 1),
    ("tls-cert-profile", 1, 1),
    ("tls-cipher", 1, 1),
    ("tls-ciphersuites", 1, 1),
    ("tls-groups", 1, 1),
    ("tls-timeout", 1, 1),
    ("tls-version-max", 1, 1),
    ("tls-version-min", 1, 2),
    ("topology", 1, 1),
    ("tran-window", 1, 1),
    ("tun-mtu", 1, 1),
    ("verify-x509-name", 1, 2),
];

/// What a profile may say and the cell decides: taken, and left out.
const LEFT_OUT: &[&str] = &[
    // Whether and when the program is started anew is this process's to say.
    "auth-nocache",
    "auth-retry",
    "connect-retry-max",
    "resolv-retry",
];

/// One directive, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    name: &'static str,
    values: Vec<String>,
}

/// Not a directive that an exit may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDirective {
    /// There is nothing.
    #[error("has 1-{WORDS_MAX} words, of at most {WORD_MAX} bytes without control characters")]
    Words,
    /// It is not in the table.
    #[error("is not a directive that an exit may have")]
    Unknown,
    /// Another number of values.
    #[error("has {0} to {1} values")]
    Values(usize, usize),
    /// What it would let a server do.
    #[error("does not compress: what is compressed before it is encrypted can be guessed (VORACLE)")]
    Compresses,
}

impl Directive {
    /// Checks its words; `None`: the cell decides that itself.
    ///
    /// # Errors
    /// [`InvalidDirective`].
    pub fn try_new(words: &[String]) -> Result<Option<Self>, InvalidDirective> {
        let Some((name, values)) = words.split_first() else {
            return Err(InvalidDirective::Words);
        };
        if words.len() > WORDS_MAX || !words.iter().all(|word| is_word(word)) {
            return Err(InvalidDirective::Words);
        }
        if LEFT_OUT.contains(&name.as_str()) {
            return Ok(None);
        }
        let known = ALLOWED.iter().find(|(known, _, _)| known == name);
        let (name, least, most) = *known.ok_or(InvalidDirective::Unknown)?;
        if !(least..=most).contains(&values.len()) {
            return Err(InvalidDirective::Values(least, most));
        }
        let first = values.first().map(String::as_str).unwrap_or_default();
        let none = matches!(first, "" | "no" | "stub" | "stub-v2" | "migrate");
        if matches!(name, "compress" | "comp-lzo") && !none {
            return Err(InvalidDirective::Compresses);
        }
        Ok(Some(Directive {
            name,
            values: values.to_vec(),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its values.
    pub fn values(&self) -> &[String] {
        &self.values
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Directive>, InvalidDirective> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Directive::try_new(&words)
    }

    #[test]
    fn what_says_how_to_speak_with_the_server_is_taken() {
        for line in [
            "cipher AES-256-GCM",
            "keepalive 10 60",
            "remote-cert-tls server",
            "comp-lzo",
            "comp-lzo no",
            "reneg-sec 0",
        ] {
            assert!(matches!(read(line), Ok(Some(_))), "{line}");
        }
        assert_eq!(read("auth-nocache"), Ok(None));
    }

    #[test]
    fn what_acts_on_the_machine_is_not() {
        for line in [
            "up /bin/sh",
            "plugin /tmp/x.so",
            "script-security 2",
            "config /etc/shadow",
            "ca /etc/shadow",
            "management 127.0.0.1 1",
            "route 0.0.0.0 0.0.0.0",
            "ifconfig 10.0.0.1 10.0.0.2",
            "dev tun7",
            "remote 192.0.2.1",
            "log /tmp/x",
            "engine x",
            "setenv X y",
            "http-proxy 192.0.2.1 80",
            "allow-compression yes",
            "<ca>",
            "--cipher X",
            "",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        assert_eq!(read("cipher"), Err(InvalidDirective::Values(1, 1)));
        assert_eq!(read("comp-lzo yes"), Err(InvalidDirective::Compresses));
        assert_eq!(read("compress lz4"), Err(InvalidDirective::Compresses));
        let newline = ["cipher".to_owned(), "X\nup /bin/sh".to_owned()];
        assert_eq!(Directive::try_new(&newline), Err(InvalidDirective::Words));
    }

    #[test]
    fn the_table_is_in_order_and_has_no_name_twice() {
        assert!(ALLOWED.is_sorted_by(|one, other| one.0 < other.0));
        assert!(ALLOWED.iter().all(|(name, _, _)| !LEFT_OUT.contains(name)));
    }
}

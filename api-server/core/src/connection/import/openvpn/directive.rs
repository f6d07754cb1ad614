//! The directives of openvpn(8) 2.6, and what becomes of each in a profile that is imported.

/// What becomes of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Taken, with so many values at least and at most.
    Keep(usize, usize),
    /// Left out, and said so: the cell decides it.
    Leave(&'static str),
    /// The profile is refused.
    Refuse(&'static str),
}

/// A block that stands in a profile, `<name>` to `</name>`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) name: &'static str,
    pub(super) end: &'static str,
    /// Whether it is the vault's.
    pub(super) secret: bool,
    /// What PEM label it has; none: no PEM.
    label: Option<&'static str>,
}

const ROUTES: &str = "the cell routes by peer, not by the profile";
const LOGGING: &str = "the cell keeps the log";
const IDENTITY: &str = "it runs as a user of its own in any case";
const HARMLESS: &str = "it makes no difference to an exit";
const PROGRAM: &str =
    "runs a program on the cell, which a profile that is imported may not do: remove the line";
const FILE: &str =
    "reads or writes a file of the cell: put the contents into the profile as a block, or remove the line";
const CONTROL: &str = "opens a control port: remove the line";
const SERVER: &str = "is for servers: only profiles of clients can be imported";
const WEAK: &str = "weakens the encryption: remove the line";

#[rustfmt::skip]
const RULES: &[(&str, Rule)] = &[
    ("client", Rule::Keep(0, 0)), ("tls-client", Rule::Keep(0, 0)), ("pull", Rule::Keep(0, 0)),
    ("dev", Rule::Keep(1, 1)), ("dev-type", Rule::Keep(1, 1)), ("proto", Rule::Keep(1, 1)),
    ("remote", Rule::Keep(1, 3)), ("port", Rule::Keep(1, 1)), ("rport", Rule::Keep(1, 1)),
    ("remote-random", Rule::Keep(0, 0)), ("resolv-retry", Rule::Keep(1, 1)), ("connect-retry", Rule::Keep(1, 2)),
    ("connect-retry-max", Rule::Keep(1, 1)), ("connect-timeout", Rule::Keep(1, 1)), ("server-poll-timeout", Rule::Keep(1, 1)),
    ("nobind", Rule::Keep(0, 0)), ("float", Rule::Keep(0, 0)), ("fast-io", Rule::Keep(0, 0)),
    ("remote-cert-tls", Rule::Keep(1, 1)), ("remote-cert-eku", Rule::Keep(1, 1)), ("verify-x509-name", Rule::Keep(1, 2)),
    ("ns-cert-type", Rule::Keep(1, 1)), ("cipher", Rule::Keep(1, 1)), ("data-ciphers", Rule::Keep(1, 1)), ("data-ciphers-fallback", Rule::Keep(1, 1)),
    ("ncp-ciphers", Rule::Keep(1, 1)), ("auth", Rule::Keep(1, 1)), ("key-direction", Rule::Keep(1, 1)),
    ("tls-version-min", Rule::Keep(1, 2)), ("tls-version-max", Rule::Keep(1, 1)), ("tls-cipher", Rule::Keep(1, 1)),
    ("tls-ciphersuites", Rule::Keep(1, 1)), ("tls-groups", Rule::Keep(1, 1)), ("tls-cert-profile", Rule::Keep(1, 1)),
    ("auth-user-pass", Rule::Keep(0, 0)), ("auth-nocache", Rule::Keep(0, 0)), ("auth-retry", Rule::Keep(1, 1)),
    ("reneg-sec", Rule::Keep(1, 2)), ("reneg-bytes", Rule::Keep(1, 1)), ("reneg-pkts", Rule::Keep(1, 1)),
    ("hand-window", Rule::Keep(1, 1)), ("tran-window", Rule::Keep(1, 1)), ("tls-timeout", Rule::Keep(1, 1)),
    ("ping", Rule::Keep(1, 1)), ("ping-restart", Rule::Keep(1, 1)), ("ping-exit", Rule::Keep(1, 1)),
    ("ping-timer-rem", Rule::Keep(0, 0)), ("keepalive", Rule::Keep(2, 2)), ("explicit-exit-notify", Rule::Keep(0, 1)),
    ("tun-mtu", Rule::Keep(1, 1)), ("link-mtu", Rule::Keep(1, 1)), ("mssfix", Rule::Keep(0, 2)),
    ("fragment", Rule::Keep(1, 2)), ("sndbuf", Rule::Keep(1, 1)), ("rcvbuf", Rule::Keep(1, 1)),
    ("replay-window", Rule::Keep(1, 2)), ("mute-replay-warnings", Rule::Keep(0, 0)), ("push-peer-info", Rule::Keep(0, 0)),
    ("compress", Rule::Keep(0, 1)), ("comp-lzo", Rule::Keep(0, 1)), ("topology", Rule::Keep(1, 1)),
    // The cell's own business.
    ("redirect-gateway", Rule::Leave(ROUTES)), ("redirect-private", Rule::Leave(ROUTES)), ("route", Rule::Leave(ROUTES)),
    ("route-ipv6", Rule::Leave(ROUTES)), ("route-gateway", Rule::Leave(ROUTES)), ("route-metric", Rule::Leave(ROUTES)),
    ("route-delay", Rule::Leave(ROUTES)), ("route-method", Rule::Leave(ROUTES)), ("route-nopull", Rule::Leave(ROUTES)),
    ("route-noexec", Rule::Leave(ROUTES)), ("allow-pull-fqdn", Rule::Leave(ROUTES)), ("pull-filter", Rule::Leave(ROUTES)),
    ("block-ipv6", Rule::Leave(ROUTES)), ("block-outside-dns", Rule::Leave("DNS follows the exit in any case")),
    ("register-dns", Rule::Leave("DNS follows the exit in any case")), ("dhcp-option", Rule::Leave("DNS follows the exit in any case")),
    ("verb", Rule::Leave(LOGGING)), ("mute", Rule::Leave(LOGGING)), ("suppress-timestamps", Rule::Leave(LOGGING)),
    ("user", Rule::Leave(IDENTITY)), ("group", Rule::Leave(IDENTITY)), ("persist-key", Rule::Leave(IDENTITY)),
    ("persist-tun", Rule::Leave(IDENTITY)), ("setenv", Rule::Leave("no program would see it")),
    ("setenv-safe", Rule::Leave("no program would see it")), ("ignore-unknown-option", Rule::Leave("unknown directives are refused")),
    ("route-ipv6-gateway", Rule::Leave(ROUTES)), ("tun-mtu-extra", Rule::Leave("is for tap devices")),
    ("keysize", Rule::Leave("the ciphers of today have one size of key")), ("disable-occ", Rule::Leave(HARMLESS)),
    ("comp-noadapt", Rule::Leave("nothing is compressed")), ("remote-random-hostname", Rule::Leave("names are looked up by the cell")),
    ("txqueuelen", Rule::Leave(HARMLESS)), ("mtu-disc", Rule::Leave(HARMLESS)), ("mtu-test", Rule::Leave(HARMLESS)),
    ("inactive", Rule::Leave("the cell keeps its exits up")), ("disable-dco", Rule::Leave("the tunnel is a program's in any case")),
    ("lport", Rule::Leave("the cell chooses ports itself")), ("bind", Rule::Leave("the cell chooses ports itself")),
    ("auth-token", Rule::Leave("it would be old by then")), ("script-security", Rule::Leave("no program is run in any case")),
    // Never.
    ("up", Rule::Refuse(PROGRAM)), ("down", Rule::Refuse(PROGRAM)), ("up-delay", Rule::Refuse(PROGRAM)),
    ("up-restart", Rule::Refuse(PROGRAM)), ("down-pre", Rule::Refuse(PROGRAM)), ("route-up", Rule::Refuse(PROGRAM)),
    ("route-pre-down", Rule::Refuse(PROGRAM)), ("ipchange", Rule::Refuse(PROGRAM)), ("tls-verify", Rule::Refuse(PROGRAM)),
    ("auth-user-pass-verify", Rule::Refuse(PROGRAM)), ("client-connect", Rule::Refuse(PROGRAM)),
    ("client-disconnect", Rule::Refuse(PROGRAM)), ("client-crresponse", Rule::Refuse(PROGRAM)),
    ("learn-address", Rule::Refuse(PROGRAM)), ("tls-crypt-v2-verify", Rule::Refuse(PROGRAM)), ("plugin", Rule::Refuse(PROGRAM)),
    ("iproute", Rule::Refuse(PROGRAM)), ("engine", Rule::Refuse(PROGRAM)), ("providers", Rule::Refuse(PROGRAM)),
    ("pkcs11-providers", Rule::Refuse(PROGRAM)), ("pkcs11-id", Rule::Refuse(PROGRAM)),
    ("management", Rule::Refuse(CONTROL)), ("management-client", Rule::Refuse(CONTROL)), ("management-hold", Rule::Refuse(CONTROL)),
    ("management-query-passwords", Rule::Refuse(CONTROL)), ("management-external-key", Rule::Refuse(CONTROL)),
    ("config", Rule::Refuse(FILE)), ("cd", Rule::Refuse(FILE)), ("chroot", Rule::Refuse(FILE)), ("tmp-dir", Rule::Refuse(FILE)),
    ("log", Rule::Refuse(FILE)), ("log-append", Rule::Refuse(FILE)), ("status", Rule::Refuse(FILE)), ("writepid", Rule::Refuse(FILE)),
    ("daemon", Rule::Refuse(FILE)), ("askpass", Rule::Refuse(FILE)), ("ca", Rule::Refuse(FILE)), ("capath", Rule::Refuse(FILE)),
    ("cert", Rule::Refuse(FILE)), ("key", Rule::Refuse(FILE)), ("pkcs12", Rule::Refuse(FILE)), ("extra-certs", Rule::Refuse(FILE)),
    ("tls-auth", Rule::Refuse(FILE)), ("tls-crypt", Rule::Refuse(FILE)), ("tls-crypt-v2", Rule::Refuse(FILE)),
    ("secret", Rule::Refuse(FILE)), ("crl-verify", Rule::Refuse(FILE)), ("dh", Rule::Refuse(FILE)), ("replay-persist", Rule::Refuse(FILE)),
    ("http-proxy", Rule::Refuse("goes through another proxy: make that a connection of its own")),
    ("socks-proxy", Rule::Refuse("goes through another proxy: make that a connection of its own")),
    ("http-proxy-option", Rule::Refuse("goes through another proxy: make that a connection of its own")),
    ("http-proxy-retry", Rule::Refuse("goes through another proxy: make that a connection of its own")),
    ("server", Rule::Refuse(SERVER)), ("server-ipv6", Rule::Refuse(SERVER)), ("server-bridge", Rule::Refuse(SERVER)),
    ("mode", Rule::Refuse(SERVER)), ("tls-server", Rule::Refuse(SERVER)), ("push", Rule::Refuse(SERVER)),
    ("ifconfig", Rule::Refuse("sets addresses by hand, which needs a shared secret: such tunnels are not supported")),
    ("ifconfig-ipv6", Rule::Refuse("sets addresses by hand, which needs a shared secret: such tunnels are not supported")),
    ("dev-node", Rule::Refuse("names a device of the cell: remove the line")),
    ("lladdr", Rule::Refuse("is for tap devices, which an exit cannot carry")),
    ("ncp-disable", Rule::Refuse(WEAK)), ("no-replay", Rule::Refuse(WEAK)), ("no-iv", Rule::Refuse(WEAK)),
    ("tls-insecure", Rule::Refuse(WEAK)), ("prng", Rule::Refuse(WEAK)), ("verify-client-cert", Rule::Refuse(SERVER)),
    ("allow-compression", Rule::Refuse("lets the server compress, which lets what is encrypted be guessed (VORACLE)")),
];

const BLOCKS: &[Block] = &[
    Block {
        name: "ca",
        end: "</ca>",
        secret: false,
        label: Some("CERTIFICATE"),
    },
    Block {
        name: "cert",
        end: "</cert>",
        secret: false,
        label: Some("CERTIFICATE"),
    },
    Block {
        name: "extra-certs",
        end: "</extra-certs>",
        secret: false,
        label: Some("CERTIFICATE"),
    },
    Block {
        name: "crl-verify",
        end: "</crl-verify>",
        secret: false,
        label: Some("X509 CRL"),
    },
    Block {
        name: "key",
        end: "</key>",
        secret: true,
        label: Some("PRIVATE KEY"),
    },
    Block {
        name: "tls-auth",
        end: "</tls-auth>",
        secret: true,
        label: Some("OpenVPN Static key V1"),
    },
    Block {
        name: "tls-crypt",
        end: "</tls-crypt>",
        secret: true,
        label: Some("OpenVPN Static key V1"),
    },
    Block {
        name: "tls-crypt-v2",
        end: "</tls-crypt-v2>",
        secret: true,
        label: Some("OpenVPN tls-crypt-v2 client key"),
    },
    Block {
        name: "auth-user-pass",
        end: "</auth-user-pass>",
        secret: true,
        label: None,
    },
];

/// The rule of a directive and its name as the table has it; a command line's `--` before it is taken off.
pub(super) fn rule(name: &str) -> Option<(&'static str, &'static Rule)> {
    let name = name.strip_prefix("--").unwrap_or(name);
    RULES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(known, rule)| (*known, rule))
}

/// The block that a line opens.
pub(super) fn block(line: &str) -> Option<&'static Block> {
    let name = line.strip_prefix('<')?.strip_suffix('>')?;
    BLOCKS.iter().find(|block| block.name == name)
}

impl Block {
    /// Whether `body` is what the block is for: PEM with the right label, once or more, and nothing that could end it.
    pub(super) fn fits(&self, body: &str) -> bool {
        let Some(label) = self.label else { return true };
        let (mut inside, mut found) = (false, false);
        for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let marker = line
                .strip_prefix("-----")
                .and_then(|line| line.strip_suffix("-----"));
            match marker.and_then(|marker| marker.split_once(' ')) {
                Some(("BEGIN", what)) if !inside && what.ends_with(label) => inside = true,
                Some(("END", what)) if inside && what.ends_with(label) => (inside, found) = (false, true),
                Some(_) => return false,
                // Outside are comments, as OpenSSL writes certificates out.
                None if inside
                    && !line
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"+/=:-, ".contains(&b)) =>
                {
                    return false;
                }
                None if line.starts_with('<') => return false,
                None => {}
            }
        }
        found && !inside
    }

    /// What it is for, in words.
    pub(super) fn holds(&self) -> &'static str {
        match self.label {
            Some("CERTIFICATE") => "certificates in PEM",
            Some("X509 CRL") => "a list of revoked certificates in PEM",
            Some("PRIVATE KEY") => "a private key in PEM",
            Some(_) => "a key as OpenVPN writes it",
            None => "a user's name and password",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_directive_has_two_rules() {
        let mut names: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
        assert!(
            BLOCKS
                .iter()
                .all(|block| block.end == format!("</{}>", block.name))
        );
    }
}

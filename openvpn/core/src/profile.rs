//! The profile that OpenVPN reads on its standard input: written here, from fields that were checked.

use zeroize::Zeroizing;

use crate::exit::{CertificateBlock, Exit, Remote, SealedBlock};
use crate::words::{is_word, quote};

/// Longest text of a secret block, bytes.
const BLOCK_MAX: usize = 64 * 1024;

/// What holds whatever a profile says. OpenVPN takes the first of some directives and the last of others; none of these is a
/// directive that an exit may have.
///
/// It configures nothing by itself and runs no program; it asks for what it lacks on the management socket, and ends when that
/// does: so it does not outlive who drives it. Its keys stay in memory over a new start within the program, which could not read
/// them again. Without a module of the kernel's: the packets are to go by the TUN that netd made.
const FIXED: &str = "\
client
dev-type tun
ifconfig-noexec
route-noexec
script-security 0
disable-dco
persist-key
persist-tun
auth-nocache
auth-retry none
resolv-retry 0
allow-compression no
management-client
management-hold
management-query-passwords
verb 3
";

/// Text that cannot stand in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the PEM that the block <{}> is for", .0.name())]
pub struct InvalidBlock(pub SealedBlock);

/// The text of a secret block.
pub type Sealed = (SealedBlock, Zeroizing<String>);

/// Whether text is PEM of that label, once or more, and nothing that could end a block.
pub(crate) fn is_pem(text: &str, label: &str) -> bool {
    let (mut inside, mut found) = (false, false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let marker = line
            .strip_prefix("-----")
            .and_then(|line| line.strip_suffix("-----"));
        match marker.and_then(|marker| marker.split_once(' ')) {
            Some(("BEGIN", what)) if !inside && what.ends_with(label) => inside = true,
            Some(("END", what)) if inside && what.ends_with(label) => (inside, found) = (false, true),
            Some(_) => return false,
            None if inside => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=:-, ".contains(&byte);
                if !line.bytes().all(plain) {
                    return false;
                }
            }
            // Outside are comments, as OpenSSL writes certificates out.
            None if line.starts_with('<') || line.chars().any(char::is_control) => return false,
            None => {}
        }
    }
    found && !inside && text.len() <= BLOCK_MAX
}

/// Writes the profile. `management` is the path of the socket that the program connects to.
///
/// # Errors
/// [`InvalidBlock`] where a secret is something else than it should be.
pub fn render(exit: &Exit, sealed: &[Sealed], management: &str) -> Result<Zeroizing<String>, InvalidBlock> {
    // Large enough that no copy of a key is left behind when it grows.
    let secret: usize = sealed.iter().map(|(_, text)| text.len()).sum();
    let certificates: usize = exit.certificates.iter().map(|(_, pem)| pem.len()).sum();
    let room = FIXED.len() + secret + certificates + 64 * 1024;
    let mut profile = Zeroizing::new(String::with_capacity(room));
    profile.push_str(FIXED);
    line(&mut profile, "dev", [exit.interface.as_str()]);
    line(&mut profile, "management", [management, "unix"]);
    if exit.has_login {
        profile.push_str("auth-user-pass\n");
    }
    for remote in &exit.remotes {
        let Remote { server, tcp } = remote;
        let protocol = match (tcp, server.is_ipv4()) {
            (false, true) => "udp4",
            (false, false) => "udp6",
            (true, true) => "tcp4-client",
            (true, false) => "tcp6-client",
        };
        let (ip, port) = (server.ip().to_string(), server.port().to_string());
        line(&mut profile, "remote", [ip.as_str(), port.as_str(), protocol]);
    }
    for directive in &exit.directives {
        line(
            &mut profile,
            directive.name(),
            directive.values().iter().map(String::as_str),
        );
    }
    for (name, pem) in &exit.certificates {
        block(&mut profile, name.name(), pem);
    }
    for (name, text) in sealed {
        if !is_pem(text, name.label()) {
            return Err(InvalidBlock(*name));
        }
        block(&mut profile, name.name(), text);
    }
    Ok(profile)
}

fn line<'a>(profile: &mut Zeroizing<String>, name: &str, values: impl IntoIterator<Item = &'a str>) {
    profile.push_str(name);
    for value in values {
        profile.push(' ');
        quote(profile, value);
    }
    profile.push('\n');
}

fn block(profile: &mut Zeroizing<String>, name: &str, body: &str) {
    profile.push('<');
    profile.push_str(name);
    profile.push_str(">\n");
    profile.push_str(body.trim_end());
    profile.push_str("\n</");
    profile.push_str(name);
    profile.push_str(">\n");
}

/// The answer to a question for a user's name and password; none: they cannot be told.
pub fn login(realm: &str, username: &str, password: &str) -> Option<Zeroizing<String>> {
    if ![realm, username, password].iter().all(|word| is_word(word)) {
        return None;
    }
    let mut answer = Zeroizing::new(String::with_capacity(4096));
    line(&mut answer, "username", [realm, username]);
    line(&mut answer, "password", [realm, password]);
    Some(answer)
}

/// Certificates that a block may have, or what says which are revoked.
pub(crate) fn is_certificate(block: CertificateBlock, pem: &str) -> bool {
    let label = match block {
        CertificateBlock::Ca | CertificateBlock::Cert | CertificateBlock::ExtraCerts => "CERTIFICATE",
        CertificateBlock::CrlVerify => "X509 CRL",
    };
    is_pem(pem, label)
}

//! The exits from the wire, checked: every fault named at once. What comes from the wire is given as plain values, so that no
//! message is known here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::directive::Directive;
use crate::exit::{CertificateBlock, Exit, ExitId, Interface, Remote, SealedBlock};
use crate::profile::is_certificate;

/// Most servers of one exit.
pub const REMOTES_MAX: usize = 64;
/// Most directives of one exit.
pub const DIRECTIVES_MAX: usize = 64;

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path to the field.
    pub field: String,
    /// What is wrong, or what would be right. Never what was sent: it may be a secret that went astray.
    pub description: String,
}

/// What may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// How names of TUNs begin.
    pub interface_prefix: String,
    /// Most exits.
    pub exits_max: usize,
}

/// An exit as it was asked for.
#[derive(Debug, Clone)]
pub struct AskedExit<'a> {
    /// Its connection's id.
    pub id: &'a str,
    /// Its TUN.
    pub interface: &'a str,
    /// Its servers, each with whether it is spoken to by TCP; what the wire held, or why it is none.
    pub remotes: Vec<(Result<SocketAddr, String>, Result<bool, String>)>,
    /// Its directives, in words.
    pub directives: Vec<&'a [String]>,
    /// Blocks with their PEM.
    pub certificates: Vec<(&'a str, &'a str)>,
    /// Names of blocks that the vault has.
    pub sealed: &'a [String],
    /// Whether the server asks who signs in.
    pub has_login: bool,
    /// See [`Exit::revision`].
    pub revision: u64,
    /// See [`Exit::secret_revision`].
    pub secret_revision: u64,
}

/// The exits that were asked for, by id.
///
/// # Errors
/// Every fault of the request.
pub fn exits(asked: &[AskedExit<'_>], ceiling: &Ceiling) -> Result<BTreeMap<ExitId, Exit>, Vec<Violation>> {
    let mut faults = Faults::default();
    if asked.len() > ceiling.exits_max {
        let most = ceiling.exits_max;
        faults.add("exits", format!("are at most {most}"));
        return Err(faults.0);
    }
    let (mut exits, mut interfaces) = (BTreeMap::new(), BTreeSet::new());
    for (index, asked) in asked.iter().enumerate() {
        let at = format!("exits[{index}]");
        let Some(exit) = faults.exit(&at, asked, ceiling) else {
            continue;
        };
        if !interfaces.insert(exit.interface.clone()) {
            faults.add(format!("{at}.interface"), "is another exit's too");
        }
        if exits.insert(exit.id.clone(), exit).is_some() {
            faults.add(format!("{at}.id"), "is another exit's too");
        }
    }
    if faults.0.is_empty() {
        Ok(exits)
    } else {
        Err(faults.0)
    }
}

#[derive(Default)]
struct Faults(Vec<Violation>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, description: impl ToString) {
        self.0.push(Violation {
            field: field.into(),
            description: description.to_string(),
        });
    }

    fn exit(&mut self, at: &str, asked: &AskedExit<'_>, ceiling: &Ceiling) -> Option<Exit> {
        let before = self.0.len();
        let id = ExitId::parse(asked.id)
            .map_err(|error| self.add(format!("{at}.id"), error))
            .ok();
        let prefix = &ceiling.interface_prefix;
        let interface = Interface::try_new(asked.interface, prefix);
        if interface.is_none() {
            let rule = format!("is {prefix} and letters or digits, at most 15 bytes in all");
            self.add(format!("{at}.interface"), rule);
        }
        let remotes = self.remotes(at, asked);
        let directives = self.directives(at, asked);
        let certificates = self.certificates(at, asked);
        let sealed = self.sealed(at, asked);
        let certified = certificates
            .iter()
            .any(|(block, _)| *block == CertificateBlock::Cert);
        if certified != sealed.contains(&SealedBlock::Key) {
            self.add(
                format!("{at}.certificates"),
                "cert and the sealed block key belong together",
            );
        }
        let exit = Exit {
            id: id?,
            interface: interface?,
            remotes,
            directives,
            certificates,
            sealed,
            has_login: asked.has_login,
            revision: asked.revision,
            secret_revision: asked.secret_revision,
        };
        (self.0.len() == before).then_some(exit)
    }

    fn remotes(&mut self, at: &str, asked: &AskedExit<'_>) -> Vec<Remote> {
        if asked.remotes.is_empty() || asked.remotes.len() > REMOTES_MAX {
            self.add(format!("{at}.remotes"), format!("are 1 to {REMOTES_MAX}"));
            return Vec::new();
        }
        let mut remotes = Vec::with_capacity(asked.remotes.len());
        for (index, (server, tcp)) in asked.remotes.iter().enumerate() {
            let at = format!("{at}.remotes[{index}]");
            let server = match server {
                Ok(server) if is_one_host(*server) => Some(*server),
                Ok(_) => {
                    self.add(format!("{at}.server"), "is the address of one host");
                    None
                }
                Err(why) => {
                    self.add(format!("{at}.server"), why);
                    None
                }
            };
            let tcp = tcp
                .clone()
                .map_err(|why| self.add(format!("{at}.protocol"), why))
                .ok();
            remotes.extend(server.zip(tcp).map(|(server, tcp)| Remote { server, tcp }));
        }
        remotes
    }

    fn directives(&mut self, at: &str, asked: &AskedExit<'_>) -> Vec<Directive> {
        if asked.directives.len() > DIRECTIVES_MAX {
            self.add(
                format!("{at}.directives"),
                format!("are at most {DIRECTIVES_MAX}"),
            );
            return Vec::new();
        }
        let mut directives = Vec::new();
        for (index, words) in asked.directives.iter().enumerate() {
            match Directive::try_new(words) {
                Ok(directive) => directives.extend(directive),
                Err(why) => self.add(format!("{at}.directives[{index}]"), why),
            }
        }
        directives
    }

    fn certificates(&mut self, at: &str, asked: &AskedExit<'_>) -> Vec<(CertificateBlock, String)> {
        let mut certificates: Vec<(CertificateBlock, String)> = Vec::new();
        for (index, (name, pem)) in asked.certificates.iter().enumerate() {
            let at = format!("{at}.certificates[{index}]");
            let block = CertificateBlock::ALL
                .into_iter()
                .find(|block| block.name() == *name);
            match block {
                None => self.add(format!("{at}.block"), "is ca, cert, extra-certs or crl-verify"),
                Some(block) if certificates.iter().any(|(known, _)| *known == block) => {
                    self.add(format!("{at}.block"), "is there already");
                }
                Some(block) if !is_certificate(block, pem) => {
                    self.add(
                        format!("{at}.pem"),
                        "is certificates, or for crl-verify a list of revoked ones, in PEM",
                    );
                }
                Some(block) => certificates.push((block, (*pem).to_owned())),
            }
        }
        let signed = certificates
            .iter()
            .any(|(block, _)| *block == CertificateBlock::Ca);
        if !signed {
            let why = "have ca: without it anybody could be the server";
            self.add(format!("{at}.certificates"), why);
        }
        certificates
    }

    fn sealed(&mut self, at: &str, asked: &AskedExit<'_>) -> BTreeSet<SealedBlock> {
        let mut sealed = BTreeSet::new();
        for (index, name) in asked.sealed.iter().enumerate() {
            match SealedBlock::ALL.into_iter().find(|block| block.name() == name) {
                Some(block) => drop(sealed.insert(block)),
                None => self.add(
                    format!("{at}.sealed_blocks[{index}]"),
                    "is key, tls-auth, tls-crypt or tls-crypt-v2",
                ),
            }
        }
        sealed
    }
}

fn is_one_host(server: SocketAddr) -> bool {
    let ip = server.ip().to_canonical();
    let broadcast = matches!(ip, std::net::IpAddr::V4(v4) if v4.is_broadcast());
    server.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && !broadcast
}

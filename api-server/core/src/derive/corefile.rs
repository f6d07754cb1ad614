//! CoreDNS' configuration: one server block for each view, chosen by the peer's address, which the DNS relay tells in a PROXY
//! protocol header. What is in no view finds no service.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::zones::{Zone, views};
use crate::published::{HostName, Published};

/// Addresses in one block: an expression has at most 10,000 nodes (expr-lang's default), and a list of constants is a set,
/// so that a question costs the same however many there are.
pub const ADDRESSES_MAX: usize = 4096;
/// Where CoreDNS sees the folder.
pub const FOLDER: &str = "/etc/coredns";
/// The configuration's name in the folder.
pub const COREFILE: &str = "Corefile";

/// What CoreDNS logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryLog {
    /// Nothing.
    Off,
    /// Failures alone.
    Errors,
    /// Every question as well: what peers look up is in the log.
    Questions,
}

impl QueryLog {
    /// Reads `off`, `errors` or `questions`.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "off" => Ok(QueryLog::Off),
            "errors" => Ok(QueryLog::Errors),
            "questions" => Ok(QueryLog::Questions),
            _ => Err("must be \"off\", \"errors\" or \"questions\""),
        }
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            QueryLog::Off => "off",
            QueryLog::Errors => "errors",
            QueryLog::Questions => "questions",
        }
    }
}

/// What is not the services' affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorefileSettings<'a> {
    /// Where questions come from: nobody else's word on who asks is taken.
    pub relay: Ipv4Addr,
    /// What is logged.
    pub log: QueryLog,
    /// Where CoreDNS sees the folder: [`FOLDER`] but in tests.
    pub folder: &'a str,
    /// The port.
    pub port: u16,
}

/// All files, the configuration last: whoever writes them in this order never has one that names files that are not there.
pub fn files(published: &Published, settings: &CorefileSettings<'_>, serial: u32) -> Vec<(String, String)> {
    let domains = published.distinct_domains();
    let views = views(published);
    let mut writer = Writer {
        settings,
        serial,
        text: format!("# Written by cell-api, serial {serial}. What others write here is lost.\n"),
        files: Vec::new(),
    };
    for (number, view) in views.iter().enumerate() {
        let zones = writer.zones(published, &domains, number, &view.services);
        for (part, readers) in view.readers.chunks(ADDRESSES_MAX).enumerate() {
            writer.open(domains.iter().copied());
            writer.view(number, part, readers);
            writer.served(&zones);
            writer.close();
        }
    }
    if !domains.is_empty() {
        let zones = writer.zones(published, &domains, views.len(), &[]);
        writer.open(domains.iter().copied());
        writer.served(&zones);
        writer.close();
    }
    for link in published.foreign() {
        writer.open([&link.zone]);
        let _ = writeln!(writer.text, "\tforward . {}", link.resolver);
        writer.close();
    }
    // All else is refused; without a plugin it would be a failure.
    writer.text.push_str(&format!(".:{} {{\n", settings.port));
    writer.common();
    writer
        .text
        .push_str("\ttemplate ANY ANY . {\n\t\trcode REFUSED\n\t}\n");
    writer.close();
    let Writer { text, mut files, .. } = writer;
    files.push((COREFILE.to_owned(), text));
    files
}

/// Whether a file's name is one that [`files`] gives.
pub fn is_ours(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name
        .strip_prefix("zone-")
        .and_then(|rest| rest.strip_suffix(".db"));
    name == COREFILE
        || numbers.is_some_and(|numbers| numbers.split('-').count() == 3 && numbers.split('-').all(digits))
}

/// The serial that a configuration was written with; None: it is none of [`files`].
pub fn serial_of(corefile: &str) -> Option<u32> {
    let rest = corefile.strip_prefix("# Written by cell-api, serial ")?;
    rest.split_once(". ")?.0.parse().ok()
}

/// Writing to a String does not fail, so what `writeln!` says is not looked at.
struct Writer<'a> {
    settings: &'a CorefileSettings<'a>,
    serial: u32,
    text: String,
    files: Vec<(String, String)>,
}

impl Writer<'_> {
    /// The files' names have the serial: a configuration never reads what was written for another.
    fn zones<'z>(
        &mut self,
        published: &Published,
        domains: &[&'z HostName],
        view: usize,
        services: &[usize],
    ) -> Vec<(String, &'z HostName)> {
        let mut named = Vec::new();
        for (number, apex) in domains.iter().enumerate() {
            let name = format!("zone-{}-{view}-{number}.db", self.serial);
            let text = Zone::of(published, apex, services).render(self.serial);
            self.files.push((name.clone(), text));
            named.push((name, *apex));
        }
        named
    }

    fn open<'z>(&mut self, zones: impl IntoIterator<Item = &'z HostName>) {
        for zone in zones {
            let _ = write!(self.text, "{zone}:{} ", self.settings.port);
        }
        self.text.push_str("{\n");
        self.common();
    }

    fn common(&mut self) {
        let CorefileSettings { relay, log, .. } = self.settings;
        let _ = writeln!(
            self.text,
            "\tproxyproto {{\n\t\tallow {relay}/32\n\t\tdefault reject\n\t}}"
        );
        self.text.push_str(match log {
            QueryLog::Off => "",
            QueryLog::Errors => "\terrors\n",
            QueryLog::Questions => "\terrors\n\tlog\n",
        });
    }

    fn view(&mut self, number: usize, part: usize, readers: &[IpAddr]) {
        let _ = write!(self.text, "\tview v{number}p{part} {{\n\t\texpr client_ip() in [");
        for (place, reader) in readers.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let _ = write!(self.text, "{comma}'{reader}'");
        }
        self.text.push_str("]\n\t}\n");
    }

    fn served(&mut self, zones: &[(String, &HostName)]) {
        let folder = self.settings.folder;
        for (file, apex) in zones {
            // It is read when CoreDNS is told to, and never in between.
            let _ = writeln!(self.text, "\tfile {folder}/{file} {apex} {{\n\t\treload 0\n\t}}");
        }
    }

    fn close(&mut self) {
        self.text.push_str("}\n");
    }
}

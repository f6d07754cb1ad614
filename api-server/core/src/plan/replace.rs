//! What it means that a connection is made anew or called otherwise: to whom, and what does not come back.

use super::{Group, Told};
use crate::connection::config::{Config, Server};

/// Who uses a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// Those whose way to the internet it is now, in order.
    pub through: Vec<String>,
    /// Those who are bound to it or let it stand in, and go another way now.
    pub apart: Vec<String>,
}

/// A change of a connection.
#[derive(Debug, Clone)]
pub struct Replacement<'a> {
    /// What it is called now.
    pub name: &'a str,
    /// What it is called afterwards, where that is something else.
    pub renamed: Option<&'a str>,
    /// What it is made of now and afterwards, where it is imported again.
    pub imported: Option<(&'a Config, &'a Config)>,
    /// Whether the vault has secrets of it that make room for others.
    pub forgets_secrets: bool,
    /// Devices that use it.
    pub devices: Users,
    /// Services that use it.
    pub services: Users,
    /// The device that the author asks from.
    pub author: Option<&'a str>,
}

/// One thing that it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    kind: &'static str,
    who: Vec<String>,
    text: String,
}

/// All that it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    statements: Vec<Meant>,
    services: Vec<String>,
    own: bool,
}

impl Meant {
    /// Of nobody in particular.
    fn new(kind: &'static str, text: String) -> Self {
        Meant {
            kind,
            who: Vec::new(),
            text,
        }
    }
}

impl Replacement<'_> {
    /// What it means.
    pub fn plan(&self) -> Replaced {
        let mut statements = Vec::new();
        if let Some(name) = self.renamed {
            statements.push(Meant::new("renamed", format!("{} is called {name}.", self.name)));
        }
        if let Some((before, after)) = self.imported {
            statements.push(Meant::new("servers", self.servers(before, after)));
            statements.extend(self.uses());
            if self.forgets_secrets {
                let text = format!(
                    "The vault forgets the secrets that {} has now, and nothing brings them back: keep what it was made of.",
                    self.name
                );
                statements.push(Meant::new("secrets", text));
            }
        }
        let imports = self.imported.is_some();
        let services = [&self.services.through[..], &self.services.apart].concat();
        let sits_behind = |author: &str| self.devices.through.iter().any(|one| one == author);
        Replaced {
            statements,
            services: if imports { services } else { Vec::new() },
            own: imports && self.author.is_some_and(sits_behind),
        }
    }

    /// To whom it happens.
    fn uses(&self) -> Vec<Meant> {
        let (name, devices) = (self.name, |names: &[String]| Group(names.to_vec()).to_string());
        let ends =
            |who: String| format!("Open connections of {who} to the internet end: {name} carries them.");
        let bound =
            |who: String| format!("{who}: bound to {name} or with it as a stand-in, by another way now.");
        let Replacement {
            devices: peers,
            services: containers,
            ..
        } = self;
        let all = [
            ("ends", &peers.through, true),
            ("bound", &peers.apart, true),
            ("ends", &containers.through, false),
            ("bound", &containers.apart, false),
        ];
        let told = |(kind, names, are_devices): (&'static str, &Vec<String>, bool)| {
            let who = if are_devices {
                devices(names)
            } else {
                services(names)
            };
            Meant {
                kind,
                who: if are_devices { names.clone() } else { Vec::new() },
                text: if kind == "ends" { ends(who) } else { bound(who) },
            }
        };
        all.into_iter()
            .filter(|(_, names, _)| !names.is_empty())
            .map(told)
            .collect()
    }

    fn servers(&self, before: &Config, after: &Config) -> String {
        let (before, after) = (before.shown().servers, after.shown().servers);
        let name = self.name;
        match (before == after, after.as_slice()) {
            (_, []) => format!("{name} is made anew."),
            (true, same) => format!("{name} is made anew and connects to {} as before.", places(same)),
            (false, others) => format!(
                "{name} is made anew: it connects to {}, and no longer to {}.",
                places(others),
                places(&before)
            ),
        }
    }
}

impl Replaced {
    /// Every statement, or one that says that there is none.
    pub fn told(&self) -> Vec<Told<'_>> {
        if self.statements.is_empty() {
            let text = "Nothing changes.".to_owned();
            return vec![Told {
                kind: "nothing",
                who: &[],
                text,
            }];
        }
        let told = self.statements.iter().map(|Meant { kind, who, text }| Told {
            kind,
            who,
            text: text.clone(),
        });
        told.collect()
    }

    /// Services that use the connection, where it is made anew.
    pub fn services(&self) -> &[String] {
        &self.services
    }

    /// What becomes of the author's own device: `stays` or `touched`. The way to the cell itself is no connection's.
    pub fn own_path(&self) -> &'static str {
        if self.own { "touched" } else { "stays" }
    }

    /// What its author should know.
    pub fn warning(&self) -> Option<&'static str> {
        self.own.then_some(
            "You are asking from a device that this connection carries. Such a change does not wait for a confirmation: if it does \
             not work, import again what it was made of, or bind the device to another exit.",
        )
    }
}

/// At most so many are listed.
const PLACES: usize = 3;

fn places(servers: &[Server]) -> String {
    let of = |server: &Server| {
        if server.host.contains(':') {
            format!("[{}]:{}", server.host, server.port)
        } else {
            format!("{}:{}", server.host, server.port)
        }
    };
    let told: Vec<String> = servers.iter().take(PLACES).map(of).collect();
    match servers.len().saturating_sub(PLACES) {
        0 => told.join(" or "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

fn services(names: &[String]) -> String {
    let what = if names.len() == 1 {
        "the service"
    } else {
        "the services"
    };
    format!("{what} {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::connection::import::proxy::{Protocol, ProxyExit};
    use crate::name::EndpointHost;

    fn proxy(host: &str) -> Config {
        Config::Proxy(ProxyExit {
            protocol: Protocol::Socks5,
            host: EndpointHost::parse(host).unwrap(),
            port: 1080,
            username: None,
        })
    }

    fn users(through: &[&str], apart: &[&str]) -> Users {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Users {
            through: names(through),
            apart: names(apart),
        }
    }

    fn lines(replaced: &Replaced) -> Vec<(&'static str, String)> {
        replaced
            .told()
            .into_iter()
            .map(|told| (told.kind, told.text))
            .collect()
    }

    #[test]
    fn who_is_carried_who_might_be_and_what_is_forgotten_is_told() {
        let (before, after) = (proxy("192.0.2.1"), proxy("2001:db8::9"));
        let replacement = Replacement {
            name: "home",
            renamed: None,
            imported: Some((&before, &after)),
            forgets_secrets: true,
            devices: users(&["laptop", "tv"], &["phone"]),
            services: users(&["files"], &["mail", "news"]),
            author: Some("laptop"),
        };
        let replaced = replacement.plan();
        let expected = [
            (
                "servers",
                "home is made anew: it connects to [2001:db8::9]:1080, and no longer to 192.0.2.1:1080.",
            ),
            (
                "ends",
                "Open connections of laptop and tv to the internet end: home carries them.",
            ),
            (
                "bound",
                "phone: bound to home or with it as a stand-in, by another way now.",
            ),
            (
                "ends",
                "Open connections of the service files to the internet end: home carries them.",
            ),
            (
                "bound",
                "the services mail, news: bound to home or with it as a stand-in, by another way now.",
            ),
            (
                "secrets",
                "The vault forgets the secrets that home has now, and nothing brings them back: keep what it was made of.",
            ),
        ];
        assert_eq!(
            lines(&replaced),
            expected.map(|(kind, text)| (kind, text.to_owned()))
        );
        assert_eq!(replaced.services(), ["files", "mail", "news"]);
        assert_eq!(replaced.own_path(), "touched");
        assert!(replaced.warning().is_some());
        for author in [None, Some("phone"), Some("nas")] {
            let replaced = Replacement {
                author,
                ..replacement.clone()
            }
            .plan();
            assert_eq!(
                (replaced.own_path(), replaced.warning()),
                ("stays", None),
                "{author:?}"
            );
        }
    }

    #[test]
    fn another_name_touches_nobody_and_nothing_is_told_as_nothing() {
        let renamed = |renamed| {
            Replacement {
                name: "home",
                renamed,
                imported: None,
                forgets_secrets: true,
                devices: users(&["laptop"], &[]),
                services: users(&["files"], &[]),
                author: Some("laptop"),
            }
            .plan()
        };
        let replaced = renamed(Some("sweden"));
        assert_eq!(
            lines(&replaced),
            [("renamed", "home is called sweden.".to_owned())]
        );
        assert_eq!((replaced.own_path(), replaced.services().len()), ("stays", 0));
        assert_eq!(
            lines(&renamed(None)),
            [("nothing", "Nothing changes.".to_owned())]
        );
    }
}

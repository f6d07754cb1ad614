//! The words of plans: REST, gRPC, cellctl and the web UI show these and no others.

use std::fmt;

use super::{Besides, Ends, Fact, Group, Leaves, OwnPath, Place, Plan, Reach, Reached, Statement};

/// Names that are told; of more, how many there are.
pub const NAMES_TOLD: usize = 5;

/// A statement as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<'a> {
    /// What kind of statement: stable, for programs.
    pub kind: &'static str,
    /// Whom it is about.
    pub who: &'a [String],
    /// A sentence for people.
    pub text: String,
}

impl<'a> Told<'a> {
    fn of(statement: &'a Statement) -> Self {
        Told {
            kind: statement.fact.kind(),
            who: &statement.who.0,
            text: statement.to_string(),
        }
    }
}

impl Plan {
    /// Every statement, or one that says that there is none.
    pub fn told(&self) -> Vec<Told<'_>> {
        if self.statements.is_empty() {
            let text = "Nobody's reach changes.".to_owned();
            return vec![Told {
                kind: "nothing",
                who: &[],
                text,
            }];
        }
        self.statements.iter().map(Told::of).collect()
    }

    /// All sentences, with one for the author where it concerns them.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.told().into_iter().map(|told| told.text).collect();
        lines.extend(self.own_path.warning().map(str::to_owned));
        lines
    }
}

impl Fact {
    /// What kind it is, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Fact::GoesOff => "off",
            Fact::NotCarried(_) => "not_carried",
            Fact::NewKey => "new_key",
            Fact::Loses(_) => "loses",
            Fact::Gains(_) => "gains",
            Fact::Way { .. } => "way",
            Fact::Bound { .. } => "bound",
            Fact::WhileDown { .. } => "while_down",
            Fact::Ends(_) => "ends",
            Fact::Reinstall => "reinstall",
            Fact::AccountsGo(_) => "accounts",
        }
    }
}

impl OwnPath {
    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            OwnPath::Stays => "stays",
            OwnPath::Touched => "touched",
            OwnPath::Cut => "cut",
        }
    }

    /// What its author should know.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            OwnPath::Stays => None,
            OwnPath::Touched => Some(
                "You are asking from this very device: let the change wait for your confirmation, so that it is taken back if it cuts you off.",
            ),
            OwnPath::Cut => Some(
                "You are asking from this very device, and this ends the way that you came by: let the change wait for a confirmation, and it is taken back by itself.",
            ),
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statement { who, fact } = self;
        // "laptop loses", "laptop and phone lose".
        let one = who.0.len() == 1;
        let verb = |single, plural| if one { single } else { plural };
        match fact {
            Fact::GoesOff => {
                let be = verb("is", "are");
                write!(f, "{who} {be} removed and can reach nothing any more.")
            }
            Fact::NotCarried(exit) => write!(
                f,
                "{who} {} not reach the internet: nothing carries {exit}, and no other way is allowed.",
                verb("does", "do")
            ),
            Fact::NewKey => write!(
                f,
                "{who} {} a new key: nothing is reached until the new configuration is installed, and whoever has the old key is off the network.",
                verb("gets", "get")
            ),
            Fact::Loses(Reach::Devices(group)) if group == who => write!(f, "{who} lose each other."),
            Fact::Gains(Reach::Devices(group)) if group == who => write!(f, "{who} gain each other."),
            Fact::Gains(Reach::Devices(Group(names))) if names.is_empty() => {
                write!(
                    f,
                    "{who} may reach other devices that may too, and there are none yet."
                )
            }
            Fact::Loses(reach) => write!(f, "{who} {} {}.", verb("loses", "lose"), Lost(reach)),
            Fact::Gains(reach) => write!(f, "{who} {} {}.", verb("gains", "gain"), Gained(reach)),
            Fact::Way { from, to } => {
                let verb = verb("leaves", "leave");
                write!(f, "{who} {verb} for the internet {to}, and no longer {from}.")
            }
            Fact::Bound { to, meanwhile } => bound(who, to.as_deref(), meanwhile.as_ref(), f),
            Fact::WhileDown {
                exit,
                stand_ins,
                directly,
            } => while_down(who, exit, stand_ins, *directly, f),
            Fact::Ends(ends) => end(who, *ends, f),
            Fact::AccountsGo(accounts) => {
                let told = accounts.iter().take(NAMES_TOLD).cloned().collect::<Vec<_>>();
                write!(
                    f,
                    "Accounts of {who} are deleted with all that is kept in them, for good: {}",
                    told.join(", ")
                )?;
                match accounts.len().saturating_sub(NAMES_TOLD) {
                    0 => f.write_str("."),
                    more => write!(f, " and {more} more."),
                }
            }
            Fact::Reinstall => {
                let verb = verb("needs", "need");
                write!(
                    f,
                    "{who} {verb} a new configuration: what goes into the tunnel changes."
                )
            }
        }
    }
}

fn bound(
    who: &Group,
    to: Option<&str>,
    meanwhile: Option<&Leaves>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let be = if who.0.len() == 1 { "is" } else { "are" };
    write!(f, "{who} {be} bound to {}", to.unwrap_or("no exit"))?;
    match meanwhile {
        Some(way) => write!(f, "; what goes to the internet goes {way} for now."),
        None => f.write_str("; that counts once there is internet access."),
    }
}

fn while_down(
    who: &Group,
    exit: &str,
    stand_ins: &[String],
    directly: bool,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let goes = if who.0.len() == 1 { "goes" } else { "go" };
    write!(f, "While {exit} does not work, {who} {goes} ")?;
    if !stand_ins.is_empty() {
        write!(f, "through {}, else ", stand_ins.join(", else "))?;
    }
    f.write_str(if directly {
        "out directly, by the cell's own way."
    } else {
        "nowhere."
    })
}

fn end(who: &Group, ends: Ends, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match ends {
        Ends::All => write!(f, "All open connections of {who} end."),
        Ends::Internet => write!(f, "Open connections of {who} to the internet end."),
        Ends::Devices => write!(f, "Open connections between {who} and other devices end."),
        Ends::Services => write!(f, "Open connections of {who} to lost services end."),
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Group(names) = self;
        match names.as_slice() {
            [] => f.write_str("nobody"),
            [one] => f.write_str(one),
            [first @ .., last] if names.len() <= NAMES_TOLD => write!(f, "{} and {last}", first.join(", ")),
            all => {
                let more = all.len() - NAMES_TOLD;
                write!(
                    f,
                    "{} devices ({} and {more} more)",
                    all.len(),
                    all[..NAMES_TOLD].join(", ")
                )
            }
        }
    }
}

impl fmt::Display for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leaves::Own => f.write_str("by the cell's own way"),
            Leaves::Through { exit, tcp_alone } => {
                let carried = if *tcp_alone { " (TCP alone)" } else { "" };
                write!(f, "through {exit}{carried}")
            }
        }
    }
}

struct Lost<'a>(&'a Reach);

impl fmt::Display for Lost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reach::Internet(_) => f.write_str("the internet"),
            Reach::Devices(Group(names)) if names.is_empty() => {
                f.write_str("the right to reach other devices")
            }
            Reach::Service(service) => {
                write!(f, "{service}")?;
                match &service.besides {
                    Some(Besides::Internet(way)) => write!(f, ", and still gets there {way}"),
                    Some(Besides::Devices) => f.write_str(", and still gets there as to any device"),
                    Some(Besides::NotCarried(exit)) => write!(f, ", which {exit} does not carry anyway"),
                    None => Ok(()),
                }
            }
            reach @ (Reach::Cell | Reach::Devices(_) | Reach::MoreServices(_)) => plain(reach, f),
        }
    }
}

struct Gained<'a>(&'a Reach);

impl fmt::Display for Gained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reach::Internet(way) => write!(f, "the internet, {way}"),
            Reach::Service(service) => {
                write!(f, "{service}")?;
                match &service.besides {
                    Some(Besides::Internet(_)) => f.write_str(", where internet access led already"),
                    Some(Besides::NotCarried(exit)) => {
                        write!(
                            f,
                            ", which counts once {exit} is not its exit any more: that does not carry it"
                        )
                    }
                    Some(Besides::Devices) => f.write_str(", where peer-to-peer led already"),
                    None => Ok(()),
                }
            }
            reach @ (Reach::Cell | Reach::Devices(_) | Reach::MoreServices(_)) => plain(reach, f),
        }
    }
}

fn plain(reach: &Reach, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match reach {
        Reach::Cell => f.write_str("the cell itself, its pages and its names"),
        Reach::Internet(_) => f.write_str("the internet"),
        Reach::Devices(group) => write!(f, "{group}"),
        Reach::Service(service) => write!(f, "{service}"),
        Reach::MoreServices(1) => f.write_str("1 service more"),
        Reach::MoreServices(more) => write!(f, "{more} services more"),
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.as_str().to_uppercase();
        write!(f, "{protocol} port {} of ", self.port)?;
        match &self.place {
            Place::Cell => f.write_str("the cell"),
            Place::Device(name, address) => write!(f, "{name} ({address})"),
            Place::Private(address) => write!(f, "{address} on a private network"),
            Place::Public(address) => write!(f, "{address} on the internet"),
        }
    }
}

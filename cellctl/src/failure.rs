//! What went wrong, the exit code that says so, and what a person can do next.

use std::fmt;
use std::path::PathBuf;

use cell_proto::fault::{self, Violation};
use serde::Serialize;
use tonic::{Code, Status};

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The cell said no.
    Refused(Refused),
    /// Nothing came back.
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
        /// Why, from the kernel or from gRPC.
        cause: String,
        /// What to do.
        advice: &'static str,
    },
    /// The command line asks for something that cannot be.
    Usage(String),
    /// Something on this side.
    Local(String),
    /// The audit chain does not hold; what is wrong was printed.
    AuditBroken,
    /// netd would not take what was asked about; why was printed.
    WouldRefuse,
    /// The change that waited is not in force, and why.
    TakenBack(&'static str),
}

/// A refusal of the cell's.
#[derive(Debug)]
pub(crate) struct Refused {
    code: Code,
    /// Stable, e.g. `PEER_EXISTS`; empty for none.
    pub(crate) reason: String,
    message: String,
    /// Every fault of the request.
    pub(crate) violations: Vec<Violation>,
}

impl Failure {
    /// The process's exit code, as `--help` has them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_)
            | Failure::Local(_)
            | Failure::AuditBroken
            | Failure::WouldRefuse
            | Failure::TakenBack(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable { .. } => 3,
        }
    }

    /// What to do next, where that can be said.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            Failure::Refused(refused) => refused.advice(),
            Failure::Unreachable { advice, .. } => Some(advice),
            Failure::Usage(_) => Some("See cellctl --help, or --help after any command."),
            Failure::Local(_) | Failure::AuditBroken | Failure::WouldRefuse | Failure::TakenBack(_) => None,
        }
    }

    /// For `--json`.
    pub(crate) fn document(&self) -> ErrorDocument {
        let (code, violations) = match self {
            Failure::Refused(refused) => (refused.reason.clone(), refused.violations.as_slice()),
            Failure::Unreachable { .. } => ("UNREACHABLE".to_owned(), &[][..]),
            Failure::Usage(_) => ("USAGE".to_owned(), &[][..]),
            Failure::Local(_) => ("LOCAL".to_owned(), &[][..]),
            Failure::AuditBroken => ("AUDIT_BROKEN".to_owned(), &[][..]),
            Failure::WouldRefuse => ("WOULD_REFUSE".to_owned(), &[][..]),
            Failure::TakenBack(_) => ("TAKEN_BACK".to_owned(), &[][..]),
        };
        let violation = |v: &Violation| ViolationDocument {
            field: v.field.clone(),
            description: v.description.clone(),
        };
        let violations = violations.iter().map(violation).collect();
        ErrorDocument {
            error: ErrorBody {
                code,
                message: self.to_string(),
                violations,
            },
        }
    }
}

impl Refused {
    fn advice(&self) -> Option<&'static str> {
        Some(match self.reason.as_str() {
            "SETUP_REQUIRED" => "Set the cell up first: cellctl setup run",
            "NOT_CLAIMED" => "Claim the cell first: cellctl setup claim",
            "SETUP_COMPLETE" => "The cell is set up already: cellctl status",
            "SETUP_INCOMPLETE" => "See what is missing: cellctl setup status",
            "CLAIM_TOKEN" => {
                "The token was printed when the cell was first started; root can see it: cellctl setup token"
            }
            "PEER_EXISTS" => "Choose another name, or remove the old one: cellctl peer remove NAME",
            "KEY_IN_USE" => "Each device needs a key of its own: leave --public-key out to have one made",
            "ADDRESSES_EXHAUSTED" => "The VPN's range is full: remove peers that are not used any more",
            "VERSION_MISMATCH" => {
                "Somebody else changed it at the same time: look (cellctl peer show NAME), then try again"
            }
            "CHANGE_PENDING" => {
                "See what waits: cellctl change show. Keep it or take it back: cellctl change confirm, or rollback"
            }
            "NO_USER" => "See which there are: cellctl user list",
            "NO_PEER" => "See which there are: cellctl peer list",
            reason if reason.starts_with("CALLER_") => {
                "Run it as root, or as a member of the group cell-admin"
            }
            _ => return None,
        })
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let reason = fault::reason(&status).unwrap_or_default();
        // What the server says has no cause here; what became of the connection has, whatever code it is given.
        let is_of_connection = matches!(status.code(), Code::Unavailable | Code::Unknown)
            || std::error::Error::source(&status).is_some();
        if is_of_connection && reason.is_empty() {
            return Failure::Unreachable {
                socket: PathBuf::new(),
                cause: "the connection ended".to_owned(),
                advice: "Try again; if it stays so, see the log of cell-api.",
            };
        }
        let violations = fault::violations(&status);
        Failure::Refused(Refused {
            code: status.code(),
            reason,
            message: status.message().to_owned(),
            violations,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(refused) => {
                let message = if refused.message.is_empty() {
                    refused.code.description()
                } else {
                    &refused.message
                };
                f.write_str(message)
            }
            Failure::Unreachable { socket, cause, .. } if socket.as_os_str().is_empty() => {
                write!(f, "the cell cannot be reached: {cause}")
            }
            Failure::Unreachable { socket, cause, .. } => {
                write!(f, "the cell cannot be reached at {}: {cause}", socket.display())
            }
            Failure::Usage(what) | Failure::Local(what) => f.write_str(what),
            Failure::AuditBroken => f.write_str("the audit chain does not hold"),
            Failure::WouldRefuse => f.write_str("the cell would not do this"),
            Failure::TakenBack(why) => write!(f, "the change is taken back: {why}"),
        }
    }
}

/// `{"error": {…}}`
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument {
    error: ErrorBody,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    code: String,
    message: String,
    violations: Vec<ViolationDocument>,
}

#[derive(Debug, Serialize)]
struct ViolationDocument {
    field: String,
    description: String,
}

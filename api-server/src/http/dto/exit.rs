//! What carries a peer to the internet.

use cell_api_core::connection::choice::ExitInput;
use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::connections::ConnectionStatus;
use crate::http::input::FromFields;
use crate::service::connections::ConnectionView;

/// Binds a peer to a connection, or to none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerExit {
    /// A connection's id, its name, or its type where one connection alone has it. Null or `default`: the cell's own way.
    #[schema(required)]
    pub connection_id: Option<String>,
    /// As [`PeerFailOpen::fail_open`]; absent: it stays.
    #[schema(value_type = Option<bool>)]
    pub fail_open: Option<Option<bool>>,
    /// As [`PeerFallbacks::connection_ids`]; absent: they stay, but for the connection itself.
    pub fallback_connection_ids: Option<Vec<String>>,
}

impl From<PeerExit> for ExitInput {
    fn from(exit: PeerExit) -> Self {
        ExitInput {
            exit: Some(exit.connection_id.unwrap_or_default()),
            fail_open: exit.fail_open,
            fallbacks: exit.fallback_connection_ids,
        }
    }
}

/// Binds a peer to a connection, or to none, in the words of the first version.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerRouteVia {
    /// A connection as [`PeerExit::connection_id`] names it: the first version had the names of other cells alone. Null: the cell's own way.
    #[schema(required)]
    pub via_cell: Option<String>,
}

/// Says what happens while a peer's connection does not work.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerFailOpen {
    /// True: the peer goes out directly. False: it goes nowhere. Null: as the connection's type says.
    #[schema(required)]
    pub fail_open: Option<bool>,
}

/// Says what stands in for a peer's connection while it does not work.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerFallbacks {
    /// At most 8 connections, the first first, each by its id, its name or its type; none: nothing stands in.
    pub connection_ids: Vec<String>,
}

/// Whether a connection works.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionHealth {
    /// Which connection.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What is thought of it.
    pub status: ConnectionStatus,
}

impl From<ConnectionView> for ConnectionHealth {
    fn from(view: ConnectionView) -> Self {
        ConnectionHealth {
            id: view.stored.id.to_string(),
            name: view.stored.name.to_string(),
            status: view.judged.into(),
        }
    }
}

/// Reads the connection of a peer by its name and by the names that it had before; they must not contradict each other.
/// Null is empty: the cell's own way.
pub(super) fn read(fields: &mut Fields, faults: &mut Faults) -> Option<String> {
    let mut named: Option<String> = None;
    for name in ["exit_connection_id", "route_via", "exit_via"] {
        let Some(text) = fields.nullable_string(name, faults) else {
            continue;
        };
        match &named {
            Some(other) if *other != text => {
                faults.add(
                    name,
                    "must not contradict exit_connection_id, which it is another name of",
                );
            }
            Some(_) | None => named = Some(text),
        }
    }
    named
}

impl FromFields for PeerExit {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        PeerExit {
            connection_id: Some(fields.required_nullable_string("connection_id", faults)),
            fail_open: fields.nullable_flag_if_there("fail_open", faults),
            fallback_connection_ids: fields.optional_strings("fallback_connection_ids", faults),
        }
    }

    fn check(self) -> Faults {
        Faults::default()
    }
}

impl FromFields for PeerRouteVia {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        PeerRouteVia {
            via_cell: Some(fields.required_nullable_string("via_cell", faults)),
        }
    }

    fn check(self) -> Faults {
        Faults::default()
    }
}

impl FromFields for PeerFailOpen {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        PeerFailOpen {
            fail_open: fields.nullable_flag("fail_open", faults),
        }
    }

    fn check(self) -> Faults {
        Faults::default()
    }
}

impl FromFields for PeerFallbacks {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        PeerFallbacks {
            connection_ids: fields.strings("connection_ids", faults),
        }
    }

    fn check(self) -> Faults {
        Faults::default()
    }
}

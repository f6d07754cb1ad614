//! `cellctl change`: the change of the network that waits for its confirmation.

use cell_proto::api::v1::{
    ConfirmNetworkChangeRequest, GetNetworkChangeRequest, GetNetworkChangeResponse,
    RollBackNetworkChangeRequest, WaitingChange,
};
use serde::Serialize;

use crate::cell::Cell;
use crate::cli::Change;
use crate::failure::Failure;
use crate::output::Output;
use crate::{human, view};

/// As `--json` shows it.
#[derive(Serialize)]
struct Shown {
    waiting: Option<Waiting>,
    /// When a change was taken back last, as far as that is known.
    last_rollback_at: Option<String>,
    #[serde(skip)]
    last_rollback_unix_ms: i64,
}

/// As `--json` shows what is settled.
#[derive(Serialize)]
struct Settled {
    waiting: Option<Waiting>,
}

#[derive(Serialize)]
struct Waiting {
    peer: Option<String>,
    service: Option<String>,
    action: String,
    removal: bool,
    author: String,
    deadline_unix_ms: i64,
    by_vpn: bool,
}

/// Shows, keeps or takes back what waits.
pub(crate) async fn run(cell: &Cell, output: Output, command: Change) -> Result<(), Failure> {
    let mut client = cell.changes()?;
    match command {
        Change::Show => {
            let request = GetNetworkChangeRequest {};
            let GetNetworkChangeResponse {
                waiting,
                last_rollback_unix_ms,
            } = client.get_network_change(request).await?.into_inner();
            let shown = Shown {
                waiting: waiting.map(Waiting::from),
                last_rollback_at: view::rfc3339(last_rollback_unix_ms),
                last_rollback_unix_ms,
            };
            output.result(&shown, || text(&shown))
        }
        Change::Confirm => {
            client
                .confirm_network_change(ConfirmNetworkChangeRequest {})
                .await?;
            output.result(&Settled { waiting: None }, || "The change is kept.".to_owned())
        }
        Change::Rollback => {
            client
                .roll_back_network_change(RollBackNetworkChangeRequest {})
                .await?;
            output.result(&Settled { waiting: None }, || {
                "The change is taken back.".to_owned()
            })
        }
    }
}

fn text(shown: &Shown) -> String {
    let mut lines = vec![match &shown.waiting {
        Some(waiting) => told(waiting),
        None => "No change waits for a confirmation.".to_owned(),
    }];
    if shown.last_rollback_at.is_some() {
        let ago = human::ago(
            shown.last_rollback_unix_ms,
            jiff::Timestamp::now().as_millisecond(),
        );
        lines.push(format!("The last change that was taken back: {ago}."));
    }
    lines.join("\n")
}

fn told(waiting: &Waiting) -> String {
    let Waiting {
        peer,
        service,
        action: _,
        removal,
        author,
        deadline_unix_ms: _,
        by_vpn,
    } = waiting;
    let what = match (peer, service) {
        (Some(peer), _) if *removal => format!("The removal of {peer}"),
        (Some(peer), _) => format!("A change of {peer}"),
        (None, Some(service)) => format!("Another way to the internet of the service {service}"),
        (None, None) => "The binding of devices to exits of the first version".to_owned(),
    };
    let how = if *by_vpn {
        "its author confirms it through the VPN"
    } else {
        "it is confirmed (cellctl change confirm)"
    };
    format!("{what} by {author} is taken back at its deadline unless {how}.")
}

impl From<WaitingChange> for Waiting {
    fn from(wire: WaitingChange) -> Self {
        let WaitingChange {
            peer,
            removal,
            author,
            deadline_unix_ms,
            by_vpn,
            action,
            service,
        } = wire;
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Waiting {
            peer: given(peer),
            service: given(service),
            action,
            removal,
            author,
            deadline_unix_ms,
            by_vpn,
        }
    }
}

//! `cellctl change`: the change of the network that waits for its confirmation.

use cell_proto::api::v1::{
    ConfirmNetworkChangeRequest, GetNetworkChangeRequest, RollBackNetworkChangeRequest, WaitingChange,
};
use serde::Serialize;

use crate::cell::Cell;
use crate::cli::Change;
use crate::failure::Failure;
use crate::output::Output;

/// As `--json` shows it.
#[derive(Serialize)]
struct Shown {
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
            let waiting = client.get_network_change(request).await?.into_inner().waiting;
            let shown = Shown {
                waiting: waiting.map(Waiting::from),
            };
            output.result(&shown, || text(&shown))
        }
        Change::Confirm => {
            client
                .confirm_network_change(ConfirmNetworkChangeRequest {})
                .await?;
            output.result(&Shown { waiting: None }, || "The change is kept.".to_owned())
        }
        Change::Rollback => {
            client
                .roll_back_network_change(RollBackNetworkChangeRequest {})
                .await?;
            output.result(&Shown { waiting: None }, || {
                "The change is taken back.".to_owned()
            })
        }
    }
}

fn text(shown: &Shown) -> String {
    let Some(waiting) = &shown.waiting else {
        return "No change waits for a confirmation.".to_owned();
    };
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

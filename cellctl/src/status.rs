//! `cellctl status`: the cell at a glance, once or as it changes.

use cell_proto::api::v1::{GetCellStatusRequest, WatchCellStatusRequest};

use crate::cell::Cell;
use crate::failure::Failure;
use crate::output::Output;
use crate::{human, view};

/// Shows it.
pub(crate) async fn run(cell: &Cell, output: Output, watch: bool) -> Result<(), Failure> {
    let mut client = cell.status()?;
    if !watch {
        let status = client
            .get_cell_status(GetCellStatusRequest {})
            .await?
            .into_inner()
            .status
            .unwrap_or_default();
        let status = view::Status::from(status);
        return output.result(&status, || text(&status));
    }
    let mut changes = client
        .watch_cell_status(WatchCellStatusRequest {})
        .await?
        .into_inner();
    while let Some(change) = changes.message().await? {
        let status = view::Status::from(change.status.unwrap_or_default());
        output.one_of_many(&status, || text(&status) + "\n")?;
    }
    Ok(())
}

fn text(status: &view::Status) -> String {
    let network = if status.generation == status.observed_generation {
        "as wanted".to_owned()
    } else {
        format!(
            "being changed (generation {} of {})",
            status.observed_generation, status.generation
        )
    };
    let mut text = human::pairs([
        (
            "Cell",
            format!("{} ({}, {})", status.cell_name, status.domain, status.domain_mode),
        ),
        (
            "Version",
            format!(
                "{}, up {}",
                status.version,
                human::duration(status.uptime_seconds)
            ),
        ),
        ("Network", network),
        (
            "Peers",
            format!("{}, {} connected", status.peer_count, status.connected_peer_count),
        ),
    ]);
    text.push('\n');
    let rows = status.daemons.iter().flat_map(|daemon| {
        let first = vec![
            daemon.name.clone(),
            if daemon.reachable {
                "reachable"
            } else {
                "NOT REACHABLE"
            }
            .to_owned(),
        ];
        let details = daemon.conditions.iter().map(|condition| {
            let verdict = format!("{}: {}", condition.r#type, condition.status);
            vec![
                String::new(),
                verdict,
                condition.reason.clone(),
                condition.message.clone(),
            ]
        });
        std::iter::once(first).chain(details).collect::<Vec<_>>()
    });
    text.push_str(&human::table(&["DAEMON", "STATE", "REASON", "DETAIL"], rows));
    text
}

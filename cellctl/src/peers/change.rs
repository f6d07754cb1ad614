//! `cellctl peer set` and `peer remove`: for good, until it is confirmed, or only as a question.

use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::{
    ChangePlan, DeletePeerRequest, GetPeerRequest, Peer, PeerAccess, ServiceAccess, SetPeerFailOpenRequest,
    SetPeerFallbacksRequest, UpdatePeerRequest,
};
use tonic::transport::Channel;

use super::{service, text};
use crate::cell::Cell;
use crate::cli::{FailOpen, How, PeerSet};
use crate::failure::Failure;
use crate::output::Output;
use crate::{careful, plan, view, wait};

/// Lets a change wait that may end the way by which its author came, unless something else was said.
async fn careful(cell: &Cell, output: Output, name: &str, how: How) -> Result<How, Failure> {
    if how.confirm_within.is_some() || how.dry_run || how.at_once {
        return Ok(how);
    }
    Ok(How {
        confirm_within: careful::of_peer(cell, output, name).await?,
        ..how
    })
}

pub(super) async fn remove(
    cell: &Cell,
    output: Output,
    name: String,
    delete_accounts: bool,
    how: How,
) -> Result<(), Failure> {
    let how = careful(cell, output, &name, how).await?;
    let request = DeletePeerRequest {
        name: name.clone(),
        confirm_within_seconds: how.confirm_within.unwrap_or(0),
        validate_only: how.dry_run,
        delete_accounts,
    };
    let answer = cell.peers()?.delete_peer(request).await?.into_inner();
    if how.dry_run {
        return plan::show(output, answer.plan);
    }
    output.result(&view::RemovedPeer { removed: &name }, || {
        format!("{name} is removed.")
    })?;
    wait::for_word(cell, output, how.confirm_within).await
}

/// What an answer holds: the peer, or with `--dry-run` what would become of it.
type Answer = (Option<Peer>, Option<ChangePlan>);

/// The policy is replaced as a whole on the wire, so what is not named here is read first and kept.
pub(super) async fn set(cell: &Cell, output: Output, mut options: PeerSet) -> Result<(), Failure> {
    let changes_access = options.internet.is_some()
        || options.peer_to_peer.is_some()
        || !options.add_services.is_empty()
        || !options.remove_services.is_empty();
    let updates =
        changes_access || options.tunnel.is_some() || options.public_key.is_some() || options.exit.is_some();
    let falls_back = options.no_fallbacks || !options.fallbacks.is_empty();
    if !updates && !falls_back && options.fail_open.is_none() {
        return Err(Failure::Usage(
            "there is nothing to change: name at least one option".to_owned(),
        ));
    }
    options.how = careful(cell, output, &options.name, options.how).await?;
    alone(&options, updates, falls_back)?;
    let (confirm_within, dry_run) = (options.how.confirm_within, options.how.dry_run);
    let mut client = cell.peers()?;
    let mut answer = (None, None);
    // First what closes: the exit that it gets may not work yet, and be of a type that fails open.
    let closes = matches!(options.fail_open, Some(FailOpen(Some(false))));
    if closes {
        answer = set_fail_open(&mut client, &options, Some(false)).await?;
    }
    // Read after that: it is another version of the device.
    let (access, if_version) = if changes_access {
        changed_access(&mut client, &options).await?
    } else {
        (None, None)
    };
    if updates {
        answer = update(&mut client, &options, access, if_version).await?;
    }
    // After the exit: what stands in is of the connection that the device is bound to then.
    if falls_back {
        answer = set_fallbacks(&mut client, &options).await?;
    }
    if let Some(FailOpen(fail_open)) = options.fail_open
        && !closes
    {
        answer = set_fail_open(&mut client, &options, fail_open).await?;
    }
    let (peer, planned) = answer;
    if dry_run {
        return plan::show(output, planned);
    }
    let peer = view::Peer::from(peer.unwrap_or_default());
    output.result(&peer, || text(&peer))?;
    wait::for_word(cell, output, confirm_within).await
}

async fn update(
    client: &mut PeerServiceClient<Channel>,
    options: &PeerSet,
    access: Option<PeerAccess>,
    if_version: Option<String>,
) -> Result<Answer, Failure> {
    let request = UpdatePeerRequest {
        name: options.name.clone(),
        public_key: options.public_key.clone(),
        access,
        tunnel: options.tunnel.clone(),
        if_version,
        exit: options.exit.clone(),
        confirm_within_seconds: options.how.confirm_within.unwrap_or(0),
        validate_only: options.how.dry_run,
    };
    let answer = client.update_peer(request).await?.into_inner();
    Ok((answer.peer, answer.plan))
}

async fn set_fallbacks(
    client: &mut PeerServiceClient<Channel>,
    options: &PeerSet,
) -> Result<Answer, Failure> {
    let request = SetPeerFallbacksRequest {
        name: options.name.clone(),
        connections: options.fallbacks.clone(),
        confirm_within_seconds: options.how.confirm_within.unwrap_or(0),
        validate_only: options.how.dry_run,
    };
    let answer = client.set_peer_fallbacks(request).await?.into_inner();
    Ok((answer.peer, answer.plan))
}

async fn set_fail_open(
    client: &mut PeerServiceClient<Channel>,
    options: &PeerSet,
    fail_open: Option<bool>,
) -> Result<Answer, Failure> {
    let request = SetPeerFailOpenRequest {
        name: options.name.clone(),
        fail_open,
        confirm_within_seconds: options.how.confirm_within.unwrap_or(0),
        validate_only: options.how.dry_run,
    };
    let answer = client.set_peer_fail_open(request).await?.into_inner();
    Ok((answer.peer, answer.plan))
}

/// One change waits at a time, and a line must not be done in halves; what would become of the second is not known before
/// the first is made.
fn alone(options: &PeerSet, updates: bool, falls_back: bool) -> Result<(), Failure> {
    let changes = [updates, falls_back, options.fail_open.is_some()];
    let waits = options.how.confirm_within.is_some() || options.how.dry_run;
    if waits && changes.into_iter().filter(|made| *made).count() > 1 {
        return Err(Failure::Usage(
            "one change can wait at a time: with --confirm-within and --dry-run, and for the device that you are logged in from, give --fail-open and the fallbacks alone"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The new policy, and the version that it was made from.
async fn changed_access(
    client: &mut PeerServiceClient<Channel>,
    options: &PeerSet,
) -> Result<(Option<PeerAccess>, Option<String>), Failure> {
    let request = GetPeerRequest {
        name: options.name.clone(),
    };
    let now = client
        .get_peer(request)
        .await?
        .into_inner()
        .peer
        .unwrap_or_default();
    // Only what was read is changed: else an access that was taken meanwhile would come back.
    let access = changed(now.access.unwrap_or_default(), options)?;
    Ok((Some(access), Some(now.version)))
}

fn changed(now: PeerAccess, options: &PeerSet) -> Result<PeerAccess, Failure> {
    let mut services = now.services;
    for gone in options.remove_services.iter().map(service) {
        let before = services.len();
        services.retain(|service| *service != gone);
        if services.len() == before {
            let ServiceAccess {
                address,
                protocol,
                port,
            } = gone;
            return Err(Failure::Usage(format!(
                "the peer has no service {protocol}://{address}:{port} to remove"
            )));
        }
    }
    for new in options.add_services.iter().map(service) {
        if !services.contains(&new) {
            services.push(new);
        }
    }
    Ok(PeerAccess {
        internet: options.internet.unwrap_or(now.internet),
        peer_to_peer: options.peer_to_peer.unwrap_or(now.peer_to_peer),
        services,
    })
}

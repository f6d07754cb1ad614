//! `cellctl peer set` and `peer remove`: for good, until it is confirmed, or only as a question.

use cell_proto::api::v1;
use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::{
    ChangePlan, DeletePeerRequest, Fallbacks, GetPeerRequest, Peer, PeerAccess, ServiceAccess,
    UpdatePeerRequest,
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

/// One request, so that all of it is done or nothing. The policy is replaced as a whole on the wire, so what is not named here is read first
/// and kept.
pub(super) async fn set(cell: &Cell, output: Output, mut options: PeerSet) -> Result<(), Failure> {
    let changes_access = options.internet.is_some()
        || options.peer_to_peer.is_some()
        || !options.add_services.is_empty()
        || !options.remove_services.is_empty();
    let changes_exit = options.exit.is_some()
        || options.fail_open.is_some()
        || options.no_fallbacks
        || !options.fallbacks.is_empty();
    if !changes_access && !changes_exit && options.tunnel.is_none() && options.public_key.is_none() {
        return Err(Failure::Usage(
            "there is nothing to change: name at least one option".to_owned(),
        ));
    }
    options.how = careful(cell, output, &options.name, options.how).await?;
    let (confirm_within, dry_run) = (options.how.confirm_within, options.how.dry_run);
    let mut client = cell.peers()?;
    let (access, if_version) = if changes_access {
        changed_access(&mut client, &options).await?
    } else {
        (None, None)
    };
    let (peer, planned) = update(&mut client, &options, access, if_version).await?;
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
    let falls_back = options.no_fallbacks || !options.fallbacks.is_empty();
    let request = UpdatePeerRequest {
        fail_open: options.fail_open.map(|FailOpen(own)| v1::FailOpen { own }),
        fallbacks: falls_back.then(|| Fallbacks {
            connections: options.fallbacks.clone(),
        }),
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

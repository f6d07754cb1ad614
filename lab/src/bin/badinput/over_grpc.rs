//! What is sent over gRPC, and how its answers are judged.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::setup_service_client::SetupServiceClient;
use cell_proto::api::v1::{DeletePeerRequest, GetPeerRequest, GetSetupRequest};
use cell_proto::ipc::connect;

use crate::{Tally, grpc_cases, judge};

/// When a call that never ends must be ended: the limit is 90 seconds (proto/src/ipc/serve.rs).
const UNFINISHED: std::ops::Range<Duration> = Duration::from_secs(85)..Duration::from_secs(110);

/// Steps of the first run, before it: the state of setup must stay as it is.
pub async fn setup(socket: &Path, claim_token: &str) -> Result<Tally> {
    let mut client = SetupServiceClient::new(connect(socket)).max_encoding_message_size(64 << 20);
    let before = client.get_setup(GetSetupRequest {}).await?.into_inner();
    let mut tally = Tally::default();
    for case in grpc_cases::setups(claim_token) {
        let verdict = match client.submit_setup_step(case.request).await {
            Ok(_) => Err("was accepted".to_owned()),
            Err(status) => judge::grpc(&case.fields, &status),
        };
        tally.judge(&format!("SubmitSetupStep, {}", case.what), verdict);
    }
    let after = client.get_setup(GetSetupRequest {}).await?.into_inner();
    tally.judge(
        "GetSetup afterwards",
        (before == after).then_some(()).ok_or(format!("{after:?}")),
    );
    Ok(tally)
}

/// Wrong values in well-formed messages.
pub async fn values(socket: &Path) -> Tally {
    let mut client = PeerServiceClient::new(connect(socket)).max_encoding_message_size(64 << 20);
    let mut tally = Tally::default();
    for case in grpc_cases::creates() {
        let verdict = match client.create_peer(case.request).await {
            Ok(_) => Err("was accepted".to_owned()),
            Err(status) => judge::grpc(&case.fields, &status),
        };
        tally.judge(&format!("CreatePeer, {}", case.what), verdict);
    }
    for case in grpc_cases::updates() {
        let verdict = match client.update_peer(case.request).await {
            Ok(_) => Err("was accepted".to_owned()),
            Err(status) => judge::grpc(&case.fields, &status),
        };
        tally.judge(&format!("UpdatePeer, {}", case.what), verdict);
    }
    for name in grpc_cases::strangers() {
        let shown: String = name.chars().take(12).collect();
        let got = client
            .get_peer(GetPeerRequest { name: name.clone() })
            .await
            .map(drop);
        let gone = client
            .delete_peer(DeletePeerRequest {
                name,
                confirm_within_seconds: 0,
                validate_only: false,
                delete_accounts: false,
            })
            .await
            .map(drop);
        for (verb, answer) in [("GetPeer", got), ("DeletePeer", gone)] {
            let verdict = match answer {
                Ok(()) => Err("was accepted".to_owned()),
                Err(status) => judge::grpc(&[], &status),
            };
            tally.judge(&format!("{verb} {shown:?}"), verdict);
        }
    }
    tally
}

/// Bytes that are no message, on methods that exist and methods that do not.
pub async fn frames(socket: &Path) -> Tally {
    let mut tally = Tally::default();
    let methods = [
        "cell.api.v1.PeerService/CreatePeer",
        "cell.api.v1.CellService/GetCellStatus",
        "cell.api.v1.PeerService/Nothing",
    ];
    for method in methods {
        for (what, body) in grpc_cases::frames() {
            // A message without fields has nothing that must be text: what is there is an unknown field.
            if what == "invalid UTF-8" && method.ends_with("GetCellStatus") {
                continue;
            }
            let verdict = match grpc_cases::call_raw(socket, method, body).await {
                Ok(code) => judge::frame(code),
                Err(error) => Err(format!("no answer: {error:#}")),
            };
            tally.judge(&format!("{method}, {what}"), verdict);
        }
    }
    tally
}

/// A call that never ends must be ended by the server's deadline, with a code that says so.
pub async fn unfinished(socket: &Path) -> Result<(), String> {
    match grpc_cases::unfinished(socket, UNFINISHED.end).await {
        Ok((tonic::Code::DeadlineExceeded | tonic::Code::Cancelled, after))
            if UNFINISHED.contains(&after) =>
        {
            Ok(())
        }
        Ok((code, after)) => Err(format!("{code:?} after {after:?}")),
        Err(error) => Err(format!("no answer: {error:#}")),
    }
}

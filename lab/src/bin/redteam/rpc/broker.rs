//! The broker: a few verbs on the cell's own containers, and no Docker API behind them.

use std::time::Duration;

use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::{
    GetBrokerStatusRequest, GetContainerLogsRequest, GetContainerRequest, GetContainerStatsRequest,
    ListContainersRequest, StartContainerRequest, StopContainerRequest,
};
use cell_proto::ipc::connect;
use prost::Message;
use tonic::Code;

use super::deployments::{SECRET, SERVICE, deploys};
use super::raw::call;
use super::{RpcCheck, check, refused, run, worst};
use crate::attempt::Outcome;
use crate::target::Target;

/// Docker's own verbs, as an attacker would hope for them.
const VERBS: [&str; 12] = [
    "/cell.broker.v1.ContainerService/CreateContainer",
    "/cell.broker.v1.ContainerService/RemoveContainer",
    "/cell.broker.v1.ContainerService/ExecContainer",
    "/cell.broker.v1.ContainerService/AttachContainer",
    "/cell.broker.v1.ContainerService/UpdateContainer",
    "/cell.broker.v1.ContainerService/CopyIntoContainer",
    "/cell.broker.v1.ContainerService/ExportContainer",
    "/cell.broker.v1.ImageService/PullImage",
    "/cell.broker.v1.ImageService/BuildImage",
    "/cell.broker.v1.VolumeService/CreateVolume",
    "/cell.broker.v1.NetworkService/ConnectNetwork",
    "/v1.47/containers/json",
];

/// Services that are not the cell's own, and names that no service has.
/// `lab/with-docker.sh` runs "foreign", which is nobody's, "other", which bears another cell's label, and "own", which bears this cell's
/// and was not made by its broker.
const FOREIGN: [&str; 11] = [
    "foreign",
    "other",
    "own",
    "no-such-service",
    "docker",
    "../../etc",
    "a b",
    "",
    "0123456789ab",
    "svc?all=1",
    "svc/json",
];

pub fn checks() -> Vec<RpcCheck> {
    vec![
        check(
            "G30",
            "verbs of Docker that the broker lacks",
            answers,
            |target| {
                run(async {
                    let mut outcomes = Vec::new();
                    for verb in VERBS {
                        let answer = call(target.socket("broker/broker.sock"), verb, Vec::new()).await;
                        outcomes.push(refused(answer, &[Code::Unimplemented]));
                    }
                    worst(outcomes)
                })
            },
        ),
        check("G33", "containers that are not the cell's", shows_own, |target| {
            run(foreign(target))
        }),
        check(
            "G35",
            "read a container's secret, or a log without end",
            shows_own,
            |target| run(told_of_own(target)),
        ),
        check("G39", "five hundred requests at once", shows_own, |target| {
            run(flood(target))
        }),
    ]
}

/// Whether the broker answers.
pub fn answers(target: &Target) -> Outcome {
    run(async {
        let mut client = ContainerStatusServiceClient::new(connect(target.socket("broker/broker.sock")));
        super::answers(client.get_broker_status(GetBrokerStatusRequest {}).await)
    })
}

/// The most that is told of a log (container_service.proto), and what frames it.
const LOG_LIMIT: usize = 256 * 1024 + 8 * 1024;
/// How soon a log is read again that is not long yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Whether the broker shows the cell's own service, which it makes where it is not there: then it speaks to Docker.
fn shows_own(target: &Target) -> Outcome {
    match deploys(target) {
        Outcome::Open => {}
        not_made @ (Outcome::Closed(_) | Outcome::Void(_)) => return not_made,
    }
    run(async {
        let mut client = ContainerStatusServiceClient::new(connect(target.socket("broker/broker.sock")));
        let request = GetContainerRequest {
            service: SERVICE.to_owned(),
        };
        super::answers(client.get_container(request).await)
    })
}

/// Its environment is told nowhere, and of its log, which is long and dirty, a bounded and clean part.
async fn told_of_own(target: &Target) -> Outcome {
    let mut client = ContainerStatusServiceClient::new(connect(target.socket("broker/broker.sock")));
    let service = || SERVICE.to_owned();
    let logs = |lines| GetContainerLogsRequest {
        service: service(),
        lines,
    };
    // It has just begun to write; the line's deadline ends this where it does not.
    let log = loop {
        match client.get_container_logs(logs(1_000)).await {
            Ok(log) if log.get_ref().truncated => break log.into_inner(),
            Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(status) => return Outcome::Void(super::told(&status)),
        }
    };
    let dirty = |line: &String| line.chars().any(|c| c.is_control() && c != '\t');
    if log.encoded_len() > LOG_LIMIT || log.lines.iter().any(dirty) {
        return Outcome::Open;
    }
    let shown = GetContainerRequest { service: service() };
    let stats = GetContainerStatsRequest { service: service() };
    let told = [
        client
            .get_container(shown)
            .await
            .map(|a| a.into_inner().encode_to_vec()),
        client
            .list_containers(ListContainersRequest {})
            .await
            .map(|a| a.into_inner().encode_to_vec()),
        client
            .get_container_stats(stats)
            .await
            .map(|a| a.into_inner().encode_to_vec()),
    ];
    for answer in told {
        match answer {
            Ok(bytes)
                if bytes
                    .windows(SECRET.len())
                    .any(|window| window == SECRET.as_bytes()) =>
            {
                return Outcome::Open;
            }
            Ok(_) => {}
            Err(status) => return Outcome::Void(super::told(&status)),
        }
    }
    refused(
        client.get_container_logs(logs(u32::MAX)).await,
        &[Code::InvalidArgument],
    )
}

/// More than `max_concurrent` at once: the rest is turned away, none waits for ever.
async fn flood(target: &Target) -> Outcome {
    let channel = connect(target.socket("broker/broker.sock"));
    let requests = (0..500).map(|_| {
        let mut client = ContainerStatusServiceClient::new(channel.clone());
        let service = SERVICE.to_owned();
        async move {
            client
                .get_container_logs(GetContainerLogsRequest {
                    service,
                    lines: 1_000,
                })
                .await
        }
    });
    let answers = futures_util::future::join_all(requests).await;
    let turned_away = answers
        .into_iter()
        .filter_map(Result::err)
        .map(|status| refused(Err::<tonic::Response<()>, _>(status), &[Code::ResourceExhausted]));
    let turned_away: Vec<_> = turned_away.collect();
    if turned_away.is_empty() {
        return Outcome::Open; // all were served: there is no limit
    }
    worst(turned_away)
}

async fn foreign(target: &Target) -> Outcome {
    const REFUSALS: [Code; 2] = [Code::NotFound, Code::InvalidArgument];
    let channel = connect(target.socket("broker/broker.sock"));
    let mut status = ContainerStatusServiceClient::new(channel.clone());
    let mut act = ContainerServiceClient::new(channel);
    let mut outcomes = Vec::new();
    for name in FOREIGN {
        let service = || name.to_owned();
        let logs = GetContainerLogsRequest {
            service: service(),
            lines: 10,
        };
        let stop = StopContainerRequest {
            service: service(),
            timeout_seconds: 1,
        };
        outcomes.extend([
            refused(
                status
                    .get_container(GetContainerRequest { service: service() })
                    .await,
                &REFUSALS,
            ),
            refused(status.get_container_logs(logs).await, &REFUSALS),
            refused(
                act.start_container(StartContainerRequest { service: service() })
                    .await,
                &REFUSALS,
            ),
            refused(act.stop_container(stop).await, &REFUSALS),
        ]);
    }
    worst(outcomes)
}

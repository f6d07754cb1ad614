//! The broker: a few verbs on the cell's own containers, and no Docker API behind them.

use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::{
    GetBrokerStatusRequest, GetContainerLogsRequest, GetContainerRequest, StartContainerRequest,
    StopContainerRequest,
};
use cell_proto::ipc::connect;
use tonic::Code;

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
const FOREIGN: [&str; 8] = [
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
        check("G33", "containers that are not the cell's", answers, |target| {
            run(foreign(target))
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

/// Void where there is no Docker: nothing was there to be reached.
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

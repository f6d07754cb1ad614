//! What managers ask of the one service of a cell that is not there.

use cell_proto::api::v1::manager_service_server::ManagerService;
use cell_proto::api::v1::*;
use cell_proto::fault::{Fault, Violation};
use tokio_stream::{Iter, iter};
use tonic::{Code, Request, Response, Status};

use super::Service;

type Lines = Iter<std::vec::IntoIter<Result<FollowServiceLogsResponse, Status>>>;

#[tonic::async_trait]
impl ManagerService for Service {
    async fn get_service_config(
        &self,
        request: Request<GetServiceConfigRequest>,
    ) -> Result<Response<GetServiceConfigResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        store.found(&request.into_inner().service)?;
        let field = |name: &str, default: Option<&str>| ServiceField {
            name: name.to_owned(),
            label: name.to_owned(),
            help: "is a number from 1 to 9".to_owned(),
            default: default.map(str::to_owned),
        };
        Ok(Response::new(GetServiceConfigResponse {
            form: vec![field("size", Some("3")), field("depth", Some("2"))],
            parameters: vec![ServiceParameter {
                name: "size".to_owned(),
                text: "7".to_owned(),
            }],
        }))
    }

    async fn validate_service_config(
        &self,
        request: Request<ValidateServiceConfigRequest>,
    ) -> Result<Response<ValidateServiceConfigResponse>, Status> {
        let bad = request
            .into_inner()
            .parameters
            .into_iter()
            .find(|one| one.text == "0");
        match bad {
            None => Ok(Response::new(ValidateServiceConfigResponse {})),
            Some(one) => {
                let field = format!("parameters.{}", one.name);
                let fault = Fault::new(
                    Code::InvalidArgument,
                    "api.cell",
                    "INVALID_REQUEST",
                    "the request has faults",
                );
                Err(fault
                    .violations(vec![Violation::new(field, "must be 1-9")])
                    .into())
            }
        }
    }

    async fn test_service(
        &self,
        _: Request<TestServiceRequest>,
    ) -> Result<Response<TestServiceResponse>, Status> {
        let check = |name: &str, ok| ServiceCheck {
            name: name.to_owned(),
            ok,
            detail: format!("of {name}"),
            ms: 3,
        };
        let is_open = self.0.lock().unwrap().store.is_open;
        Ok(Response::new(TestServiceResponse {
            checks: vec![check("containers", true), check("port", is_open)],
        }))
    }

    async fn get_service_health_history(
        &self,
        _: Request<GetServiceHealthHistoryRequest>,
    ) -> Result<Response<GetServiceHealthHistoryResponse>, Status> {
        let entry = |state: &str| HealthEntry {
            at_unix_ms: 1_000,
            state: state.to_owned(),
            detail: "1 of 1 run".to_owned(),
        };
        Ok(Response::new(GetServiceHealthHistoryResponse {
            entries: vec![entry("healthy"), entry("installing")],
        }))
    }

    async fn list_alerts(
        &self,
        _: Request<ListAlertsRequest>,
    ) -> Result<Response<ListAlertsResponse>, Status> {
        let store = &self.0.lock().unwrap().store;
        let alerts = store.service.iter().map(|service| Alert {
            id: "4".to_owned(),
            service: service.name.clone(),
            since_unix_ms: 1_000,
            severity: "critical".to_owned(),
            text: format!("{} does not run", service.name),
            acknowledged: store.seen.contains(&"4".to_owned()),
        });
        Ok(Response::new(ListAlertsResponse {
            alerts: alerts.collect(),
        }))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<AcknowledgeAlertRequest>,
    ) -> Result<Response<AcknowledgeAlertResponse>, Status> {
        self.0.lock().unwrap().store.seen.push(request.into_inner().id);
        Ok(Response::new(AcknowledgeAlertResponse {}))
    }

    type FollowServiceLogsStream = Lines;

    async fn follow_service_logs(
        &self,
        request: Request<FollowServiceLogsRequest>,
    ) -> Result<Response<Lines>, Status> {
        let part = |line: String, skipped| {
            Ok(FollowServiceLogsResponse {
                lines: vec![line],
                skipped,
            })
        };
        let first = format!("{} lines first", request.into_inner().lines);
        let parts = vec![part(first, false), part("and one later".to_owned(), true)];
        Ok(Response::new(iter(parts)))
    }

    async fn get_query_log(
        &self,
        _: Request<GetQueryLogRequest>,
    ) -> Result<Response<GetQueryLogResponse>, Status> {
        let level = self.0.lock().unwrap().store.query_log.clone();
        Ok(Response::new(GetQueryLogResponse { level }))
    }

    async fn set_query_log(
        &self,
        request: Request<SetQueryLogRequest>,
    ) -> Result<Response<SetQueryLogResponse>, Status> {
        let level = request.into_inner().level;
        self.0.lock().unwrap().store.query_log.clone_from(&level);
        Ok(Response::new(SetQueryLogResponse { level }))
    }
}

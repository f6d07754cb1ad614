//! What managers ask of services.

use std::pin::Pin;

use cell_api_core::derive::corefile::QueryLog;
use cell_api_core::fault::Faults;
use cell_proto::api::v1 as wire;
use cell_proto::api::v1::manager_service_server::ManagerService;
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::store::{field, set};
use super::{Automation, refused};
use crate::service::{ServiceError, managers};

#[tonic::async_trait]
impl ManagerService for Automation {
    async fn get_service_config(
        &self,
        request: Request<wire::GetServiceConfigRequest>,
    ) -> Result<Response<wire::GetServiceConfigResponse>, Status> {
        self.set_up()?;
        let config = managers::config(&self.app, &request.into_inner().service).await;
        let managers::ConfigView { form, parameters } = config.map_err(refused)?;
        let parameters = parameters
            .into_iter()
            .map(|(name, text)| wire::ServiceParameter { name, text });
        Ok(Response::new(wire::GetServiceConfigResponse {
            form: form.into_iter().map(field).collect(),
            parameters: parameters.collect(),
        }))
    }

    async fn validate_service_config(
        &self,
        request: Request<wire::ValidateServiceConfigRequest>,
    ) -> Result<Response<wire::ValidateServiceConfigResponse>, Status> {
        self.set_up()?;
        let wire::ValidateServiceConfigRequest { service, parameters } = request.into_inner();
        let parameters = set(parameters)?;
        let valid = managers::validate(&self.app, &service, &parameters).await;
        valid.map_err(refused)?;
        Ok(Response::new(wire::ValidateServiceConfigResponse {}))
    }

    async fn test_service(
        &self,
        request: Request<wire::TestServiceRequest>,
    ) -> Result<Response<wire::TestServiceResponse>, Status> {
        self.set_up()?;
        let checks = managers::test(&self.app, &request.into_inner().service).await;
        let checks = checks
            .map_err(refused)?
            .into_iter()
            .map(|check| wire::ServiceCheck {
                name: check.name,
                ok: check.ok,
                detail: check.detail,
                ms: check.ms,
            });
        Ok(Response::new(wire::TestServiceResponse {
            checks: checks.collect(),
        }))
    }

    async fn get_service_health_history(
        &self,
        request: Request<wire::GetServiceHealthHistoryRequest>,
    ) -> Result<Response<wire::GetServiceHealthHistoryResponse>, Status> {
        self.set_up()?;
        let entries = managers::history(&self.app, &request.into_inner().service).await;
        let entries = entries
            .map_err(refused)?
            .into_iter()
            .map(|entry| wire::HealthEntry {
                at_unix_ms: entry.at,
                state: entry.state,
                detail: entry.detail,
            });
        Ok(Response::new(wire::GetServiceHealthHistoryResponse {
            entries: entries.collect(),
        }))
    }

    async fn list_alerts(
        &self,
        _: Request<wire::ListAlertsRequest>,
    ) -> Result<Response<wire::ListAlertsResponse>, Status> {
        self.set_up()?;
        let alerts = managers::alerts(&self.app).await.map_err(refused)?;
        let alerts = alerts.into_iter().map(|alert| wire::Alert {
            id: alert.id.to_string(),
            service: alert.service,
            since_unix_ms: alert.since,
            severity: alert.severity,
            text: alert.text,
            acknowledged: alert.acknowledged,
        });
        Ok(Response::new(wire::ListAlertsResponse {
            alerts: alerts.collect(),
        }))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<wire::AcknowledgeAlertRequest>,
    ) -> Result<Response<wire::AcknowledgeAlertResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let done = managers::acknowledge(&self.app, &actor, &request.into_inner().id).await;
        done.map_err(refused)?;
        Ok(Response::new(wire::AcknowledgeAlertResponse {}))
    }

    type FollowServiceLogsStream =
        Pin<Box<dyn Stream<Item = Result<wire::FollowServiceLogsResponse, Status>> + Send>>;

    async fn follow_service_logs(
        &self,
        request: Request<wire::FollowServiceLogsRequest>,
    ) -> Result<Response<Self::FollowServiceLogsStream>, Status> {
        self.set_up()?;
        let wire::FollowServiceLogsRequest {
            service,
            container,
            lines,
        } = request.into_inner();
        let log = managers::follow(&self.app, &service, &container, lines).await;
        let ended = self.app.events.ended();
        let parts = stream::unfold((log.map_err(refused)?, ended), |(mut log, ended)| async move {
            let (lines, skipped) = tokio::select! {
                () = ended.cancelled() => return None,
                part = log.next() => part?,
            };
            Some((
                Ok(wire::FollowServiceLogsResponse { lines, skipped }),
                (log, ended),
            ))
        });
        Ok(Response::new(Box::pin(parts)))
    }

    async fn get_query_log(
        &self,
        _: Request<wire::GetQueryLogRequest>,
    ) -> Result<Response<wire::GetQueryLogResponse>, Status> {
        self.set_up()?;
        let level = managers::query_log(&self.app).map_err(refused)?;
        Ok(Response::new(wire::GetQueryLogResponse {
            level: level.as_str().to_owned(),
        }))
    }

    async fn set_query_log(
        &self,
        request: Request<wire::SetQueryLogRequest>,
    ) -> Result<Response<wire::SetQueryLogResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let level = QueryLog::parse(&request.into_inner().level);
        let level = level.map_err(|why| refused(ServiceError::from(Faults::one("level", why))))?;
        let done = managers::set_query_log(&self.app, &actor, level).await;
        done.map_err(refused)?;
        Ok(Response::new(wire::SetQueryLogResponse {
            level: level.as_str().to_owned(),
        }))
    }
}

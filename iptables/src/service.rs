//! `cell.iptables.v1.RulesetService`: from the wire to the judge, to the programs, and back. One program at a time.

use std::sync::Arc;

use cell_iptables_core::{NotOurs, entries, judge_rules, judge_sets, own_rules, own_sets};
use cell_proto::fault::{Fault, Violation};
use cell_proto::iptables::v1;
use cell_proto::iptables::v1::restore_ruleset_request::Text;
use cell_proto::iptables::v1::ruleset_service_server::{RulesetService, RulesetServiceServer};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::program::{Failure, Family, Program, Table};

const DOMAIN: &str = "iptables.cell";
const TABLES: [Table; 4] = [Table::Nat, Table::Raw, Table::Filter, Table::Mangle];
/// Largest answer, bytes: all sets of 20,000 peers.
const ANSWER_MAX: usize = 64 << 20;

/// What is served on the listener `netd`, and nothing beside it.
pub fn routes() -> Routes {
    let service = RulesetServiceServer::new(Service::default())
        .max_decoding_message_size(cell_proto::ipc::serve::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(ANSWER_MAX);
    Routes::new(service)
}

#[derive(Default)]
struct Service {
    /// The programs lock each other out too, but fail after some seconds.
    one: Arc<tokio::sync::Mutex<()>>,
}

impl Service {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Status> {
        let alone = Arc::clone(&self.one).lock_owned().await;
        let outcome = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(alone);
            outcome
        });
        let outcome = outcome
            .await
            .map_err(|error| failed("CRASHED", &error.to_string()))?;
        outcome.map_err(|failure| {
            tracing::warn!(%failure, "a program did not do what it was asked");
            match failure {
                Failure::Start(..) => failed("NOT_RUN", &failure.to_string()),
                Failure::Refused { .. } => failed("RESTORE_FAILED", &failure.to_string()),
                Failure::TooMuch(_) => failed("TOO_MUCH", &failure.to_string()),
                Failure::TooLong(_) => failed("TOO_LONG", &failure.to_string()),
            }
        })
    }
}

fn failed(reason: &'static str, message: &str) -> Status {
    Fault::new(Code::FailedPrecondition, DOMAIN, reason, message).into()
}

fn refused(field: &str, why: &NotOurs) -> Status {
    tracing::warn!(field, %why, "a text was refused");
    Fault::new(
        Code::InvalidArgument,
        DOMAIN,
        "NOT_OURS",
        "the text is not one that Cell makes",
    )
    .violations(vec![Violation::new(field, why)])
    .into()
}

#[tonic::async_trait]
impl RulesetService for Service {
    async fn restore_ruleset(
        &self,
        request: Request<v1::RestoreRulesetRequest>,
    ) -> Result<Response<v1::RestoreRulesetResponse>, Status> {
        use cell_iptables_core::Family as Judged;
        let Some(text) = request.into_inner().text else {
            let missing = Violation::new("text", "is required");
            let fault = Fault::new(
                Code::InvalidArgument,
                DOMAIN,
                "INVALID",
                "there is nothing to restore",
            );
            return Err(fault.violations(vec![missing]).into());
        };
        let (program, input) = match text {
            Text::Sets(text) => {
                judge_sets(&text).map_err(|why| refused("sets", &why))?;
                (Program::RestoreSets, text)
            }
            Text::RulesV4(text) => {
                judge_rules(&text, Judged::V4).map_err(|why| refused("rules_v4", &why))?;
                (Program::RestoreRules(Family::V4), text)
            }
            Text::RulesV6(text) => {
                judge_rules(&text, Judged::V6).map_err(|why| refused("rules_v6", &why))?;
                (Program::RestoreRules(Family::V6), text)
            }
        };
        self.run(move || program.run(&input)).await?;
        Ok(Response::new(v1::RestoreRulesetResponse {}))
    }

    async fn save_ruleset(
        &self,
        request: Request<v1::SaveRulesetRequest>,
    ) -> Result<Response<v1::SaveRulesetResponse>, Status> {
        let headers_only = request.into_inner().headers_only;
        let saved = self.run(move || save(headers_only)).await?;
        Ok(Response::new(saved))
    }
}

fn save(headers_only: bool) -> Result<v1::SaveRulesetResponse, Failure> {
    let rules = |family| -> Result<String, Failure> {
        let tables = TABLES.map(|table| Program::SaveRules(family, table).run(""));
        tables.into_iter().map(|table| Ok(own_rules(&table?))).collect()
    };
    let (sets, entries) = if headers_only {
        entries(&Program::ListSets.run("")?)
    } else {
        (own_sets(&Program::SaveSets.run("")?), vec![])
    };
    Ok(v1::SaveRulesetResponse {
        rules_v4: rules(Family::V4)?,
        rules_v6: rules(Family::V6)?,
        sets,
        entries,
    })
}

//! Whether an answer to bad input is right: a typed 4xx that names every planted fault.

use crate::raw::Answer;
use crate::rest_cases::Case;

/// What is wrong with the answer, if anything.
pub fn rest(case: &Case, answer: &Answer) -> Result<(), String> {
    if !(400..500).contains(&answer.status) {
        return Err(format!("answered {} and not 4xx", answer.status));
    }
    if answer.body.is_empty() && case.method == "TRACE" {
        return Ok(()); // refused below the API, by the HTTP library
    }
    let problem = answer.json();
    if answer.header("content-type") != Some("application/problem+json") {
        return Err(format!(
            "{} is not a problem document: {:?}",
            answer.status,
            answer.header("content-type")
        ));
    }
    if problem["code"].as_str().is_none_or(str::is_empty) {
        return Err(format!("no code: {problem}"));
    }
    let named: Vec<&str> = problem["violations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v["field"].as_str())
        .collect();
    let missing: Vec<_> = case
        .fields
        .iter()
        .filter(|field| !named.contains(field))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("{missing:?} not named, only {named:?}: {problem}"))
    }
}

/// As [`rest`], for a gRPC status.
pub fn grpc(fields: &[&str], status: &tonic::Status) -> Result<(), String> {
    let client_fault = [
        tonic::Code::InvalidArgument,
        tonic::Code::NotFound,
        tonic::Code::OutOfRange,
        tonic::Code::PermissionDenied,
    ];
    if !client_fault.contains(&status.code()) {
        return Err(format!("answered {:?} {}", status.code(), status.message()));
    }
    if cell_proto::fault::reason(status).is_none() {
        return Err("no reason".to_owned());
    }
    let named: Vec<String> = cell_proto::fault::violations(status)
        .into_iter()
        .map(|v| v.field)
        .collect();
    let missing: Vec<_> = fields
        .iter()
        .filter(|field| !named.iter().any(|n| n == *field))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("{missing:?} not named, only {named:?}"))
    }
}

/// The code of an answer to bytes that are no message: the caller's fault, not the server's.
pub fn frame(code: i32) -> Result<(), String> {
    const CALLERS_FAULT: [tonic::Code; 4] = [
        tonic::Code::InvalidArgument,
        tonic::Code::OutOfRange,
        tonic::Code::ResourceExhausted,
        tonic::Code::Unimplemented,
    ];
    let code = tonic::Code::from_i32(code);
    if CALLERS_FAULT.contains(&code) {
        Ok(())
    } else {
        Err(format!("answered {code:?}"))
    }
}

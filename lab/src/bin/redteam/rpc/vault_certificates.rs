//! vaultd: what it signs is its own profile, for the cell's own names, at a bounded rate.

use cell_proto::ipc::connect;
use cell_proto::vault::v1::certificate_service_client::CertificateServiceClient;
use cell_proto::vault::v1::{IssueServerCertificateRequest, IssueServerCertificateResponse};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use tonic::{Code, Response, Status};

use super::{RpcCheck, check, refused, run, vault_secrets, worst};
use crate::attempt::Outcome;
use crate::target::Target;

/// Below the suffixes of the shipped policy.
const OWN_NAME: &str = "redteam.home.cell";
/// More than any policy allows in an hour.
const FLOOD: usize = 2_000;

pub fn checks() -> Vec<RpcCheck> {
    vec![
        check(
            "G07",
            "get a certificate that can sign others",
            vault_secrets::answers,
            |t| run(become_authority(t)),
        ),
        check(
            "G08",
            "get a certificate for a name of others",
            vault_secrets::answers,
            |t| run(foreign_names(t)),
        ),
        check(
            "G10",
            "have anything signed that is no request",
            vault_secrets::answers,
            |t| run(sign_anything(t)),
        ),
        check(
            "G12",
            "get certificates without end",
            vault_secrets::answers,
            |t| run(flood(t)),
        ),
    ]
}

async fn issue(target: &Target, request: IssueServerCertificateRequest) -> Answer {
    let mut client = CertificateServiceClient::new(connect(target.socket("vault/vault.sock")));
    client.issue_server_certificate(request).await
}

type Answer = Result<Response<IssueServerCertificateResponse>, Status>;

/// A request for `names`, whose own extensions ask for everything.
fn request(names: &[&str]) -> Result<IssueServerCertificateRequest, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    // basicConstraints CA:TRUE, keyUsage keyCertSign and cRLSign, extendedKeyUsage any (RFC 5280, section 4.2.1).
    params.custom_extensions = [
        ([2, 5, 29, 19], vec![0x30, 0x03, 0x01, 0x01, 0xff]),
        ([2, 5, 29, 15], vec![0x03, 0x02, 0x01, 0x06]),
        (
            [2, 5, 29, 37],
            vec![0x30, 0x06, 0x06, 0x04, 0x55, 0x1d, 0x25, 0x00],
        ),
    ]
    .map(|(oid, content)| CustomExtension::from_oid_content(&oid, content))
    .into();
    let csr = params.serialize_request(&KeyPair::generate()?)?;
    Ok(IssueServerCertificateRequest {
        csr_der: csr.der().to_vec(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: Vec::new(),
    })
}

async fn become_authority(target: &Target) -> Outcome {
    let request = match request(&[OWN_NAME]) {
        Ok(request) => request,
        Err(e) => return Outcome::Void(e.to_string()),
    };
    let issued = match issue(target, request).await {
        Ok(issued) => issued.into_inner().certificate.unwrap_or_default(),
        Err(status) => {
            return refused(
                Err::<Response<()>, _>(status),
                &[Code::InvalidArgument, Code::PermissionDenied],
            );
        }
    };
    match can_sign(&issued.der) {
        Ok(true) => Outcome::Open,
        Ok(false) => Outcome::Closed("issued as the profile says".to_owned()),
        Err(e) => Outcome::Void(e),
    }
}

fn can_sign(der: &[u8]) -> Result<bool, String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|e| e.to_string())?;
    let authority = certificate
        .basic_constraints()
        .map_err(|e| e.to_string())?
        .is_some_and(|found| found.value.ca);
    let usage = certificate.key_usage().map_err(|e| e.to_string())?;
    let signs = usage.is_some_and(|found| found.value.key_cert_sign() || found.value.crl_sign());
    let extended = certificate.extended_key_usage().map_err(|e| e.to_string())?;
    Ok(authority || signs || extended.is_some_and(|found| found.value.any || found.value.client_auth))
}

async fn foreign_names(target: &Target) -> Outcome {
    let names = [
        "google.com",
        "*.home.cell",
        "home.cell.evil.example",
        "evilcell",
        "xn--cll-1na.example",
        "home.cell.",
        "a..home.cell",
        "HOME.CELL.example",
        "user@home.cell",
        "https://home.cell",
        "home.cell\0.example",
        "",
    ];
    let mut outcomes = Vec::new();
    for name in names {
        match request(&[OWN_NAME, name]) {
            Ok(request) => outcomes.push(refused(issue(target, request).await, REFUSALS)),
            Err(e) => outcomes.push(Outcome::Void(e.to_string())),
        }
    }
    for address in [
        vec![8, 8, 8, 8],
        vec![10, 0, 0],
        vec![0; 16],
        vec![0x20, 1, 0x48, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x88],
    ] {
        match request(&[OWN_NAME]) {
            Ok(request) => {
                let request = IssueServerCertificateRequest {
                    addresses: vec![address],
                    ..request
                };
                outcomes.push(refused(issue(target, request).await, REFUSALS));
            }
            Err(e) => outcomes.push(Outcome::Void(e.to_string())),
        }
    }
    worst(outcomes)
}

const REFUSALS: &[Code] = &[Code::InvalidArgument, Code::PermissionDenied];

async fn sign_anything(target: &Target) -> Outcome {
    let forged = match request(&[OWN_NAME]) {
        Ok(mut request) => {
            // The last byte belongs to the signature that proves possession.
            if let Some(last) = request.csr_der.last_mut() {
                *last ^= 1;
            }
            request.csr_der
        }
        Err(e) => return Outcome::Void(e.to_string()),
    };
    let mut outcomes = Vec::new();
    for csr_der in [
        Vec::new(),
        vec![0x30, 0x80],
        b"arbitrary bytes to be signed".to_vec(),
        vec![0; 5 << 10],
        forged,
    ] {
        let request = IssueServerCertificateRequest {
            csr_der,
            names: vec![OWN_NAME.to_owned()],
            addresses: Vec::new(),
        };
        outcomes.push(refused(issue(target, request).await, REFUSALS));
    }
    worst(outcomes)
}

/// Uses up the hour's issuances; therefore the last of all.
async fn flood(target: &Target) -> Outcome {
    let request = match request(&[OWN_NAME]) {
        Ok(request) => request,
        Err(e) => return Outcome::Void(e.to_string()),
    };
    for issued in 0..FLOOD {
        match issue(target, request.clone()).await {
            Ok(_) => {}
            Err(status) if status.code() == Code::ResourceExhausted => {
                return Outcome::Closed(format!("after {issued}: {}", super::told(&status)));
            }
            Err(status) => return Outcome::Void(super::told(&status)),
        }
    }
    Outcome::Open
}

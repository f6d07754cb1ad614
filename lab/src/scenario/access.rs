//! Proof 1: HTTPS verified against the cell's authority, and who may reach what, both families.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;

use crate::counter::Protocol::{Ping, Tcp, Udp};
use crate::report::Report;
use crate::rest::curl;

use super::household::{Household, Target};
use super::{Verdict, household};

/// The cell's health by plain curl from both devices, trusting nothing but the cell's root.
pub(super) fn https(household: &Household, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root.pem");
    fs::write(&root, household.rest.clone().get("/api/trust/root.pem")?.body)?;
    let text = |field: &str| {
        household.config[field]
            .as_str()
            .map(str::to_owned)
            .context(field.to_owned())
    };
    let (v4, v6, domain) = (
        text("vpn_address_ipv4")?,
        text("vpn_address_ipv6")?,
        text("domain")?,
    );
    let ways = [
        (format!("https://{v4}/health"), None),
        (format!("https://[{v6}]/health"), None),
        (
            format!("https://{domain}/health"),
            Some(format!("{domain}:443:{v4}")),
        ),
    ];
    let stranger = folder.path().join("stranger.pem");
    fs::write(&stranger, STRANGER)?;
    for member in [&household.phone, &household.laptop] {
        let (name, device) = (member.name, &member.device.namespace);
        for (url, resolve) in &ways {
            let answer = curl(device, url, &root, resolve.as_deref());
            let ok = answer.as_ref().is_ok_and(|body| body.contains("\"ok\""));
            report.fact(
                format!("{name}: curl {url} trusts the cell's root"),
                answer.unwrap_or_else(|e| e.to_string()),
                ok,
            );
        }
        let refused = curl(device, &format!("https://{v4}/health"), &stranger, None);
        let ok = refused
            .as_ref()
            .is_err_and(|error| error.to_string().contains("certificate"));
        report.fact(
            format!("{name}: curl with another root refuses it"),
            if ok { "refused" } else { "accepted" },
            ok,
        );
    }
    Ok(())
}

/// The matrix of rights, peer-to-peer first off, then on.
pub(super) fn rights(household: &Household, report: &mut Report) -> Result<()> {
    let (phone, laptop) = (&household.phone, &household.laptop);
    let echo = household::ECHO;
    for protocol in [Tcp(Some(echo)), Udp(Some(echo)), Ping] {
        household.expect(report, phone, Target::INTERNET, protocol, Verdict::Passes)?;
        household.expect(report, laptop, Target::INTERNET, protocol, Verdict::Denied)?;
    }
    let service = Tcp(Some(household::SERVICE));
    household.expect(report, laptop, Target::SERVICE, service, Verdict::Passes)?;
    household.expect(report, phone, Target::SERVICE, service, Verdict::Denied)?;
    household.expect(
        report,
        laptop,
        Target::SERVICE,
        Udp(Some(household::SERVICE)),
        Verdict::Denied,
    )?;
    household.expect(
        report,
        laptop,
        Target::BESIDE_SERVICE,
        Tcp(Some(household::SERVICE + 1)),
        Verdict::Denied,
    )?;
    for protocol in [Tcp(Some(echo)), Ping] {
        household.expect(report, phone, Target::LAPTOP, protocol, Verdict::Denied)?;
        household.expect(report, laptop, Target::PHONE, protocol, Verdict::Denied)?;
    }
    Ok(())
}

/// Lets both devices reach each other.
pub(super) fn peer_to_peer(household: &mut Household, report: &mut Report) -> Result<()> {
    for (name, internet) in [("phone", true), ("laptop", false)] {
        household.grant(
            name,
            &json!({"internet": internet, "peer_to_peer": true, "services": []}),
        )?;
    }
    for protocol in [Tcp(Some(household::ECHO)), Ping] {
        household.expect(
            report,
            &household.phone,
            Target::LAPTOP,
            protocol,
            Verdict::Passes,
        )?;
        household.expect(
            report,
            &household.laptop,
            Target::PHONE,
            protocol,
            Verdict::Passes,
        )?;
    }
    // What the laptop had before is gone with the change.
    household.expect(
        report,
        &household.laptop,
        Target::SERVICE,
        Tcp(Some(household::SERVICE)),
        Verdict::Denied,
    )
}

/// A self-signed certificate that has nothing to do with any cell (openssl req -x509 -newkey ed25519, key thrown away).
const STRANGER: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBPDCB76ADAgECAhRL0CfbapTOEuSJaZhCPjfc22NOwTAFBgMrZXAwEzERMA8G\n\
A1UEAwwIc3RyYW5nZXIwIBcNMjYxMTI0MDAwODEwWhgPMjEyNjEwMzEwMDA4MTBa\n\
MBMxETAPBgNVBAMMCHN0cmFuZ2VyMCowBQYDK2VwAyEA0y7jCb0HKanJhbK7cc5A\n\
aiVdnYq724hJ6xAC1DpRE/6jUzBRMB0GA1UdDgQWBBRzQrkA/uQ1jV2HZg20OtlK\n\
qJxnojAfBgNVHSMEGDAWgBRzQrkA/uQ1jV2HZg20OtlKqJxnojAPBgNVHRMBAf8E\n\
BTADAQH/MAUGAytlcANBABZKzDQFHJ8cuCiJFJgdUBPdMTbQevJBk2t1FlFF3liB\n\
4ZPHbPpdBqgy8UkXPLEXCTOhq+QMAIvrDeJXRwLdDwE=\n\
-----END CERTIFICATE-----\n";

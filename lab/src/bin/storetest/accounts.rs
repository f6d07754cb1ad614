//! Accounts of services.

use anyhow::{Context, Result, ensure};
use cell_lab::docker::Docker;
use cell_lab::netns::Namespace;
use cell_lab::report::Report;
use cell_lab::store::{Account, Wishes};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::story::{PHONE, TV};

/// Whose accounts at which services.
const WHOSE: [(&str, &str, &[&str]); 2] = [
    ("phone", PHONE, &["calendar", "files", "email"]),
    ("tv", TV, &["files", "email"]),
];

/// Makes those of the story, by REST; where that does not go, at the services' own interface.
pub fn make(report: &mut Report, cell: &Namespace, wishes: &Wishes<'_>) -> Result<Vec<Account>> {
    let mut all = Vec::new();
    for (peer, user, services) in WHOSE {
        let what = format!("POST /api/accounts for {user}");
        match by_rest(wishes, peer, user, services) {
            Ok(made) => {
                report.fact(what, services.join(", "), made.len() == services.len());
                all.extend(made);
            }
            Err(why) => {
                report.add(what, format!("{why:#}"), "", "", true);
                all.extend(by_hand(report, cell, wishes, user, services)?);
            }
        }
    }
    Ok(all)
}

fn by_rest(wishes: &Wishes<'_>, peer: &str, user: &str, services: &[&str]) -> Result<Vec<Account>> {
    let body = json!({"peer": peer, "user": user, "services": services});
    let answer = wishes.ask(|rest| rest.post("/api/accounts", &body))?;
    ensure!(answer.status == 201, "{} {}", answer.status, answer.code());
    let told = answer.json();
    let credentials = told["credentials"].as_array().context("no credentials")?;
    let read = |one: &Value| {
        let text = |key: &str| {
            one[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| key.to_owned())
        };
        Ok(Account {
            service: text("service")?,
            user: text("user")?,
            password: text("password")?,
        })
    };
    credentials.iter().map(read).collect()
}

fn by_hand(
    report: &mut Report,
    cell: &Namespace,
    wishes: &Wishes<'_>,
    user: &str,
    services: &[&str],
) -> Result<Vec<Account>> {
    let mut all = Vec::new();
    for service in services {
        let password = format!("{user}'s password at {service}");
        one(cell, wishes, service, user, &password)?;
        all.push(Account {
            service: (*service).to_owned(),
            user: user.to_owned(),
            password,
        });
    }
    let what = format!("accounts of {user} at the services' interface, as cell-api's user");
    report.fact(what, services.join(", "), true);
    Ok(all)
}

fn one(cell: &Namespace, wishes: &Wishes<'_>, service: &str, user: &str, password: &str) -> Result<()> {
    let (path, body) = (format!("/accounts/{user}"), json!({"password": password}));
    wishes.until(&format!("{user} at {service}"), || {
        let said = put(cell, wishes, service, &path, &body)?;
        ensure!(said == "201" || said == "200", "{said}");
        Ok(())
    })
}

/// Asks the interface for accounts of a service, as cell-api, which alone may; the status.
fn put(cell: &Namespace, wishes: &Wishes<'_>, service: &str, path: &str, body: &Value) -> Result<String> {
    let (_, told) = wishes.get(&format!("/api/services/{service}/status"))?;
    let containers = told["containers"].as_array().cloned().unwrap_or_default();
    let accounts = containers.iter().find(|one| one["name"] == "accounts");
    let address = accounts
        .and_then(|one| one["address"].as_str())
        .with_context(|| told.to_string())?;
    let (url, body) = (format!("http://{address}:8090{path}"), body.to_string());
    let identity = ["--reuid=cell-api", "--regid=cell-api", "--clear-groups", "curl"];
    let quiet = [
        "-sS",
        "--max-time",
        "10",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-X",
        "PUT",
    ];
    let json = ["-H", "Content-Type: application/json", "--data", &body, &url];
    let arguments: Vec<&str> = [&identity[..], &quiet, &json].concat();
    cell.run("setpriv", &arguments)
}

/// Gives mail a certificate by an authority of the test's own, and has it read it; the authority (PEM).
pub fn certify(cell: &Namespace, docker: &Docker<'_>, wishes: &Wishes<'_>, name: &str) -> Result<String> {
    let (key, own) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Mail's authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key)?.pem();
    let leaf = CertificateParams::new([name.to_owned()])?.signed_by(&own, &Issuer::new(params, key))?;
    let body = json!({"chain": leaf.pem(), "key": own.serialize_pem()});
    wishes.until("mail's certificate", || {
        let said = put(cell, wishes, "email", "/certificate", &body)?;
        ensure!(said == "204", "{said}");
        Ok(())
    })?;
    for container in ["dovecot", "exim"] {
        let filter = format!("name=email-{container}");
        let id = docker.say(&["ps", "--quiet", "--filter", &filter])?;
        docker.say(&["kill", "--signal", "SIGHUP", &id])?;
    }
    Ok(authority)
}

/// The one of this user at this service.
pub fn of<'a>(all: &'a [Account], service: &str, user: &str) -> Result<&'a Account> {
    all.iter()
        .find(|one| one.service == service && one.user == user)
        .with_context(|| format!("{user} has no account at {service}"))
}

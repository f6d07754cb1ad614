//! Accounts of services.

use anyhow::{Context, Result, ensure};
use cell_lab::docker::Docker;
use cell_lab::netns::Namespace;
use cell_lab::store::{Account, Wishes};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::story::{PHONE, TV};

/// Makes those of the story.
pub fn make(cell: &Namespace, wishes: &Wishes<'_>) -> Result<Vec<Account>> {
    let mut all = Vec::new();
    for (service, users) in [
        ("calendar", &[PHONE] as &[&str]),
        ("files", &[PHONE, TV]),
        ("email", &[PHONE, TV]),
    ] {
        for user in users {
            let password = format!("{user}'s password at {service}");
            one(cell, wishes, service, user, &password)?;
            all.push(Account {
                service: service.to_owned(),
                user: (*user).to_owned(),
                password,
            });
        }
    }
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

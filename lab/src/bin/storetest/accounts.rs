//! Accounts of services.

use anyhow::{Context, Result, ensure};
use cell_lab::report::Report;
use cell_lab::store::{Account, Wishes};
use serde_json::{Value, json};

use crate::story::{PHONE, TV};

/// Whose accounts at which services.
const WHOSE: [(&str, &str, &[&str]); 2] = [
    ("phone", PHONE, &["calendar", "files", "email"]),
    ("tv", TV, &["files", "email"]),
];

/// Makes those of the story, by REST.
pub fn make(report: &mut Report, wishes: &Wishes<'_>) -> Result<Vec<Account>> {
    let mut all = Vec::new();
    for (peer, user, services) in WHOSE {
        let what = format!("POST /api/accounts for {user}");
        // The relay that connects cell-api to the service may be told of its network only now.
        let made = wishes.until(&what, || by_rest(wishes, peer, user, services))?;
        report.fact(what, services.join(", "), made.len() == services.len());
        all.extend(made);
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

/// The one of this user at this service.
pub fn of<'a>(all: &'a [Account], service: &str, user: &str) -> Result<&'a Account> {
    all.iter()
        .find(|one| one.service == service && one.user == user)
        .with_context(|| format!("{user} has no account at {service}"))
}

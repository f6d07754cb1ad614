//! Accounts of services.

use anyhow::{Context, Result, ensure};
use cell_lab::netns::Namespace;
use cell_lab::store::{Account, Wishes};
use serde_json::json;

use crate::story::{PHONE, TV};

/// What the interface for accounts asks for.
pub const TOKEN: &str = "storetest-0123456789abcdef0123456789";

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
    let (_, told) = wishes.get(&format!("/api/services/{service}/status"))?;
    let containers = told["containers"].as_array().cloned().unwrap_or_default();
    let accounts = containers.iter().find(|one| one["name"] == "accounts");
    let address = accounts
        .and_then(|one| one["address"].as_str())
        .with_context(|| told.to_string())?;
    let (url, body) = (
        format!("http://{address}:8090/accounts/{user}"),
        json!({"password": password}).to_string(),
    );
    let token = format!("Authorization: Bearer {TOKEN}");
    wishes.until(&format!("{user} at {service}"), || {
        // As cell-api, which alone may ask.
        let said = cell.run(
            "setpriv",
            &[
                "--reuid=cell-api",
                "--regid=cell-api",
                "--clear-groups",
                "curl",
                "-sS",
                "--max-time",
                "10",
                "-w",
                "%{http_code}",
                "-X",
                "PUT",
                "-H",
                &token,
                "-H",
                "Content-Type: application/json",
                "--data",
                &body,
                &url,
            ],
        )?;
        ensure!(said.ends_with("201") || said.ends_with("200"), "{said}");
        Ok(())
    })
}

/// The one of this user at this service.
pub fn of<'a>(all: &'a [Account], service: &str, user: &str) -> Result<&'a Account> {
    all.iter()
        .find(|one| one.service == service && one.user == user)
        .with_context(|| format!("{user} has no account at {service}"))
}

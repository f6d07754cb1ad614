//! Mail from one device to the other: by programs for mail, and in a browser.

use anyhow::{Result, ensure};
use cell_lab::household::DOMAIN;
use cell_lab::report::Report;
use cell_lab::store::{Account, Apartment, Wishes};
use serde_json::json;

use crate::story::Found;
use crate::used::client;

/// What the letter is about.
const SUBJECT: &str = "Dinner";

/// The phone writes, the TV reads.
pub fn used(
    report: &mut Report,
    wishes: &Wishes<'_>,
    devices: [&Apartment<'_>; 2],
    mail: &Found,
    accounts: [&Account; 2],
) -> Result<()> {
    letters(report, wishes, devices, mail, accounts)?;
    webmail(report, devices[1], accounts)
}

fn letters(
    report: &mut Report,
    wishes: &Wishes<'_>,
    [phone, tv]: [&Apartment<'_>; 2],
    mail: &Found,
    [alice, bob]: [&Account; 2],
) -> Result<()> {
    let (root, name) = (phone.path("root.pem").display().to_string(), mail.name.as_str());
    let (from, to) = (
        format!("{}@{DOMAIN}", alice.user),
        format!("{}@{DOMAIN}", bob.user),
    );
    let sent = wishes.until("submission", || {
        let arguments = [
            "send",
            name,
            &root,
            &alice.user,
            &alice.password,
            &from,
            &to,
            SUBJECT,
        ];
        client(phone, "mail_client.py", &arguments)
    })?;
    report.fact("submission from the phone", &sent, sent["code"] == 250);
    let root = tv.path("root.pem").display().to_string();
    let read = wishes.until("the letter", || {
        let read = client(
            tv,
            "mail_client.py",
            &["read", name, &root, &bob.user, &bob.password],
        )?;
        ensure!(read["subjects"] == json!([SUBJECT]), "{read}");
        Ok(read)
    })?;
    report.fact("IMAPS on the TV", &read["subjects"], true);
    let forged = client(
        phone,
        "mail_client.py",
        &[
            "read",
            name,
            &phone.path("root.pem").display().to_string(),
            &bob.user,
            &alice.password,
        ],
    )?;
    report.fact("another's password at IMAPS", &forged, forged["login"] == false);
    Ok(())
}

/// The letter that came by submission, opened in the browser, behind the proxy.
fn webmail(report: &mut Report, tv: &Apartment<'_>, [alice, bob]: [&Account; 2]) -> Result<()> {
    let url = format!("https://webmail.{DOMAIN}/");
    let open = |password: &str| {
        let arguments = ["open", url.as_str(), &bob.user, password, SUBJECT];
        client(tv, "webmail_client.py", &arguments)
    };
    let said = open(&bob.password)?;
    let text = said["text"].as_str().unwrap_or_default();
    report.fact(
        format!("{url} on the TV: he logs in and opens it"),
        &said,
        text.contains("See you at eight."),
    );
    let forged = open(&alice.password)?;
    report.fact("  another's password there", &forged, forged["login"] == false);
    Ok(())
}

//! Mail.

use std::collections::BTreeMap;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::service::{Service, eventually};

const ALICE: (&str, &str) = ("alice", "alice's password");
const BOB: (&str, &str) = ("bob", "bob's password, too");

struct Mail {
    service: Service,
    dovecot: String,
    exim: String,
    authority: String,
}

/// A certificate for the service by an authority, as vaultd makes them: chain, key, and the authority's certificate.
fn certificate() -> (String, String, String) {
    let (key, own) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "The cell's authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let leaf = CertificateParams::new(["mail.cell.example".to_owned()]).unwrap();
    (
        leaf.signed_by(&own, &issuer).unwrap().pem(),
        own.serialize_pem(),
        authority,
    )
}

impl Mail {
    fn new() -> Self {
        let mut service = Service::new(&["exim", "dovecot", "accounts", "webmail"]);
        service.deploy("email", &BTreeMap::new());
        let (dovecot, exim) = (
            service.address("cell-email-dovecot"),
            service.address("cell-email-exim"),
        );
        let file = service.dockerd.dir().join("authority.pem");
        let mail = Mail {
            service,
            dovecot,
            exim,
            authority: file.to_str().unwrap().to_owned(),
        };
        eventually("the interface for accounts", Duration::from_secs(20), || {
            let status = mail.accounts("GET", "/accounts", &Value::Null);
            (status == "200").then_some(()).ok_or(status)
        });
        let (chain, key, authority) = certificate();
        std::fs::write(file, authority).unwrap();
        assert_eq!(
            mail.accounts("PUT", "/certificate", &json!({"chain": chain, "key": key})),
            "204"
        );
        for (user, password) in [ALICE, BOB] {
            let body = json!({"password": password});
            assert_eq!(mail.accounts("PUT", &format!("/accounts/{user}"), &body), "201");
        }
        mail.service.healthy("email");
        mail
    }

    fn accounts(&self, method: &str, path: &str, body: &Value) -> String {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.service.accounts("cell-email-accounts", method, path, &body)
    }

    fn send(&self, (user, password): (&str, &str), from: &str, to: &str, subject: &str) -> Value {
        let args = [
            "send",
            &self.exim,
            &self.authority,
            user,
            password,
            from,
            to,
            subject,
        ];
        self.service.client("mail_client.py", &args)["code"].clone()
    }

    fn read(&self, (user, password): (&str, &str)) -> Value {
        let args = ["read", &self.dovecot, &self.authority, user, password];
        self.service.client("mail_client.py", &args)
    }

    fn arrives(&self, who: (&str, &str), subject: &str) {
        eventually(&format!("{subject} arrives"), Duration::from_secs(20), || {
            let said = self.read(who);
            let subjects = said["subjects"].as_array().cloned().unwrap_or_default();
            subjects
                .contains(&json!(subject))
                .then_some(())
                .ok_or(format!("{said}{}", self.service.logs()))
        });
    }
}

#[test]
fn mail_goes_from_one_account_to_another_and_no_further() {
    let mail = Mail::new();
    let (alice, bob) = ("alice@cell.example", "bob@cell.example");
    assert_eq!(
        mail.send(ALICE, alice, bob, "Dinner"),
        250,
        "{}",
        mail.service.logs()
    );
    mail.arrives(BOB, "Dinner");
    assert_eq!(
        mail.read(BOB)["folders"],
        json!(["Drafts", "INBOX", "Junk", "Sent", "Trash"])
    );
    assert_eq!(
        mail.read(ALICE)["subjects"],
        json!([]),
        "hers is another's mailbox"
    );

    // Not with another's password, not in another's name, to nobody, and not out of the cell.
    assert_eq!(mail.send((ALICE.0, BOB.1), alice, bob, "Forged"), 535);
    assert_eq!(mail.read((ALICE.0, BOB.1)), json!({"login": false}));
    assert_eq!(mail.send(ALICE, bob, alice, "Forged"), 550);
    assert_eq!(mail.send(ALICE, alice, "nobody@cell.example", "Nobody"), 550);
    assert_eq!(mail.send(ALICE, alice, "bob@elsewhere.example", "Out"), 550);
    // Nor without TLS.
    let plain = mail.service.client("mail_client.py", &["plain", &mail.exim]);
    assert_eq!(plain["offered"], false);
    assert_eq!((&plain["mail"], &plain["imap"]), (&json!(550), &json!("closed")));
    assert!(plain["login"].as_u64().unwrap() >= 500, "{plain}");

    // Mail waits for Dovecot while it is away, and outlives everybody's restart.
    mail.service.dockerd.say(&["stop", "cell-email-dovecot"]);
    assert_eq!(mail.send(ALICE, alice, bob, "While away"), 250);
    mail.service.dockerd.say(&["start", "cell-email-dovecot"]);
    mail.service.healthy("email");
    mail.service
        .dockerd
        .say(&["exec", "cell-email-exim", "/usr/sbin/exim4", "-qff"]);
    mail.arrives(BOB, "While away");
    assert_eq!(mail.read(BOB)["subjects"], json!(["Dinner", "While away"]));

    // A removed account neither reads nor gets; the next of its name inherits nothing.
    assert_eq!(mail.accounts("DELETE", "/accounts/bob", &Value::Null), "204");
    // Dovecot looks at the file of users once a second.
    eventually("the account is closed", Duration::from_secs(30), || {
        let said = mail.read(BOB);
        (said == json!({"login": false}))
            .then_some(())
            .ok_or(said.to_string())
    });
    assert_eq!(mail.send(ALICE, alice, bob, "Too late"), 550);
    assert_eq!(
        mail.accounts("PUT", "/accounts/bob", &json!({"password": BOB.1})),
        "201"
    );
    assert_eq!(mail.read(BOB)["subjects"], json!([]));

    // Another certificate counts after the signal that the manifest names.
    let (chain, key, authority) = certificate();
    assert_eq!(
        mail.accounts("PUT", "/certificate", &json!({"chain": chain, "key": key})),
        "204"
    );
    std::fs::write(&mail.authority, authority).unwrap();
    for container in ["cell-email-dovecot", "cell-email-exim"] {
        mail.service
            .dockerd
            .say(&["kill", "--signal", "SIGHUP", container]);
    }
    mail.service.healthy("email");
    assert_eq!(mail.send(ALICE, alice, bob, "By the new one"), 250);
    mail.arrives(BOB, "By the new one");
    let url = format!(
        "http://{}:8091/mail/config-v1.1.xml",
        mail.service.address("cell-email-accounts")
    );
    assert!(
        mail.service
            .out("curl", &["-sS", &url])
            .contains("<hostname>mail.cell.example</hostname>")
    );
    mail.service.print_memory();
}

#[test]
fn mail_is_written_and_read_in_a_browser() {
    let mail = Mail::new();
    let url = format!("http://{}:8000/", mail.service.address("cell-email-webmail"));
    let web = |words: &[&str]| mail.service.client("webmail_client.py", words);
    let bob = "bob@cell.example";
    let sent = web(&["send", &url, ALICE.0, ALICE.1, bob, "From the browser"]);
    assert_eq!(sent["sent"], true, "{sent}{}", mail.service.logs());
    mail.arrives(BOB, "From the browser");
    assert_eq!(mail.send(BOB, bob, "alice@cell.example", "From a program"), 250);
    mail.arrives(ALICE, "From a program");
    let read = web(&["read", &url, ALICE.0, ALICE.1]);
    assert_eq!(read["subjects"], json!(["From a program"]), "{read}");

    // No other's mail, nobody without a password, nothing out of the cell.
    assert_eq!(
        web(&["read", &url, BOB.0, BOB.1])["subjects"],
        json!(["From the browser"])
    );
    assert_eq!(web(&["read", &url, ALICE.0, BOB.1]), json!({"login": false}));
    let out = web(&["send", &url, ALICE.0, ALICE.1, "bob@elsewhere.example", "Out"]);
    assert_eq!(
        (&out["login"], &out["sent"]),
        (&json!(true), &json!(false)),
        "{out}"
    );
    // One program answers; its parts, its settings and its database are nobody's.
    let paths = [
        ("/", 200),
        ("/skins/elastic/styles/styles.min.css", 200),
        ("/program/js/jquery.min.js", 200),
        ("/skins/elastic/deps/bootstrap.min.css", 200),
        ("/program/resources/error.html", 200),
        ("/config/config.inc.php", 404),
        ("/plugins/filesystem_attachments/filesystem_attachments.php", 403),
        ("/SQL/sqlite.initial.sql", 404),
        ("/installer/index.php", 404),
        ("/.htaccess", 403),
    ];
    let mut words = vec!["paths", &url];
    words.extend(paths.iter().map(|(path, _)| *path));
    let found = web(&words);
    for (path, status) in paths {
        assert_eq!(found[path], status, "{path}");
    }

    // It comes back with the database that it has; a removed account is gone here too.
    mail.service.dockerd.say(&["restart", "cell-email-webmail"]);
    mail.service.healthy("email");
    let url = format!("http://{}:8000/", mail.service.address("cell-email-webmail"));
    let web = |words: &[&str]| mail.service.client("webmail_client.py", words);
    assert_eq!(web(&["read", &url, BOB.0, BOB.1])["login"], true);
    assert_eq!(mail.accounts("DELETE", "/accounts/bob", &Value::Null), "204");
    eventually("the account is closed", Duration::from_secs(30), || {
        let said = web(&["read", &url, BOB.0, BOB.1]);
        (said == json!({"login": false}))
            .then_some(())
            .ok_or(said.to_string())
    });
    mail.service.print_memory();
}

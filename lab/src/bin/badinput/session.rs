//! Just enough of a client to claim a cell, sign in and look at its state, over [`crate::raw`].

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use cell_lab::netns::Namespace;
use serde_json::{Value, json};

use crate::raw::{Answer, exchange};

/// A signed-in administrator.
pub struct Session {
    /// Where the cell listens.
    pub server: SocketAddr,
    cookie: String,
    csrf: String,
}

/// What the cell is like: must be the same before and after all bad input.
#[derive(Debug, PartialEq)]
pub struct State {
    peers: Value,
    config: Value,
    users: Value,
    audit_records: Value,
    /// Desired and confirmed generation of the network.
    generations: [Value; 2],
    /// netd's table, without counters, and the peers of its WireGuard device.
    kernel: String,
    wireguard: Vec<String>,
}

const PASSWORD: &str = "correct horse battery";

impl Session {
    /// Sets a fresh cell up, signs in, and adds the peer `anchor` that bad input must not touch.
    ///
    /// # Errors
    /// When the cell refuses what is right.
    pub fn on_fresh_cell(server: SocketAddr, claim_token: &str) -> Result<Self> {
        let steps = [
            ("step/claim", json!({"claim_token": claim_token})),
            (
                "step/identity",
                json!({"cell_name": "home", "domain_mode": "lan"}),
            ),
            (
                "step/network",
                json!({"vpn_range_ipv4": "10.86.0.0/24", "endpoint_host": "203.0.113.10"}),
            ),
            ("step/admin", json!({"username": "admin", "password": PASSWORD})),
            ("complete", json!({})),
        ];
        for (step, body) in steps {
            let head = format!("X-Claim-Token: {claim_token}\r\n");
            let answer = send(server, "POST", &format!("/api/setup/{step}"), &head, &body)?;
            ensure!(
                answer.status == 200,
                "setup {step}: {} {}",
                answer.status,
                answer.json()
            );
        }
        let login = send(
            server,
            "POST",
            "/api/auth/login",
            "",
            &json!({"username": "admin", "password": PASSWORD}),
        )?;
        let cookie = login.header("set-cookie").context("no cookie after login")?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let mut session = Session {
            server,
            cookie,
            csrf: String::new(),
        };
        let token = session.get("/api/auth/csrf-token")?.json();
        session.csrf = token["csrf_token"].as_str().context("no CSRF token")?.to_owned();
        let anchor = json!({"name": "anchor", "public_key": "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="});
        let made = session.send("POST", "/api/peers", &anchor)?;
        ensure!(
            made.status == 201,
            "adding a right peer: {} {}",
            made.status,
            made.json()
        );
        Ok(session)
    }

    /// The session's headers, each with its line end.
    pub fn headers(&self) -> String {
        format!("Cookie: {}\r\nX-CSRF-Token: {}\r\n", self.cookie, self.csrf)
    }

    /// The cookie alone.
    pub fn cookie(&self) -> String {
        format!("Cookie: {}\r\n", self.cookie)
    }

    /// A request with a JSON body.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        send(self.server, method, path, &self.headers(), body)
    }

    /// The answer to GET.
    ///
    /// # Errors
    /// When it is not 200.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}\r\n",
            self.server,
            self.headers()
        );
        let answer = exchange(self.server, request.as_bytes())?;
        ensure!(
            answer.status == 200,
            "GET {path}: {} {}",
            answer.status,
            answer.json()
        );
        Ok(answer)
    }

    /// Reads the state. What moves by itself (traffic) is left out.
    ///
    /// # Errors
    /// When the cell does not answer.
    pub fn state(&self, cell: &Namespace) -> Result<State> {
        let mut peers = self.get("/api/peers")?.json();
        for peer in peers["peers"].as_array_mut().context("no list of peers")? {
            peer.as_object_mut()
                .context("a peer is an object")?
                .remove("activity");
        }
        let verify = self.get("/api/audit/verify")?.json();
        ensure!(verify["intact"] == true, "the audit chain is broken: {verify}");
        let status = self.get("/api/status")?.json();
        let wireguard = self.get("/api/wireguard/status")?.json();
        let each = wireguard["peers"].as_array().context("netd is not reachable")?;
        Ok(State {
            generations: ["generation", "observed_generation"].map(|key| status[key].clone()),
            kernel: cell.run("nft", &["--stateless", "list", "table", "inet", "cell"])?,
            wireguard: each.iter().map(|peer| peer["name"].to_string()).collect(),
            peers,
            config: self.get("/api/config")?.json(),
            users: self.get("/api/auth/users")?.json(),
            audit_records: self.count_changes()?,
        })
    }

    /// How many changes the audit log has; failed logins and refusals are records too, and not counted.
    fn count_changes(&self) -> Result<Value> {
        let mut from = 1;
        let mut changes = Vec::new();
        loop {
            let page = self.get(&format!("/api/audit?from={from}&limit=100"))?.json();
            for record in page["records"].as_array().context("no list of records")? {
                let action = record["action"].as_str().unwrap_or_default();
                if !["auth.", "setup."]
                    .iter()
                    .any(|prefix| action.starts_with(prefix))
                {
                    changes.push(record["sequence"].clone());
                }
            }
            match page["next"].as_u64() {
                Some(next) => from = next,
                None => return Ok(changes.into()),
            }
        }
    }
}

fn send(server: SocketAddr, method: &str, path: &str, headers: &str, body: &Value) -> Result<Answer> {
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len(),
    );
    Ok(exchange(server, format!("{head}{body}").as_bytes())?)
}

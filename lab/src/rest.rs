//! A small client of the REST API (docs/rest-api.md): blocking, one connection a request, as a browser's session.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::netns::Namespace;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON, `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The stable code of a problem (RFC 9457), empty for other answers.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The body, if the status is the expected one.
    ///
    /// # Errors
    /// With the body, if it is not.
    pub fn expect(&self, status: u16) -> Result<Value> {
        let body = String::from_utf8_lossy(&self.body);
        ensure!(
            self.status == status,
            "status {} instead of {status}: {body}",
            self.status
        );
        Ok(self.json())
    }
}

/// What the wizard is told.
#[derive(Debug, Clone)]
pub struct Setup {
    /// From the console or the claim file.
    pub claim_token: String,
    /// Name of the cell.
    pub cell_name: String,
    /// E.g. `10.8.0.0/24`.
    pub vpn_range_ipv4: String,
    /// E.g. `fd08::/64`.
    pub vpn_range_ipv6: String,
    /// Where devices find the cell.
    pub endpoint_host: String,
    /// First administrator.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// A session with one API server.
#[derive(Clone)]
pub struct Rest {
    address: SocketAddr,
    host: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    cookie: Option<String>,
    csrf: Option<String>,
    claim: Option<String>,
}

impl Rest {
    /// Plain HTTP to `address`.
    pub fn plain(address: SocketAddr) -> Self {
        Rest {
            address,
            host: address.to_string(),
            tls: None,
            cookie: None,
            csrf: None,
            claim: None,
        }
    }

    /// HTTPS to `address`, whose certificate must name `server` and lead to one of `roots` (PEM).
    ///
    /// # Errors
    /// When the roots or the name are none.
    pub fn tls(address: SocketAddr, server: &str, roots: &[u8]) -> Result<Self> {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots) {
            store.add(root?)?;
        }
        ensure!(!store.is_empty(), "no root certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        let tls = Some((
            TlsConnector::from(Arc::new(config)),
            ServerName::try_from(server.to_owned())?,
        ));
        Ok(Rest {
            host: server.to_owned(),
            tls,
            ..Rest::plain(address)
        })
    }

    /// One request with the session's cookie and tokens; a change gets a CSRF token when there is a session.
    ///
    /// # Errors
    /// When there is no answer; a refusal is an answer.
    pub fn request(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let changes = !matches!(method, Method::GET | Method::HEAD);
        if changes && self.cookie.is_some() && self.csrf.is_none() {
            let answer = self.send(Method::GET, "/api/auth/csrf-token", None)?;
            self.csrf = answer.json()["csrf_token"].as_str().map(str::to_owned);
        }
        self.send(method, path, body)
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Rest::request`].
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.request(Method::GET, path, None)
    }

    /// POST.
    ///
    /// # Errors
    /// As [`Rest::request`].
    pub fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.request(Method::POST, path, Some(body))
    }

    /// PUT.
    ///
    /// # Errors
    /// As [`Rest::request`].
    pub fn put(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.request(Method::PUT, path, Some(body))
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`Rest::request`].
    pub fn delete(&mut self, path: &str) -> Result<Answer> {
        self.request(Method::DELETE, path, None)
    }

    /// The session's cookie, `name=value`.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Goes through the wizard, from claim to completion.
    ///
    /// # Errors
    /// At the first step that is refused.
    pub fn setup(&mut self, setup: &Setup) -> Result<()> {
        self.post(
            "/api/setup/step/claim",
            &json!({"claim_token": setup.claim_token}),
        )?
        .expect(200)
        .context("claim")?;
        self.claim = Some(setup.claim_token.clone());
        let network = json!({
            "vpn_range_ipv4": setup.vpn_range_ipv4,
            "vpn_range_ipv6": setup.vpn_range_ipv6,
            "endpoint_host": setup.endpoint_host,
        });
        let steps = [
            (
                "step/identity",
                json!({"cell_name": setup.cell_name, "domain_mode": "lan"}),
            ),
            ("step/network", network),
            (
                "step/admin",
                json!({"username": setup.username, "password": setup.password}),
            ),
            ("complete", json!({})),
        ];
        for (step, answers) in steps {
            self.post(&format!("/api/setup/{step}"), &answers)?
                .expect(200)
                .context(step)?;
        }
        self.claim = None;
        self.login(&setup.username, &setup.password)
    }

    /// Begins a session.
    ///
    /// # Errors
    /// When it is refused.
    pub fn login(&mut self, username: &str, password: &str) -> Result<()> {
        (self.cookie, self.csrf) = (None, None);
        let login = json!({"username": username, "password": password});
        self.post("/api/auth/login", &login)?
            .expect(200)
            .context("login")?;
        self.cookie
            .is_some()
            .then_some(())
            .context("a login without a cookie")
    }

    /// Adds a peer and answers it with its wg-quick file.
    ///
    /// # Errors
    /// When it is refused.
    pub fn add_peer(&mut self, peer: &Value) -> Result<(Value, String)> {
        let added = self.post("/api/peers", peer)?.expect(201)?;
        let config = added["config"]
            .as_str()
            .context("a peer without a config")?
            .to_owned();
        Ok((added["peer"].clone(), config))
    }

    fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host);
        let session = [
            (COOKIE.as_str(), &self.cookie),
            ("x-csrf-token", &self.csrf),
            ("x-claim-token", &self.claim),
        ];
        for (name, value) in session {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let answer = self.exchange(request.body(Full::new(Bytes::from(bytes)))?)?;
        for cookie in answer.headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str()?.split(';').next().unwrap_or_default();
            self.cookie = cookie
                .split_once('=')
                .filter(|(_, value)| !value.is_empty())
                .map(|_| cookie.to_owned());
            self.csrf = None;
        }
        Ok(answer)
    }

    /// Sends a request as it is, with no cookie or token of the session.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let stream = TcpStream::connect_timeout(&self.address, CONNECT)
            .with_context(|| format!("connecting to {}", self.address))?;
        stream.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shown = format!("{} {}", request.method(), request.uri());
        let answer = async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            match &self.tls {
                None => roundtrip(stream, request).await,
                Some((connector, server)) => {
                    roundtrip(connector.connect(server.clone(), stream).await?, request).await
                }
            }
        };
        runtime
            .block_on(async { tokio::time::timeout(ANSWER, answer).await })
            .context("no answer")?
            .context(shown)
    }
}

async fn roundtrip<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.collect().await?.to_bytes(),
    })
}

/// Fetches `url` with curl from inside `namespace`, trusting only `root` (a PEM file), `resolve` as in curl(1).
///
/// # Errors
/// With curl's words, e.g. for a certificate that does not lead to the root.
pub fn curl(
    namespace: &Namespace,
    url: &str,
    root: &std::path::Path,
    resolve: Option<&str>,
) -> Result<String> {
    let root = root.to_string_lossy();
    let mut arguments = vec![
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "10",
        "--noproxy",
        "*",
    ];
    arguments.extend(["--cacert", &root]);
    if let Some(resolve) = resolve {
        arguments.extend(["--resolve", resolve]);
    }
    arguments.push(url);
    namespace.run("curl", &arguments)
}

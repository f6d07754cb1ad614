//! An HTTPS server of a folder, known by an authority of its own, as whoever publishes a catalog has one.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

/// A server, as long as the test's process lives.
pub struct Https {
    /// Where it listens.
    pub at: SocketAddr,
    /// PEM of the authority that it is known by.
    pub ca: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    asked: Vec<(String, u16)>,
    always: Option<u16>,
}

impl Https {
    /// Serves the files of `folder` as the host `name`. The listener may be of another network namespace.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn serve(listener: TcpListener, folder: PathBuf, name: &str) -> Result<Https> {
        let (config, ca) = identity(name)?;
        let at = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::spawn(move || runtime.block_on(accept(listener, config, folder, shared)));
        Ok(Https { at, ca, state })
    }

    /// Paths that were asked for since the last time, each with the status of its answer.
    pub fn asked(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut lock(&self.state).asked)
    }

    /// Answers everything with this status from now on; none: with what it has.
    pub fn always(&self, status: Option<u16>) {
        lock(&self.state).always = status;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A certificate for `name`, and the authority that signed it.
fn identity(name: &str) -> Result<(ServerConfig, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![name.to_owned()])?.signed_by(&own, &issuer)?;
    let own = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], own)?;
    Ok((config, ca))
}

async fn accept(listener: TcpListener, config: ServerConfig, folder: PathBuf, state: Arc<Mutex<State>>) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, folder, state) = (acceptor.clone(), folder.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let answer = hyper::service::service_fn(move |request| {
                let answer = answered(&folder, &mut lock(&state), &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let serving = hyper::server::conn::http1::Builder::new();
            // Whoever asked may go away.
            let _ = serving.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn answered(folder: &Path, state: &mut State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let file = std::fs::read(folder.join(path.trim_start_matches('/')));
    let etag = file.as_ref().map(|bytes| format!("\"{}\"", hex(bytes))).ok();
    let known = request
        .headers()
        .get("if-none-match")
        .and_then(|value| value.to_str().ok());
    let (status, body) = match (state.always, file) {
        (Some(status), _) => (StatusCode::from_u16(status).unwrap_or_default(), Vec::new()),
        (None, Ok(_)) if known.is_some() && known == etag.as_deref() => {
            (StatusCode::NOT_MODIFIED, Vec::new())
        }
        (None, Ok(bytes)) => (StatusCode::OK, bytes),
        (None, Err(_)) => (StatusCode::NOT_FOUND, Vec::new()),
    };
    state.asked.push((path, status.as_u16()));
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    if let Some(etag) = etag.and_then(|etag| etag.parse().ok()) {
        answer.headers_mut().insert("etag", etag);
    }
    if status.is_redirection() {
        let elsewhere = http::HeaderValue::from_static("https://127.0.0.1/elsewhere");
        answer.headers_mut().insert("location", elsewhere);
    }
    answer
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

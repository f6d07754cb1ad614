//! A plain HTTP/1.1 client that sends exactly what it is told.

use std::net::SocketAddr;

use http::header::{COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub cookie: Option<String>,
    pub csrf: Option<String>,
    pub claim: Option<String>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Checks status and code of a problem document, and that it is one.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.code().as_str()),
            (status, code),
            "{}",
            self.text
        );
        self.is_problem();
    }

    #[track_caller]
    pub fn is_problem(&self) {
        let kind = self.headers.get("content-type").and_then(|v| v.to_str().ok());
        assert_eq!(kind, Some("application/problem+json"), "{}", self.text);
        let problem = self.json();
        assert_eq!(problem["status"], json!(self.status));
        assert!(!problem["code"].as_str().unwrap().is_empty() && problem["violations"].is_array());
        for leak in ["panicked", "/src/", "rusqlite", "SELECT ", "INSERT "] {
            assert!(!self.text.contains(leak), "{}", self.text);
        }
    }

    pub fn fields(&self) -> Vec<String> {
        let problem = self.json();
        let violations = problem["violations"].as_array().cloned().unwrap_or_default();
        violations
            .iter()
            .map(|violation| violation["field"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        Client {
            address,
            cookie: None,
            csrf: None,
            claim: None,
        }
    }

    pub async fn login(&mut self, username: &str, password: &str) {
        let answer = self
            .post(
                "/api/auth/login",
                &json!({"username": username, "password": password}),
            )
            .await;
        let answer = answer.expect(200);
        let cookie = answer.headers.get(SET_COOKIE).unwrap().to_str().unwrap();
        self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        let token = self.get("/api/auth/csrf-token").await.expect(200).json();
        self.csrf = Some(token["csrf_token"].as_str().unwrap().to_owned());
    }

    /// The same client with the session that an answer opened.
    pub async fn with_cookie_of(&self, answer: &Answer) -> Client {
        let cookie = answer.headers.get(SET_COOKIE).unwrap().to_str().unwrap();
        let mut client = self.clone();
        client.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        let token = client.get("/api/auth/csrf-token").await.expect(200).json();
        client.csrf = Some(token["csrf_token"].as_str().unwrap().to_owned());
        client
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            Some(body.to_string().into_bytes()),
        )
        .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(
            "PUT",
            path,
            &[("content-type", "application/json")],
            Some(body.to_string().into_bytes()),
        )
        .await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], None).await
    }

    /// As `post`, but `None` when the server is gone before it has answered.
    pub async fn try_post(&self, path: &str, body: &Value) -> Option<Answer> {
        let headers = [("content-type", "application/json")];
        self.try_send("POST", path, &headers, Some(body.to_string().into_bytes()))
            .await
    }

    /// As `try_post`, with another method.
    pub async fn try_change(&self, method: &str, path: &str, body: &Value) -> Option<Answer> {
        let headers = [("content-type", "application/json")];
        self.try_send(method, path, &headers, Some(body.to_string().into_bytes()))
            .await
    }

    pub async fn try_get(&self, path: &str) -> Option<u16> {
        self.try_send("GET", path, &[], None)
            .await
            .map(|answer| answer.status)
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        self.try_send(method, path, headers, body)
            .await
            .expect("an answer")
    }

    async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Option<Answer> {
        let stream = TcpStream::connect(self.address).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .ok()?;
        tokio::spawn(connection);
        let request = self.request(method, path, headers, body.unwrap_or_default());
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        let bytes = body.collect().await.ok()?.to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Some(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text,
        })
    }

    /// The head of an answer that does not end.
    pub async fn stream_head(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let cookie = self.cookie.as_deref().unwrap_or_default();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    /// Begins to read what goes on.
    pub async fn stream(&self, path: &str) -> Reading {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let cookie = self.cookie.as_deref().unwrap_or_default();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Reading {
            stream,
            text: String::new(),
        }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header(HOST, self.address.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let own = [
            (COOKIE.as_str(), &self.cookie),
            ("x-csrf-token", &self.csrf),
            ("x-claim-token", &self.claim),
        ];
        for (name, value) in own {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.body(Full::new(Bytes::from(body))).unwrap()
    }

    /// Sends bytes as they are and reads until the server closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// An answer that goes on.
pub struct Reading {
    stream: TcpStream,
    text: String,
}

impl Reading {
    /// All that came until this did.
    pub async fn until(&mut self, words: &str) -> String {
        let reading = async {
            while !self.text.contains(words) {
                assert!(self.more().await, "it ended before {words:?}: {}", self.text);
            }
        };
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), reading).await;
        assert!(read.is_ok(), "{words:?} never came");
        std::mem::take(&mut self.text)
    }

    /// What comes until the end of the answer (its last chunk).
    pub async fn rest(&mut self) -> String {
        let reading = async { while !self.text.ends_with("0\r\n\r\n") && self.more().await {} };
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), reading).await;
        assert!(read.is_ok(), "it does not end: {}", self.text);
        std::mem::take(&mut self.text)
    }

    async fn more(&mut self) -> bool {
        let mut part = vec![0; 4096];
        let length = self.stream.read(&mut part).await.unwrap();
        self.text.push_str(&String::from_utf8_lossy(&part[..length]));
        length > 0
    }
}

//! A registry of one image, busybox from Debian's package, in a namespace of the lab. Nobody else's is asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cell_lab::netns::Namespace;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Path, then type and bytes.
type Files = BTreeMap<String, (&'static str, Vec<u8>)>;

/// Serves `127.0.0.1:5000/store/NAME` in `namespace`; the image's digest.
pub fn serve(namespace: &Namespace, name: &str) -> Result<String> {
    let (files, digest) = image(name)?;
    let files = Arc::new(files);
    let listener = namespace.inside(|| TcpListener::bind("127.0.0.1:5000"))??;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let files = Arc::clone(&files);
            std::thread::spawn(move || answer(stream, &files));
        }
    });
    Ok(digest)
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn image(name: &str) -> Result<(Files, String)> {
    let root = tempfile::tempdir()?;
    for folder in ["bin", "etc", "srv", "tmp"] {
        std::fs::create_dir_all(root.path().join(folder))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| std::fs::metadata(path).is_ok());
    std::fs::copy(
        busybox.context("Debian's busybox-static is not installed")?,
        root.path().join("bin/busybox"),
    )?;
    std::fs::write(root.path().join("srv/index.html"), "notes of the house\n")?;
    let tar = Command::new("tar")
        .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C"])
        .arg(root.path())
        .args(["-cf", "-", "."])
        .output()?;
    ensure!(
        tar.status.success(),
        "tar: {}",
        String::from_utf8_lossy(&tar.stderr)
    );
    let layer = tar.stdout;
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let config = serde_json::to_vec(&json!({
        "architecture": architecture, "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}, "history": [{"created": "2020-01-01T00:00:00Z"}]
    }))?;
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let part =
        |media: &str, bytes: &[u8]| json!({"mediaType": media, "size": bytes.len(), "digest": digest(bytes)});
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": kind,
        "config": part("application/vnd.docker.container.image.v1+json", &config),
        "layers": [part("application/vnd.docker.image.rootfs.diff.tar", &layer)]
    }))?;
    let (whole, blob) = (digest(&manifest), "application/octet-stream");
    let at = |digest: &str, what: &str| format!("/v2/store/{name}/{what}/{digest}");
    let files = BTreeMap::from([
        ("/v2/".to_owned(), ("application/json", b"{}".to_vec())),
        (at(&digest(&config), "blobs"), (blob, config)),
        (at(&digest(&layer), "blobs"), (blob, layer)),
        (at(&whole, "manifests"), (kind, manifest)),
    ]);
    Ok((files, whole))
}

fn answer(mut stream: TcpStream, files: &Files) {
    let Ok(reading) = stream.try_clone() else { return };
    let mut lines = BufReader::new(reading).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let _headers = lines.take_while(|line| !line.is_empty()).count();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (status, (kind, bytes)) = match files.get(path) {
        Some(file) => ("200 OK", file.clone()),
        None => ("404 Not Found", ("application/json", Vec::new())),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        bytes.len(),
        digest(&bytes)
    );
    let _ = stream.write_all(head.as_bytes());
    if method != "HEAD" {
        let _ = stream.write_all(&bytes);
    }
}

//! The project of Docker Compose that people read: `<state>/services/<service>/docker-compose.yml`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cell_api_core::services::compose;

use crate::app::App;
use crate::store::services::{KeptManifest, StoredService};

const FILE: &str = "docker-compose.yml";

/// Writes it, as the service is now. It is for people: what cannot be written is told in the log, and nothing waits for it.
pub(super) async fn write(app: &App, service: &StoredService, kept: &KeptManifest) {
    let rendered = compose::render(
        &kept.manifest,
        &service.instance,
        &service.make.parameters,
        app.config.core_network,
        service.network.as_ref(),
    );
    let folder = folder(app, service.name.as_str());
    let written = match rendered {
        Ok(text) => blocking(move || replace(&folder, &text)).await,
        Err(error) => Err(io::Error::other(error)),
    };
    if let Err(error) = written {
        tracing::warn!(service = service.name.as_str(), %error, "its docker-compose.yml is not written");
    }
}

/// Takes it away.
pub(super) async fn remove(app: &App, service: &str) {
    let folder = folder(app, service);
    let removed = blocking(move || std::fs::remove_dir_all(folder)).await;
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(service, %error, "its project's folder is left");
        }
        Ok(()) | Err(_) => {}
    }
}

/// A service's name is a label: it leads nowhere else.
fn folder(app: &App, service: &str) -> PathBuf {
    app.config.state.join("services").join(service)
}

fn replace(folder: &Path, text: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (new, file) = (folder.join(".new"), folder.join(FILE));
    let mut written = std::fs::File::create(&new)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    std::fs::rename(new, file)
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("it was cut off")))
}

//! `cellctl import`: exits of the original's first version.

use std::path::{Path, PathBuf};

use cell_proto::api::v1::{ImportFirstVersionRequest, ImportFirstVersionResponse, ImportedExit};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cell::Cell;
use crate::cli::FirstVersion;
use crate::failure::Failure;
use crate::output::Output;
use crate::{careful, secret, wait};

/// The largest files that the cell takes, bytes.
const CONFIG_MAX: usize = 512 * 1024;
const PEERS_MAX: usize = 2 * 1024 * 1024;
const SECRETS_MAX: usize = 512 * 1024;

/// As `--json` shows it.
#[derive(Serialize)]
struct Shown {
    applied: bool,
    /// Whether it waits for its confirmation that the devices are bound.
    waits: bool,
    exits: Vec<Exit>,
    peers: Vec<String>,
    plan: Vec<String>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Exit {
    r#type: String,
    name: String,
    id: Option<String>,
    was_there: bool,
    vault_names: Vec<String>,
}

/// Imports, or says what that would do.
pub(crate) async fn run(cell: &Cell, output: Output, files: FirstVersion) -> Result<(), Failure> {
    let FirstVersion {
        file,
        peers,
        secrets,
        confirm_within,
        at_once,
        dry_run,
    } = files;
    let paths = [Some(&file), peers.as_ref(), secrets.as_ref()];
    let stdin = |path: &&&PathBuf| path.as_path() == Path::new("-");
    if paths.iter().flatten().filter(stdin).count() > 1 {
        let why = "only one of the files can be standard input".to_owned();
        return Err(Failure::Local(why));
    }
    let take = |text: Zeroizing<String>| text.as_str().to_owned();
    let read = |path: Option<PathBuf>, most| path.map(|path| secret::file_of(&path, most)).transpose();
    let (peers, secrets) = (read(peers, PEERS_MAX)?, read(secrets, SECRETS_MAX)?);
    let mut request = ImportFirstVersionRequest {
        config: take(secret::file_of(&file, CONFIG_MAX)?),
        peers: peers.map(take).unwrap_or_default(),
        secrets: secrets.map(take).unwrap_or_default(),
        validate_only: dry_run,
        confirm_within_seconds: confirm_within.unwrap_or(0),
    };
    let confirm_within = match confirm_within {
        None if !dry_run && !at_once => careful(cell, output, &request).await?,
        said => said,
    };
    request.confirm_within_seconds = confirm_within.unwrap_or(0);
    let answer = cell.connections()?.import_first_version(request).await?;
    let shown = Shown::of(answer.into_inner(), !dry_run);
    output.result(&shown, || text(&shown))?;
    for note in &shown.notes {
        output.note(&format!("Note: {note}"));
    }
    let has_secrets = shown.exits.iter().any(|exit| !exit.vault_names.is_empty());
    if shown.applied && has_secrets {
        let path = file.display();
        output.note(&format!(
            "The vault has the secrets now. Remove {path} and what was given with it, and their copies: they still hold them."
        ));
    }
    wait::for_word(cell, output, confirm_within.filter(|_| shown.waits)).await
}

/// How long it waits because it binds the device that this shell was opened from; which it binds is known to the cell alone.
async fn careful(
    cell: &Cell,
    output: Output,
    request: &ImportFirstVersionRequest,
) -> Result<Option<u32>, Failure> {
    let Some(own) = careful::own_device(cell).await? else {
        return Ok(None);
    };
    let asked = ImportFirstVersionRequest {
        validate_only: true,
        ..request.clone()
    };
    let planned = cell
        .connections()?
        .import_first_version(asked)
        .await?
        .into_inner();
    let is_bound = planned.peers.contains(&own.name);
    Ok(is_bound.then(|| careful::waits(output, &own.name)))
}

fn text(shown: &Shown) -> String {
    let mut lines = shown.plan.clone();
    lines.push(
        if shown.applied {
            "Done."
        } else {
            "Nothing was changed."
        }
        .to_owned(),
    );
    lines.join("\n")
}

impl Shown {
    fn of(answer: ImportFirstVersionResponse, applied: bool) -> Self {
        let ImportFirstVersionResponse {
            exits,
            peers,
            plan,
            notes,
            waits,
        } = answer;
        Shown {
            applied,
            waits,
            exits: exits.into_iter().map(Exit::from).collect(),
            peers,
            plan,
            notes,
        }
    }
}

impl From<ImportedExit> for Exit {
    fn from(wire: ImportedExit) -> Self {
        Exit {
            r#type: wire.r#type,
            name: wire.name,
            id: Some(wire.id).filter(|id| !id.is_empty()),
            was_there: wire.was_there,
            vault_names: wire.vault_names,
        }
    }
}

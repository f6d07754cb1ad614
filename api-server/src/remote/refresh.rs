//! One look at a remote catalog: what its server has now is judged, and kept as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cell_api_core::connection::names::Answer;
use cell_api_core::services::catalog::{self, INDEX_MAX_BYTES, Line};
use cell_api_core::services::remote::{self, RemoteIndex, may_offer};
use cell_manifest::MANIFEST_MAX_BYTES;
use rusqlite::Connection;

use super::fetch::{Got, NotFetched, Server};
use super::{Held, random, told};
use crate::app::App;
use crate::service::ServiceError;
use crate::service::catalog::Item;
use crate::store::remote_catalogs::{self as table, Fetched, Found, StoredCatalog};

/// How long a whole look may take.
const WHOLE: Duration = Duration::from_secs(600);
/// How long it is waited for that a name is known.
const NAME: Duration = Duration::from_secs(10);
/// Between two looks at that.
const NAME_EVERY: Duration = Duration::from_millis(200);
/// Most characters of what is told of a failure.
const WORDS_MAX: usize = 1_000;
/// Manifests of which it is told that they are not right.
const NAMED: usize = 5;

/// Looks at one now, and writes down what came of it. One look at a time; whoever waits looks after the one that is under way.
///
/// # Errors
/// [`ServiceError::NoRemoteCatalog`], [`ServiceError::Storage`]. That the look failed is no error: it stands with the catalog.
pub async fn refresh(app: &Arc<App>, name: &str) -> Result<(), ServiceError> {
    let _turn = app.remote.turn.lock().await;
    let owned = name.to_owned();
    let reading = app.store.read_much(move |connection| {
        let stored = table::get(connection, &owned)?;
        let known = table::digests(connection, stored.id)?;
        Ok((stored, known))
    });
    let (stored, known) = reading.await?;
    app.remote.set(name, |live| {
        live.refreshing = true;
        (live.fetched, live.to_fetch) = (0, 0);
    });
    told(app);
    let looked = tokio::time::timeout(WHOLE, look(app, &stored, known)).await;
    let looked = looked.unwrap_or_else(|_| Err("it takes longer than ten minutes".to_owned()));
    let (id, is_whole) = (
        stored.id,
        looked.as_ref().is_ok_and(|found| found.error.is_empty()),
    );
    let written = match looked {
        Ok(found) => app
            .store
            .jot(move |connection| table::take(connection, id, &found))
            .await
            .map(drop),
        Err(words) => {
            let words = bounded(&words);
            tracing::warn!(name, error = words, "a remote catalog cannot be had");
            app.store
                .note(move |connection| table::note_error(connection, id, &words))
                .await
        }
    };
    app.remote
        .over(name, is_whole && written.is_ok(), app.now(), random());
    told(app);
    written
}

async fn look(app: &App, stored: &StoredCatalog, known: BTreeSet<String>) -> Result<Found, String> {
    let egress = app.egress.as_ref();
    let egress =
        egress.ok_or("this cell has no cell-egress, which would fetch it (egress_socket in api.toml)")?;
    let mut server = Server {
        egress,
        at: place(app, stored).await?,
        by: stored.connection,
        url: &stored.url,
        tls: app.config.authorities.client(&stored.ca)?,
        sender: None,
    };
    let (index, bytes, etag) = index(&mut server, stored, app.now() / 1000).await?;
    let mut found = Found {
        etag,
        at: app.now(),
        named: index.lines.iter().map(|line| line.digest.to_string()).collect(),
        ..Found::default()
    };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (mut faults, mut there) = (Vec::new(), 0);
    for line in &index.lines {
        let digest = line.digest.to_string();
        if !known.contains(&digest) && !found.manifests.contains_key(&digest) {
            match manifest(&mut server, line).await? {
                Ok(fetched) => drop(found.manifests.insert(digest, fetched)),
                Err(why) => faults.push(format!("{}: {why}", line.id)),
            }
        }
        there += 1;
        app.remote.set(&stored.name, |live| {
            (live.fetched, live.to_fetch) = (count(there), count(index.lines.len()));
        });
    }
    if !faults.is_empty() {
        let shown: Vec<&str> = faults.iter().take(NAMED).map(String::as_str).collect();
        let more = faults.len().saturating_sub(NAMED);
        let more = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        found.error = bounded(&format!(
            "some manifests are not right: {}{more}",
            shown.join("; ")
        ));
    }
    found.index = bytes.map(|bytes| (bytes, index.serial));
    Ok(found)
}

/// Where its server is.
async fn place(app: &App, stored: &StoredCatalog) -> Result<SocketAddr, String> {
    let (host, port) = (stored.url.host(), stored.url.port());
    let address = match (stored.url.address(), stored.connection) {
        (Some(address), _) => address,
        (None, None) => known_name(app, host).await?,
        (None, Some(by)) => {
            let egress = app.egress.as_ref().ok_or("this cell has no cell-egress")?;
            match egress.resolve_by(host, Some(by)).await {
                Answer::Addresses { addresses, .. } => {
                    let v4 = addresses.iter().find(|address| address.is_ipv4());
                    let any = v4.or(addresses.first()).copied();
                    any.ok_or_else(|| format!("the name {host} has no address"))?
                }
                Answer::Failure(why) => return Err(format!("the name {host} is not known there: {why}")),
            }
        }
    };
    let at = SocketAddr::new(address.to_canonical(), port);
    match app.remote.refused(&at).filter(|_| stored.connection.is_none()) {
        Some(why) => Err(format!("netd does not let the cell to {at}: {why}")),
        None => Ok(at),
    }
}

/// What a name leads to by the cell's own way: netd is told of that, so the same answer counts for both.
async fn known_name(app: &App, host: &str) -> Result<IpAddr, String> {
    app.exits.look.notify_one();
    let waiting = async {
        loop {
            if let Some(address) = app.exits.names().address(host) {
                return address;
            }
            tokio::time::sleep(NAME_EVERY).await;
        }
    };
    tokio::time::timeout(NAME, waiting).await.map_err(|_| {
        let names = app.exits.names();
        let why = names.trouble(host).unwrap_or("nobody has answered yet");
        format!("the name {host} is not known: {why}")
    })
}

/// The index: as the server has it with its bytes, where it is another, or the one that is kept.
async fn index(
    server: &mut Server<'_>,
    stored: &StoredCatalog,
    now_s: i64,
) -> Result<(RemoteIndex, Option<Vec<u8>>, String), String> {
    // Without the index there is nothing that could be the same.
    let etag = if stored.index.is_some() {
        stored.etag.as_str()
    } else {
        ""
    };
    let told = |error: NotFetched| error.to_string();
    let got = server
        .get(remote::INDEX_FILE, INDEX_MAX_BYTES, etag)
        .await
        .map_err(told)?;
    let (bytes, etag) = match (got, &stored.index) {
        (Got::File(bytes, etag), _) => (bytes, etag),
        (Got::Same, Some(index)) => return Ok((index.clone(), None, stored.etag.clone())),
        (Got::Same, None) | (Got::Absent, _) => {
            return Err(format!("it has no {} (404)", remote::INDEX_FILE));
        }
    };
    let signed = server
        .get(remote::INDEX_SIGNATURE_FILE, remote::SIGNATURE_MAX_BYTES, "")
        .await;
    let signature = match signed.map_err(told)? {
        Got::File(signature, _) => signature,
        Got::Same | Got::Absent => {
            return Err(format!("it has no {} (404)", remote::INDEX_SIGNATURE_FILE));
        }
    };
    let index = RemoteIndex::open(&bytes, &signature, &stored.keys).map_err(|why| why.to_string())?;
    let kept = stored.kept();
    let is_new = index
        .replaces(kept.as_ref(), now_s)
        .map_err(|why| why.to_string())?;
    Ok((index, is_new.then(|| bytes.to_vec()), etag))
}

/// A manifest with its signature, or why this one cannot be had. The broker judges the signature; here it has to be one.
async fn manifest(server: &mut Server<'_>, line: &Line) -> Result<Result<Fetched, String>, String> {
    let file = remote::manifest_file(&line.digest);
    let bytes = match one(server, &file, MANIFEST_MAX_BYTES).await? {
        Ok(bytes) => bytes,
        Err(why) => return Ok(Err(why)),
    };
    let file = remote::signature_file(&line.digest);
    let signature = match one(server, &file, remote::SIGNATURE_MAX_BYTES).await? {
        Ok(signature) => signature,
        Err(why) => return Ok(Err(why)),
    };
    let offer = catalog::offer(line, bytes, Some(&signature)).and_then(|offer| {
        may_offer(&offer.manifest)?;
        Ok(offer)
    });
    Ok(match offer {
        Ok(offer) if offer.signature.is_empty() => Err("its signature is empty".to_owned()),
        Ok(offer) => Ok(Fetched {
            bytes: offer.bytes,
            signature: offer.signature,
        }),
        Err(faults) => Err(faults.join("; ")),
    })
}

async fn one(server: &mut Server<'_>, file: &str, most: usize) -> Result<Result<Vec<u8>, String>, String> {
    match server.get(file, most, "").await {
        Ok(Got::File(bytes, _)) => Ok(Ok(bytes.to_vec())),
        Ok(Got::Same | Got::Absent) => Ok(Err(format!("there is no {file} (404)"))),
        Err(NotFetched::File(why)) => Ok(Err(why)),
        Err(NotFetched::Broken(why)) => Err(why),
    }
}

fn bounded(words: &str) -> String {
    words
        .chars()
        .filter(|c| !c.is_control())
        .take(WORDS_MAX)
        .collect()
}

/// What all of them have, as stored. Its bytes are held to the index's digests once more.
pub(super) fn held(connection: &Connection) -> Result<Vec<Held>, ServiceError> {
    let all = table::list(connection)?.into_iter();
    all.filter_map(|stored| stored.index.clone().map(|index| (stored, index)))
        .map(|(stored, index)| {
            let mut manifests: BTreeMap<String, Fetched> = table::manifests(connection, stored.id)?;
            let items = index.lines.into_iter().map(|line| {
                let offer = match manifests.remove(line.digest.as_str()) {
                    Some(Fetched { bytes, signature }) => {
                        let offer = catalog::offer(&line, bytes, Some(signature.as_bytes()));
                        offer.and_then(|offer| may_offer(&offer.manifest).map(|()| offer))
                    }
                    None => Err(vec![
                        "its manifest could not be fetched yet: see the catalog".to_owned(),
                    ]),
                };
                Item {
                    line,
                    offer,
                    origin: Some(stored.name.clone()),
                    deployable: None,
                }
            });
            Ok(Held {
                items: items.collect(),
                faults: index.faults,
                expires_s: index.expires_s,
                name: stored.name,
                keys: stored.keys,
            })
        })
        .collect()
}

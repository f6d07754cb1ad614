//! A catalog of somebody else, fetched over the internet, and a service of it from the click to its end.

use anyhow::{Context, Result, ensure};
use cell_lab::publisher::URL;
use cell_lab::report::Report;
use cell_lab::store::Wishes;
use cell_lab::topology::FAR_HOST;
use serde_json::{Value, json};

use crate::follows;
use crate::story::{Found, Scene};

/// The service. Root built its image on the machine, which is as good as a signature.
const ID: &str = "agenda";
/// Another, whose manifest bears the signature of the first.
const FORGED: &str = "forged";
/// What the broker must refuse it for, and nothing else.
const UNSIGNED: &str = "MANIFEST_UNSIGNED";

/// All of it. `files`: what both devices may use, at whose address the proxy is asked alone.
pub fn offered(report: &mut Report, scene: &Scene<'_>, files: &Found) -> Result<()> {
    let (wishes, publisher) = (scene.wishes, scene.publisher);
    for id in [ID, FORGED] {
        publisher.write(&manifest(id))?;
    }
    publisher.publish(1)?;
    forge(scene)?;
    let web = publisher.serve(&scene.world.internet)?;
    let upstream = json!({"dns_upstreams": [FAR_HOST.v4.to_string()]});
    wishes.wish("", |rest| rest.put("/api/config", &upstream))?;
    let body = json!({"name": "more", "url": URL, "keys": [publisher.key()?], "ca": web.ca});
    wishes.wish("", |rest| rest.post("/api/store/catalogs", &body))?;
    let told = fetched(wishes)?;
    report.fact(
        format!("a catalog of {URL}"),
        format!("{} services", told["services"]),
        true,
    );

    let refused = forged(wishes)?;
    report.fact(
        "  a service of it under another's signature is installed",
        &refused,
        refused.contains(UNSIGNED),
    );
    wishes.install(ID, &json!({"allowed_peers": ["phone"]}))?;
    follows::changes(report, scene, ID, files)
}

/// Looks until the cell has it.
fn fetched(wishes: &Wishes<'_>) -> Result<Value> {
    wishes.until("the catalog", || {
        let told = wishes.wish("", |rest| {
            rest.post("/api/store/catalogs/more/refresh", &json!({}))
        })?;
        ensure!(told["serial"] == 1 && told["error"].is_null(), "{told}");
        Ok(told)
    })
}

/// What becomes of it: refused at once, or by the broker.
fn forged(wishes: &Wishes<'_>) -> Result<String> {
    let path = format!("/api/services/{FORGED}/install");
    let answer = wishes.ask(|rest| rest.post(&path, &json!({})))?;
    if answer.status != 202 {
        return Ok(format!("{} {}", answer.status, answer.code()));
    }
    let end = wishes.until("the end of its installation", || {
        let told = wishes.get(&format!("/api/services/{FORGED}"))?.1;
        let phase = told["phase"].as_str().context("no phase")?.to_owned();
        ensure!(["installed", "failed"].contains(&phase.as_str()), "{told}");
        Ok(if phase == "failed" {
            told["error"]["code"].to_string()
        } else {
            phase
        })
    })?;
    wishes.remove(FORGED)?;
    wishes.gone(FORGED)?;
    Ok(end)
}

/// Puts the signature of the one beside the other's manifest.
fn forge(scene: &Scene<'_>) -> Result<()> {
    let folder = scene.publisher.published();
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json"))?)?;
    let signature = |id: &str| {
        let all = index["services"].as_array().context("no services")?;
        let one = all
            .iter()
            .find(|one| one["id"] == id)
            .context("not in the index")?;
        let digest = one["digest"]
            .as_str()
            .and_then(|text| text.strip_prefix("sha256:"));
        let digest = digest.context("no digest")?;
        anyhow::Ok(folder.join(format!("manifests/{digest}.json.sig")))
    };
    std::fs::copy(signature(ID)?, signature(FORGED)?)?;
    Ok(())
}

fn manifest(id: &str) -> Value {
    json!({
        "schema_version": 3, "kind": "store", "id": id, "name": "Agenda", "version": "1.0.0", "author": "Somebody else",
        "flags": {"has_subdomain": true, "has_storage": true},
        "containers": [{
            "name": "radicale", "image": "local:radicale", "user": "20010:20010",
            // Without accounts: what the catalog brings is what is looked at.
            "command": ["--auth-type", "none"],
            "mounts": [
                {"type": "volume", "volume": "data", "target": "/data"},
                {"type": "tmpfs", "target": "/tmp", "size_mib": 16, "mode": "1777"}
            ],
            "limits": {"memory_mib": 256, "cpu_milli": 1000, "pids": 64, "files": 1024},
            "stop_timeout_seconds": 1,
            "ports": [{"port": 5232, "protocol": "tcp"}]
        }],
        "routing": {"subdomain": id, "backend": "radicale:5232"}
    })
}

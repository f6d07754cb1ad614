//! The ceiling of the red team's cell: keys that it signs with itself, so that not the signature is what refuses an attack.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_launch::files::MARKER;
use cell_launch::house::Daemon;
use cell_launch::policy;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};

use crate::attempt::Outcome;
use crate::target::Target;

/// Who signs manifests, images, and nothing that counts.
pub const MANIFESTS: u8 = 41;
pub const IMAGES: u8 = 42;
pub const NOBODY: u8 = 43;
/// Most manifests that the broker keeps.
pub const KEPT: usize = 16;

/// Base64 of `by`'s signature. Its key is no secret: the ceiling with it is the red team's alone.
///
/// # Errors
/// Never: each number is a key.
pub fn sign(by: u8, bytes: &[u8]) -> Result<String> {
    let signature: DerSignature = key(by)?.sign(bytes);
    Ok(STANDARD.encode(signature.as_bytes()))
}

fn key(by: u8) -> Result<SigningKey> {
    Ok(SigningKey::from_slice(&[by; 32])?)
}

fn pem(by: u8) -> Result<String> {
    let public = p256::PublicKey::from(key(by)?.verifying_key());
    Ok(public.to_public_key_pem(LineEnding::LF)?)
}

/// Writes the broker's policy for the cell at `home`: the launcher keeps one that is there. What containers may be given lies in
/// `stage` (`lab/redteam.sh` makes it).
///
/// # Errors
/// As write(2).
pub fn settle(home: &Path, stage: &Path) -> Result<()> {
    let etc = home.join("etc");
    fs::create_dir_all(&etc)?;
    fs::write(home.join(MARKER), "")?;
    let shipped = policy::render(Daemon::Broker, home);
    let tables = table(stage)?;
    Ok(fs::write(
        etc.join(Daemon::Broker.policy_name()),
        format!("{shipped}\n{tables}"),
    )?)
}

fn table(stage: &Path) -> Result<String> {
    let at = |name: &str| stage.join(name);
    let mut text = format!(
        "[deploy]\nmanifest_keys = [{:?}]\nimage_keys = [{:?}]\nimage_policy = \"enforce\"\nregistries = [\"127.0.0.1:5000\"]\n\
         local_images = {:?}\ncapabilities = [\"CHOWN\", \"NET_BIND_SERVICE\", \"NET_ADMIN\"]\ngateways = [\"gateway\"]\n\
         core = {{ caddy = \"172.20.0.2\" }}\ncell_network = \"172.20.0.0/24\"\nservice_networks = \"172.21.0.0/16\"\n\
         bridge_prefix = \"cellsvc\"\npublished = [{{ address = \"127.0.0.1\", first = 20000, last = 20099 }}]\n",
        pem(MANIFESTS)?,
        pem(IMAGES)?,
        at("images.toml"),
    );
    let roots = [
        ("media", ""),
        ("theirs", ", owner = \"cell-api\""),
        ("dns", ", core = true"),
    ];
    text += "[deploy.bind_roots]\n";
    for (name, more) in roots {
        writeln!(text, "{name} = {{ path = {:?}{more} }}", at(name))?;
    }
    write!(
        text,
        "[deploy.limits]\nmemory_mib = 512\ncpu_milli = 1000\npids = 256\nservices = 8\ntotal_memory_mib = 2048\nmanifests = {KEPT}\n"
    )?;
    Ok(text)
}

/// Folders that a broker refuses to start with as roots.
const GIVEN_AWAY: [&str; 7] = [
    "/run/cell",
    "/etc/cell",
    "/var/lib/cell/vaultd",
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/",
    "/proc/1/root",
];

/// G36. Control: the broker takes the ceiling that it runs with. Attack: the same with a root that gives the cell away.
///
/// # Errors
/// When the program is not started.
pub fn given_away(target: &Target) -> Result<(Outcome, Outcome)> {
    let running = target.etc.join(Daemon::Broker.policy_name());
    let text = fs::read_to_string(&running).with_context(|| running.display().to_string())?;
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("broker.toml");
    let program = target.programs.join("cell-broker");
    let check = |root: &str| -> Result<(bool, String)> {
        let more = format!("[deploy.bind_roots]\nextra = {{ path = {root:?} }}");
        let changed = text.replacen("[deploy.bind_roots]", &more, 1);
        ensure!(changed != text, "the ceiling has no roots");
        fs::write(&policy, changed)?;
        let told = Command::new(&program)
            .args(["--check", "--config"])
            .arg(&policy)
            .output()?;
        Ok((
            told.status.success(),
            String::from_utf8_lossy(&told.stderr).into_owned(),
        ))
    };
    let (control, words) = check("/srv/media")?;
    if !control {
        return Ok((Outcome::Void(words.clone()), Outcome::Void(words)));
    }
    for root in GIVEN_AWAY {
        let (taken, words) = check(root)?;
        if taken {
            println!("     {root} is taken for a root");
            return Ok((Outcome::Open, Outcome::Open));
        }
        ensure!(words.contains("bind_roots.extra"), "{root}: {words}");
    }
    let closed = format!("{} roots refused", GIVEN_AWAY.len());
    Ok((Outcome::Open, Outcome::Closed(closed)))
}

/// G39. Control: the broker keeps manifests. Attack: of the hundred that a flood handed in it keeps no more than the ceiling allows.
///
/// # Errors
/// When its folder cannot be read.
pub fn kept(target: &Target) -> Result<(Outcome, Outcome)> {
    let folder: PathBuf = target.state("broker").join("manifests");
    let files = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let count = files.count();
    let closed = || Outcome::Closed(format!("{count} are kept"));
    Ok(match count {
        0 => (closed(), closed()),
        1..=KEPT => (Outcome::Open, closed()),
        _ => (Outcome::Open, Outcome::Open),
    })
}

//! A cell with its store: a Docker daemon, the images of the catalog, and what root would have put onto the machine for it.

mod apartment;
mod inspected;
mod leftovers;
mod wishes;

pub use apartment::Apartment;
pub use inspected::inspected;
pub use leftovers::{Leftovers, nothing_of};
pub use wishes::{Account, CONVERGED, Wishes};

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cell_launch::house::Daemon;

use crate::cell::Edit;
use crate::docker::Docker;
use crate::process::run;

/// Where the containers of the cell itself lie: elsewhere than as shipped, so that nobody has that in his code.
pub const CORE_NETWORK: &str = "10.44.20.0/24";
/// Caddy's user in its image.
const CADDY: u32 = 20002;
/// Images of the cell's own containers.
pub const CORE_IMAGES: [&str; 3] = ["coredns", "caddy", "chrony"];
/// Their ids, in the order in which they are installed.
pub const CORE: [&str; 3] = ["chrony", "coredns", "caddy"];

/// The repository.
pub fn repository() -> PathBuf {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
    lab.parent().unwrap_or(lab).to_owned()
}

/// Folders of root's, as a package makes them: below `/srv`, since nobody but root may write to any folder above them.
#[derive(Debug)]
pub struct Storehouse {
    folder: tempfile::TempDir,
    /// Whose manifests root has the broker take, in PEM, beside those of its own folder.
    manifest_keys: Vec<String>,
}

impl Storehouse {
    /// Makes them, and has the images in `docker`.
    ///
    /// # Errors
    /// With the words of whatever failed.
    pub fn new(docker: &Docker<'_>, images: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("cell-store-")
            .tempdir_in("/srv")?;
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        let house = Storehouse {
            folder,
            manifest_keys: Vec::new(),
        };
        house.make_folders()?;
        let catalog = repository().join("compose/catalog");
        run(Command::new("cp")
            .arg("-r")
            .arg(catalog)
            .arg(house.path("catalog")))?;
        run(Command::new("chmod")
            .args(["-R", "a+rX,go-w"])
            .arg(house.path("catalog")))?;
        house.load(docker, images)?;
        Ok(house)
    }

    /// Root trusts this key (PEM) with manifests; counts for policies that are made from now on.
    #[must_use]
    pub fn trusting(mut self, key: String) -> Self {
        self.manifest_keys.push(key);
        self
    }

    /// Where cell-api writes zones.
    pub fn dns(&self) -> PathBuf {
        self.folder.path().join("dns")
    }

    /// Caddy's admin socket.
    pub fn caddy_socket(&self) -> PathBuf {
        self.folder.path().join("caddy/admin.sock")
    }

    /// A place for files of the test, which everybody may read.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make_folders(&self) -> Result<()> {
        let api =
            nix::unistd::User::from_name("cell-api")?.context("there is no user cell-api: make users")?;
        let edge = nix::unistd::Group::from_name("cell-edge-caddy")?.context("no group cell-edge-caddy")?;
        let caddy = self.folder.path().join("caddy");
        for folder in [&self.dns(), &caddy] {
            std::fs::create_dir(folder)?;
        }
        chown(self.dns(), Some(api.uid.as_raw()), Some(api.gid.as_raw()))?;
        std::fs::set_permissions(self.dns(), PermissionsExt::from_mode(0o755))?;
        chown(&caddy, Some(CADDY), Some(edge.gid.as_raw()))?;
        Ok(std::fs::set_permissions(
            caddy,
            PermissionsExt::from_mode(0o2750),
        )?)
    }

    /// Built once: `target/lab-cache/images` keeps them by what they are made from.
    fn load(&self, docker: &Docker<'_>, images: &[&str]) -> Result<()> {
        let mut command = Command::new(repository().join("compose/images/build.sh"));
        command
            .arg("--cache")
            .arg(repository().join("target/lab-cache/images"));
        command.arg("--list").arg(self.images()).args(images);
        command.env("DOCKER_HOST", format!("unix://{}", docker.socket().display()));
        run(&mut command).map(drop)
    }

    /// The root file system of an image, unpacked: its programs run on the machine, too, by chroot(8).
    ///
    /// # Errors
    /// With tar's words.
    pub fn unpacked(&self, image: &str) -> Result<PathBuf> {
        let root = self.folder.path().join("unpacked").join(image);
        if root.exists() {
            return Ok(root);
        }
        std::fs::create_dir_all(&root)?;
        let cache = repository().join("target/lab-cache/images");
        let is_its = |name: &str| {
            name.starts_with(&format!("{image}-"))
                && Path::new(name).extension().is_some_and(|end| end == "tar")
        };
        let archive = std::fs::read_dir(&cache)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| is_its(name))
            .with_context(|| format!("no archive of {image} in {}", cache.display()))?;
        let script = "tar -xOf \"$1\" layer.tar | tar -x -C \"$2\" -f -";
        run(Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(cache.join(archive))
            .arg(&root))?;
        Ok(root)
    }

    fn images(&self) -> PathBuf {
        self.folder.path().join("images.toml")
    }

    /// The policies of a cell that has it all, made of the shipped ones.
    pub fn policies(&self, docker: &Docker<'_>) -> Vec<(Daemon, Edit)> {
        let catalog = self.path("catalog").display().to_string();
        let moved = |shipped: String| {
            let shipped = shipped.replace("172.20.0.0/24", CORE_NETWORK);
            shipped.replace("172.20.0.3:53", "10.44.20.3:53")
        };
        vec![
            (Daemon::Broker, self.broker(docker, &catalog)),
            (Daemon::Api, self.api(&catalog)),
            (Daemon::Netd, Box::new(moved)),
            (Daemon::Egress, Box::new(moved)),
        ]
    }

    fn broker(&self, docker: &Docker<'_>, catalog: &str) -> Edit {
        let (socket, images) = (docker.socket().display().to_string(), self.images());
        let (dns, caddy, keys) = (self.dns(), self.path("caddy"), &self.manifest_keys);
        let ceiling = format!(
            "[deploy]\nmanifest_keys = {keys:?}\nimage_keys = []\nimage_policy = \"enforce\"\nregistries = []\nlocal_images = {images:?}\nshipped = {catalog:?}\n\
             core = {{ caddy = \"10.44.20.2\", coredns = \"10.44.20.3\", chrony = \"10.44.20.4\" }}\n\
             cell_network = \"{CORE_NETWORK}\"\nservice_networks = \"172.21.0.0/16\"\nbridge_prefix = \"cellsvc\"\n\
             [deploy.bind_roots]\ndns = {{ path = {dns:?}, owner = \"cell-api\", core = true }}\n\
             caddy = {{ path = {caddy:?}, writable = true, owner = \"{CADDY}\", core = true }}\n\
             [deploy.limits]\nmemory_mib = 512\ncpu_milli = 2000\npids = 512\nservices = 32\ntotal_memory_mib = 8192\nmanifests = 64\n\
             [deploy.secrets]\nvault_socket = \"/run/cell/broker-keys/vault.sock\"\nfolder = \"/run/cell/broker-secrets\"\n"
        );
        Box::new(move |shipped: String| {
            let shipped = shipped.replace("\"/run/docker.sock\"", &format!("{socket:?}"));
            // The lab asks too, beside cell-api.
            let shipped = shipped.replace("users = [\"cell-api\"]", "users = [\"cell-api\", \"root\"]");
            format!("{}\n{ceiling}", without_table(&shipped, "[deploy"))
        })
    }

    fn api(&self, catalog: &str) -> Edit {
        let keys = [
            ("catalog", catalog.to_owned()),
            ("core_network", CORE_NETWORK.to_owned()),
            ("core_dns_dir", self.dns().display().to_string()),
            ("caddy_socket", self.caddy_socket().display().to_string()),
        ];
        Box::new(move |shipped: String| {
            let is_ours = |line: &&str| keys.iter().any(|(key, _)| line.starts_with(key));
            let others = shipped.lines().filter(|line| !is_ours(line));
            let ours = keys.iter().map(|(key, value)| format!("{key} = {value:?}\n"));
            ours.chain(others.map(|line| format!("{line}\n"))).collect()
        })
    }
}

/// A policy without the tables whose headers begin so.
fn without_table(text: &str, header: &str) -> String {
    let mut inside = false;
    text.lines()
        .filter(|line| {
            if line.starts_with('[') {
                inside = line.starts_with(header);
            }
            !inside
        })
        .fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_with_those_below_it() {
        let text = "a = 1\n[deploy]\nb = 2\n[deploy.limits]\nc = 3\n[callers.api]\nd = 4\n";
        assert_eq!(without_table(text, "[deploy"), "a = 1\n[callers.api]\nd = 4\n");
    }
}

//! A key for backups.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use anyhow::Context as _;

/// Makes a key, writes its secret half to a new file for its owner alone, in the form that `age -d -i` and `age-keygen` have, and says
/// what to do with the public half.
///
/// # Errors
/// When the file is there already, or cannot be written.
pub fn make_key(file: &Path) -> anyhow::Result<String> {
    let identity = Identity::generate();
    let recipient = identity.to_public();
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("making {}", file.display()))?;
    let secret = identity.to_string();
    let text = format!("# public key: {recipient}\n{}\n", secret.expose_secret());
    let written = opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all());
    written.with_context(|| format!("writing {}", file.display()))?;
    Ok(format!(
        "{} has the secret key: whoever has it reads every backup, and without it nobody does. Move it away from this machine, and \
         keep it twice.\n\nThis is for /etc/cell/broker.toml; restart cell-broker afterwards:\n\n[backup]\nrecipients = \
         [\"{recipient}\"]",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_secret_half_is_in_the_file_alone_and_no_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.txt");
        let told = make_key(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let secret: Identity = text.lines().last().unwrap().parse().unwrap();
        assert!(
            told.contains(&format!("recipients = [\"{}\"]", secret.to_public())),
            "{told}"
        );
        assert!(!told.contains("AGE-SECRET-KEY"), "{told}");
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(make_key(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}

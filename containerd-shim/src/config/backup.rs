//! The table `[backup]` of the policy file: whom backups of services are encrypted for. It is root's, for whoever names the
//! recipient reads everybody's mail.

use age::x25519::Recipient;
use serde::Deserialize;

use crate::backup::BackupPolicy;

/// Most recipients: each is 100 bytes of every backup.
const RECIPIENTS_MAX: usize = 16;
/// Largest backup, MiB, where nothing is said.
const MOST_MIB: u64 = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    recipients: Vec<String>,
    #[serde(default = "most_mib")]
    most_mib: u64,
}

fn most_mib() -> u64 {
    MOST_MIB
}

impl Table {
    /// What is in force, where `faults` gets no more.
    pub(super) fn policy(self, faults: &mut Vec<String>) -> BackupPolicy {
        if self.recipients.len() > RECIPIENTS_MAX {
            faults.push(format!("backup.recipients: are at most {RECIPIENTS_MAX}"));
        }
        if !(1..=1 << 30).contains(&self.most_mib) {
            faults.push("backup.most_mib: is 1-1073741824".to_owned());
        }
        let mut recipients = Vec::new();
        for (n, text) in self.recipients.iter().enumerate() {
            match text.parse::<Recipient>() {
                Ok(recipient) => recipients.push(recipient),
                // Not what was written: somebody may have put the secret key here.
                Err(_) => faults.push(format!(
                    "backup.recipients[{n}]: is a public key of age (age1...), as `cell-broker backup-key` prints it; what begins \
                     with AGE-SECRET-KEY does not belong on this machine"
                )),
            }
        }
        BackupPolicy {
            recipients,
            most_bytes: self.most_mib.saturating_mul(1 << 20),
        }
    }
}

//! A vault for tests: a policy, a clock that is turned by hand, files in memory that lose power, files that fail.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod faulty;
pub mod memory;
pub mod served;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cell_vaultd::clock::Clock;
use cell_vaultd::files::{Files, StateFolder};
use cell_vaultd::kek::Kek;
use cell_vaultd::vault::{self, Asker, CertificateRequest, Surroundings, Vault};
use cell_vaultd_core::policy::{CallerSpec, CallersSpec};
use cell_vaultd_core::seal::SealReason;
use cell_vaultd_core::timestamp::EARLIEST_PLAUSIBLE;
use cell_vaultd_core::{Policy, PolicySpec, Role, Timestamp};
use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

pub const KEK: [u8; 32] = [0x5a; 32];
pub const API: Asker = Asker {
    role: Role::Api,
    uid: 990,
    pid: Some(4711),
};
pub const NETD: Asker = Asker {
    role: Role::Netd,
    uid: 991,
    pid: None,
};

pub fn policy(state: &Path) -> Policy {
    let caller = |user: &str| CallerSpec {
        users: vec![user.to_owned()],
        unit: None,
    };
    let spec = PolicySpec {
        state: state.to_owned(),
        dns_suffixes: vec!["cell".into(), "home.arpa".into()],
        address_prefixes: vec!["10.0.0.0/8".into(), "fc00::/7".into(), "127.0.0.0/8".into()],
        leaf_lifetime_hours: 24,
        issuances_per_hour: 5,
        secrets_max: 4,
        api_secret_prefixes: vec!["conn_".into(), "ddns_".into(), "svc_".into()],
        callers: CallersSpec {
            api: caller("root"),
            netd: caller("root"),
            egress: Some(caller("root")),
            openvpn: Some(caller("root")),
            broker: Some(caller("root")),
        },
    };
    Policy::try_from(spec).unwrap()
}

/// A clock that stands still until it is turned.
#[derive(Debug)]
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(HandClock(AtomicI64::new(now.0)))
    }

    pub fn turn(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn steady(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::SeqCst)).unwrap_or(0)
    }
}

/// The machine's time, so that other programs find the certificates valid.
pub fn machine_clock() -> Arc<HandClock> {
    HandClock::at(cell_vaultd::clock::SystemClock::default().now())
}

pub fn some_day() -> Arc<HandClock> {
    HandClock::at(EARLIEST_PLAUSIBLE.plus(90 * 86_400_000))
}

pub fn open_with(files: Arc<dyn Files>, clock: Arc<dyn Clock>, kek: &[u8; 32]) -> Result<Vault, SealReason> {
    let around = Surroundings {
        policy: policy(Path::new("/state")),
        files,
        clock,
    };
    vault::open(around, Ok(Kek::from_bytes(kek)))
}

pub fn open_in(folder: &Path) -> Result<Vault, SealReason> {
    open_with(Arc::new(StateFolder::new(folder)), machine_clock(), &KEK)
}

pub fn value(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

/// A request for names with a fresh P-256 key.
pub fn request(names: &[&str], addresses: &[&[u8]]) -> CertificateRequest {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    CertificateRequest {
        csr_der: csr.der().to_vec(),
        names: names.iter().map(ToString::to_string).collect(),
        addresses: addresses.iter().map(|octets| octets.to_vec()).collect(),
    }
}

/// Every file below a folder with its content.
pub fn content(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The one file in the vault's folder whose name begins so.
pub fn file_of(folder: &Path, prefix: &str) -> std::path::PathBuf {
    let names = std::fs::read_dir(folder.join("vault"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut matching = names.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix));
    let found = matching.next().unwrap_or_else(|| panic!("no file {prefix}*"));
    assert_eq!(matching.next(), None, "more than one file {prefix}*");
    found
}

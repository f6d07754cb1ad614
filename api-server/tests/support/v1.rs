//! Files of the first version.

pub const PEERS: &str = include_str!("../../core/tests/v1/all_peers.json");
pub const BROKEN: &str = include_str!("../../core/tests/v1/broken.json");
pub const TOR: &str = include_str!("../../core/tests/v1/tor.json");
pub const SECOND: &str = include_str!("../../core/tests/v1/second.json");

/// The same whose secrets are references to the vault of then.
pub const REFERENCES: &str = include_str!("../../core/tests/v1/references.json");

/// One exit of each type.
pub fn all() -> String {
    with_key(include_str!("../../core/tests/v1/all.json"))
}

/// What [`REFERENCES`] refers to.
pub fn references_secrets() -> String {
    with_key(include_str!("../../core/tests/v1/references_secrets.json"))
}

fn with_key(text: &str) -> String {
    text.replace("@SSH_PRIVATE_KEY@", &ssh_key().replace('\n', "\\n"))
}

/// A WireGuard exit of parts, and a proxy; which peer uses which.
pub fn parts() -> String {
    let text = include_str!("../../core/tests/v1/parts.json");
    // Its peers are each test's own.
    text.replace("peer_exits", "peer_exits_of_others")
}

fn ssh_key() -> String {
    use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey};
    let pair = Ed25519Keypair {
        public: ssh_key::public::Ed25519PublicKey([7; 32]),
        private: Ed25519PrivateKey::from_bytes(&[8; 32]),
    };
    let key = ssh_key::PrivateKey::from(pair);
    key.to_openssh(ssh_key::LineEnding::LF).unwrap().to_string()
}

/// Nothing that is secret in these files is said.
pub fn keeps_quiet(text: &str) {
    for secret in [
        "yAnz5TF",
        "FpCyhws9",
        "correct-horse",
        "battery@staple",
        "battery%40staple",
        "battery-staple",
        "never-shown",
        "hunter22",
        "OPENSSH",
    ] {
        assert!(!text.contains(secret), "{secret} is said: {text}");
    }
}

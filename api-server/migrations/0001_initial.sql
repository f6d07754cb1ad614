-- Frozen. A change of the schema is a new file; the hash of this one is checked at every start.

-- Names and the generation of the network: one row per counter.
CREATE TABLE counter (
    name TEXT PRIMARY KEY CHECK (name IN ('network_generation', 'highest_host')),
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('network_generation', 0), ('highest_host', 1);

-- SHA-256 of the claim token, from the first start until setup is complete.
CREATE TABLE claim (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    token_hash BLOB NOT NULL CHECK (length(token_hash) = 32)
) STRICT;

-- Answers of the first run, until it is complete. `values_json` holds checked values and no secret.
CREATE TABLE setup_step (
    step TEXT PRIMARY KEY CHECK (step IN ('claim', 'identity', 'network', 'admin')),
    values_json TEXT NOT NULL,
    password_hash TEXT CHECK ((step = 'admin') = (password_hash IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- The cell. The row is there when setup is complete, and only then.
CREATE TABLE cell (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    cell_name TEXT NOT NULL,
    domain_mode TEXT NOT NULL,
    vpn_range_ipv4 TEXT NOT NULL,
    vpn_range_ipv6 TEXT NOT NULL,
    endpoint_host TEXT,
    created_unix_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE user (
    username TEXT PRIMARY KEY,
    role TEXT NOT NULL CHECK (role IN ('admin', 'peer')),
    password_hash TEXT NOT NULL,
    must_change_password INTEGER NOT NULL CHECK (must_change_password IN (0, 1)),
    created_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Failed logins by name, whether or not there is such a user, so that a lock tells nobody who exists.
CREATE TABLE login_attempts (
    username TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    locked_until_unix_ms INTEGER,
    updated_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX login_attempts_by_age ON login_attempts (updated_unix_ms);

-- Open sessions, by SHA-256 of the cookie.
CREATE TABLE session (
    token_hash BLOB PRIMARY KEY CHECK (length(token_hash) = 32),
    username TEXT NOT NULL REFERENCES user (username) ON DELETE CASCADE,
    created_unix_ms INTEGER NOT NULL,
    seen_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_by_user ON session (username);

CREATE TABLE peer (
    name TEXT PRIMARY KEY,
    public_key BLOB NOT NULL UNIQUE CHECK (length(public_key) = 32),
    host INTEGER NOT NULL UNIQUE CHECK (host >= 2),
    internet INTEGER NOT NULL CHECK (internet IN (0, 1)),
    peer_to_peer INTEGER NOT NULL CHECK (peer_to_peer IN (0, 1)),
    tunnel TEXT NOT NULL CHECK (tunnel IN ('full', 'split')),
    config_fingerprint BLOB NOT NULL CHECK (length(config_fingerprint) = 32),
    created_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE peer_service (
    peer TEXT NOT NULL REFERENCES peer (name) ON DELETE CASCADE,
    address BLOB NOT NULL CHECK (length(address) IN (4, 16)),
    protocol TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    PRIMARY KEY (peer, address, protocol, port)
) STRICT, WITHOUT ROWID;

-- Hosts that removed peers left behind; the lowest is given out first.
CREATE TABLE freed_host (
    host INTEGER PRIMARY KEY CHECK (host >= 2)
) STRICT;

-- The audit chain. Only ever appended to.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY CHECK (sequence >= 1),
    time_unix_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    remote TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous_hash BLOB NOT NULL CHECK (length(previous_hash) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TRIGGER audit_is_not_altered BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;

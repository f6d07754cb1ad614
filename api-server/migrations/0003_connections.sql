-- Frozen.

-- Exits that the traffic of peers may take. What was allocated is stored, so that it stays; no two have the same.
-- `config_json` is what was imported, without its secrets: those are at vaultd, as conn_<id>_<field>.
CREATE TABLE connection (
    id TEXT PRIMARY KEY CHECK (length(id) = 36),
    name TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL CHECK (type IN ('wireguard_ext', 'openvpn', 'tor', 'sshuttle', 'proxy', 'cell_relay')),
    mark INTEGER NOT NULL UNIQUE CHECK (mark BETWEEN 0x1000 AND 0x1fff AND mark % 0x10 = 0),
    routing_table INTEGER NOT NULL UNIQUE CHECK (routing_table BETWEEN 1000 AND 1255),
    iface TEXT UNIQUE CHECK ((type IN ('wireguard_ext', 'openvpn')) = (iface IS NOT NULL)),
    redirect_port INTEGER UNIQUE CHECK (redirect_port BETWEEN 9100 AND 9199),
    config_json TEXT NOT NULL,
    -- Whether vaultd was seen to have every secret of it, as it belongs to `config_json`.
    secrets_whole INTEGER NOT NULL CHECK (secrets_whole IN (0, 1)),
    -- Counts from 1 with each change.
    revision INTEGER NOT NULL CHECK (revision >= 1),
    created_unix_ms INTEGER NOT NULL,
    CHECK ((type IN ('tor', 'sshuttle', 'proxy')) = (redirect_port IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Which secrets a connection has at vaultd; never their values.
CREATE TABLE connection_secret (
    connection TEXT NOT NULL REFERENCES connection (id) ON DELETE CASCADE,
    field TEXT NOT NULL,
    PRIMARY KEY (connection, field)
) STRICT, WITHOUT ROWID;

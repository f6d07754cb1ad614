-- Frozen.

-- Exits of the first version that were imported: for each type the connection that carries it. The id is written down before its
-- secrets go to vaultd, so that whoever begins again gives them the same names; `made_unix_ms` comes with the connection.
CREATE TABLE first_version_exit (
    type TEXT PRIMARY KEY CHECK (type IN ('wireguard_ext', 'openvpn', 'tor', 'sshuttle', 'proxy')),
    connection TEXT NOT NULL UNIQUE CHECK (length(connection) = 36),
    begun_unix_ms INTEGER NOT NULL,
    made_unix_ms INTEGER
) STRICT, WITHOUT ROWID;

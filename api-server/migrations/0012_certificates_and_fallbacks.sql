-- Frozen.

-- Certificates of services' names that were issued and have not ended. Their keys are in Caddy's memory and in that of the process that
-- made them, never here: by this a process that was started anew knows which of those that Caddy has are the cell's own.
CREATE TABLE issued_certificate (
    -- Of the certificate itself, DER.
    sha256 BLOB PRIMARY KEY NOT NULL CHECK (length(sha256) = 32),
    -- Its names in order, a space between.
    names TEXT NOT NULL,
    not_before_unix_ms INTEGER NOT NULL,
    not_after_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Services that speak TLS themselves and were given their certificate: what they were then, and when another is due.
CREATE TABLE given_certificate (
    service TEXT PRIMARY KEY NOT NULL REFERENCES service (name) ON DELETE CASCADE,
    -- SHA-256 of its names, its containers and what they are made of.
    recipient BLOB NOT NULL CHECK (length(recipient) = 32),
    renew_at_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What stands in for the connection that carries a service while it does not work: the lowest place first.
CREATE TABLE service_fallback (
    service TEXT NOT NULL REFERENCES service_network (service) ON DELETE CASCADE,
    place INTEGER NOT NULL CHECK (place BETWEEN 0 AND 7),
    connection TEXT NOT NULL REFERENCES connection (id),
    PRIMARY KEY (service, place),
    UNIQUE (service, connection)
) STRICT, WITHOUT ROWID;
CREATE INDEX service_fallback_by_connection ON service_fallback (connection);

-- The change that waits, which may be of a service's exit or of what an import bound, too: `subject` is the peer or the service.
CREATE TABLE waiting_change_of_all (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    subject TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('update', 'delete', 'service_exit', 'import')),
    -- The peer as it was, the service's exit, or the exits of all peers that were bound.
    before_json TEXT NOT NULL,
    window_seconds INTEGER NOT NULL CHECK (window_seconds BETWEEN 5 AND 3600),
    author TEXT NOT NULL,
    -- Where the author came from, and whether by the VPN: a confirmation must come the same way then.
    remote TEXT NOT NULL,
    by_vpn INTEGER NOT NULL CHECK (by_vpn IN (0, 1)),
    -- As netd has it; NULL until netd has accepted it.
    etag TEXT,
    previous_etag TEXT CHECK ((previous_etag IS NULL) = (etag IS NULL)),
    deadline_unix_ms INTEGER CHECK ((deadline_unix_ms IS NULL) = (etag IS NULL))
) STRICT;
INSERT INTO waiting_change_of_all SELECT one, peer, action, before_json, window_seconds, author, remote, by_vpn, etag, previous_etag,
    deadline_unix_ms FROM waiting_change;
DROP TABLE waiting_change;
ALTER TABLE waiting_change_of_all RENAME TO waiting_change;

-- Frozen.

-- Manifests of services, exactly the bytes that the broker is given; those that no service is of are deleted.
CREATE TABLE service_manifest (
    digest TEXT PRIMARY KEY CHECK (length(digest) = 71),
    bytes BLOB NOT NULL CHECK (length(bytes) BETWEEN 1 AND 65536),
    signature TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE service (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 32),
    manifest_digest TEXT NOT NULL REFERENCES service_manifest (digest),
    instance TEXT NOT NULL,
    -- A JSON object of texts.
    parameters TEXT NOT NULL,
    -- What ran before, while another is on its way.
    former_digest TEXT REFERENCES service_manifest (digest),
    former_parameters TEXT,
    phase TEXT NOT NULL CHECK (phase IN ('installing', 'installed', 'updating', 'removing', 'failed')),
    step TEXT NOT NULL,
    -- With a removal: whether its data goes too.
    delete_volumes INTEGER NOT NULL CHECK (delete_volumes IN (0, 1)),
    -- Whether somebody stopped it: it is not started again by itself.
    stopped INTEGER NOT NULL CHECK (stopped IN (0, 1)),
    -- Whether devices are let to it.
    published INTEGER NOT NULL CHECK (published IN (0, 1)),
    -- NULL: it is one of the cell's own.
    network TEXT UNIQUE REFERENCES service_network (service),
    -- Its address in the VPN, as peers have theirs.
    host INTEGER UNIQUE CHECK (host >= 2),
    -- Whether every peer may reach it; else those of service_access.
    everyone INTEGER NOT NULL CHECK (everyone IN (0, 1)),
    error_code TEXT,
    error_message TEXT,
    error_unix_ms INTEGER,
    -- The generation of the network that netd must have before the next step.
    generation INTEGER NOT NULL,
    -- Another with each change, so that nothing is done about what was.
    revision INTEGER NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    updated_unix_ms INTEGER NOT NULL,
    CHECK ((former_digest IS NULL) = (former_parameters IS NULL)),
    CHECK ((error_code IS NULL) = (error_message IS NULL)),
    CHECK ((network IS NULL) = (host IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE service_access (
    service TEXT NOT NULL REFERENCES service (name) ON DELETE CASCADE,
    peer TEXT NOT NULL REFERENCES peer (name) ON DELETE CASCADE,
    PRIMARY KEY (service, peer)
) STRICT, WITHOUT ROWID;
CREATE INDEX service_access_by_peer ON service_access (peer);

-- Containers as the broker made them; the first is the service's main one.
CREATE TABLE service_container (
    service TEXT NOT NULL REFERENCES service (name) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    handle TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (service, position)
) STRICT, WITHOUT ROWID;

-- Frozen.

-- Catalogs that others sign and serve. Of two that have a service of one id, the one of the lower number counts. `serial` and
-- `index_json` are of the last index that was taken: an older one is refused from then on.
CREATE TABLE remote_catalog (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL UNIQUE,
    keys TEXT NOT NULL,
    ca TEXT NOT NULL,
    connection TEXT REFERENCES connection (id),
    serial INTEGER NOT NULL,
    index_json BLOB NOT NULL,
    etag TEXT NOT NULL,
    refreshed_unix_ms INTEGER NOT NULL,
    error TEXT NOT NULL
) STRICT;

-- What their indexes name, by the digest of its bytes, with the signature that the broker judges it by.
CREATE TABLE remote_manifest (
    catalog INTEGER NOT NULL REFERENCES remote_catalog (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    bytes BLOB NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (catalog, digest)
) STRICT;

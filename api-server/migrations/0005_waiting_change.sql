-- Frozen.

-- The change of the network that waits for its confirmation, with what comes back if it is taken back.
CREATE TABLE waiting_change (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    peer TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('update', 'delete')),
    -- The peer as it was.
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

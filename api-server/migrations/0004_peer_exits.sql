-- Frozen.

-- The connection that carries what a peer sends to the internet; NULL: the machine's own way.
ALTER TABLE peer ADD COLUMN exit_connection_id TEXT REFERENCES connection (id);
-- Whether the peer goes out directly while that does not work; NULL: as the connection's type says.
ALTER TABLE peer ADD COLUMN fail_open INTEGER CHECK (fail_open IN (0, 1));
CREATE INDEX peer_by_exit ON peer (exit_connection_id) WHERE exit_connection_id IS NOT NULL;

-- What stands in for that connection while it does not work: the lowest place first.
CREATE TABLE peer_fallback (
    peer TEXT NOT NULL REFERENCES peer (name) ON DELETE CASCADE,
    place INTEGER NOT NULL CHECK (place BETWEEN 0 AND 7),
    connection TEXT NOT NULL REFERENCES connection (id),
    PRIMARY KEY (peer, place),
    UNIQUE (peer, connection)
) STRICT, WITHOUT ROWID;
CREATE INDEX peer_fallback_by_connection ON peer_fallback (connection);

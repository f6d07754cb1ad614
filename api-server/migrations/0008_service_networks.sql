-- Frozen.

-- Networks of services: what was allocated is stored, so that it stays; no two have the same.
CREATE TABLE service_network (
    service TEXT PRIMARY KEY CHECK (length(service) BETWEEN 1 AND 63),
    -- The bridge is cellsvc<number>.
    number INTEGER NOT NULL UNIQUE CHECK (number BETWEEN 1 AND 1024),
    subnet TEXT NOT NULL UNIQUE,
    egress TEXT NOT NULL CHECK (egress IN ('none', 'direct', 'exit')),
    exit_connection_id TEXT REFERENCES connection (id),
    -- Whether it goes out directly while that does not work; NULL: as the connection's type says.
    fail_open INTEGER CHECK (fail_open IN (0, 1)),
    CHECK ((egress = 'exit') = (exit_connection_id IS NOT NULL)),
    CHECK (egress = 'exit' OR fail_open IS NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX service_network_by_exit ON service_network (exit_connection_id) WHERE exit_connection_id IS NOT NULL;

-- What containers of a service may reach besides.
CREATE TABLE service_reach (
    service TEXT NOT NULL REFERENCES service_network (service) ON DELETE CASCADE,
    address TEXT NOT NULL,
    protocol TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    PRIMARY KEY (service, address, protocol, port)
) STRICT, WITHOUT ROWID;

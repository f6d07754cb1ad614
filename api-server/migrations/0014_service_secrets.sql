-- Frozen.

-- Secrets of services that vaultd may have: names, never values. Written before vaultd is asked, so that a removal finds them all.
CREATE TABLE service_secret (
    service TEXT NOT NULL REFERENCES service (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (service, name)
) STRICT, WITHOUT ROWID;

-- Frozen.

-- How services were: transitions alone, the last 1,000 of each.
CREATE TABLE service_health (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL REFERENCES service (name) ON DELETE CASCADE,
    at_unix_ms INTEGER NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX service_health_by_service ON service_health (service, id);

-- What is wrong and not over. A number is never another's.
CREATE TABLE alert (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    kind TEXT NOT NULL,
    since_unix_ms INTEGER NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('critical', 'warning')),
    text TEXT NOT NULL,
    acknowledged INTEGER NOT NULL CHECK (acknowledged IN (0, 1)),
    UNIQUE (service, kind)
) STRICT;

-- What CoreDNS logs: 'off', 'errors' or 'questions'.
CREATE TABLE query_log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    level TEXT NOT NULL CHECK (level IN ('off', 'errors', 'questions'))
) STRICT;
INSERT INTO query_log (one, level) VALUES (1, 'errors');

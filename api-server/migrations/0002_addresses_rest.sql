-- Frozen. An address that a removed peer left behind rests: what was never used comes first, then what has rested longest,
-- so that a log, a bookmark or a rule elsewhere does not soon mean somebody else.
ALTER TABLE freed_host ADD COLUMN freed_unix_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX freed_host_by_age ON freed_host (freed_unix_ms, host);

-- Frozen.

-- Accounts that devices' owners have at services. There is no password here: it is the service's alone.
CREATE TABLE account (
    -- No reference: what a service keeps of its accounts outlives its removal with its data.
    service TEXT NOT NULL CHECK (length(service) BETWEEN 1 AND 32),
    user TEXT NOT NULL CHECK (length(user) BETWEEN 1 AND 32),
    -- Whose it is; NULL: of none that is there.
    peer TEXT REFERENCES peer (name) ON DELETE SET NULL,
    -- 'making' and 'removing' are done at the service next, or again.
    state TEXT NOT NULL CHECK (state IN ('making', 'made', 'removing')),
    created_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (service, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_by_peer ON account (peer);

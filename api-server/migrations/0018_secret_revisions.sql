-- Frozen.

-- The revision of the import that a connection's secrets are of, as vaultd keeps it beside them. It is not `revision`, which moves
-- with a new name too. 0: imported before vaultd kept any.
ALTER TABLE connection ADD COLUMN secret_revision INTEGER NOT NULL DEFAULT 0 CHECK (secret_revision >= 0);

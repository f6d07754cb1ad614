-- Frozen.

-- Resolvers that are asked for who has no exit, separated by spaces; NULL: the default ones of the version that runs.
ALTER TABLE cell ADD COLUMN dns_upstreams TEXT;

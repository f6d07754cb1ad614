-- Frozen.

-- The public domain of services, where domain_mode is not lan: as it was asked for, each NULL where nothing was said. The provider's
-- token is at vaultd alone.
ALTER TABLE cell ADD COLUMN public_domain TEXT;
ALTER TABLE cell ADD COLUMN acme_email TEXT;
ALTER TABLE cell ADD COLUMN dns_provider TEXT;
ALTER TABLE cell ADD COLUMN dns_server TEXT;
ALTER TABLE cell ADD COLUMN tsig_name TEXT;
ALTER TABLE cell ADD COLUMN tsig_algorithm TEXT;
ALTER TABLE cell ADD COLUMN acme_directory TEXT;
ALTER TABLE cell ADD COLUMN acme_authority TEXT;

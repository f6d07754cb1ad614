-- Frozen.

-- What worked last, where the way back of an update failed and what runs does not work: what there is to go back to, until something
-- works again.
ALTER TABLE service ADD COLUMN good_digest TEXT REFERENCES service_manifest (digest);
ALTER TABLE service ADD COLUMN good_parameters TEXT CHECK ((good_digest IS NULL) = (good_parameters IS NULL));

-- What a catalog's index says of the signatures of a manifest's images: a list in JSON, for the broker, which alone verifies them.
ALTER TABLE service_manifest ADD COLUMN images TEXT NOT NULL DEFAULT '[]';

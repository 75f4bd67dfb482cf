-- SPDX-License-Identifier: Apache-2.0
-- Who changed what, when and why: one row an administrative action, written in the transaction of
-- the change itself. src/store/audit.c says what `hash` and `signature` cover.

CREATE TABLE audit (
    seq         INTEGER PRIMARY KEY, -- 1, 2, 3 … without a gap
    at_ms       INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    uid         INTEGER NOT NULL, -- of the process that asked; -1: it has none here
    action      TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object      TEXT NOT NULL,
    before      TEXT NOT NULL, -- canonical JSON without secrets, 'null' where there was nothing
    after       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    prev        BLOB NOT NULL CHECK (length(prev) = 32), -- the hash of the row before
    hash        BLOB NOT NULL CHECK (length(hash) = 32),
    signature   BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;
CREATE INDEX audit_object ON audit (object_kind, object, seq);

CREATE TRIGGER audit_update BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'audit only grows'); END;
CREATE TRIGGER audit_delete BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'audit only grows'); END;
-- Also against INSERT OR REPLACE, which fires no DELETE trigger.
CREATE TRIGGER audit_insert BEFORE INSERT ON audit
WHEN new.seq IS NOT (SELECT ifnull(max(seq), 0) + 1 FROM audit)
BEGIN SELECT raise(ABORT, 'audit grows at its end'); END;

-- The public half of the key that signs; the secret half is sealed in vault_values ('audit').
CREATE TABLE audit_keys (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    public_key    BLOB NOT NULL CHECK (length(public_key) = 32),
    created_at_ms INTEGER NOT NULL
) STRICT;
CREATE TRIGGER audit_keys_update BEFORE UPDATE ON audit_keys
BEGIN SELECT raise(ABORT, 'audit_keys only grows'); END;
CREATE TRIGGER audit_keys_delete BEFORE DELETE ON audit_keys
BEGIN SELECT raise(ABORT, 'audit_keys only grows'); END;
CREATE TRIGGER audit_keys_insert BEFORE INSERT ON audit_keys
WHEN EXISTS (SELECT 1 FROM audit_keys)
BEGIN SELECT raise(ABORT, 'audit_keys only grows'); END;

PRAGMA user_version = 3;

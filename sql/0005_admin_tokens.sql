-- SPDX-License-Identifier: Apache-2.0
-- Who may use the admin listener. A token is never stored: `hash` is keyed with the pepper and
-- covers role, team and expiry too, so an edited row fits no token.

CREATE TABLE admin_tokens (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE, -- for good: what it did stands in the audit log
    role          TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    team          TEXT NOT NULL, -- '': all teams
    salt          BLOB NOT NULL CHECK (length(salt) = 16),
    hash          BLOB NOT NULL CHECK (length(hash) = 32),
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL, -- 0: never
    revoked_at_ms INTEGER NOT NULL  -- 0: it is not
) STRICT;

PRAGMA user_version = 5;

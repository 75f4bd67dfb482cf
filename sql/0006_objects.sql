-- SPDX-License-Identifier: Apache-2.0
-- Whose the objects are that a provider keeps for its account (responses, items, containers):
-- docs/design/008-object-owners.md.

-- Among whom they are shared.
ALTER TABLE providers ADD COLUMN objects TEXT NOT NULL DEFAULT 'project'
    CHECK (objects IN ('shared', 'team', 'project', 'key'));

-- In the order in which they were first seen. `hash` is keyed and covers the provider and the id.
CREATE TABLE objects (
    id             INTEGER PRIMARY KEY,
    hash           INTEGER NOT NULL UNIQUE,
    key_id         INTEGER NOT NULL,
    attribution_id INTEGER NOT NULL,
    seen_at_ms     INTEGER NOT NULL
) STRICT;

PRAGMA user_version = 6;

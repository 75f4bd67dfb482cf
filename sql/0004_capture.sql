-- SPDX-License-Identifier: Apache-2.0
-- Whose bodies are captured, and where the captured ones stand.

-- `subject_id` is that of a key, `subject` the name of a team; what does not apply is 0 or ''.
CREATE TABLE capture_scopes (
    scope         TEXT NOT NULL CHECK (scope IN ('key', 'team')),
    subject_id    INTEGER NOT NULL,
    subject       TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, subject_id, subject)
) STRICT, WITHOUT ROWID;

-- Lines of the day files. Usage and what was captured go at different times: neither points at the
-- other.
CREATE TABLE capture_index (
    usage_id INTEGER PRIMARY KEY,
    day      INTEGER NOT NULL, -- days since 1970, UTC
    position INTEGER NOT NULL, -- bytes into the file of that day
    size     INTEGER NOT NULL  -- of the line, without its end
) STRICT;
CREATE INDEX capture_index_day ON capture_index (day);

PRAGMA user_version = 4;

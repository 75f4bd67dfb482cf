-- SPDX-License-Identifier: Apache-2.0
-- What decides about an exchange before money is spent, and what later says that the money was
-- another: budgets, limits, what a key may do, contract prices, corrections. Limits and prices of 0
-- are none.

-- `subject_id` is that of a key or a provider, `subject` the name of a team or a project; what does
-- not apply is 0 or ''. A period is one of the calendar of `time_zone`.
CREATE TABLE budgets (
    id            INTEGER PRIMARY KEY,
    scope         TEXT NOT NULL CHECK (scope IN ('key', 'team', 'project', 'provider', 'all')),
    subject_id    INTEGER NOT NULL,
    subject       TEXT NOT NULL,
    period        TEXT NOT NULL CHECK (period IN ('day', 'week', 'month', 'total')),
    cap_nano_usd  INTEGER NOT NULL CHECK (cap_nano_usd >= 0),
    mode          TEXT NOT NULL CHECK (mode IN ('strict', 'learned', 'soft')),
    time_zone     TEXT NOT NULL DEFAULT 'UTC',
    thresholds    TEXT NOT NULL, -- "50,80,100": percent of the cap, ascending
    is_shadow     INTEGER NOT NULL,
    cuts_streams  INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    UNIQUE (scope, subject_id, subject, period)
) STRICT;

-- The thresholds that fired. The start of the one period of 'total' is the smallest integer.
CREATE TABLE budget_alerts (
    budget_id       INTEGER NOT NULL REFERENCES budgets (id) ON DELETE CASCADE,
    period_start_ms INTEGER NOT NULL,
    percent         INTEGER NOT NULL,
    fired_at_ms     INTEGER NOT NULL,
    spent_nano_usd  INTEGER NOT NULL,
    cap_nano_usd    INTEGER NOT NULL, -- of that moment
    PRIMARY KEY (budget_id, period_start_ms, percent)
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_alerts_fired ON budget_alerts (fired_at_ms);

-- What few keys have; a key without a row has the defaults. Not columns of wrapped_keys: a start
-- that reads a million keys took a third longer with them (measured).
CREATE TABLE key_policies (
    key_id                 INTEGER PRIMARY KEY REFERENCES wrapped_keys (id) ON DELETE CASCADE,
    label                  TEXT NOT NULL,
    deny_models            TEXT NOT NULL,
    model_map              TEXT NOT NULL, -- "from=to,from=to"
    models_shadow          INTEGER NOT NULL,
    unknown_model          TEXT NOT NULL CHECK (unknown_model IN ('', 'deny', 'ceiling', 'flag')),
    ceiling_input_nano_usd INTEGER NOT NULL, -- for a million tokens
    ceiling_output_nano_usd INTEGER NOT NULL,
    allow_cidrs            TEXT NOT NULL,
    on_client_abort        TEXT NOT NULL CHECK (on_client_abort IN ('cancel', 'drain')),
    budget_status          INTEGER NOT NULL CHECK (budget_status IN (0, 402, 403, 429)),
    rpm                    INTEGER NOT NULL,
    tpm                    INTEGER NOT NULL,
    concurrency            INTEGER NOT NULL,
    limits_shadow          INTEGER NOT NULL,
    previous_salt          BLOB NOT NULL, -- of the secret that a rotation replaced
    previous_hash          BLOB NOT NULL,
    previous_expires_at_ms INTEGER NOT NULL -- 0: there is none
) STRICT;

CREATE TABLE team_limits (
    team          TEXT PRIMARY KEY,
    rpm           INTEGER NOT NULL,
    tpm           INTEGER NOT NULL,
    concurrency   INTEGER NOT NULL,
    is_shadow     INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE providers ADD COLUMN unknown_model TEXT NOT NULL DEFAULT ''
    CHECK (unknown_model IN ('', 'deny', 'ceiling', 'flag'));
ALTER TABLE providers ADD COLUMN ceiling_input_nano_usd INTEGER NOT NULL DEFAULT 0;
ALTER TABLE providers ADD COLUMN ceiling_output_nano_usd INTEGER NOT NULL DEFAULT 0;

-- What a team or a project spent is asked at each start, for each of its budgets.
CREATE INDEX attributions_project ON attributions (project);
CREATE INDEX usage_hourly_attribution ON usage_hourly (attribution_id, hour);

-- Contract prices. `prices` is a JSON object in the shape of an entry of conf/prices.json.
CREATE TABLE price_overrides (
    id            INTEGER PRIMARY KEY,
    provider_id   INTEGER NOT NULL, -- 0: every provider
    model         TEXT NOT NULL,
    prices        TEXT NOT NULL,
    valid_from_ms INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    UNIQUE (provider_id, model, valid_from_ms)
) STRICT;

-- A usage row is never edited: its cost is that of its newest correction, where it has one.
-- usage_hourly holds corrected costs.
CREATE TABLE usage_corrections (
    id                   INTEGER PRIMARY KEY,
    usage_id             INTEGER NOT NULL,
    corrected_at_ms      INTEGER NOT NULL,
    cost_before_nano_usd INTEGER, -- NULL: no price was known
    cost_after_nano_usd  INTEGER NOT NULL,
    catalogue            TEXT NOT NULL
) STRICT;
CREATE INDEX usage_corrections_usage ON usage_corrections (usage_id);
CREATE TRIGGER usage_corrections_update BEFORE UPDATE ON usage_corrections
BEGIN SELECT raise(ABORT, 'usage_corrections only grows'); END;
CREATE TRIGGER usage_corrections_delete BEFORE DELETE ON usage_corrections
BEGIN SELECT raise(ABORT, 'usage_corrections only grows'); END;

PRAGMA user_version = 2;

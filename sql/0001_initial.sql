-- SPDX-License-Identifier: Apache-2.0
-- The first schema. Times are milliseconds since 1970 in UTC, money is nano-USD, names are unique
-- where a person uses them. Migrations run inside a transaction that src/store/store.c opens; the
-- last line belongs to it.

-- Values sealed by the vault that are no credentials: 'sentinel' proves the master key, 'pepper'
-- keys the hashes of wrapped keys.
CREATE TABLE vault_values (
    kind        TEXT PRIMARY KEY,
    key_version INTEGER NOT NULL,
    sealed      BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- A deleted provider keeps its row, without its credential, because usage rows name it for ever.
CREATE TABLE providers (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL,
    type          TEXT NOT NULL,
    base_url      TEXT NOT NULL,
    enabled       INTEGER NOT NULL,
    injects_usage INTEGER NOT NULL,
    key_version   INTEGER NOT NULL,
    sealed        BLOB NOT NULL,
    key_hint      TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    deleted_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX providers_name ON providers (name) WHERE deleted_at_ms IS NULL;

-- Who spends. Immutable and shared: a key that moves to another team points at another row, and the
-- usage rows keep naming the team that held when they were spent.
CREATE TABLE attributions (
    id      INTEGER PRIMARY KEY,
    team    TEXT NOT NULL,
    project TEXT NOT NULL,
    env     TEXT NOT NULL,
    service TEXT NOT NULL,
    tags    TEXT NOT NULL,
    UNIQUE (team, project, env, service, tags)
) STRICT;

CREATE TABLE wrapped_keys (
    id             INTEGER PRIMARY KEY,
    public_id      TEXT NOT NULL UNIQUE,
    name           TEXT NOT NULL UNIQUE,
    slug           TEXT NOT NULL,
    salt           BLOB NOT NULL,
    hash           BLOB NOT NULL,
    status         TEXT NOT NULL CHECK (status IN ('active', 'disabled', 'revoked')),
    revoke_reason  TEXT NOT NULL, -- of whatever status it has
    expires_at_ms  INTEGER NOT NULL,
    models         TEXT NOT NULL,
    attribution_id INTEGER NOT NULL REFERENCES attributions (id),
    created_at_ms  INTEGER NOT NULL,
    updated_at_ms  INTEGER NOT NULL
) STRICT;

CREATE TABLE key_providers (
    key_id      INTEGER NOT NULL REFERENCES wrapped_keys (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    provider_id INTEGER NOT NULL REFERENCES providers (id),
    PRIMARY KEY (key_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_providers_provider ON key_providers (provider_id);

-- Imported price lists; the one with the greatest id is in force.
CREATE TABLE catalogues (
    id             INTEGER PRIMARY KEY,
    version        TEXT NOT NULL UNIQUE,
    imported_at_ms INTEGER NOT NULL,
    document       TEXT NOT NULL
) STRICT;

-- Words that usage rows repeat: models, user agents, endpoints, grades.
CREATE TABLE texts (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO texts (id, text) VALUES (0, '');

-- What many exchanges have in common, so that each of their rows holds one number for all of it.
-- The text columns point into `texts`.
CREATE TABLE usage_kinds (
    id           INTEGER PRIMARY KEY,
    dialect      INTEGER NOT NULL,
    endpoint     INTEGER NOT NULL,
    grade        INTEGER NOT NULL,
    end_reason   INTEGER NOT NULL,
    tier         INTEGER NOT NULL,
    model_asked  INTEGER NOT NULL,
    model_sent   INTEGER NOT NULL,
    model_served INTEGER NOT NULL,
    user_agent   INTEGER NOT NULL,
    rule         INTEGER NOT NULL,
    catalogue    INTEGER NOT NULL,
    status       INTEGER NOT NULL,
    is_stream    INTEGER NOT NULL,
    us_region    INTEGER NOT NULL, -- these three decide the price with the tier
    eu_region    INTEGER NOT NULL,
    is_fast      INTEGER NOT NULL,
    UNIQUE (model_sent, user_agent, endpoint, status, model_asked, model_served, dialect, grade,
            end_reason, tier, rule, catalogue, is_stream, us_region, eu_region, is_fast)
) STRICT;

-- One row an exchange, under the exchange's id, which grows with time. No foreign keys: a row comes
-- from the journal after the money was spent, and nothing may refuse it. The columns with a default
-- are those that most rows have no value for.
CREATE TABLE usage (
    id             INTEGER PRIMARY KEY,
    started_at_ms  INTEGER NOT NULL,
    key_id         INTEGER NOT NULL,
    attribution_id INTEGER NOT NULL,
    provider_id    INTEGER NOT NULL,
    kind_id        INTEGER NOT NULL, -- of usage_kinds
    input_tokens      INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    output_tokens     INTEGER NOT NULL,
    reasoning_tokens  INTEGER NOT NULL,
    latency_us     INTEGER NOT NULL,
    first_byte_us  INTEGER NOT NULL, -- -1: no answer
    added_us       INTEGER NOT NULL,
    request_bytes  INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    cost_nano_usd  INTEGER, -- NULL: no price was known
    upstream_id    TEXT NOT NULL,
    cache_write_5m_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0,
    audio_in_tokens       INTEGER NOT NULL DEFAULT 0,
    image_in_tokens       INTEGER NOT NULL DEFAULT 0,
    audio_out_tokens      INTEGER NOT NULL DEFAULT 0,
    image_out_tokens      INTEGER NOT NULL DEFAULT 0,
    searches              INTEGER NOT NULL DEFAULT 0,
    stated_cost_nano_usd  INTEGER DEFAULT NULL, -- by the provider; NULL: it stated none
    client_address        TEXT NOT NULL DEFAULT ''
) STRICT;

-- What few rows have beside: sound, images and video, and other models' share of the cost. A column
-- of `usage` costs every row, also where it holds nothing.
CREATE TABLE usage_media (
    usage_id                INTEGER PRIMARY KEY,
    cache_read_audio_tokens INTEGER NOT NULL, -- these two of cache_read_tokens
    cache_read_image_tokens INTEGER NOT NULL,
    video_in_tokens         INTEGER NOT NULL, -- of image_in_tokens
    video_out_tokens        INTEGER NOT NULL, -- of image_out_tokens
    audio_ms                INTEGER NOT NULL, -- of the input
    characters              INTEGER NOT NULL, -- of a text that was spoken
    images                  INTEGER NOT NULL, -- made
    image_width             INTEGER NOT NULL, -- asked for; 0: none was
    image_height            INTEGER NOT NULL,
    image_quality           TEXT NOT NULL,
    side_cost_nano_usd      INTEGER NOT NULL -- of cost_nano_usd
) STRICT;
CREATE TRIGGER usage_deleted AFTER DELETE ON usage BEGIN
    DELETE FROM usage_media WHERE usage_id = OLD.id;
END;

-- No index of all rows by time: an id has the milliseconds since 2025 in front (base/id.h), so that
-- a time is a range of ids. This one has the exceptions, whose id says another time than that of
-- their start and the 10 s after: ids never go back when the clock does. An index by key would halve
-- the rate of inserts; lists of one key find their hours in usage_hourly instead.
CREATE INDEX usage_astray ON usage (started_at_ms)
    WHERE (id >> 22) - started_at_ms NOT BETWEEN -1735689600000 AND -1735689590000;
CREATE INDEX usage_unpriced ON usage (provider_id, kind_id, started_at_ms)
    WHERE cost_nano_usd IS NULL;

-- What reports read. Written in the transaction of the rows it sums, and only for rows that were
-- new. `errors`: answered with a status of 400 or more, or not answered to the end. Every sum stops
-- at 2^60, so that seven of them can be added without leaving the integers.
CREATE TABLE usage_hourly (
    hour           INTEGER NOT NULL, -- hours since 1970
    key_id         INTEGER NOT NULL,
    attribution_id INTEGER NOT NULL,
    provider_id    INTEGER NOT NULL,
    model          INTEGER NOT NULL, -- the one sent
    requests       INTEGER NOT NULL,
    errors         INTEGER NOT NULL,
    unpriced       INTEGER NOT NULL,
    input_tokens          INTEGER NOT NULL,
    cache_read_tokens     INTEGER NOT NULL,
    cache_write_5m_tokens INTEGER NOT NULL,
    cache_write_1h_tokens INTEGER NOT NULL,
    audio_in_tokens       INTEGER NOT NULL,
    image_in_tokens       INTEGER NOT NULL,
    output_tokens         INTEGER NOT NULL,
    reasoning_tokens      INTEGER NOT NULL,
    audio_out_tokens      INTEGER NOT NULL,
    image_out_tokens      INTEGER NOT NULL,
    searches       INTEGER NOT NULL,
    cost_nano_usd  INTEGER NOT NULL,
    PRIMARY KEY (hour, key_id, attribution_id, provider_id, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_hourly_key ON usage_hourly (key_id, hour);

-- Usage with names in place of ids, for lists and for people with a shell. `output_us`: the time in
-- which output was made; of a stream, from its first byte on.
CREATE VIEW usage_named AS
SELECT u.*,
       c.dialect,
       c.endpoint,
       c.grade,
       c.end_reason,
       c.tier,
       c.model_asked,
       c.model_sent,
       c.model_served,
       c.user_agent,
       c.rule,
       c.catalogue,
       c.status,
       c.is_stream,
       c.us_region,
       c.eu_region,
       c.is_fast,
       ifnull(m.cache_read_audio_tokens, 0) AS cache_read_audio_tokens,
       ifnull(m.cache_read_image_tokens, 0) AS cache_read_image_tokens,
       ifnull(m.video_in_tokens, 0) AS video_in_tokens,
       ifnull(m.video_out_tokens, 0) AS video_out_tokens,
       ifnull(m.audio_ms, 0) AS audio_ms,
       ifnull(m.characters, 0) AS characters,
       ifnull(m.images, 0) AS images,
       ifnull(m.image_width, 0) AS image_width,
       ifnull(m.image_height, 0) AS image_height,
       ifnull(m.image_quality, 'auto') AS image_quality,
       ifnull(m.side_cost_nano_usd, 0) AS side_cost_nano_usd,
       ifnull(k.name, '') AS key_name,
       ifnull(a.team, '') AS team,
       ifnull(a.project, '') AS project,
       ifnull(a.env, '') AS env,
       ifnull(a.service, '') AS service,
       ifnull(a.tags, '') AS tags,
       ifnull(p.name, '') AS provider_name,
       sent.text AS model_sent_name,
       asked.text AS model_asked_name,
       served.text AS model_served_name,
       dialect.text AS dialect_name,
       endpoint.text AS endpoint_name,
       grade.text AS grade_name,
       reason.text AS end_reason_name,
       tier.text AS tier_name,
       agent.text AS user_agent_name,
       rule.text AS rule_name,
       catalogue.text AS catalogue_name,
       u.output_tokens + u.reasoning_tokens + u.audio_out_tokens + u.image_out_tokens
           AS all_output_tokens,
       u.latency_us - iif(c.is_stream AND u.first_byte_us > 0, u.first_byte_us, 0) AS output_us,
       -- The condition of usage_astray, word for word.
       (u.id >> 22) - u.started_at_ms NOT BETWEEN -1735689600000 AND -1735689590000 AS is_astray
FROM usage u
     JOIN usage_kinds c ON c.id = u.kind_id
     LEFT JOIN usage_media m ON m.usage_id = u.id
     LEFT JOIN wrapped_keys k ON k.id = u.key_id
     LEFT JOIN attributions a ON a.id = u.attribution_id
     LEFT JOIN providers p ON p.id = u.provider_id
     LEFT JOIN texts sent ON sent.id = c.model_sent
     LEFT JOIN texts asked ON asked.id = c.model_asked
     LEFT JOIN texts served ON served.id = c.model_served
     LEFT JOIN texts dialect ON dialect.id = c.dialect
     LEFT JOIN texts endpoint ON endpoint.id = c.endpoint
     LEFT JOIN texts grade ON grade.id = c.grade
     LEFT JOIN texts reason ON reason.id = c.end_reason
     LEFT JOIN texts tier ON tier.id = c.tier
     LEFT JOIN texts agent ON agent.id = c.user_agent
     LEFT JOIN texts rule ON rule.id = c.rule
     LEFT JOIN texts catalogue ON catalogue.id = c.catalogue;

CREATE VIEW usage_hourly_named AS
SELECT h.*,
       ifnull(k.name, '') AS key_name,
       ifnull(a.team, '') AS team,
       ifnull(a.project, '') AS project,
       ifnull(a.env, '') AS env,
       ifnull(a.service, '') AS service,
       ifnull(p.name, '') AS provider_name,
       ifnull(m.text, '') AS model_name,
       date(h.hour * 3600, 'unixepoch') AS day_name,
       strftime('%Y-%m-%dT%H:00:00Z', h.hour * 3600, 'unixepoch') AS hour_name,
       h.input_tokens + h.cache_read_tokens + h.cache_write_5m_tokens + h.cache_write_1h_tokens
           + h.audio_in_tokens + h.image_in_tokens AS all_input_tokens,
       h.output_tokens + h.reasoning_tokens + h.audio_out_tokens + h.image_out_tokens
           AS all_output_tokens
FROM usage_hourly h
     LEFT JOIN wrapped_keys k ON k.id = h.key_id
     LEFT JOIN attributions a ON a.id = h.attribution_id
     LEFT JOIN providers p ON p.id = h.provider_id
     LEFT JOIN texts m ON m.id = h.model;

PRAGMA application_id = 1667785072; -- "chap"
PRAGMA user_version = 1;

// SPDX-License-Identifier: Apache-2.0
// Reading usage back as JSON: rows, summaries, unpriced models. On the read-only connection.
#ifndef CH_STORE_USAGE_QUERY_H
#define CH_STORE_USAGE_QUERY_H

#include "store/store.h"

#include <jansson.h>

struct ch_usage_filter {
    int64_t from_ms, to_ms;                                    // half-open [from, to); 0: open
    const char *key, *team, *project, *env, *model, *provider; // exact; NULL: any
    // Of lists only. Rows of refused exchanges; rows of exchanges that a rule would have refused,
    // had it not only watched; both: either. Neither: all rows.
    bool is_denied, is_shadow;
    int64_t after_id; // rows with a greater id only (tail); 0: all
    int64_t limit; // highest id first, at most this many (with after_id: lowest first); see below
};

// Rows in one answer, whatever `limit` says (0 means this): a longer list is paged through with
// after_id.
#define CH_USAGE_LIST_MAX 10000

// {"schema":"chaperone.usage/1","items":[…]}, one member per column of design.md §6:
//   "id" ("req_…"), "at" (RFC 3339), "key", "team", "project", "env", "service", "tags",
//   "provider", "dialect", "endpoint", "model_asked", "model_sent", "model_served", "status",
//   "is_stream", "end_reason", "grade", "input_tokens", "cache_read_tokens",
//   "cache_write_5m_tokens", "cache_write_1h_tokens", "audio_in_tokens", "image_in_tokens",
//   "output_tokens", "reasoning_tokens", "audio_out_tokens", "image_out_tokens", "searches",
//   "cache_read_audio_tokens", "cache_read_image_tokens" (of "cache_read_tokens"),
//   "video_in_tokens", "video_out_tokens" (of the image tokens), "audio_ms" (of the input),
//   "characters" (spoken), "images" (made), "image_width", "image_height" (null: not asked for),
//   "image_quality", "side_cost_nano_usd" (of the cost: other models that worked for the exchange),
//   "tier", "cost_nano_usd" (integer, null when unpriced), "cost_usd" (decimal string, null when
//   unpriced), "catalogue", "latency_us", "first_byte_us" (null: no answer), "added_us",
//   "tokens_per_second" (null: no time to measure), "request_bytes", "response_bytes",
//   "upstream_id", "user_agent", "client_address", "rule" (of a refusal, or "shadow:…"),
//   "is_corrected". Cost and catalogue are those of the newest correction, where there is one.
enum ch_err ch_usage_list(struct ch_store *store, const struct ch_usage_filter *filter,
                          json_t **json_out, struct ch_why *why) CH_MUST_USE;

// One row as an item of ch_usage_list, committed by now (ch_usage_writer_flush). CH_ERR_NOT_FOUND.
enum ch_err ch_usage_find(struct ch_store *store, int64_t id, json_t **row_out,
                          struct ch_why *why) CH_MUST_USE;

// Sums by up to three of key, team, project, env, service, model, provider, day, hour (UTC), from
// the hourly rollups, in the order of these dimensions; `from` and `to` are widened to whole hours.
// {"schema":"chaperone.usage_summary/1","by":[…],"items":[…],"total":{…}}; an item has its
//   dimensions and, like the total, "requests", "errors", "input_tokens" (all input classes),
//   "cached_tokens", "output_tokens" (all output classes), "cost_nano_usd", "cost_usd",
//   "unpriced_requests".
// CH_ERR_INVALID names an unknown dimension.
enum ch_err ch_usage_summary(struct ch_store *store, const struct ch_usage_filter *filter,
                             const char *by, json_t **json_out, struct ch_why *why) CH_MUST_USE;

// Models that were used without a price: {"schema":"chaperone.unpriced/1","items":[…]}, an item
//   with "provider", "model", "requests", "first_at", "last_at".
enum ch_err ch_usage_unpriced(struct ch_store *store, json_t **json_out,
                              struct ch_why *why) CH_MUST_USE;

#endif

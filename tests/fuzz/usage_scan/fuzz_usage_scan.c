// SPDX-License-Identifier: Apache-2.0
// Any bytes as the answer of a provider: cut anywhere, the same usage is read, and no count is
// negative or absurd. The first byte chooses the form and whether it is a stream, the second is the
// size of the pieces.
#include "wire/usage_scan.h"

#include "wire/sse.h"

#define COUNT_MAX INT64_C(2000000000000) // a total and what compaction adds to it

static void on_data(void *arg, struct ch_span piece)
{
    ch_usage_scan_feed(arg, piece);
}

static void on_event(void *arg, struct ch_span name)
{
    ch_usage_scan_end_document(arg, name);
}

static void feed(struct ch_usage_scan *scan, struct ch_sse *sse, struct ch_span piece)
{
    static const struct ch_sse_handler handler = {on_data, on_event};
    bool block_end;
    if (!sse)
        ch_usage_scan_feed(scan, piece);
    while (sse && piece.len)
        piece = ch_span_sub(piece, ch_sse_feed(sse, piece, &handler, scan, &block_end));
}

static void scan_in_pieces(struct ch_usage_scan *scan, enum ch_usage_form form, bool is_stream,
                           struct ch_span answer, size_t size)
{
    static struct ch_usage_plans *plans;
    struct ch_sse sse;
    if (!plans)
        CH_ASSERT(!ch_usage_plans_new(&plans));
    ch_usage_scan_init(scan, plans, form);
    ch_sse_init(&sse);
    for (size_t at = 0; at < answer.len; at += size) {
        size_t len = answer.len - at < size ? answer.len - at : size;
        feed(scan, is_stream ? &sse : NULL, (struct ch_span){answer.ptr + at, len});
    }
    ch_usage_scan_end_document(scan, CH_SPAN(""));
}

static void check_same(const struct ch_usage_scan *a, const struct ch_usage_scan *b)
{
    CH_ASSERT(memcmp(a->raw.slot, b->raw.slot, sizeof a->raw.slot) == 0);
    CH_ASSERT(a->raw.tier == b->raw.tier && a->raw.stated_cost_nano == b->raw.stated_cost_nano);
    CH_ASSERT(strcmp(a->model_served, b->model_served) == 0);
    CH_ASSERT(strcmp(a->response_id, b->response_id) == 0);
    CH_ASSERT(a->delta_events == b->delta_events && a->broken_documents == b->broken_documents);
    CH_ASSERT(a->is_complete == b->is_complete && a->is_error == b->is_error);
    CH_ASSERT(a->has_choice == b->has_choice && a->has_choices == b->has_choices);
    CH_ASSERT(a->usage_is_object == b->usage_is_object);
    CH_ASSERT(a->side_count == b->side_count && a->has_lost_sides == b->has_lost_sides);
    for (unsigned i = 0; i < a->side_count; i++) {
        CH_ASSERT(strcmp(a->sides[i].model, b->sides[i].model) == 0);
        CH_ASSERT(memcmp(a->sides[i].raw.slot, b->sides[i].raw.slot, sizeof a->raw.slot) == 0);
    }
}

static void check_raw(enum ch_usage_form form, const struct ch_usage_raw *raw)
{
    struct ch_usage usage;
    for (int i = 0; i < CH_USAGE_SLOTS; i++)
        CH_ASSERT(raw->slot[i] >= -1 && raw->slot[i] <= COUNT_MAX);
    CH_ASSERT(raw->stated_cost_nano >= -1);
    ch_usage_normalise(form, raw, false, &usage);
    for (int i = 0; i < CH_TOKEN_CLASSES; i++)
        CH_ASSERT(usage.tokens[i] >= 0);
    for (int i = 0; i < CH_TOKEN_PARTS; i++) {
        int64_t whole = usage.tokens[ch_token_part_class((enum ch_token_part)i)];
        CH_ASSERT(usage.parts[i] >= 0 && usage.parts[i] <= whole);
    }
    CH_ASSERT(usage.parts[CH_PART_CACHE_READ_AUDIO] + usage.parts[CH_PART_CACHE_READ_IMAGE] <=
              usage.tokens[CH_TOKENS_CACHE_READ]);
    CH_ASSERT(usage.audio_ms >= 0 && usage.images >= 0 && usage.characters >= 0);
}

static void check_bounds(const struct ch_usage_scan *scan)
{
    check_raw(scan->form, &scan->raw);
    CH_ASSERT(scan->side_count <= CH_USAGE_SIDES_MAX);
    for (unsigned i = 0; i < scan->side_count; i++)
        check_raw(scan->sides[i].form, &scan->sides[i].raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ch_usage_scan whole, cut;
    if (size < 3)
        return 0;
    enum ch_usage_form form = (enum ch_usage_form)((data[0] >> 1) % CH_USAGE_FORMS);
    struct ch_span answer = {(const char *)data + 2, size - 2};
    scan_in_pieces(&whole, form, data[0] & 1, answer, answer.len);
    scan_in_pieces(&cut, form, data[0] & 1, answer, data[1] ? data[1] : 1);
    check_same(&whole, &cut);
    check_bounds(&whole);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Any bytes as captured text: cut anywhere, the output is the same; looking finds what scrubbing
// finds; JSON stays JSON, with the operator's patterns too. The first byte is the mode and the size
// of the pieces.
#include "domain/scrub.h"

#include <jansson.h>

static const struct ch_scrub_rules *make_rules(void)
{
    static struct ch_scrub_rules *rules;
    const struct ch_span patterns[] = {CH_SPAN("[0-9]{6,}"), CH_SPAN("(?i)acme-\\w+|\\bfoo\\b"),
                                       CH_SPAN("\"|\\\\|\xC3\xBC"), CH_SPAN("(a+)+$")};
    if (!rules)
        CH_ASSERT(!ch_scrub_rules_new(patterns, sizeof patterns / sizeof *patterns, &rules, NULL));
    return rules;
}

static unsigned scrub_in_pieces(enum ch_scrub_mode mode, struct ch_span text, size_t piece,
                                struct ch_buf *out)
{
    struct ch_scrub *scrub;
    CH_ASSERT(!ch_scrub_new(make_rules(), mode, &scrub));
    for (size_t at = 0; at < text.len; at += piece) {
        size_t len = text.len - at < piece ? text.len - at : piece;
        CH_ASSERT(!ch_scrub_feed(scrub, (struct ch_span){text.ptr + at, len}, out));
    }
    CH_ASSERT(!ch_scrub_finish(scrub, false, out));
    unsigned found = ch_scrub_found(scrub);
    ch_scrub_free(scrub);
    return found;
}

static bool is_json(struct ch_span text)
{
    json_t *json = json_loadb(text.ptr, text.len,
                              JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    json_decref(json);
    return json;
}

static void check_json(struct ch_span text, struct ch_span scrubbed)
{
    struct ch_buf out;
    struct ch_scrub_report report;
    if (!is_json(text))
        return;
    CH_ASSERT(is_json(scrubbed));
    ch_buf_init(&out, CH_SCRUB_OUT_MAX(text.len) * 7);
    CH_ASSERT(!ch_scrub_text(make_rules(), CH_SCRUB_JSON, text, false, &out, &report));
    CH_ASSERT(is_json(ch_buf_span(&out)));
    ch_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    enum ch_scrub_mode mode = (enum ch_scrub_mode)(data[0] % 3);
    size_t piece = data[0] / 3 + 1;
    struct ch_span text = {(const char *)data + 1, size - 1};
    struct ch_buf whole, cut, bytes;
    ch_buf_init(&whole, CH_SCRUB_OUT_MAX(text.len));
    ch_buf_init(&cut, CH_SCRUB_OUT_MAX(text.len));
    ch_buf_init(&bytes, CH_SCRUB_OUT_MAX(text.len));
    unsigned found = scrub_in_pieces(mode, text, text.len, &whole);
    CH_ASSERT(scrub_in_pieces(mode, text, piece, &cut) == found);
    CH_ASSERT(scrub_in_pieces(mode, text, 1, &bytes) == found);
    CH_ASSERT(ch_scrub_look(make_rules(), mode, text) == found);
    CH_ASSERT(ch_span_eq(ch_buf_span(&whole), ch_buf_span(&cut)));
    CH_ASSERT(ch_span_eq(ch_buf_span(&whole), ch_buf_span(&bytes)));
    if (mode == CH_SCRUB_JSON)
        check_json(text, ch_buf_span(&whole));
    ch_buf_fini(&whole);
    ch_buf_fini(&cut);
    ch_buf_fini(&bytes);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "wire/usage_scan.h"

#include "wire/sse.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct ch_usage_plans *plans;

static int build_plans(void **state)
{
    (void)state;
    return ch_usage_plans_new(&plans) != CH_OK;
}

static int free_plans(void **state)
{
    (void)state;
    ch_usage_plans_free(plans);
    return 0;
}

// What the scan knows, as text: "input=5 output=1 | standard complete", in a fixed order.
struct story {
    char text[1024];
    size_t len;
};

static void tell(struct story *story, const char *format, ...) CH_PRINTF(2, 3);
static void tell(struct story *story, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(story->text + story->len, sizeof story->text - story->len, format, args);
    va_end(args);
    assert_true(len >= 0 && (size_t)len < sizeof story->text - story->len);
    story->len += (size_t)len;
}

// " [claude-opus-5 in=5 out=2]"
static void tell_side(struct story *story, const struct ch_usage_side *side)
{
    static const struct {
        enum ch_usage_slot slot;
        const char *name;
    } slots[] = {{CH_SLOT_INPUT, "in"},          {CH_SLOT_OUTPUT, "out"},
                 {CH_SLOT_CACHED, "cached"},     {CH_SLOT_CACHE_WRITE, "write"},
                 {CH_SLOT_CACHE_WRITE_1H, "1h"}, {CH_SLOT_REASONING, "reasoning"},
                 {CH_SLOT_AUDIO_IN, "audio"},    {CH_SLOT_IMAGE_IN, "image"},
                 {CH_SLOT_AUDIO_MS, "ms"}};
    tell(story, " [%s", side->model);
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (side->raw.slot[slots[i].slot] > 0)
            tell(story, " %s=%" PRId64, slots[i].name, side->raw.slot[slots[i].slot]);
    tell(story, "]");
}

static void tell_scan(struct story *story, const struct ch_usage_scan *scan)
{
    static const char *const slots[CH_USAGE_SLOTS] = {
        "input",        "output",       "total",     "cached",    "write",     "write_5m",
        "write_1h",     "reasoning",    "audio_in",  "image_in",  "video_in",  "audio_cached",
        "image_cached", "video_cached", "audio_out", "image_out", "video_out", "tool",
        "hit",          "searches",     "audio_ms",  "chars",     "images"};
    story->len = 0;
    for (int i = 0; i < CH_USAGE_SLOTS; i++)
        if (scan->raw.slot[i] != -1)
            tell(story, "%s=%" PRId64 " ", slots[i], scan->raw.slot[i]);
    if (scan->raw.stated_cost_nano != -1)
        tell(story, "nano=%" PRId64 " ", scan->raw.stated_cost_nano);
    tell(story, "| %s", ch_tier_name(scan->raw.tier));
    if (scan->raw.us_region)
        tell(story, " us");
    if (scan->raw.is_fast)
        tell(story, " fast");
    if (scan->delta_events)
        tell(story, " deltas=%" PRId64, scan->delta_events);
    if (scan->broken_documents)
        tell(story, " broken=%" PRId64, scan->broken_documents);
    for (unsigned i = 0; i < scan->side_count; i++)
        tell_side(story, &scan->sides[i]);
    if (scan->has_lost_sides)
        tell(story, " lost");
    if (scan->is_error)
        tell(story, " error");
    if (scan->is_complete)
        tell(story, " complete");
}

static void on_data(void *arg, struct ch_span piece)
{
    ch_usage_scan_feed(arg, piece);
}

static void on_event(void *arg, struct ch_span name)
{
    ch_usage_scan_end_document(arg, name);
}

static const struct ch_sse_handler handler = {on_data, on_event};

static void feed_sse(struct ch_usage_scan *scan, struct ch_sse *sse, struct ch_span piece)
{
    bool block_end;
    while (piece.len)
        piece = ch_span_sub(piece, ch_sse_feed(sse, piece, &handler, scan, &block_end));
}

// Feeds a response in pieces of a size; what begins with '{', '[' or a blank is a plain body.
static void observe(struct ch_usage_scan *scan, enum ch_usage_form form, const char *response,
                    size_t size)
{
    struct ch_sse sse;
    struct ch_span text = ch_span_of(response);
    bool is_plain = text.len == 0 || strchr("{[ \n", text.ptr[0]) != NULL;
    memset(scan, 0xA5, sizeof *scan);
    ch_usage_scan_init(scan, plans, form);
    ch_sse_init(&sse);
    for (size_t at = 0; at < text.len; at += size) {
        struct ch_span piece = {text.ptr + at, text.len - at < size ? text.len - at : size};
        if (is_plain)
            ch_usage_scan_feed(scan, piece);
        else
            feed_sse(scan, &sse, piece);
    }
    if (is_plain)
        ch_usage_scan_end_document(scan, CH_SPAN(""));
}

// The story is the same whatever the pieces.
static void expect(enum ch_usage_form form, const char *response, const char *expected)
{
    static struct ch_usage_scan scan;
    struct story story;
    size_t len = strlen(response);
    for (size_t size = 1; size <= len; size += size < 40 ? 1 : len / 7 + 1) {
        observe(&scan, form, response, size);
        tell_scan(&story, &scan);
        assert_string_equal(story.text, expected);
    }
    observe(&scan, form, response, len ? len : 1);
    tell_scan(&story, &scan);
    assert_string_equal(story.text, expected);
}

static const struct ch_usage_scan *observed(enum ch_usage_form form, const char *response)
{
    static struct ch_usage_scan scan;
    observe(&scan, form, response, 5);
    return &scan;
}

// --- OpenAI chat -----------------------------------------------------------------------------

static void reads_a_chat_body(void **state)
{
    (void)state;
    const char *body =
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"model\":\"gpt-4o-2024-08-06\","
        "\"service_tier\":\"flex\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
        "\"content\":\"hi\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":2006,"
        "\"completion_tokens\":300,\"total_tokens\":2306,\"prompt_tokens_details\":{"
        "\"cached_tokens\":1920,\"cache_write_tokens\":7,\"audio_tokens\":3,\"image_tokens\":4},"
        "\"completion_tokens_details\":{\"reasoning_tokens\":5,\"audio_tokens\":6,"
        "\"accepted_prediction_tokens\":1,\"rejected_prediction_tokens\":2}}}";
    expect(CH_USAGE_OPENAI_CHAT, body,
           "input=2006 output=300 total=2306 cached=1920 write=7 reasoning=5 audio_in=3 image_in=4 "
           "audio_out=6 | flex complete");
    const struct ch_usage_scan *scan = observed(CH_USAGE_OPENAI_CHAT, body);
    assert_string_equal(scan->model_served, "gpt-4o-2024-08-06");
    assert_string_equal(scan->response_id, "chatcmpl-1");
}

#define CHUNK(choices, rest)                                                                       \
    "data: "                                                                                       \
    "{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":"        \
    "[" choices "]" rest "}\n\n"
#define DELTA(inside)  "{\"index\":0,\"delta\":{" inside "},\"finish_reason\":null}"
#define STOP           "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}"
#define USAGE(in, out) ",\"usage\":{\"prompt_tokens\":" in ",\"completion_tokens\":" out "}"

static void reads_a_chat_stream(void **state)
{
    (void)state;
    expect(CH_USAGE_OPENAI_CHAT,
           CHUNK(DELTA("\"role\":\"assistant\",\"content\":\"\""), ",\"usage\":null")
               CHUNK(DELTA("\"content\":\"Hel\""), ",\"usage\":null")
                   CHUNK(DELTA("\"content\":\"lo\""), ",\"usage\":null") CHUNK(STOP, "")
                       CHUNK("", USAGE("5", "2")) "data: [DONE]\n\n",
           "input=5 output=2 | standard deltas=2 complete");
    // Cut before the usage came.
    expect(CH_USAGE_OPENAI_CHAT,
           CHUNK(DELTA("\"content\":\"Hel\""), ",\"usage\":null") CHUNK(STOP, ",\"usage\":null"),
           "| standard deltas=1");
    expect(CH_USAGE_OPENAI_CHAT, CHUNK(DELTA("\"content\":\"x\""), "") "data: [DONE]\n\n",
           "| standard deltas=1");
}

static void counts_generated_content_only(void **state)
{
    (void)state;
    static const char *const generated[] = {
        "\"content\":\"x\"",         "\"reasoning_content\":\"x\"",          "\"reasoning\":\"x\"",
        "\"refusal\":\"x\"",         "\"tool_calls\":[{\"index\":0}]",       "\"function_call\":{}",
        "\"audio\":{\"data\":\"\"}", "\"content\":[{\"type\":\"thinking\"}]"};
    static const char *const none[] = {"", "\"role\":\"assistant\"", "\"content\":\"\"",
                                       "\"content\":null", "\"tool_calls\":[]"};
    char event[256];
    for (size_t i = 0; i < sizeof generated / sizeof *generated; i++) {
        snprintf(event, sizeof event, "data: {\"choices\":[{\"delta\":{%s}}]}\n\n", generated[i]);
        assert_int_equal(observed(CH_USAGE_OPENAI_CHAT, event)->delta_events, 1);
    }
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        snprintf(event, sizeof event, "data: {\"choices\":[{\"delta\":{%s}}]}\n\n", none[i]);
        assert_int_equal(observed(CH_USAGE_OPENAI_CHAT, event)->delta_events, 0);
    }
    expect(CH_USAGE_OPENAI_CHAT, "data: {\"choices\":[{\"text\":\"a\"},{\"text\":\"b\"}]}\n\n",
           "| standard deltas=1"); // completions; one event is one event
}

// vLLM's continuous_usage_stats: running usage in every chunk is not final (wire.md §2.6).
static void takes_running_usage_for_partial(void **state)
{
    (void)state;
    expect(CH_USAGE_OPENAI_CHAT,
           CHUNK(DELTA("\"content\":\"a\""), USAGE("5", "1"))
               CHUNK(DELTA("\"content\":\"b\""), USAGE("5", "2")),
           "input=5 output=2 | standard deltas=2");
    expect(CH_USAGE_OPENAI_CHAT,
           CHUNK(DELTA("\"content\":\"a\""), USAGE("5", "1")) "data: [DONE]\n\n",
           "input=5 output=1 | standard deltas=1 complete");
    // Mistral, OpenRouter: usage in the last chunk, with or behind the reason to stop.
    expect(CH_USAGE_OPENAI_CHAT, CHUNK(STOP, USAGE("5", "3")),
           "input=5 output=3 | standard complete");
    expect(CH_USAGE_OPENAI_CHAT, CHUNK(STOP, "") CHUNK(DELTA("\"content\":\"\""), USAGE("5", "3")),
           "input=5 output=3 | standard complete");
}

static void reads_what_compatible_servers_add(void **state)
{
    (void)state;
    expect(CH_USAGE_OPENAI_CHAT, // DeepSeek
           CHUNK(STOP, ",\"usage\":{\"prompt_tokens\":1234,\"completion_tokens\":56,"
                       "\"prompt_cache_hit_tokens\":512,\"prompt_cache_miss_tokens\":722}"),
           "input=1234 output=56 hit=512 | standard complete");
    expect(CH_USAGE_OPENAI_CHAT, // Groq
           CHUNK(STOP, ",\"x_groq\":{\"id\":\"req_1\",\"usage\":{\"queue_time\":0.02,"
                       "\"prompt_tokens\":18,\"completion_tokens\":30,\"total_tokens\":48,"
                       "\"prompt_time\":0.001}}"),
           "input=18 output=30 total=48 | standard complete");
    expect(CH_USAGE_OPENAI_CHAT, // OpenRouter
           ": OPENROUTER PROCESSING\n\n" CHUNK(
               STOP, ",\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":4,\"cost\":1.41e-05,"
                     "\"is_byok\":false,\"cost_details\":{\"upstream_inference_cost\":null}}"),
           "input=10 output=4 nano=14100 | standard complete");
    expect(CH_USAGE_OPENAI_CHAT, // xAI
           "{\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":32,"
           "\"completion_tokens\":9,\"completion_tokens_details\":{\"reasoning_tokens\":94},"
           "\"num_sources_used\":0,\"cost_in_usd_ticks\":37756005}}",
           "input=32 output=9 reasoning=94 nano=3775601 | standard complete");
}

static void reads_stated_costs(void **state)
{
    (void)state;
#define COST(inside) "{\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{" inside "}}"
    expect(CH_USAGE_OPENAI_CHAT, COST("\"cost\":0"), "nano=0 | standard complete");
    expect(CH_USAGE_OPENAI_CHAT, COST("\"cost\":0.00014000000000000001"),
           "nano=140000 | standard complete");
    expect(CH_USAGE_OPENAI_CHAT, COST("\"cost\":12.5"), "nano=12500000000 | standard complete");
    // With the caller's own upstream key the cost is but a fee: the upstream charge is added, and
    // where it is not stated nothing is.
    expect(
        CH_USAGE_OPENAI_CHAT,
        COST("\"cost\":0.001,\"is_byok\":true,\"cost_details\":{\"upstream_inference_cost\":0.02}"),
        "nano=21000000 | standard complete");
    expect(CH_USAGE_OPENAI_CHAT, COST("\"cost\":0.001,\"is_byok\":true"), "| standard complete");
    expect(CH_USAGE_OPENAI_CHAT, COST("\"cost\":-1"), "| standard complete");
    expect(CH_USAGE_OPENAI_CHAT, COST("\"cost\":1e30"), "| standard complete");
    expect(CH_USAGE_OPENAI_CHAT, COST("\"cost\":\"1\""), "| standard complete");
    expect(CH_USAGE_OPENAI_CHAT, COST("\"cost_in_usd_ticks\":99999999999999999999"),
           "| standard complete");
}

// wire.md §2.1: exactly one event is ours to drop.
static bool is_our_usage_event(const struct ch_usage_scan *scan)
{
    return scan->has_choices && !scan->has_choice && scan->usage_is_object;
}

static void tells_the_usage_event(void **state)
{
    (void)state;
    static const char *const others[] = {
        CHUNK(DELTA("\"content\":\"a\""), USAGE("5", "1")), // running usage
        CHUNK("", ",\"usage\":null"),                       // Azure's first chunk
        CHUNK("", ",\"prompt_filter_results\":[]"),
        CHUNK("null", USAGE("5", "1")),
        CHUNK("", ""),
        "data: {\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":null,\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":{},\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":[],\"x_groq\":{\"usage\":{\"prompt_tokens\":1}}}\n\n",
        "data: {\"choices\":[],\"usage\":[]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}\n\n", // broken
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}} {}\n\n",
        "data: [DONE]\n\n",
    };
    assert_true(is_our_usage_event(observed(CH_USAGE_OPENAI_CHAT, CHUNK("", USAGE("5", "1")))));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(is_our_usage_event(observed(CH_USAGE_OPENAI_CHAT, others[i])));
    assert_false(is_our_usage_event(
        observed(CH_USAGE_OPENAI_CHAT, CHUNK("", USAGE("5", "1")) "data: [DONE]\n\n")));
    assert_false(is_our_usage_event(
        observed(CH_USAGE_OPENAI_CHAT, CHUNK("", USAGE("5", "1")) CHUNK(STOP, ""))));
}

static void reads_chat_errors(void **state)
{
    (void)state;
    expect(CH_USAGE_OPENAI_CHAT, "{\"error\":{\"message\":\"no\",\"type\":\"x\"}}",
           "| standard error");
    expect(CH_USAGE_OPENAI_CHAT, "{\"error\":\"no such model\"}", "| standard error");
    expect(
        CH_USAGE_OPENAI_CHAT,
        CHUNK(DELTA("\"content\":\"x\""), "") "data: {\"error\":{\"message\":\"overloaded\"}}\n\n",
        "| standard deltas=1 error");
    expect(CH_USAGE_OPENAI_CHAT, CHUNK(STOP, ",\"error\":null"), "| standard");
}

// --- OpenAI Responses, embeddings ------------------------------------------------------------

#define RESPONSE(status, rest)                                                                     \
    "{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"" status                              \
    "\",\"error\":null,\"model\":\"gpt-5.6-terra\",\"output\":[{\"usage\":{\"input_tokens\":1}}"   \
    "]" rest "}"
#define RESPONSE_USAGE                                                                             \
    ",\"service_tier\":\"default\",\"usage\":{\"input_tokens\":18014,\"input_tokens_details\":{"   \
    "\"cached_tokens\":0,\"cache_write_tokens\":18011},\"output_tokens\":40,"                      \
    "\"output_tokens_details\":{\"reasoning_tokens\":8},\"total_tokens\":18054},\"tool_usage\":{"  \
    "\"image_gen\":{\"input_tokens\":9,\"output_tokens\":9,\"total_tokens\":9},"                   \
    "\"web_search\":{\"num_requests\":2}}"
#define RESPONSE_STORY                                                                             \
    "input=18014 output=40 total=18054 cached=0 write=18011 reasoning=8 searches=2 | standard"
// The images that a tool made are another model's.
#define RESPONSE_SIDE " [ in=9 out=9]"

static void reads_a_response_body(void **state)
{
    (void)state;
    const char *body = RESPONSE("completed", RESPONSE_USAGE);
    expect(CH_USAGE_OPENAI_RESPONSES, body, RESPONSE_STORY RESPONSE_SIDE " complete");
    assert_string_equal(observed(CH_USAGE_OPENAI_RESPONSES, body)->response_id, "resp_1");
    expect(CH_USAGE_OPENAI_RESPONSES, RESPONSE("queued", ",\"usage\":null"), "| standard");
    expect(CH_USAGE_OPENAI_RESPONSES, RESPONSE("in_progress", RESPONSE_USAGE),
           RESPONSE_STORY RESPONSE_SIDE);
    expect(CH_USAGE_OPENAI_RESPONSES, RESPONSE("cancelled", RESPONSE_USAGE),
           RESPONSE_STORY RESPONSE_SIDE " complete");
}

#define EVENT(name, rest) "event: " name "\ndata: {\"type\":\"" name "\"" rest "}\n\n"

static void reads_a_response_stream(void **state)
{
    (void)state;
#define CREATED                                                                                    \
    EVENT("response.created",                                                                      \
          ",\"response\":" RESPONSE("in_progress", ",\"service_tier\":\"auto\",\"usage\":null"))
#define DELTAS                                                                                     \
    EVENT("response.output_text.delta", ",\"delta\":\"a\"")                                        \
    EVENT("response.function_call_arguments.delta", ",\"delta\":\"b\"")                            \
    EVENT("response.output_text.done", ",\"text\":\"ab\"")
    expect(CH_USAGE_OPENAI_RESPONSES,
           CREATED DELTAS EVENT("response.completed",
                                ",\"response\":" RESPONSE("completed", RESPONSE_USAGE)),
           RESPONSE_STORY " deltas=2" RESPONSE_SIDE " complete");
    expect(CH_USAGE_OPENAI_RESPONSES,
           CREATED DELTAS EVENT("response.incomplete",
                                ",\"response\":" RESPONSE("incomplete", RESPONSE_USAGE)),
           RESPONSE_STORY " deltas=2" RESPONSE_SIDE " complete");
    expect(CH_USAGE_OPENAI_RESPONSES, CREATED DELTAS, "| standard deltas=2");
    expect(CH_USAGE_OPENAI_RESPONSES,
           CREATED EVENT("response.failed",
                         ",\"response\":{\"id\":\"resp_1\",\"status\":\"failed\",\"error\":{"
                         "\"code\":\"server_error\"},\"usage\":null}"),
           "| standard error");
    expect(CH_USAGE_OPENAI_RESPONSES, EVENT("error", ",\"code\":\"x\",\"message\":\"y\""),
           "| standard error");
    assert_string_equal(observed(CH_USAGE_OPENAI_RESPONSES, CREATED)->model_served,
                        "gpt-5.6-terra");
}

static void reads_embeddings(void **state)
{
    (void)state;
    expect(
        CH_USAGE_OPENAI_EMBEDDINGS,
        "{\"object\":\"list\",\"data\":[{\"embedding\":[0.1,-2.5e-3],\"index\":0}],"
        "\"model\":\"text-embedding-3-small\",\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}",
        "input=8 total=8 | standard complete");
    expect(CH_USAGE_OPENAI_EMBEDDINGS, "{\"data\":[]}", "| standard");
}

// --- Anthropic -------------------------------------------------------------------------------

#define MESSAGE_START                                                                              \
    EVENT("message_start",                                                                         \
          ",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"model\":\"claude-opus-5\","       \
          "\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":50,"                    \
          "\"cache_creation_input_tokens\":4500,\"cache_read_input_tokens\":20000,"                \
          "\"cache_creation\":{\"ephemeral_5m_input_tokens\":1500,"                                \
          "\"ephemeral_1h_input_tokens\":3000},\"output_tokens\":3,"                               \
          "\"service_tier\":\"priority\"}}")
#define TEXT_DELTA                                                                                 \
    EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"       \
                                 "\"Hi\"}")
#define MESSAGE_DELTA(reason, usage)                                                               \
    EVENT("message_delta", ",\"delta\":{\"stop_reason\":" reason ",\"stop_sequence\":null},"       \
                           "\"usage\":" usage)
#define MESSAGE_STOP EVENT("message_stop", "")

static void reads_a_message_body(void **state)
{
    (void)state;
    const char *body =
        "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-opus-5\","
        "\"content\":[{\"type\":\"text\",\"text\":\"x\"}],\"stop_reason\":\"end_turn\",\"usage\":{"
        "\"input_tokens\":50,\"cache_creation_input_tokens\":4500,"
        "\"cache_read_input_tokens\":20000,\"cache_creation\":{\"ephemeral_5m_input_tokens\":1500,"
        "\"ephemeral_1h_input_tokens\":3000},\"output_tokens\":700,\"output_tokens_details\":{"
        "\"thinking_tokens\":400},\"server_tool_use\":{\"web_search_requests\":2,"
        "\"web_fetch_requests\":0},\"service_tier\":\"standard\",\"inference_geo\":\"us\","
        "\"speed\":\"fast\"}}";
    expect(CH_USAGE_ANTHROPIC, body,
           "input=50 output=700 cached=20000 write=4500 write_5m=1500 write_1h=3000 reasoning=400 "
           "searches=2 | standard us fast complete");
    const struct ch_usage_scan *scan = observed(CH_USAGE_ANTHROPIC, body);
    assert_string_equal(scan->model_served, "claude-opus-5");
    assert_string_equal(scan->response_id, "msg_1");
    expect(CH_USAGE_ANTHROPIC,
           "{\"type\":\"message\",\"usage\":{\"input_tokens\":5,\"cache_creation\":null,"
           "\"cache_read_input_tokens\":null,\"output_tokens\":0,\"server_tool_use\":null,"
           "\"inference_geo\":\"not_available\",\"speed\":\"standard\",\"service_tier\":null}}",
           "input=5 output=0 | standard complete");
}

static void reads_a_message_stream(void **state)
{
    (void)state;
#define STARTED "cached=20000 write=4500 write_5m=1500 write_1h=3000"
    expect(CH_USAGE_ANTHROPIC,
           MESSAGE_START EVENT("ping", "")
               TEXT_DELTA TEXT_DELTA MESSAGE_DELTA("\"end_turn\"", "{\"output_tokens\":700}")
                   MESSAGE_STOP,
           "input=50 output=700 " STARTED " | priority deltas=2 complete");
    expect(CH_USAGE_ANTHROPIC, MESSAGE_START TEXT_DELTA,
           "input=50 output=3 " STARTED " | priority deltas=1");
    // The output of message_start is a placeholder, not final.
    expect(CH_USAGE_ANTHROPIC, MESSAGE_START MESSAGE_STOP,
           "input=50 output=3 " STARTED " | priority");
    assert_string_equal(observed(CH_USAGE_ANTHROPIC, MESSAGE_START)->model_served, "claude-opus-5");
}

// wire.md §2.4: cumulative; overwrite what is not null, never add.
static void keeps_the_last_message_delta(void **state)
{
    (void)state;
    expect(CH_USAGE_ANTHROPIC,
           MESSAGE_START MESSAGE_DELTA("null", "{\"output_tokens\":100,\"input_tokens\":60,"
                                               "\"cache_read_input_tokens\":null,"
                                               "\"server_tool_use\":{\"web_search_requests\":1}}")
               MESSAGE_DELTA("\"end_turn\"", "{\"output_tokens\":250,\"input_tokens\":70,"
                                             "\"cache_creation_input_tokens\":5000,"
                                             "\"server_tool_use\":{\"web_search_requests\":3}}"),
           "input=70 output=250 cached=20000 write=5000 write_5m=1500 write_1h=3000 searches=3 "
           "| priority complete");
    expect(CH_USAGE_ANTHROPIC, MESSAGE_START MESSAGE_DELTA("null", "{\"output_tokens\":100}"),
           "input=50 output=100 " STARTED " | priority");
    // A cache write that grew after message_start is priced as a five-minute one.
    struct ch_usage usage;
    ch_usage_normalise(
        CH_USAGE_ANTHROPIC,
        &observed(CH_USAGE_ANTHROPIC,
                  MESSAGE_START MESSAGE_DELTA("null", "{\"cache_creation_input_tokens\":5000}"))
             ->raw,
        false, &usage);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_WRITE_5M], 2000);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_WRITE_1H], 3000);
}

// wire.md §2.4: compaction is not in the totals; the list is cumulative as they are.
static void adds_compaction_once(void **state)
{
    (void)state;
#define COMPACTION(in, out)                                                                        \
    "{\"type\":\"compaction\",\"input_tokens\":" in ",\"output_tokens\":" out                      \
    ",\"cache_read_input_tokens\":0,\"cache_creation_input_tokens\":0}"
#define ITERATIONS(list)  "\"iterations\":[" list "]"
#define MESSAGE_ITERATION "{\"input_tokens\":23,\"output_tokens\":10,\"type\":\"message\"}"
#define COMPACTED         ITERATIONS(COMPACTION("1000", "200") "," MESSAGE_ITERATION)
    expect(CH_USAGE_ANTHROPIC,
           "{\"type\":\"message\",\"usage\":{" COMPACTED
           ",\"input_tokens\":23,\"output_tokens\":10}}",
           "input=1023 output=210 | standard complete");
    expect(CH_USAGE_ANTHROPIC,
           MESSAGE_START MESSAGE_DELTA(
               "null", "{\"output_tokens\":10," ITERATIONS(COMPACTION("1000", "200")) "}")
               MESSAGE_DELTA("null", "{\"output_tokens\":20," ITERATIONS(
                                         COMPACTION("1000", "200") "," COMPACTION("500", "1")) "}")
                   MESSAGE_DELTA("\"end_turn\"", "{\"output_tokens\":30,\"input_tokens\":60}"),
           "input=1560 output=231 " STARTED " | priority complete");
}

static void reads_anthropic_errors(void **state)
{
    (void)state;
    expect(CH_USAGE_ANTHROPIC,
           MESSAGE_START EVENT("error", ",\"error\":{\"type\":\"overloaded_error\"}"),
           "input=50 output=3 " STARTED " | priority error");
    expect(CH_USAGE_ANTHROPIC, "{\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}",
           "| standard error");
    expect(CH_USAGE_ANTHROPIC, "event: error\ndata: upstream failed\n\n",
           "| standard broken=1 error");
}

// --- Gemini ----------------------------------------------------------------------------------

#define CANDIDATE(text, rest)                                                                      \
    "\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"" text "\"}],\"role\":\"model\"}" rest   \
    ",\"index\":0}]"
#define GEMINI_USAGE                                                                               \
    "\"usageMetadata\":{\"promptTokenCount\":1200,\"cachedContentTokenCount\":400,"                \
    "\"candidatesTokenCount\":150,\"thoughtsTokenCount\":50,\"toolUsePromptTokenCount\":30,"       \
    "\"totalTokenCount\":1430,\"promptTokensDetails\":[{\"modality\":\"TEXT\","                    \
    "\"tokenCount\":1000},{\"tokenCount\":200,\"modality\":\"AUDIO\"},{\"modality\":\"IMAGE\","    \
    "\"tokenCount\":7},{\"modality\":\"VIDEO\",\"tokenCount\":8},{\"modality\":\"DOCUMENT\","      \
    "\"tokenCount\":9}],\"cacheTokensDetails\":[{\"modality\":\"AUDIO\",\"tokenCount\":40}],"      \
    "\"candidatesTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":149},"                     \
    "{\"modality\":\"IMAGE\",\"tokenCount\":1}],\"serviceTier\":\"flex\"}"
#define GEMINI_REST ",\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"r1\""
#define GEMINI_STORY                                                                               \
    "input=1200 output=150 total=1430 cached=400 reasoning=50 audio_in=200 image_in=7 "            \
    "video_in=8 audio_cached=40 image_cached=0 video_cached=0 audio_out=0 image_out=1 "            \
    "video_out=0 "                                                                                 \
    "tool=30 | flex"
#define FINISHED ",\"finishReason\":\"STOP\""

static void reads_a_gemini_body(void **state)
{
    (void)state;
    const char *body = "{" CANDIDATE("x", FINISHED) "," GEMINI_USAGE GEMINI_REST "}";
    expect(CH_USAGE_GEMINI, body, GEMINI_STORY " deltas=1 complete");
    const struct ch_usage_scan *scan = observed(CH_USAGE_GEMINI, body);
    assert_string_equal(scan->model_served, "gemini-2.5-flash");
    assert_string_equal(scan->response_id, "r1");
    expect(CH_USAGE_GEMINI,
           "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{"
           "\"promptTokenCount\":4,\"totalTokenCount\":4}}",
           "input=4 total=4 | standard complete");
}

#define EARLY_USAGE "\"usageMetadata\":{\"promptTokenCount\":1200,\"totalTokenCount\":1200}"

static void reads_a_gemini_stream(void **state)
{
    (void)state;
    expect(CH_USAGE_GEMINI,
           "data: {" CANDIDATE("a", "") "," EARLY_USAGE GEMINI_REST "}\r\n\r\n"
                                        "data: {" CANDIDATE(
                                            "b", FINISHED) "," GEMINI_USAGE GEMINI_REST "}\r\n\r\n",
           GEMINI_STORY " deltas=2 complete");
    expect(CH_USAGE_GEMINI, "data: {" CANDIDATE("a", "") "," EARLY_USAGE GEMINI_REST "}\r\n\r\n",
           "input=1200 total=1200 | standard deltas=1");
    expect(CH_USAGE_GEMINI,
           "data: {" CANDIDATE("a", "") "," EARLY_USAGE
                                        "}\n\ndata: {" CANDIDATE("b", FINISHED) "}\n\n",
           "input=1200 total=1200 | standard deltas=2"); // the last chunk states none: not final
}

static void reads_a_gemini_array(void **state)
{
    (void)state;
    const char *stream =
        "[{\n  " CANDIDATE("a", "") ",\n" EARLY_USAGE GEMINI_REST "\n}\n,\r\n{" CANDIDATE(
            "b", FINISHED) "," GEMINI_USAGE GEMINI_REST "}\n]\n";
    expect(CH_USAGE_GEMINI, stream, GEMINI_STORY " deltas=2 complete");
    assert_string_equal(observed(CH_USAGE_GEMINI, stream)->model_served, "gemini-2.5-flash");
    // Cut behind the last element: that one was read, the array is broken.
    expect(CH_USAGE_GEMINI, "[{" CANDIDATE("b", FINISHED) "," GEMINI_USAGE "}",
           GEMINI_STORY " deltas=1 broken=1 complete");
    expect(CH_USAGE_GEMINI, "[{" CANDIDATE("a", "") "," EARLY_USAGE "},{\"cand",
           "input=1200 total=1200 | standard deltas=1 broken=1");
    expect(CH_USAGE_GEMINI, "[{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\"}}]",
           "| standard error");
}

static void replaces_modality_lists(void **state)
{
    (void)state;
#define AUDIO(n)                                                                                   \
    "data: {\"usageMetadata\":{\"promptTokensDetails\":[{\"modality\":\"AUDIO\",\"tokenCount\":" n \
    "},{\"modality\":\"AUDIO\",\"tokenCount\":1}]}}\n\n"
    expect(CH_USAGE_GEMINI, AUDIO("10") AUDIO("20"),
           "audio_in=21 image_in=0 video_in=0 | standard");
}

static void reads_tiers_of_vertex(void **state)
{
    (void)state;
#define TRAFFIC(type) "{\"usageMetadata\":{\"trafficType\":\"" type "\"}}"
    expect(CH_USAGE_GEMINI, TRAFFIC("ON_DEMAND_PRIORITY"), "| priority");
    expect(CH_USAGE_GEMINI, TRAFFIC("ON_DEMAND_FLEX"), "| flex");
    expect(CH_USAGE_GEMINI, TRAFFIC("ON_DEMAND"), "| standard");
    expect(CH_USAGE_GEMINI, TRAFFIC("ON_DEMAND_OFFPEAK"), "| standard");
    expect(CH_USAGE_GEMINI, TRAFFIC("PROVISIONED_THROUGHPUT"), "| standard");
}

static void counts_grounding_queries(void **state)
{
    (void)state;
#define GROUNDED(queries)                                                                          \
    "{" CANDIDATE("a", ",\"groundingMetadata\":{\"webSearchQueries\":[" queries "]}") "}"
    expect(CH_USAGE_GEMINI, GROUNDED("\"one\",\"two\""), "searches=2 | standard deltas=1");
    expect(CH_USAGE_GEMINI,
           "data: " GROUNDED("\"one\"") "\n\ndata: " GROUNDED(
               "\"one\",\"two\",\"three\"") "\n\ndata: " GROUNDED("") "\n\n",
           "searches=3 | standard deltas=3");
    expect(CH_USAGE_GEMINI, "[" GROUNDED("\"one\"") "," GROUNDED("\"one\",\"two\"") "]",
           "searches=2 | standard deltas=2");
}

// --- images, audio, realtime, interactions ---------------------------------------------------

static void reads_images(void **state)
{
    (void)state;
    expect(
        CH_USAGE_OPENAI_IMAGES,
        "{\"created\":1,\"data\":[{\"b64_json\":\"AAAA\"},{\"b64_json\":\"BBBB\"}],\"usage\":{"
        "\"input_tokens\":260,\"input_tokens_details\":{\"text_tokens\":60,\"image_tokens\":200},"
        "\"output_tokens\":1056,\"total_tokens\":1316}}",
        "input=260 output=1056 total=1316 image_in=200 images=2 | standard complete");
    expect(CH_USAGE_OPENAI_IMAGES, "{\"created\":1,\"data\":[{\"url\":\"u\"}]}",
           "images=1 | standard complete"); // DALL·E states no tokens
    expect(CH_USAGE_OPENAI_IMAGES, "{\"created\":1,\"data\":[]}", "images=0 | standard");
    expect(CH_USAGE_OPENAI_IMAGES, "{\"error\":{\"message\":\"no\"}}", "| standard error");
    expect(
        CH_USAGE_OPENAI_IMAGES,
        "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\""
        ",\"b64_json\":\"AA\"}\n\nevent: image_generation.completed\ndata: {\"type\":"
        "\"image_generation.completed\",\"b64_json\":\"AAAA\",\"usage\":{\"input_tokens\":50,"
        "\"output_tokens\":50,\"total_tokens\":100,\"output_tokens_details\":{\"image_tokens\":"
        "40,\"text_tokens\":10}}}\n\n",
        "input=50 output=50 total=100 image_out=40 images=1 | standard deltas=2 complete");
    expect(CH_USAGE_OPENAI_IMAGES,
           "{\"data\":[{}],\"svg_usage\":{\"input_tokens\":7,\"output_tokens\":9,"
           "\"reasoning_tokens\":2,\"total_tokens\":16,\"model\":\"gpt-5.4\"}}",
           "images=1 | standard [gpt-5.4 in=7 out=9 reasoning=2] complete");
}

static void reads_transcriptions(void **state)
{
    (void)state;
    expect(CH_USAGE_OPENAI_TRANSCRIPTION,
           "{\"text\":\"hi\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,"
           "\"input_token_details\":{\"audio_tokens\":13,\"text_tokens\":1},\"output_tokens\":45,"
           "\"total_tokens\":59}}",
           "input=14 output=45 total=59 audio_in=13 | standard complete");
    expect(
        CH_USAGE_OPENAI_TRANSCRIPTION,
        "event: transcript.text.delta\ndata: {\"type\":\"transcript.text.delta\",\"delta\":\"h\"}"
        "\n\nevent: transcript.text.done\ndata: {\"type\":\"transcript.text.done\",\"text\":\"h\","
        "\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":2,"
        "\"total_tokens\":16}}\n\n",
        "input=14 output=2 total=16 | standard deltas=1 complete");
    // Nothing says what is billed: the duration is but a hint, and the answer not complete.
    expect(CH_USAGE_OPENAI_TRANSCRIPTION, "{\"text\":\"hi\",\"duration\":8.470000267028809}",
           "audio_ms=8470 | standard");
    expect(CH_USAGE_OPENAI_TRANSCRIPTION,
           "{\"duration\":8.47,\"usage\":{\"type\":\"duration\",\"seconds\":9}}",
           "audio_ms=9000 | standard complete");
    expect(CH_USAGE_OPENAI_TRANSCRIPTION,
           "{\"usage\":{\"type\":\"duration\",\"seconds\":9},\"duration\":8.47}",
           "audio_ms=9000 | standard complete");
}

static void reads_seconds_to_the_millisecond(void **state)
{
    (void)state;
    static const struct {
        const char *seconds;
        int64_t ms; // -1: refused
    } cases[] = {
        {"0", 0},         {"75", 75000},    {"75.5", 75500},    {"75.50", 75500},
        {"0.001", 1},     {"0.0004", 0},    {"0.0005", 1},      {"0.00049999", 0},
        {"1.9994", 1999}, {"1.9995", 2000}, {"1.99999", 2000},  {"59.9996", 60000},
        {"0.05", 50},     {"1e3", -1},      {"1.5e1", -1},      {"-1", -1},
        {"-0.5", -1},     {"\"7\"", -1},    {"1000000001", -1}, {"1000000000", 1000000000000},
        {"{}", -1},       {"true", -1},     {"[1]", -1},        {"123456789012345678901", -1},
    };
    char body[128];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(body, sizeof body, "{\"usage\":{\"seconds\":%s}}", cases[i].seconds);
        const struct ch_usage_scan *scan = observed(CH_USAGE_OPENAI_TRANSCRIPTION, body);
        if (scan->raw.slot[CH_SLOT_AUDIO_MS] != cases[i].ms)
            fail_msg("%s: %lld ms", cases[i].seconds, (long long)scan->raw.slot[CH_SLOT_AUDIO_MS]);
        assert_int_equal(scan->is_complete, cases[i].ms >= 0);
    }
}

static void reads_speech(void **state)
{
    (void)state;
    expect(CH_USAGE_OPENAI_SPEECH,
           "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}\n\ndata: {\"type\":"
           "\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":101,"
           "\"total_tokens\":115}}\n\n",
           "input=14 output=101 total=115 | standard deltas=1 complete");
}

#define DONE(in, out)                                                                              \
    "data: {\"type\":\"response.done\",\"response\":{\"id\":\"resp_1\",\"status\":\"completed\","  \
    "\"usage\":{\"total_tokens\":9,\"input_tokens\":" in ",\"output_tokens\":" out                 \
    ",\"input_token_details\":{\"text_tokens\":1,\"audio_tokens\":2,\"cached_tokens\":3,"          \
    "\"cached_tokens_details\":{\"text_tokens\":1,\"audio_tokens\":2,\"image_tokens\":0}},"        \
    "\"output_token_details\":{\"text_tokens\":1,\"audio_tokens\":4}}}}\n\n"
#define HEARD(usage)                                                                               \
    "data: {\"type\":\"conversation.item.input_audio_transcription.completed\",\"usage\":{" usage  \
    "}}\n\n"

static void adds_the_responses_of_a_session_up(void **state)
{
    (void)state;
    const char *session =
        "data: {\"type\":\"session.created\",\"session\":{\"model\":\"gpt-realtime\",\"audio\":{"
        "\"input\":{\"transcription\":{\"model\":\"whisper-1\"}}}}}\n\n"
        "data: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n" DONE("10", "5")
            HEARD("\"type\":\"duration\",\"seconds\":1.5")
                HEARD("\"type\":\"duration\",\"seconds\":2") "data: "
                                                             "{\"type\":\"response.created\","
                                                             "\"response\":{}}\n\n";
    expect(CH_USAGE_OPENAI_REALTIME, session,
           "input=10 output=5 total=9 cached=3 audio_in=2 audio_cached=2 image_cached=0 "
           "audio_out=4 | standard [whisper-1 ms=3500]");
    assert_string_equal(observed(CH_USAGE_OPENAI_REALTIME, session)->model_served, "gpt-realtime");
    expect(CH_USAGE_OPENAI_REALTIME, DONE("10", "5") DONE("20", "7"),
           "input=30 output=12 total=18 cached=6 audio_in=4 audio_cached=4 image_cached=0 "
           "audio_out=8 | standard complete");
    // A response whose numbers are none adds nothing, and what it is not complete stays so.
    expect(CH_USAGE_OPENAI_REALTIME, DONE("10", "5") DONE("-1", "7"),
           "input=10 output=5 total=9 cached=3 audio_in=2 audio_cached=2 image_cached=0 "
           "audio_out=4 | standard complete");
    expect(CH_USAGE_OPENAI_REALTIME,
           "data: {\"type\":\"response.output_text.done\",\"response\":{\"usage\":{"
           "\"input_tokens\":5}}}\n\n",
           "| standard");
}

#define INTERACTION_USAGE                                                                          \
    "\"usage\":{\"total_input_tokens\":1200,\"total_output_tokens\":150,"                          \
    "\"total_thought_tokens\":50,\"total_cached_tokens\":400,\"total_tool_use_tokens\":30,"        \
    "\"total_tokens\":1430,\"input_tokens_by_modality\":[{\"modality\":\"text\",\"tokens\":1000}," \
    "{\"modality\":\"audio\",\"tokens\":200}],\"grounding_tool_count\":[{\"type\":\"google_"       \
    "maps\","                                                                                      \
    "\"count\":9},{\"count\":2,\"type\":\"google_search\"}]}"
#define INTERACTION_STORY                                                                          \
    "input=1200 output=150 total=1430 cached=400 reasoning=50 audio_in=200 image_in=0 "            \
    "video_in=0 tool=30 searches=2 | standard"

static void reads_interactions(void **state)
{
    (void)state;
    const char *body = "{\"id\":\"int_1\",\"model\":\"gemini-2.5-flash\",\"status\":\"completed\","
                       "\"steps\":[]," INTERACTION_USAGE "}";
    expect(CH_USAGE_GEMINI_INTERACTIONS, body, INTERACTION_STORY " complete");
    assert_string_equal(observed(CH_USAGE_GEMINI_INTERACTIONS, body)->model_served,
                        "gemini-2.5-flash");
    expect(CH_USAGE_GEMINI_INTERACTIONS,
           "event: step.delta\ndata: {\"event_type\":\"step.delta\",\"delta\":{}}\n\n"
           "event: interaction.completed\ndata: {\"event_type\":\"interaction.completed\","
           "\"interaction\":{\"id\":\"int_1\",\"status\":\"completed\"," INTERACTION_USAGE "}}\n\n",
           INTERACTION_STORY " deltas=1 complete");
    expect(CH_USAGE_GEMINI_INTERACTIONS,
           "{\"status\":\"in_progress\",\"usage\":{\"total_input_tokens\":1}}",
           "input=1 | standard");
    expect(CH_USAGE_GEMINI_INTERACTIONS,
           "{\"status\":\"requires_action\",\"usage\":{\"total_input_tokens\":1}}",
           "input=1 | standard complete");
}

// --- other models ----------------------------------------------------------------------------

#define ADVISOR(model, in, out)                                                                    \
    "{\"type\":\"advisor_message\",\"model\":\"" model "\",\"input_tokens\":" in                   \
    ",\"output_tokens\":" out ",\"cache_read_input_tokens\":3,\"cache_creation_input_tokens\":5,"  \
    "\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":5}}"
#define ADVISED(list)                                                                              \
    "{\"type\":\"message\",\"model\":\"claude-haiku-4-5\",\"usage\":{\"input_tokens\":50,"         \
    "\"output_tokens\":70,\"iterations\":[" list "]}}"

static void keeps_an_advisor_apart(void **state)
{
    (void)state;
    expect(CH_USAGE_ANTHROPIC, ADVISED(ADVISOR("claude-opus-5", "823", "531")),
           "input=50 output=70 | standard [claude-opus-5 in=823 out=531 cached=3 write=5 1h=5] "
           "complete");
    expect(CH_USAGE_ANTHROPIC,
           ADVISED(ADVISOR("claude-opus-5", "1", "2") "," ADVISOR("claude-opus-5", "10", "20")),
           "input=50 output=70 | standard [claude-opus-5 in=11 out=22 cached=6 write=10 1h=10] "
           "complete");
    // The turns of the model itself are in the totals.
    expect(CH_USAGE_ANTHROPIC,
           ADVISED("{\"type\":\"message\",\"input_tokens\":50,\"output_tokens\":70},{\"type\":"
                   "\"fallback_message\",\"model\":\"claude-opus-5\",\"input_tokens\":1}"),
           "input=50 output=70 | standard complete");
    // A stream states the list again: the later one counts.
#define DELTA_OF(list)                                                                             \
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"          \
    "\"end_turn\"},\"usage\":{\"output_tokens\":7,\"iterations\":[" list "]}}\n\n"
    expect(CH_USAGE_ANTHROPIC,
           DELTA_OF(ADVISOR("a", "1", "1"))
               DELTA_OF(ADVISOR("a", "1", "1") "," ADVISOR("b", "2", "2")),
           "output=7 | standard [a in=1 out=1 cached=3 write=5 1h=5] [b in=2 out=2 cached=3 "
           "write=5 1h=5] complete");
}

static void says_when_there_are_too_many_models(void **state)
{
    (void)state;
    const struct ch_usage_scan *scan =
        observed(CH_USAGE_ANTHROPIC,
                 ADVISED(ADVISOR("a", "1", "1") "," ADVISOR("b", "1", "1") "," ADVISOR(
                     "c", "1", "1") "," ADVISOR("d", "1", "1") "," ADVISOR("a", "1", "1")));
    assert_int_equal(scan->side_count, CH_USAGE_SIDES_MAX);
    assert_false(scan->has_lost_sides);
    scan = observed(CH_USAGE_ANTHROPIC,
                    ADVISED(ADVISOR("a", "1", "1") "," ADVISOR("b", "1", "1") "," ADVISOR(
                        "c", "1", "1") "," ADVISOR("d", "1", "1") "," ADVISOR("e", "1", "1")));
    assert_true(scan->has_lost_sides);
}

static void names_the_model_of_a_tool(void **state)
{
    (void)state;
    expect(CH_USAGE_OPENAI_RESPONSES,
           "{\"status\":\"completed\",\"usage\":{\"input_tokens\":5,\"output_tokens\":6},"
           "\"tool_usage\":{\"image_gen\":{\"input_tokens\":60,\"input_tokens_details\":{"
           "\"image_tokens\":20,\"text_tokens\":40},\"output_tokens\":1056}},\"tools\":[{\"type\":"
           "\"image_generation\",\"model\":\"gpt-image-1.5\"}]}",
           "input=5 output=6 | standard [gpt-image-1.5 in=60 out=1056 image=20] complete");
    expect(CH_USAGE_OPENAI_RESPONSES,
           "{\"status\":\"completed\",\"usage\":{\"input_tokens\":5,\"output_tokens\":6},"
           "\"tool_usage\":{\"image_gen\":{\"input_tokens\":0,\"output_tokens\":0}}}",
           "input=5 output=6 | standard complete");
}

// --- hostile input (security.md §4.23) -------------------------------------------------------

static void ignores_what_is_no_count(void **state)
{
    (void)state;
    static const char *const bad[] = {"-1",           "1.5", "1e3", "1e30", "\"7\"",
                                      "true",         "{}",  "[]",  "-0",   "99999999999999999999",
                                      "1000000000001"};
    char body[256];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(body, sizeof body,
                 "{\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,"
                 "\"completion_tokens\":%s}}",
                 bad[i]);
        expect(CH_USAGE_OPENAI_CHAT, body, "input=9 | standard"); // nor is the rest final
    }
    // The last valid value wins; an explicit zero is one.
    expect(CH_USAGE_OPENAI_CHAT, CHUNK(DELTA(""), USAGE("5", "2")) CHUNK(STOP, USAGE("-3", "1e9")),
           "input=5 output=2 | standard");
    expect(CH_USAGE_OPENAI_CHAT, CHUNK("", USAGE("5", "2")) CHUNK("", USAGE("0", "0")),
           "input=0 output=0 | standard complete");
    expect(CH_USAGE_OPENAI_CHAT, CHUNK("", USAGE("1000000000000", "null")),
           "input=1000000000000 | standard complete");
}

static void never_counts_model_text(void **state)
{
    (void)state;
#define FAKE "{\\\"usage\\\":{\\\"prompt_tokens\\\":1,\\\"input_tokens\\\":1}}"
    expect(CH_USAGE_OPENAI_CHAT, CHUNK(DELTA("\"content\":\"" FAKE "\""), ""),
           "| standard deltas=1");
    expect(CH_USAGE_OPENAI_CHAT, CHUNK(DELTA("\"usage\":{\"prompt_tokens\":1}"), ""), "| standard");
    expect(CH_USAGE_OPENAI_CHAT,
           "{\"choices\":[{\"message\":{\"usage\":{\"prompt_tokens\":1}},\"usage\":{"
           "\"prompt_tokens\":2}}],\"metadata\":{\"usage\":{\"prompt_tokens\":3}},"
           "\"usage\\u0000\":{\"prompt_tokens\":4}}",
           "| standard");
    expect(CH_USAGE_ANTHROPIC,
           EVENT("content_block_delta",
                 ",\"delta\":{\"text\":\"" FAKE "\",\"usage\":{\"input_tokens\":1}},\"index\":0"),
           "| standard deltas=1");
    expect(CH_USAGE_OPENAI_RESPONSES,
           EVENT("response.output_text.delta", ",\"delta\":\"data: " FAKE "\""),
           "| standard deltas=1");
    expect(CH_USAGE_GEMINI,
           "{" CANDIDATE("\\\"usageMetadata\\\":{\\\"promptTokenCount\\\":1}", "") "}",
           "| standard deltas=1");
}

static void counts_broken_documents_and_goes_on(void **state)
{
    (void)state;
    expect(CH_USAGE_OPENAI_CHAT, "data: {\"usage\":\n\ndata: x\n\n" CHUNK("", USAGE("5", "2")),
           "input=5 output=2 | standard broken=2 complete");
    expect(CH_USAGE_OPENAI_CHAT, "{\"usage\":{\"prompt_tokens\":5},",
           "input=5 | standard broken=1");
    // Half an emoji and a byte that is no UTF-8 in the model's text do not hide the usage.
    expect(CH_USAGE_OPENAI_CHAT,
           "{\"choices\":[{\"message\":{\"content\":\"\\ud83d \xF0\x9F\"},"
           "\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":5}}",
           "input=5 | standard complete");
}

static void knows_what_is_no_document(void **state)
{
    (void)state;
    expect(CH_USAGE_OPENAI_CHAT, "data: [DONE]\n\n", "| standard");
    expect(CH_USAGE_OPENAI_CHAT, "data:[DONE]\n\ndata:  [DONE] \n\n", "| standard");
    expect(CH_USAGE_OPENAI_CHAT, "data:\n\ndata: \n\n: ka\n\n", "| standard");
    expect(CH_USAGE_OPENAI_CHAT, "", "| standard");
    expect(CH_USAGE_OPENAI_CHAT, " \n ", "| standard");
    expect(CH_USAGE_OPENAI_CHAT, "data: [DONE]x\n\ndata: [DON\n\n", "| standard broken=2");
}

static void states_nothing_for_free_forms(void **state)
{
    (void)state;
    const char *body =
        "{\"usage\":{\"prompt_tokens\":5},\"usageMetadata\":{\"promptTokenCount\":5}}";
    expect(CH_USAGE_NONE, body, "| standard");
    expect(CH_USAGE_GEMINI_EMBEDDINGS, body, "| standard");
    expect(CH_USAGE_GEMINI_EMBEDDINGS, "{\"error\":{\"code\":400}}", "| standard error");
}

static void keeps_names_whole_or_not_at_all(void **state)
{
    (void)state;
    char body[512];
    snprintf(body, sizeof body, "{\"model\":\"%0*d\",\"id\":\"%0*d\"}", CH_MODEL_TEXT, 7,
             CH_RESPONSE_ID_MAX, 8);
    const struct ch_usage_scan *scan = observed(CH_USAGE_OPENAI_CHAT, body);
    assert_int_equal(strlen(scan->model_served), CH_MODEL_TEXT);
    assert_int_equal(strlen(scan->response_id), CH_RESPONSE_ID_MAX);
    snprintf(body, sizeof body, "{\"model\":\"%0*d\",\"id\":\"%0*d\"}", CH_MODEL_TEXT + 1, 7,
             CH_RESPONSE_ID_MAX + 1, 8);
    scan = observed(CH_USAGE_OPENAI_CHAT, body);
    assert_string_equal(scan->model_served, "");
    assert_string_equal(scan->response_id, "");
    scan = observed(CH_USAGE_OPENAI_CHAT, "{\"model\":\"gpt\\u002d4o\\/x\",\"id\":7}");
    assert_string_equal(scan->model_served, "gpt-4o/x");
    assert_string_equal(scan->response_id, "");
    scan = observed(CH_USAGE_OPENAI_CHAT,
                    "data: {\"model\":\"a\"}\n\ndata: {\"model\":\"\"}\n\ndata: {\"model\":"
                    "\"b\\u0000c\"}\n\ndata: {\"model\":null}\n\n");
    assert_string_equal(scan->model_served, "a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_chat_body),
        cmocka_unit_test(reads_a_chat_stream),
        cmocka_unit_test(counts_generated_content_only),
        cmocka_unit_test(takes_running_usage_for_partial),
        cmocka_unit_test(reads_what_compatible_servers_add),
        cmocka_unit_test(reads_stated_costs),
        cmocka_unit_test(tells_the_usage_event),
        cmocka_unit_test(reads_chat_errors),
        cmocka_unit_test(reads_a_response_body),
        cmocka_unit_test(reads_a_response_stream),
        cmocka_unit_test(reads_embeddings),
        cmocka_unit_test(reads_a_message_body),
        cmocka_unit_test(reads_a_message_stream),
        cmocka_unit_test(keeps_the_last_message_delta),
        cmocka_unit_test(adds_compaction_once),
        cmocka_unit_test(reads_anthropic_errors),
        cmocka_unit_test(reads_a_gemini_body),
        cmocka_unit_test(reads_a_gemini_stream),
        cmocka_unit_test(reads_a_gemini_array),
        cmocka_unit_test(replaces_modality_lists),
        cmocka_unit_test(reads_tiers_of_vertex),
        cmocka_unit_test(counts_grounding_queries),
        cmocka_unit_test(reads_images),
        cmocka_unit_test(reads_transcriptions),
        cmocka_unit_test(reads_seconds_to_the_millisecond),
        cmocka_unit_test(reads_speech),
        cmocka_unit_test(adds_the_responses_of_a_session_up),
        cmocka_unit_test(reads_interactions),
        cmocka_unit_test(keeps_an_advisor_apart),
        cmocka_unit_test(says_when_there_are_too_many_models),
        cmocka_unit_test(names_the_model_of_a_tool),
        cmocka_unit_test(ignores_what_is_no_count),
        cmocka_unit_test(never_counts_model_text),
        cmocka_unit_test(counts_broken_documents_and_goes_on),
        cmocka_unit_test(knows_what_is_no_document),
        cmocka_unit_test(states_nothing_for_free_forms),
        cmocka_unit_test(keeps_names_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, build_plans, free_plans);
}

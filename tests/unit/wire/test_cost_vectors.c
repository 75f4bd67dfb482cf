// SPDX-License-Identifier: Apache-2.0
// From the bytes of an answer to the nano-dollar: every vector of tests/data/cost_vectors.json in
// every wire form that can state its usage, and what else providers bill.
#include "domain/catalogue.h"
#include "domain/media.h"
#include "wire/sse.h"
#include "wire/usage_scan.h"

#include <inttypes.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct ch_usage_plans *plans;
static struct ch_catalogue *catalogue; // conf/prices.json
static json_t *vectors;

static int begin(void **state)
{
    static char bytes[4 << 20];
    (void)state;
    FILE *file = fopen(CH_SOURCE_DIR "/conf/prices.json", "rb");
    assert_non_null(file);
    size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    vectors = json_load_file(CH_SOURCE_DIR "/tests/data/cost_vectors.json", 0, NULL);
    return !vectors || ch_usage_plans_new(&plans) != CH_OK ||
           ch_catalogue_load((struct ch_span){bytes, len}, &catalogue, NULL) != CH_OK;
}

static int end(void **state)
{
    (void)state;
    ch_usage_plans_free(plans);
    ch_catalogue_free(catalogue);
    json_decref(vectors);
    return 0;
}

// ---- from an answer to a cost

static void on_data(void *arg, struct ch_span piece)
{
    ch_usage_scan_feed(arg, piece);
}

static void on_event(void *arg, struct ch_span name)
{
    ch_usage_scan_end_document(arg, name);
}

// What begins with a brace or a bracket is a plain body, anything else a stream.
static void observe(struct ch_usage_scan *scan, enum ch_usage_form form, struct ch_span answer,
                    size_t size)
{
    static const struct ch_sse_handler handler = {on_data, on_event};
    struct ch_sse sse;
    bool is_plain = answer.ptr[0] == '{' || answer.ptr[0] == '[', block_end;
    ch_usage_scan_init(scan, plans, form);
    ch_sse_init(&sse);
    for (size_t at = 0; at < answer.len; at += size) {
        struct ch_span piece = {answer.ptr + at, answer.len - at < size ? answer.len - at : size};
        if (is_plain)
            ch_usage_scan_feed(scan, piece);
        while (!is_plain && piece.len)
            piece = ch_span_sub(piece, ch_sse_feed(&sse, piece, &handler, scan, &block_end));
    }
    ch_usage_scan_end_document(scan, CH_SPAN(""));
}

// The provider's prefix stands in front of the vector's model.
static struct ch_price_query query_of(const char *model)
{
    const char *slash = strrchr(model, '/');
    return (struct ch_price_query){.prefix = {model, slash ? (size_t)(slash + 1 - model) : 0}};
}

static struct ch_cost cost_of(const char *model, enum ch_usage_form form,
                              const struct ch_usage_raw *raw, const struct ch_media_ask *ask,
                              bool reasoning_is_outside)
{
    struct ch_usage_raw complete = *raw;
    struct ch_usage usage;
    struct ch_price_query query = query_of(model);
    if (ask)
        ch_media_complete(form, ask, &complete);
    ch_usage_normalise(form, &complete, reasoning_is_outside, &usage);
    const struct ch_price *price = ch_catalogue_find_for(
        catalogue, &query, ch_span_sub(ch_span_of(model), query.prefix.len), &usage);
    if (!price && usage.stated_cost_nano < 0)
        fail_msg("no price for %s", model);
    return ch_price_cost(price, &usage);
}

static void assert_usd(const char *what, struct ch_cost cost, const char *usd)
{
    char text[CH_MONEY_TEXT];
    ch_money_format(cost.nano_usd, text);
    if (strcmp(text, usd) != 0)
        fail_msg("%s: %s USD, expected %s", what, text, usd);
}

static void expect_usd(const char *model, enum ch_usage_form form, const char *answer,
                       const struct ch_media_ask *ask, const char *usd)
{
    static struct ch_usage_scan scan;
    struct ch_span text = ch_span_of(answer);
    for (size_t size = 1; size <= text.len; size += size == 1 ? 6 : text.len) {
        observe(&scan, form, text, size);
        assert_true(scan.is_complete);
        struct ch_cost cost = cost_of(model, form, &scan.raw, ask, false);
        assert_usd(answer, cost, usd);
        assert_false(cost.fallback);
    }
}

// ---- one usage in every form

// What was used, in disjoint numbers.
struct used {
    int64_t text, cached, write_5m, write_1h, audio, image, tool;
    int64_t said, thought, spoken, painted;
    int64_t searches, seconds, characters;
    const char *tier;
    bool is_us;
};

// What a form can state.
enum {
    CACHED = 1 << 0,
    WRITE = 1 << 1,
    WRITE_1H = 1 << 2,
    AUDIO = 1 << 3,
    IMAGE = 1 << 4,
    TOOL = 1 << 5,
    SAID = 1 << 6,
    THOUGHT = 1 << 7,
    SPOKEN = 1 << 8,
    PAINTED = 1 << 9,
    SEARCHES = 1 << 10,
    SECONDS = 1 << 11,
    CHARACTERS = 1 << 12,
    TIER = 1 << 13,
    GEO = 1 << 14,
};

static unsigned needs_of(const struct used *u)
{
    unsigned needs = 0;
    const struct {
        bool is_used;
        unsigned bit;
    } all[] = {{u->cached, CACHED},
               {u->write_5m, WRITE},
               {u->write_1h, WRITE_1H},
               {u->audio, AUDIO},
               {u->image, IMAGE},
               {u->tool, TOOL},
               {u->said, SAID},
               {u->thought, THOUGHT},
               {u->spoken, SPOKEN},
               {u->painted, PAINTED},
               {u->searches, SEARCHES},
               {u->seconds, SECONDS},
               {u->characters, CHARACTERS},
               {u->tier, TIER},
               {u->is_us, GEO}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        needs |= all[i].is_used ? all[i].bit : 0;
    return needs;
}

static int64_t input_of(const struct used *u)
{
    return u->text + u->cached + u->write_5m + u->audio + u->image + u->tool;
}

static int64_t output_of(const struct used *u)
{
    return u->said + u->thought + u->spoken + u->painted;
}

#define N PRId64
static void put(struct ch_buf *out, const char *format, ...) CH_PRINTF(2, 3);
static void put(struct ch_buf *out, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    assert_true(len >= 0 && (size_t)len < sizeof text);
    // Written with ' for ", since these are texts of many quotes.
    for (int i = 0; i < len; i++)
        if (text[i] == '\'')
            text[i] = '"';
    assert_int_equal(ch_buf_append(out, text, (size_t)len), CH_OK);
}

static void put_chat_usage(struct ch_buf *out, const struct used *u)
{
    put(out,
        "'usage':{'prompt_tokens':%" N ",'completion_tokens':%" N ",'total_tokens':%" N
        ",'prompt_tokens_details':{'cached_tokens':%" N ",'cache_write_tokens':%" N
        ",'audio_tokens':%" N ",'image_tokens':%" N "},'completion_tokens_details':{"
        "'reasoning_tokens':%" N ",'audio_tokens':%" N ",'image_tokens':%" N "}}",
        input_of(u), output_of(u), input_of(u) + output_of(u), u->cached, u->write_5m, u->audio,
        u->image, u->thought, u->spoken, u->painted);
}

static const char *tier_of(const struct used *u)
{
    return u->tier ? u->tier : "default";
}

static void chat_plain(struct ch_buf *out, const struct used *u)
{
    put(out, "{'id':'c','service_tier':'%s','choices':[{'finish_reason':'stop'}],", tier_of(u));
    put_chat_usage(out, u);
    put(out, "}");
}

static void chat_stream(struct ch_buf *out, const struct used *u)
{
    put(out,
        "data: {'choices':[{'delta':{'content':'a'}}],'usage':null}\n\ndata: {'choices':[{'delta':"
        "{},'finish_reason':'stop'}],'usage':null}\n\ndata: {'service_tier':'%s','choices':[],",
        tier_of(u));
    put_chat_usage(out, u);
    put(out, "}\n\ndata: [DONE]\n\n");
}

// Mistral and others: with the reason to stop, unasked.
static void chat_last_chunk(struct ch_buf *out, const struct used *u)
{
    put(out, "data: {'service_tier':'%s','choices':[{'delta':{},'finish_reason':'stop'}],",
        tier_of(u));
    put_chat_usage(out, u);
    put(out, "}\n\ndata: [DONE]\n\n");
}

static void groq_stream(struct ch_buf *out, const struct used *u)
{
    put(out,
        "data: {'choices':[{'delta':{},'finish_reason':'stop'}],'x_groq':{'id':'r','usage':{"
        "'queue_time':0.01,'prompt_tokens':%" N ",'completion_tokens':%" N
        ",'prompt_tokens_details':{'cached_tokens':%" N "},'completion_tokens_details':{"
        "'reasoning_tokens':%" N "},'prompt_time':0.5}}}\n\ndata: [DONE]\n\n",
        input_of(u), output_of(u), u->cached, u->thought);
}

static void deepseek_plain(struct ch_buf *out, const struct used *u)
{
    put(out,
        "{'choices':[{'finish_reason':'stop'}],'usage':{'prompt_tokens':%" N
        ",'completion_tokens':%" N ",'prompt_cache_hit_tokens':%" N
        ",'prompt_cache_miss_tokens':%" N ",'prompt_tokens_details':{'cached_tokens':%" N
        "},'completion_tokens_details':{'reasoning_tokens':%" N "}}}",
        input_of(u), output_of(u), u->cached, input_of(u) - u->cached, u->cached, u->thought);
}

// Reasoning stands beside the completion there.
static void xai_plain(struct ch_buf *out, const struct used *u)
{
    struct used outside = *u;
    outside.thought = 0;
    put(out,
        "{'choices':[{'finish_reason':'stop'}],'usage':{'prompt_tokens':%" N
        ",'completion_tokens':%" N ",'prompt_tokens_details':{'cached_tokens':%" N
        ",'audio_tokens':%" N ",'image_tokens':%" N "},'completion_tokens_details':{"
        "'reasoning_tokens':%" N "}}}",
        input_of(u), output_of(&outside), u->cached, u->audio, u->image, u->thought);
}

static void put_response(struct ch_buf *out, const struct used *u)
{
    put(out,
        "{'id':'resp_1','status':'completed','service_tier':'%s','output':[],'usage':{"
        "'input_tokens':%" N ",'input_tokens_details':{'cached_tokens':%" N
        ",'cache_write_tokens':%" N "},'output_tokens':%" N
        ",'output_tokens_details':{'reasoning_tokens':%" N "}},'tool_usage':{'web_search':{"
        "'num_requests':%" N "}}}",
        tier_of(u), input_of(u), u->cached, u->write_5m, output_of(u), u->thought, u->searches);
}

static void responses_plain(struct ch_buf *out, const struct used *u)
{
    put_response(out, u);
}

static void responses_stream(struct ch_buf *out, const struct used *u)
{
    put(out, "event: response.created\ndata: {'type':'response.created','response':{'status':"
             "'in_progress','usage':null}}\n\nevent: response.output_text.delta\ndata: {'type':"
             "'response.output_text.delta','delta':'a'}\n\nevent: response.completed\ndata: {"
             "'type':'response.completed','response':");
    put_response(out, u);
    put(out, "}\n\n");
}

static void put_anthropic_usage(struct ch_buf *out, const struct used *u, int64_t output)
{
    put(out,
        "'usage':{'input_tokens':%" N ",'cache_creation_input_tokens':%" N
        ",'cache_read_input_tokens':%" N ",'cache_creation':{'ephemeral_5m_input_tokens':%" N
        ",'ephemeral_1h_input_tokens':%" N "},'output_tokens':%" N
        ",'service_tier':'standard','inference_geo':'%s','speed':'standard'",
        u->text + u->tool, u->write_5m + u->write_1h, u->cached, u->write_5m, u->write_1h, output,
        u->is_us ? "us" : "global");
}

static void anthropic_plain(struct ch_buf *out, const struct used *u)
{
    put(out, "{'type':'message','model':'m','stop_reason':'end_turn',");
    put_anthropic_usage(out, u, output_of(u));
    put(out,
        ",'output_tokens_details':{'thinking_tokens':%" N "},'server_tool_use':{"
        "'web_search_requests':%" N ",'web_fetch_requests':0}}}",
        u->thought, u->searches);
}

// The split of cache writes and the geography stand in the first event, the output in the last of
// several.
static void anthropic_stream(struct ch_buf *out, const struct used *u)
{
    put(out, "event: message_start\ndata: {'type':'message_start','message':{'model':'m',");
    put_anthropic_usage(out, u, 1);
    put(out,
        "}}}\n\nevent: message_delta\ndata: {'type':'message_delta','delta':{'stop_reason':null},"
        "'usage':{'output_tokens':%" N "}}\n\nevent: message_delta\ndata: {'type':'message_delta',"
        "'delta':{'stop_reason':'end_turn'},'usage':{'output_tokens':%" N
        ",'cache_read_input_tokens':null,'output_tokens_details':{'thinking_tokens':%" N
        "},'server_tool_use':{'web_search_requests':%" N
        "}}}\n\nevent: message_stop\ndata: {'type':'message_stop'}\n\n",
        output_of(u) / 2, output_of(u), u->thought, u->searches);
}

static void put_gemini(struct ch_buf *out, const struct used *u, bool is_last)
{
    put(out, "{'candidates':[{'content':{'parts':[{'text':'a'}]}%s",
        is_last ? ",'finishReason':'STOP'" : "");
    if (is_last && u->searches) {
        put(out, ",'groundingMetadata':{'webSearchQueries':['q'");
        for (int64_t i = 1; i < u->searches; i++)
            put(out, ",'q'");
        put(out, "]}");
    }
    put(out, "}],'usageMetadata':{'promptTokenCount':%" N, input_of(u) - u->tool);
    if (is_last)
        put(out,
            ",'cachedContentTokenCount':%" N ",'candidatesTokenCount':%" N
            ",'thoughtsTokenCount':%" N ",'toolUsePromptTokenCount':%" N
            ",'promptTokensDetails':[{'modality':'TEXT','tokenCount':%" N
            "},{'modality':'AUDIO','tokenCount':%" N "},{'modality':'IMAGE','tokenCount':%" N
            "}],'cacheTokensDetails':[{'modality':'TEXT','tokenCount':%" N
            "}],'candidatesTokensDetails':[{'modality':'AUDIO','tokenCount':%" N
            "},{'modality':'IMAGE','tokenCount':%" N "}],'serviceTier':'%s'",
            u->cached, output_of(u) - u->thought, u->thought, u->tool, u->text + u->cached,
            u->audio, u->image, u->cached, u->spoken, u->painted, u->tier ? u->tier : "standard");
    put(out, "}}");
}

static void gemini_plain(struct ch_buf *out, const struct used *u)
{
    put_gemini(out, u, true);
}

static void gemini_stream(struct ch_buf *out, const struct used *u)
{
    put(out, "data: ");
    put_gemini(out, u, false);
    put(out, "\r\n\r\ndata: ");
    put_gemini(out, u, true);
    put(out, "\r\n\r\n");
}

static void gemini_array(struct ch_buf *out, const struct used *u)
{
    put(out, "[");
    put_gemini(out, u, false);
    put(out, ",\r\n");
    put_gemini(out, u, true);
    put(out, "]");
}

static void put_interaction(struct ch_buf *out, const struct used *u)
{
    put(out,
        "{'id':'i','status':'completed','usage':{'total_input_tokens':%" N
        ",'total_output_tokens':%" N ",'total_thought_tokens':%" N ",'total_cached_tokens':%" N
        ",'total_tool_use_tokens':%" N ",'input_tokens_by_modality':[{'modality':'audio',"
        "'tokens':%" N "},{'modality':'image','tokens':%" N
        "}],'cached_tokens_by_modality':[{'modality':'text','tokens':%" N
        "}],'output_tokens_by_modality':[{'modality':'audio','tokens':%" N
        "},{'modality':'image','tokens':%" N
        "}],'grounding_tool_count':[{'type':'google_search','count':%" N "}]}}",
        input_of(u) - u->tool, output_of(u) - u->thought, u->thought, u->cached, u->tool, u->audio,
        u->image, u->cached, u->spoken, u->painted, u->searches);
}

static void interactions_plain(struct ch_buf *out, const struct used *u)
{
    put_interaction(out, u);
}

static void interactions_stream(struct ch_buf *out, const struct used *u)
{
    put(out, "event: step.delta\ndata: {'event_type':'step.delta','delta':{}}\n\nevent: "
             "interaction.completed\ndata: {'event_type':'interaction.completed','interaction':");
    put_interaction(out, u);
    put(out, "}\n\n");
}

static void embeddings_plain(struct ch_buf *out, const struct used *u)
{
    put(out, "{'object':'list','data':[],'usage':{'prompt_tokens':%" N ",'total_tokens':%" N "}}",
        input_of(u), input_of(u));
}

static void put_images_usage(struct ch_buf *out, const struct used *u)
{
    put(out,
        "'usage':{'input_tokens':%" N ",'input_tokens_details':{'text_tokens':%" N
        ",'image_tokens':%" N ",'cached_tokens':%" N "},'output_tokens':%" N "}",
        input_of(u), u->text, u->image, u->cached, output_of(u));
}

static void images_plain(struct ch_buf *out, const struct used *u)
{
    put(out, "{'created':1,'data':[{'b64_json':'AAAA'}],");
    put_images_usage(out, u);
    put(out, "}");
}

static void images_stream(struct ch_buf *out, const struct used *u)
{
    put(out, "event: image_edit.partial_image\ndata: {'type':'image_edit.partial_image',"
             "'b64_json':'AA'}\n\nevent: image_edit.completed\ndata: {'type':"
             "'image_edit.completed','b64_json':'AAAA',");
    put_images_usage(out, u);
    put(out, "}\n\n");
}

static void put_transcription_usage(struct ch_buf *out, const struct used *u)
{
    if (u->seconds)
        put(out, "'usage':{'type':'duration','seconds':%" N "}", u->seconds);
    else
        put(out,
            "'usage':{'type':'tokens','input_tokens':%" N ",'input_token_details':{"
            "'text_tokens':%" N ",'audio_tokens':%" N "},'output_tokens':%" N "}",
            input_of(u), u->text, u->audio, output_of(u));
}

static void transcription_plain(struct ch_buf *out, const struct used *u)
{
    put(out, "{'text':'a','duration':1.5,");
    put_transcription_usage(out, u);
    put(out, "}");
}

static void transcription_stream(struct ch_buf *out, const struct used *u)
{
    put(out, "event: transcript.text.delta\ndata: {'type':'transcript.text.delta','delta':'a'}\n\n"
             "event: transcript.text.done\ndata: {'type':'transcript.text.done','text':'a',");
    put_transcription_usage(out, u);
    put(out, "}\n\n");
}

static void speech_stream(struct ch_buf *out, const struct used *u)
{
    put(out,
        "data: {'type':'speech.audio.delta','audio':'AA'}\n\ndata: {'type':'speech.audio.done',"
        "'usage':{'input_tokens':%" N ",'output_tokens':%" N ",'total_tokens':%" N "}}\n\n",
        input_of(u), u->spoken, input_of(u) + u->spoken);
}

static void realtime(struct ch_buf *out, const struct used *u)
{
    put(out,
        "data: {'type':'session.created','session':{'model':'m'}}\n\ndata: {'type':"
        "'response.done','response':{'id':'r','status':'completed','usage':{'total_tokens':1,"
        "'input_tokens':%" N ",'output_tokens':%" N ",'input_token_details':{'text_tokens':%" N
        ",'audio_tokens':%" N ",'image_tokens':%" N ",'cached_tokens':%" N
        ",'cached_tokens_details':{'text_tokens':%" N ",'audio_tokens':0,'image_tokens':0}},"
        "'output_token_details':{'text_tokens':%" N ",'audio_tokens':%" N "}}}}\n\n",
        input_of(u), output_of(u), u->text + u->cached, u->audio, u->image, u->cached, u->cached,
        u->said, u->spoken);
}

#define CHAT_CAN   (CACHED | WRITE | AUDIO | IMAGE | TOOL | SAID | THOUGHT | SPOKEN | PAINTED | TIER)
#define GEMINI_CAN (CACHED | AUDIO | IMAGE | TOOL | SAID | THOUGHT | SPOKEN | PAINTED | SEARCHES)

static const struct writer {
    const char *name;
    enum ch_usage_form form;
    unsigned can;
    bool reasoning_is_outside;
    void (*write)(struct ch_buf *out, const struct used *used);
} writers[] = {
    {"chat", CH_USAGE_OPENAI_CHAT, CHAT_CAN, false, chat_plain},
    {"chat stream", CH_USAGE_OPENAI_CHAT, CHAT_CAN, false, chat_stream},
    {"chat, last chunk", CH_USAGE_OPENAI_CHAT, CHAT_CAN, false, chat_last_chunk},
    {"groq", CH_USAGE_OPENAI_CHAT, CACHED | TOOL | SAID | THOUGHT, false, groq_stream},
    {"deepseek", CH_USAGE_OPENAI_CHAT, CACHED | TOOL | SAID | THOUGHT, false, deepseek_plain},
    {"xai", CH_USAGE_OPENAI_CHAT, CACHED | AUDIO | IMAGE | TOOL | SAID | THOUGHT, true, xai_plain},
    {"responses", CH_USAGE_OPENAI_RESPONSES,
     CACHED | WRITE | TOOL | SAID | THOUGHT | SEARCHES | TIER, false, responses_plain},
    {"responses stream", CH_USAGE_OPENAI_RESPONSES,
     CACHED | WRITE | TOOL | SAID | THOUGHT | SEARCHES | TIER, false, responses_stream},
    {"anthropic", CH_USAGE_ANTHROPIC,
     CACHED | WRITE | WRITE_1H | TOOL | SAID | THOUGHT | SEARCHES | GEO, false, anthropic_plain},
    {"anthropic stream", CH_USAGE_ANTHROPIC,
     CACHED | WRITE | WRITE_1H | TOOL | SAID | THOUGHT | SEARCHES | GEO, false, anthropic_stream},
    {"gemini", CH_USAGE_GEMINI, GEMINI_CAN | TIER, false, gemini_plain},
    {"gemini stream", CH_USAGE_GEMINI, GEMINI_CAN | TIER, false, gemini_stream},
    {"gemini array", CH_USAGE_GEMINI, GEMINI_CAN | TIER, false, gemini_array},
    {"interactions", CH_USAGE_GEMINI_INTERACTIONS, GEMINI_CAN, false, interactions_plain},
    {"interactions stream", CH_USAGE_GEMINI_INTERACTIONS, GEMINI_CAN, false, interactions_stream},
    {"embeddings", CH_USAGE_OPENAI_EMBEDDINGS, TOOL, false, embeddings_plain},
    {"images", CH_USAGE_OPENAI_IMAGES, CACHED | IMAGE | PAINTED, false, images_plain},
    {"images stream", CH_USAGE_OPENAI_IMAGES, CACHED | IMAGE | PAINTED, false, images_stream},
    {"transcription", CH_USAGE_OPENAI_TRANSCRIPTION, AUDIO | SAID | SECONDS, false,
     transcription_plain},
    {"transcription stream", CH_USAGE_OPENAI_TRANSCRIPTION, AUDIO | SAID | SECONDS, false,
     transcription_stream},
    {"speech stream", CH_USAGE_OPENAI_SPEECH, SPOKEN | CHARACTERS, false, speech_stream},
    {"realtime", CH_USAGE_OPENAI_REALTIME, CACHED | AUDIO | IMAGE | SAID | SPOKEN, false, realtime},
};
#define WRITERS (sizeof writers / sizeof *writers)

static const struct {
    int id;
    const char *own; // a form it is sure to be tried in
    struct used used;
} cases[] = {
    {1, "chat stream", {.text = 86, .cached = 1920, .said = 300}},
    {2, "responses", {.text = 1000, .cached = 200, .said = 288, .thought = 512, .tier = "flex"}},
    {4, "responses stream", {.text = 3, .write_5m = 18011, .said = 40}},
    {5, "responses", {.text = 200000, .cached = 100000, .said = 1000}},
    {6,
     "anthropic stream",
     {.text = 50,
      .cached = 20000,
      .write_5m = 1500,
      .write_1h = 3000,
      .said = 300,
      .thought = 400,
      .searches = 2}},
    {8, "anthropic", {.text = 1000, .said = 500, .is_us = true}},
    {9,
     "gemini array",
     {.text = 600, .cached = 400, .audio = 200, .tool = 30, .said = 150, .thought = 50}},
    {11, "images", {.text = 60, .image = 200, .painted = 1056}},
    {12, "transcription stream", {.text = 12, .audio = 1400, .said = 45}},
    {13, "transcription", {.seconds = 75}},
    {14, "embeddings", {.text = 8191}},
    {15, "deepseek", {.text = 722, .cached = 512, .said = 56}},
    {17, "speech stream", {.characters = 120}},
    {18, "realtime", {.text = 119, .cached = 64, .audio = 13, .said = 30, .spoken = 91}},
};
#define CASES (sizeof cases / sizeof *cases)

static const json_t *vector_of(int id)
{
    size_t i;
    json_t *vector;
    json_array_foreach(vectors, i, vector)
    {
        if (json_integer_value(json_object_get(vector, "id")) == id)
            return vector;
    }
    fail_msg("no vector %d", id);
    return NULL;
}

// The wire carries the same usage: the money is the same to the nano-dollar.
static void run(size_t at, const struct writer *writer)
{
    static struct ch_usage_scan scan;
    const struct used *used = &cases[at].used;
    const json_t *vector = vector_of(cases[at].id);
    const char *model = json_string_value(json_object_get(vector, "model"));
    const char *usd = json_string_value(json_object_get(vector, "usd"));
    struct ch_media_ask ask;
    struct ch_buf answer;
    char what[128];
    ch_media_ask_init(&ask);
    ask.characters = used->characters;
    ch_buf_init(&answer, 65536);
    writer->write(&answer, used);
    struct ch_span text = ch_buf_span(&answer);
    const size_t sizes[] = {text.len, 1, 3, 17, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(what, sizeof what, "vector %d as %s, pieces of %zu", cases[at].id, writer->name,
                 sizes[i]);
        observe(&scan, writer->form, text, sizes[i]);
        struct ch_cost cost =
            cost_of(model, writer->form, &scan.raw, &ask, writer->reasoning_is_outside);
        assert_usd(what, cost, usd);
        if (!scan.is_complete || cost.fallback || scan.side_count)
            fail_msg("%s: complete %d, fallback %d", what, scan.is_complete, cost.fallback);
    }
    ch_buf_fini(&answer);
}

static void every_vector_in_every_form_that_can_carry_it(void **state)
{
    (void)state;
    int runs = 0;
    assert_int_equal(json_array_size(vectors), CASES);
    for (size_t i = 0; i < CASES; i++) {
        bool has_own = false;
        for (size_t w = 0; w < WRITERS; w++) {
            if (needs_of(&cases[i].used) & ~writers[w].can)
                continue;
            run(i, &writers[w]);
            has_own |= strcmp(writers[w].name, cases[i].own) == 0;
            runs++;
        }
        if (!has_own)
            fail_msg("vector %d was not tried as %s", cases[i].id, cases[i].own);
    }
    print_message("%d vectors and forms\n", runs);
    assert_true(runs >= 100);
}

// ---- what the vectors do not hold

static void stated_costs_win(void **state)
{
    (void)state;
    expect_usd("openrouter/anthropic/claude-3.5-sonnet", CH_USAGE_OPENAI_CHAT,
               "{\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":10,"
               "\"completion_tokens\":5,\"cost\":0.00014,\"prompt_tokens_details\":{"
               "\"cached_tokens\":0,\"cache_write_tokens\":100}}}",
               NULL, "0.000140000");
    expect_usd("not/in-any-list", CH_USAGE_OPENAI_CHAT,
               "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,"
               "\"cost\":0.02,\"is_byok\":true,\"cost_details\":{\"upstream_inference_cost\":0.3}"
               "}}\n\n",
               NULL, "0.320000000");
    expect_usd("xai/grok-4", CH_USAGE_OPENAI_CHAT,
               "{\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":32,"
               "\"completion_tokens\":9,\"cost_in_usd_ticks\":37756005}}",
               NULL, "0.003775601");
}

static void images_are_billed_by_number_quality_and_size(void **state)
{
    (void)state;
    static const char one[] = "{\"created\":1,\"data\":[{\"url\":\"u\"}]}";
    static const char two[] = "{\"created\":1,\"data\":[{\"url\":\"u\"},{\"url\":\"v\"}]}";
    static const struct {
        const char *model, *quality, *size, *answer, *usd;
    } rows[] = {
        {"dall-e-3", "", "", one, "0.040000000"},
        {"dall-e-3", "standard", "1024x1024", one, "0.040000000"},
        {"dall-e-3", "hd", "1024x1024", one, "0.080000000"},
        {"dall-e-3", "hd", "1024x1792", one, "0.120000000"},
        {"dall-e-3", "auto", "1792x1024", one, "0.080000000"},
        {"dall-e-2", "", "", two, "0.040000000"},
        {"dall-e-2", "", "512x512", two, "0.036000000"},
        {"dall-e-2", "", "256x256", two, "0.032000000"},
        {"azure/dall-e-3", "hd", "1024x1024", one, "0.080000000"},
        {"gpt-image-1", "low", "1024x1024", one, "0.011000000"}, // of a server that states none
        {"gpt-image-1.5", "high", "1536x1024", two, "0.400000000"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ch_media_ask ask;
        ch_media_ask_init(&ask);
        ch_media_ask_take(&ask, CH_SPAN("n"), CH_SPAN("4")); // what came counts
        ch_media_ask_take(&ask, CH_SPAN("quality"), ch_span_of(rows[i].quality));
        ch_media_ask_take(&ask, CH_SPAN("size"), ch_span_of(rows[i].size));
        expect_usd(rows[i].model, CH_USAGE_OPENAI_IMAGES, rows[i].answer, &ask, rows[i].usd);
    }
}

// A size that has no price of its own is charged by the model's only one, and marked.
static void an_unknown_size_is_marked(void **state)
{
    (void)state;
    static struct ch_usage_scan scan;
    struct ch_media_ask ask;
    ch_media_ask_init(&ask);
    ch_media_ask_take(&ask, CH_SPAN("size"), CH_SPAN("640x480"));
    observe(&scan, CH_USAGE_OPENAI_IMAGES, CH_SPAN("{\"data\":[{}]}"), 5);
    struct ch_cost cost = cost_of("dall-e-3", CH_USAGE_OPENAI_IMAGES, &scan.raw, &ask, false);
    assert_usd("dall-e-3", cost, "0.040000000");
    assert_true(cost.fallback);
}

static void seconds_are_billed_to_the_millisecond(void **state)
{
    (void)state;
#define SECONDS_OF(s) "{\"text\":\"\",\"usage\":{\"type\":\"duration\",\"seconds\":" s "}}"
    expect_usd("whisper-1", CH_USAGE_OPENAI_TRANSCRIPTION, SECONDS_OF("75.5"), NULL, "0.007550000");
    expect_usd("whisper-1", CH_USAGE_OPENAI_TRANSCRIPTION, SECONDS_OF("0.001"), NULL,
               "0.000000100");
    expect_usd("whisper-1", CH_USAGE_OPENAI_TRANSCRIPTION, SECONDS_OF("0.0"), NULL, "0.000000000");
    // 3.083e-5 USD: 2.005 s are 61814.15 nano-USD.
    expect_usd("groq/whisper-large-v3", CH_USAGE_OPENAI_TRANSCRIPTION, SECONDS_OF("2.005"), NULL,
               "0.000061814");
    // The price is 2.833333333e-4 USD: 1.5 s are 424999.99995 nano-USD.
    expect_usd("gpt-realtime-whisper", CH_USAGE_OPENAI_TRANSCRIPTION, SECONDS_OF("1.5"), NULL,
               "0.000425000");
}

static void speech_is_billed_by_tokens_or_characters(void **state)
{
    (void)state;
    struct ch_media_ask ask;
    ch_media_ask_init(&ask);
    ask.characters = 120;
    // 14×2.5e-6 + 101×1.2e-5; the characters are the same work.
    expect_usd("gpt-4o-mini-tts", CH_USAGE_OPENAI_SPEECH,
               "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,"
               "\"output_tokens\":101}}\n\n",
               &ask, "0.001247000");
    // Nothing was stated: the characters are exact, and estimated tokens change nothing.
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    assert_true(ch_media_estimate(CH_USAGE_OPENAI_SPEECH, &ask, 0, 0, &raw));
    struct ch_cost cost = cost_of("tts-1-hd", CH_USAGE_OPENAI_SPEECH, &raw, &ask, false);
    assert_usd("tts-1-hd", cost, "0.003600000");
    assert_false(cost.fallback);
}

static int64_t side_cost(const struct ch_usage_scan *scan, unsigned at)
{
    const struct ch_usage_side *side = &scan->sides[at];
    struct ch_cost cost = cost_of(side->model, side->form, &side->raw, NULL, false);
    assert_false(cost.fallback);
    return cost.nano_usd;
}

static void other_models_are_billed_by_their_own_price(void **state)
{
    (void)state;
    static struct ch_usage_scan scan;
    // Compaction: the executor's price. 150×5e-6 + 90×2.5e-5.
    expect_usd("claude-opus-5", CH_USAGE_ANTHROPIC,
               "{\"type\":\"message\",\"usage\":{\"input_tokens\":50,\"output_tokens\":70,"
               "\"iterations\":[{\"type\":\"message\",\"input_tokens\":50,\"output_tokens\":70},"
               "{\"type\":\"compaction\",\"input_tokens\":100,\"output_tokens\":20}]}}",
               NULL, "0.003000000");
    observe(&scan, CH_USAGE_ANTHROPIC,
            CH_SPAN("{\"type\":\"message\",\"usage\":{\"input_tokens\":50,\"output_tokens\":70,"
                    "\"iterations\":[{\"type\":\"advisor_message\",\"model\":\"claude-opus-5\","
                    "\"input_tokens\":823,\"output_tokens\":531,\"cache_read_input_tokens\":0,"
                    "\"cache_creation_input_tokens\":0}]}}"),
            9);
    assert_int_equal(scan.side_count, 1);
    assert_int_equal(side_cost(&scan, 0), 823 * 5000 + 531 * 25000);
    observe(&scan, CH_USAGE_OPENAI_RESPONSES,
            CH_SPAN("{\"status\":\"completed\",\"usage\":{\"input_tokens\":5},\"tool_usage\":{"
                    "\"image_gen\":{\"input_tokens\":260,\"input_tokens_details\":{\"image_tokens\""
                    ":200},\"output_tokens\":1056}},\"tools\":[{\"model\":\"gpt-image-1.5\"}]}"),
            9);
    assert_int_equal(side_cost(&scan, 0), 35692000); // as vector 11
    observe(&scan, CH_USAGE_OPENAI_REALTIME,
            CH_SPAN("data: {\"type\":\"session.updated\",\"session\":{\"audio\":{\"input\":{"
                    "\"transcription\":{\"model\":\"whisper-1\"}}}}}\n\ndata: {\"type\":"
                    "\"conversation.item.input_audio_transcription.completed\",\"usage\":{\"type\":"
                    "\"duration\",\"seconds\":75}}\n\n"),
            9);
    assert_int_equal(side_cost(&scan, 0), 7500000); // as vector 13
}

static void cached_audio_has_a_price_of_its_own(void **state)
{
    (void)state;
    // 10 cached text at 6e-8, 20 cached audio at 3e-7, 5 text at 6e-7, 7 audio at 1e-5.
    expect_usd(
        "gpt-realtime-2.1-mini", CH_USAGE_OPENAI_REALTIME,
        "data: {\"type\":\"response.done\",\"response\":{\"usage\":{\"input_tokens\":42,"
        "\"output_tokens\":0,\"input_token_details\":{\"text_tokens\":15,\"audio_tokens\":27,"
        "\"cached_tokens\":30,\"cached_tokens_details\":{\"text_tokens\":10,"
        "\"audio_tokens\":20}}}}}\n\n",
        NULL, "0.000079600");
}

static void video_is_read_at_the_price_of_text_and_made_at_its_own(void **state)
{
    (void)state;
    static struct ch_usage_scan scan;
    observe(&scan, CH_USAGE_GEMINI,
            CH_SPAN("{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{"
                    "\"promptTokenCount\":100,\"candidatesTokenCount\":50,\"promptTokensDetails\":["
                    "{\"modality\":\"VIDEO\",\"tokenCount\":90}],\"candidatesTokensDetails\":[{"
                    "\"modality\":\"VIDEO\",\"tokenCount\":50}]}}"),
            7);
    struct ch_usage usage;
    ch_usage_normalise(CH_USAGE_GEMINI, &scan.raw, false, &usage);
    assert_int_equal(usage.tokens[CH_TOKENS_IMAGE_IN], 90);
    assert_int_equal(usage.parts[CH_PART_VIDEO_IN], 90);
    assert_int_equal(usage.parts[CH_PART_VIDEO_OUT], 50);
    struct ch_price_query query = {.prefix = CH_SPAN("gemini/")};
    const struct ch_price *price =
        ch_catalogue_find_for(catalogue, &query, CH_SPAN("gemini-omni-flash-preview"), &usage);
    assert_non_null(price);
    assert_false(ch_price_cost(price, &usage).fallback);
    price = ch_catalogue_find_for(catalogue, &query, CH_SPAN("gemini-2.5-flash"), &usage);
    assert_true(ch_price_cost(price, &usage).fallback); // it makes none: the text price stood in
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vector_in_every_form_that_can_carry_it),
        cmocka_unit_test(stated_costs_win),
        cmocka_unit_test(images_are_billed_by_number_quality_and_size),
        cmocka_unit_test(an_unknown_size_is_marked),
        cmocka_unit_test(seconds_are_billed_to_the_millisecond),
        cmocka_unit_test(speech_is_billed_by_tokens_or_characters),
        cmocka_unit_test(other_models_are_billed_by_their_own_price),
        cmocka_unit_test(cached_audio_has_a_price_of_its_own),
        cmocka_unit_test(video_is_read_at_the_price_of_text_and_made_at_its_own),
    };
    return cmocka_run_group_tests(tests, begin, end);
}

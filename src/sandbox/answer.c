// SPDX-License-Identifier: Apache-2.0
#include "answer.h"

#include "domain/error_body.h"

#include <stdio.h>

#define BYTES_PER_TOKEN  4
#define CONTENT_BYTES    192 // WORDS once: makes a plain chat answer of about 750 bytes
#define PIECE_BYTES      24
#define SIZED_PIECE      1024 // of a content whose size was asked for
#define REASONING_TOKENS 64
#define WORDS_MAX        (CH_SANDBOX_SIZE_MAX + 4096)
#define ITEMS_BYTES_MAX  (128 << 20) // 2048 vectors of 4096 decimals stay below
#define ESCAPED_MAX      (64 + 6 * CH_SANDBOX_CREDENTIAL_MAX) // a phrase, and every byte as \u00xx

// The arguments of every tool call, as they stand in a JSON string; told in two pieces.
#define TOOL_ARGUMENTS        "{\\\"city\\\":\\\"Paris\\\"}"
#define TOOL_PIECE            10
#define TOOL_TOKENS           4

#define FILE_BYTES_PER_SECOND 16000 // of an uploaded recording
#define TOKENS_PER_SECOND     10
#define READ_IMAGE_TOKENS     200
#define MADE_IMAGE_TOKENS     1056
#define IMAGE_SIDE            1024 // where no size was asked for

#define WORDS                                                                                      \
    "This is the sandbox provider: no model thought about your question, nobody is billed for "    \
    "this reply, and the same request gets the same words every time it is asked, so that "        \
    "tests rely on it. "
_Static_assert(sizeof WORDS - 1 == CONTENT_BYTES, "the default answer is a whole sentence");

#define ON  CH_SPAN("1")
#define OFF CH_SPAN("")

// ---- words

void ch_sandbox_source_init(struct ch_sandbox_source *source)
{
    ch_buf_init(&source->words, (size_t)WORDS_MAX);
    ch_buf_init(&source->escaped, ESCAPED_MAX);
    ch_buf_init(&source->items, ITEMS_BYTES_MAX);
}

void ch_sandbox_source_fini(struct ch_sandbox_source *source)
{
    ch_buf_fini(&source->words);
    ch_buf_fini(&source->escaped);
    ch_buf_fini(&source->items);
}

static enum ch_err grow_words(struct ch_buf *words, size_t len)
{
    enum ch_err err = CH_OK;
    while (words->len < len && !err)
        err = ch_buf_append(words, WORDS, sizeof WORDS - 1);
    return err;
}

// Puts the credential, escaped, where set_content finds it. Its size is bounded, so only memory can
// fail.
static enum ch_err escape_credential(struct ch_sandbox_source *source,
                                     const struct ch_sandbox_request *request)
{
    ch_buf_clear(&source->escaped);
    return ch_buf_append_json(&source->escaped,
                              (struct ch_span){request->credential, request->credential_len});
}

// All that can be said, from which the content and its pieces are cut.
static enum ch_err find_words(const struct ch_sandbox_answer *answer,
                              struct ch_sandbox_source *source,
                              const struct ch_sandbox_request *request, struct ch_span *words_out)
{
    enum ch_err err = CH_OK;
    if (answer->calls_tool) {
        *words_out = CH_SPAN(TOOL_ARGUMENTS);
    } else if (request->directives.echo_content) {
        err = escape_credential(source, request);
        *words_out = ch_buf_span(&source->escaped);
    } else {
        err = grow_words(&source->words, (size_t)answer->content_len);
        *words_out = ch_buf_span(&source->words);
    }
    return err;
}

// Sets the content to at most `len` bytes from `from` on.
static enum ch_err set_content(struct ch_sandbox_answer *answer, struct ch_sandbox_source *source,
                               const struct ch_sandbox_request *request, int64_t from, int64_t len)
{
    struct ch_span words;
    enum ch_err err = find_words(answer, source, request, &words);
    if (err)
        return err;
    if (len > answer->content_len - from)
        len = answer->content_len - from;
    answer->values[CH_VAR_CONTENT] = (struct ch_span){words.ptr + from, (size_t)len};
    return CH_OK;
}

// ---- values

static void set_number(struct ch_sandbox_answer *answer, enum ch_sandbox_var var, int64_t value)
{
    char *text = answer->numbers[var];
    size_t at = CH_SANDBOX_NUMBER_TEXT;
    do
        text[--at] = (char)('0' + value % 10);
    while (value /= 10);
    answer->values[var] = (struct ch_span){text + at, CH_SANDBOX_NUMBER_TEXT - at};
}

static void set_text(struct ch_sandbox_answer *answer, enum ch_sandbox_var var, const char *text)
{
    answer->values[var] = ch_span_of(text);
}

static void set_flag(struct ch_sandbox_answer *answer, enum ch_sandbox_var var, bool is_on)
{
    answer->values[var] = is_on ? ON : OFF;
}

static int64_t tokens_of(int64_t bytes)
{
    return (bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
}

static void set_output(struct ch_sandbox_answer *answer, int64_t input, int64_t text,
                       int64_t reasoning)
{
    set_number(answer, CH_VAR_TEXT, text);
    set_number(answer, CH_VAR_REASONING, reasoning);
    set_number(answer, CH_VAR_OUTPUT, text + reasoning);
    set_number(answer, CH_VAR_TOTAL, input + text + reasoning);
}

// ---- media

static bool is_images(enum ch_endpoint endpoint)
{
    return endpoint == CH_ENDPOINT_IMAGES_GENERATIONS || endpoint == CH_ENDPOINT_IMAGES_EDITS ||
           endpoint == CH_ENDPOINT_IMAGES_VARIATIONS;
}

static bool is_transcript(enum ch_endpoint endpoint)
{
    return endpoint == CH_ENDPOINT_AUDIO_TRANSCRIPTIONS ||
           endpoint == CH_ENDPOINT_AUDIO_TRANSLATIONS;
}

static bool is_media(enum ch_endpoint endpoint)
{
    return is_images(endpoint) || is_transcript(endpoint) || endpoint == CH_ENDPOINT_AUDIO_SPEECH;
}

// The older models, which their maker bills by the image, the second and the character.
static bool is_by_unit(const struct ch_sandbox_request *request)
{
    struct ch_span model = ch_sandbox_request_model(request);
    const char *older = is_images(request->endpoint)       ? "dall-e"
                        : is_transcript(request->endpoint) ? "whisper"
                                                           : "tts-1";
    return is_media(request->endpoint) && memmem(model.ptr, model.len, older, strlen(older));
}

static int64_t seconds_heard(const struct ch_sandbox_request *request)
{
    if (!is_transcript(request->endpoint))
        return 0;
    int64_t seconds = (request->ask.file_bytes + FILE_BYTES_PER_SECOND - 1) / FILE_BYTES_PER_SECOND;
    return seconds > 0 ? seconds : 1;
}

static int64_t audio_tokens(const struct ch_sandbox_request *request)
{
    return seconds_heard(request) * TOKENS_PER_SECOND;
}

static int64_t image_tokens(const struct ch_sandbox_request *request)
{
    return is_images(request->endpoint) && request->ask.file_bytes > 0 ? READ_IMAGE_TOKENS : 0;
}

// Of what has no text in it: images, and speech.
static int64_t media_output(const struct ch_sandbox_request *request)
{
    if (is_images(request->endpoint))
        return request->ask.images * MADE_IMAGE_TOKENS;
    return request->endpoint == CH_ENDPOINT_AUDIO_SPEECH ? request->ask.characters * 7 / 5 : 0;
}

static int64_t input_tokens(const struct ch_sandbox_request *request)
{
    int64_t tokens = (request->body_bytes - request->ask.file_bytes) / BYTES_PER_TOKEN +
                     audio_tokens(request) + image_tokens(request);
    return tokens > 0 ? tokens : 1;
}

// The slices of the input: a half of it read from the cache, a quarter written for five minutes
// and, where the dialect knows it, an eighth for an hour.
static void set_input(struct ch_sandbox_answer *answer, const struct ch_sandbox_request *request)
{
    const struct ch_sandbox_directives *directives = &request->directives;
    bool writes = directives->cache_write && request->dialect != CH_DIALECT_GEMINI;
    int64_t input = input_tokens(request);
    int64_t cached = directives->cached ? input / 2 : 0;
    int64_t write_5m = writes ? input / 4 : 0;
    int64_t write_1h = writes && request->dialect == CH_DIALECT_ANTHROPIC ? input / 8 : 0;
    set_number(answer, CH_VAR_INPUT, input);
    set_number(answer, CH_VAR_CACHED, cached);
    set_number(answer, CH_VAR_WRITE_5M, write_5m);
    set_number(answer, CH_VAR_WRITE_1H, write_1h);
    set_number(answer, CH_VAR_WRITE, write_5m + write_1h);
    set_number(answer, CH_VAR_UNCACHED, input - cached - write_5m - write_1h);
}

struct size {
    int64_t content, piece; // bytes
    int64_t tokens;
};

static struct size size_of_words(const struct ch_sandbox_directives *directives)
{
    struct size size = {CONTENT_BYTES, PIECE_BYTES, 0};
    if (directives->events >= 0)
        size = (struct size){directives->events * BYTES_PER_TOKEN, BYTES_PER_TOKEN, 0};
    else if (directives->size >= 0)
        size = (struct size){directives->size, SIZED_PIECE, 0};
    size.tokens = tokens_of(size.content);
    return size;
}

static struct size size_of_content(const struct ch_sandbox_answer *answer,
                                   struct ch_sandbox_source *source,
                                   const struct ch_sandbox_request *request)
{
    if (answer->calls_tool)
        return (struct size){sizeof TOOL_ARGUMENTS - 1, TOOL_PIECE, TOOL_TOKENS};
    if (!request->directives.echo_content)
        return size_of_words(&request->directives);
    if (escape_credential(source, request))
        return (struct size){0, 1, 0};
    int64_t len = (int64_t)source->escaped.len;
    return (struct size){len, len ? len : 1, tokens_of((int64_t)request->credential_len)};
}

// Nothing a request forbids is said: reasoning and text stay within its max_tokens.
static void plan_content(struct ch_sandbox_answer *answer, struct ch_sandbox_source *source,
                         const struct ch_sandbox_request *request)
{
    struct size size = size_of_content(answer, source, request);
    if (is_images(request->endpoint)) // a stream tells each in an event
        size = (struct size){request->ask.images, 1, 0};
    int64_t most = request->max_tokens ? request->max_tokens : INT64_MAX;
    int64_t reasoning = request->directives.thinking ? REASONING_TOKENS : 0;
    if (reasoning > most / 2)
        reasoning = most / 2;
    if (size.tokens > most - reasoning) {
        size.tokens = most - reasoning;
        if (!answer->calls_tool && !request->directives.echo_content)
            size.content = size.tokens * BYTES_PER_TOKEN;
        set_flag(answer, CH_VAR_TRUNCATED, true);
    }
    answer->reasoning = reasoning;
    answer->content_len = size.content;
    answer->piece_len = size.piece;
    answer->pieces = (size.content + size.piece - 1) / size.piece;
    set_output(answer, input_tokens(request), size.tokens, reasoning);
}

// ---- errors

static const char *openai_type(int status)
{
    if (status == 429)
        return "requests";
    return status >= 500 ? "server_error" : "invalid_request_error";
}

static const char *openai_code(int status)
{
    switch (status) {
    case 401:
        return "invalid_api_key";
    case 404:
        return "model_not_found";
    case 429:
        return "rate_limit_exceeded";
    default: // statuses, not an enum of ours
        return "";
    }
}

static void set_error_type(struct ch_sandbox_answer *answer, enum ch_dialect dialect)
{
    switch (dialect) {
    case CH_DIALECT_OPENAI:
        set_text(answer, CH_VAR_TYPE, openai_type(answer->status));
        set_text(answer, CH_VAR_CODE, openai_code(answer->status));
        return;
    case CH_DIALECT_ANTHROPIC:
        set_text(answer, CH_VAR_TYPE, ch_error_type(dialect, answer->status));
        return;
    case CH_DIALECT_GEMINI:
        set_text(answer, CH_VAR_TYPE, ch_error_type(dialect, answer->status));
        if (answer->status == 401)
            set_text(answer, CH_VAR_CODE, "API_KEY_INVALID");
        return;
    }
}

#define ECHO_MESSAGE "Incorrect API key provided: "

static enum ch_err set_message(struct ch_sandbox_answer *answer, struct ch_sandbox_source *source,
                               const struct ch_sandbox_request *request)
{
    if (!request->directives.echo_key || request->fault) {
        set_text(answer, CH_VAR_MESSAGE,
                 request->fault ? request->fault_text : "The sandbox was asked for this error.");
        return CH_OK;
    }
    ch_buf_clear(&source->escaped);
    enum ch_err err = ch_buf_append_span(&source->escaped, CH_SPAN(ECHO_MESSAGE));
    if (!err)
        err = ch_buf_append_json(&source->escaped,
                                 (struct ch_span){request->credential, request->credential_len});
    if (!err)
        answer->values[CH_VAR_MESSAGE] = ch_buf_span(&source->escaped);
    return err;
}

// ---- the answer

static int find_status(const struct ch_sandbox_request *request)
{
    if (request->fault)
        return request->fault;
    if (request->directives.status)
        return (int)request->directives.status;
    if (request->directives.echo_key) // a 401 would say that the provider refused its own key
        return 400;
    return request->directives.redirect ? 302 : 200;
}

static bool wants_tool_call(const struct ch_sandbox_request *request)
{
    bool can_call = request->endpoint != CH_ENDPOINT_COMPLETIONS;
    return can_call && request->tool_len && !request->has_tool_result && !request->refuses_tools;
}

static void set_ids(struct ch_sandbox_answer *answer, int64_t id)
{
    struct ch_span prefix = answer->script->id_prefix;
    ch_id_format(id, answer->request_id);
    struct ch_span digits = ch_span_sub(ch_span_of(answer->request_id), strlen("req_"));
    answer->values[CH_VAR_ID] = digits;
    set_text(answer, CH_VAR_REQUEST_ID, answer->request_id);
    if (answer->status != 200)
        return;
    memcpy(answer->full_id, prefix.ptr, prefix.len);
    memcpy(answer->full_id + prefix.len, digits.ptr, digits.len);
    answer->values[CH_VAR_FULL_ID] = (struct ch_span){answer->full_id, prefix.len + digits.len};
}

// The tier that serves: the one asked for where it is one of those that cost differently.
static struct ch_span served_tier(const struct ch_sandbox_request *request)
{
    struct ch_span tier = {request->tier, request->tier_len};
    bool is_own = ch_span_eq(tier, CH_SPAN("flex")) || ch_span_eq(tier, CH_SPAN("priority"));
    return is_own ? tier : CH_SPAN("default");
}

static void set_request_values(struct ch_sandbox_answer *answer,
                               const struct ch_sandbox_request *request)
{
    bool states_usage = !request->directives.no_usage;
    set_text(answer, CH_VAR_DIALECT, ch_dialect_name(request->dialect));
    set_text(answer, CH_VAR_ENDPOINT, ch_endpoint_name(request->endpoint));
    set_text(answer, CH_VAR_CARRIER, request->carrier);
    set_text(answer, CH_VAR_STREAM, answer->is_stream ? "true" : "false");
    answer->values[CH_VAR_MODEL] = ch_sandbox_request_model(request);
    answer->values[CH_VAR_TOOL] = (struct ch_span){request->tool, request->tool_len};
    answer->values[CH_VAR_TIER] = served_tier(request);
    set_number(answer, CH_VAR_REQUEST_BYTES, request->body_bytes);
    set_flag(answer, CH_VAR_USAGE, states_usage);
    set_flag(answer, CH_VAR_USAGE_ASKED, states_usage && request->include_usage);
}

static void set_head_values(struct ch_sandbox_answer *answer,
                            const struct ch_sandbox_request *request)
{
    set_number(answer, CH_VAR_STATUS, answer->status);
    set_text(answer, CH_VAR_REASON, ch_http1_reason(answer->status));
    set_flag(answer, CH_VAR_CLOSE, !request->keep_alive);
    set_flag(answer, CH_VAR_CHUNKED, !request->is_http10);
    if (answer->status == 429)
        set_text(answer, CH_VAR_RETRY, "1");
    if (answer->status == 302)
        set_text(answer, CH_VAR_REDIRECT, "https://elsewhere.invalid/v1");
    if (request->directives.echo_key && !request->fault)
        answer->values[CH_VAR_ECHO] =
            (struct ch_span){request->credential, request->credential_len};
    if (answer->is_stream)
        set_text(answer, CH_VAR_TYPE,
                 request->is_event_stream ? "text/event-stream" : "application/json");
}

static bool has_format(const struct ch_sandbox_request *request, const char *format)
{
    return is_transcript(request->endpoint) && strcmp(request->format, format) == 0;
}

static const char *media_type(const struct ch_sandbox_answer *answer,
                              const struct ch_sandbox_request *request)
{
    if (answer->status != 200)
        return "application/json";
    if (request->endpoint == CH_ENDPOINT_AUDIO_SPEECH)
        return strcmp(request->format, "wav") == 0 ? "audio/wav" : "audio/mpeg";
    bool is_text =
        has_format(request, "text") || has_format(request, "srt") || has_format(request, "vtt");
    return is_text ? "text/plain; charset=utf-8" : "application/json";
}

// What the answer does not state: bare transcripts, sound, and images that are billed by number.
static bool hides_usage(const struct ch_sandbox_answer *answer,
                        const struct ch_sandbox_request *request)
{
    bool is_sound = request->endpoint == CH_ENDPOINT_AUDIO_SPEECH && !answer->is_stream;
    bool is_bare =
        has_format(request, "text") || has_format(request, "srt") || has_format(request, "vtt");
    return is_sound || is_bare || (is_images(request->endpoint) && is_by_unit(request));
}

// Of a transcript: one of the flags. An unknown word is plain JSON.
static void set_format(struct ch_sandbox_answer *answer, const struct ch_sandbox_request *request)
{
    bool is_bare = has_format(request, "text"), is_srt = has_format(request, "srt");
    bool is_vtt = has_format(request, "vtt"), is_verbose = has_format(request, "verbose_json");
    set_flag(answer, CH_VAR_BARE, is_bare);
    set_flag(answer, CH_VAR_SRT, is_srt);
    set_flag(answer, CH_VAR_VTT, is_vtt);
    set_flag(answer, CH_VAR_VERBOSE, is_verbose);
    set_flag(answer, CH_VAR_JSON, !is_bare && !is_srt && !is_vtt && !is_verbose);
}

static void set_media_values(struct ch_sandbox_answer *answer,
                             const struct ch_sandbox_request *request)
{
    const struct ch_media_ask *ask = &request->ask;
    bool is_speech = request->endpoint == CH_ENDPOINT_AUDIO_SPEECH;
    set_text(answer, CH_VAR_MEDIA, media_type(answer, request));
    set_flag(answer, CH_VAR_BY_UNIT, is_by_unit(request));
    set_number(answer, CH_VAR_IMAGES, is_images(request->endpoint) ? ask->images : 0);
    set_number(answer, CH_VAR_SECONDS, seconds_heard(request));
    set_number(answer, CH_VAR_CHARACTERS, is_speech ? ask->characters : 0);
    set_number(answer, CH_VAR_AUDIO_IN, audio_tokens(request));
    set_number(answer, CH_VAR_IMAGE_IN, image_tokens(request));
    if (is_media(request->endpoint))
        set_number(answer, CH_VAR_UNCACHED,
                   input_tokens(request) - audio_tokens(request) - image_tokens(request));
    set_text(answer, CH_VAR_QUALITY,
             ask->image_quality ? ch_image_quality_name(ask->image_quality) : "medium");
    snprintf(answer->dimensions, sizeof answer->dimensions, "%dx%d",
             ask->image_width ? ask->image_width : IMAGE_SIDE,
             ask->image_height ? ask->image_height : IMAGE_SIDE);
    set_text(answer, CH_VAR_DIMENSIONS, answer->dimensions);
    set_format(answer, request);
    if (hides_usage(answer, request))
        set_flag(answer, CH_VAR_USAGE, false);
}

void ch_sandbox_answer_begin(struct ch_sandbox_answer *answer,
                             const struct ch_sandbox_request *request,
                             const struct ch_script_book *book, struct ch_sandbox_source *source,
                             int64_t id, int64_t wall_ms)
{
    bool calls_tool = wants_tool_call(request);
    const struct ch_script *script =
        &book->scripts[request->dialect][request->endpoint][calls_tool];
    int status = find_status(request);
    memset(answer->values, 0, sizeof answer->values);
    answer->script = script;
    answer->status = status;
    answer->calls_tool = calls_tool;
    answer->is_stream = status == 200 && request->is_stream && script->piece;
    answer->is_billed =
        status == 200 && (script->usage || request->endpoint == CH_ENDPOINT_EMBED_CONTENT ||
                          request->endpoint == CH_ENDPOINT_BATCH_EMBED_CONTENTS);
    answer->lead_at = answer->trail_at = 0;
    answer->piece_at = answer->seq = 0;
    answer->is_over = false;
    set_request_values(answer, request);
    set_head_values(answer, request);
    set_ids(answer, id);
    set_number(answer, CH_VAR_CREATED, wall_ms / 1000);
    set_input(answer, request);
    plan_content(answer, source, request);
    set_media_values(answer, request);
    if (!script->piece && !is_media(request->endpoint)) // no words are generated
        set_output(answer, input_tokens(request), 0, 0);
    else if (is_media(request->endpoint) && !is_transcript(request->endpoint))
        set_output(answer, input_tokens(request), media_output(request), 0);
}

static enum ch_err append_error(struct ch_sandbox_answer *answer,
                                const struct ch_sandbox_request *request,
                                const struct ch_script_book *book, struct ch_sandbox_source *source,
                                struct ch_buf *out)
{
    set_error_type(answer, request->dialect);
    enum ch_err err = set_message(answer, source, request);
    return err ? err
               : ch_sandbox_template_append(book->errors[request->dialect], answer->values, out);
}

static bool is_embedding(enum ch_endpoint endpoint)
{
    return endpoint == CH_ENDPOINT_EMBEDDINGS || endpoint == CH_ENDPOINT_EMBED_CONTENT ||
           endpoint == CH_ENDPOINT_BATCH_EMBED_CONTENTS;
}

static enum ch_err list_images(const struct ch_sandbox_request *request,
                               struct ch_sandbox_source *source)
{
    bool by_address = is_by_unit(request) && strcmp(request->format, "b64_json") != 0;
    const char *image = by_address ? "{\"url\":\"https://images.invalid/sandbox.png\"}"
                                   : "{\"b64_json\":\"" CH_SANDBOX_PNG "\"}";
    enum ch_err err = CH_OK;
    ch_buf_clear(&source->items);
    for (int64_t i = 0; i < request->ask.images && !err; i++)
        err = ch_buf_append_format(&source->items, "%s%s", i ? "," : "", image);
    return err;
}

enum ch_err ch_sandbox_answer_document(struct ch_sandbox_answer *answer,
                                       const struct ch_sandbox_request *request,
                                       const struct ch_script_book *book,
                                       struct ch_sandbox_source *source, struct ch_buf *out)
{
    enum ch_err err;
    if (answer->status != 200)
        return append_error(answer, request, book, source, out);
    if (is_embedding(request->endpoint)) {
        ch_buf_clear(&source->items);
        err = ch_sandbox_embeddings_append(request, &source->items);
        answer->values[CH_VAR_ITEMS] = ch_buf_span(&source->items);
    } else if (is_images(request->endpoint)) {
        err = list_images(request, source);
        answer->values[CH_VAR_ITEMS] = ch_buf_span(&source->items);
    } else {
        err = set_content(answer, source, request, 0, answer->content_len);
    }
    return err ? err : ch_sandbox_template_append(answer->script->plain, answer->values, out);
}

// ---- streams

// What stands around an event of Gemini's: an SSE line, or a place in an array.
static enum ch_err open_gemini_chunk(const struct ch_sandbox_answer *answer, bool is_event_stream,
                                     struct ch_buf *out)
{
    if (is_event_stream)
        return ch_buf_append_span(out, CH_SPAN("data: "));
    return ch_buf_append_span(out, answer->seq ? CH_SPAN(",\r\n") : CH_SPAN("["));
}

static enum ch_err append_chunk(const struct ch_sandbox_answer *answer,
                                const struct ch_sandbox_template *template, bool is_event_stream,
                                struct ch_buf *out)
{
    size_t start = out->len;
    enum ch_err err = open_gemini_chunk(answer, is_event_stream, out);
    size_t opened = out->len;
    if (!err)
        err = ch_sandbox_template_append(template, answer->values, out);
    if (!err && out->len == opened) // the step is left out
        out->len = start;
    else if (!err && is_event_stream)
        err = ch_buf_append_span(out, CH_SPAN("\r\n\r\n"));
    return err;
}

static enum ch_err append_step(struct ch_sandbox_answer *answer,
                               const struct ch_sandbox_request *request,
                               const struct ch_sandbox_template *template, struct ch_buf *out)
{
    size_t start = out->len;
    set_number(answer, CH_VAR_SEQ, answer->seq);
    enum ch_err err = request->dialect == CH_DIALECT_GEMINI
                          ? append_chunk(answer, template, request->is_event_stream, out)
                          : ch_sandbox_template_append(template, answer->values, out);
    answer->seq += out->len > start;
    return err;
}

static enum ch_err append_piece(struct ch_sandbox_answer *answer,
                                const struct ch_sandbox_request *request,
                                struct ch_sandbox_source *source, struct ch_buf *out)
{
    int64_t from = answer->piece_at++ * answer->piece_len;
    enum ch_err err = set_content(answer, source, request, from, answer->piece_len);
    return err ? err : append_step(answer, request, answer->script->piece, out);
}

enum ch_err ch_sandbox_answer_event(struct ch_sandbox_answer *answer,
                                    const struct ch_sandbox_request *request,
                                    struct ch_sandbox_source *source, struct ch_buf *out)
{
    const struct ch_script *script = answer->script;
    if (answer->lead_at < script->lead_count)
        return append_step(answer, request, script->lead[answer->lead_at++], out);
    if (answer->piece_at < answer->pieces)
        return append_piece(answer, request, source, out);
    enum ch_err err = CH_OK;
    if (answer->trail_at < script->trail_count) {
        err = set_content(answer, source, request, 0, answer->content_len);
        if (!err)
            err = append_step(answer, request, script->trail[answer->trail_at++], out);
    }
    answer->is_over = answer->trail_at == script->trail_count;
    if (!err && answer->is_over && !request->is_event_stream)
        err = ch_buf_append(out, "]", 1);
    return err;
}

// ---- head and record

enum ch_err ch_sandbox_answer_head(struct ch_sandbox_answer *answer,
                                   const struct ch_script_book *book, size_t length,
                                   struct ch_buf *out)
{
    set_number(answer, CH_VAR_LENGTH, (int64_t)length);
    return ch_sandbox_template_append(answer->is_stream ? book->stream_head : book->document_head,
                                      answer->values, out);
}

static int64_t tokens_said(const struct ch_sandbox_answer *answer)
{
    int64_t said = answer->piece_at * answer->piece_len;
    return tokens_of(said < answer->content_len ? said : answer->content_len) + answer->reasoning;
}

// Free endpoints and errors cost nothing; a stream that ended early, what it had said.
static void settle_tokens(struct ch_sandbox_answer *answer, bool is_done)
{
    static const enum ch_sandbox_var costs[] = {CH_VAR_INPUT,    CH_VAR_CACHED, CH_VAR_WRITE_5M,
                                                CH_VAR_WRITE_1H, CH_VAR_OUTPUT, CH_VAR_REASONING};
    static const enum ch_sandbox_var units[] = {CH_VAR_IMAGES, CH_VAR_SECONDS, CH_VAR_CHARACTERS};
    bool by_unit = answer->values[CH_VAR_BY_UNIT].len > 0;
    if (!answer->is_billed)
        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            set_number(answer, units[i], 0);
    if (!answer->is_billed || by_unit)
        for (size_t i = 0; i < sizeof costs / sizeof *costs; i++)
            set_number(answer, costs[i], 0);
    else if (!is_done && answer->is_stream)
        set_number(answer, CH_VAR_OUTPUT, tokens_said(answer));
}

enum ch_err ch_sandbox_answer_record(struct ch_sandbox_answer *answer,
                                     const struct ch_script_book *book, const char *outcome,
                                     struct ch_buf *out)
{
    bool is_done = strcmp(outcome, "done") == 0;
    bool states_usage =
        is_done && answer->is_billed && answer->script->usage && answer->values[CH_VAR_USAGE].len;
    set_text(answer, CH_VAR_OUTCOME, outcome);
    settle_tokens(answer, is_done);
    enum ch_err err = ch_sandbox_template_append(book->record, answer->values, out);
    if (!err)
        err = states_usage ? ch_sandbox_template_append(answer->script->usage, answer->values, out)
                           : ch_buf_append_span(out, CH_SPAN("null"));
    return err ? err : ch_buf_append_span(out, CH_SPAN("}\n"));
}

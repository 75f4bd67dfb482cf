// SPDX-License-Identifier: Apache-2.0
#include "template.h"

#include "base/secret.h"

#define NESTING_MAX 4 // sections within sections

enum piece_kind {
    LITERAL,
    VALUE,
    SECTION_IF,
    SECTION_UNLESS,
};

struct piece {
    enum piece_kind kind;
    enum ch_sandbox_var var;
    struct ch_span text; // of a literal
    size_t end;          // of a section: the piece behind it
};

struct ch_sandbox_template {
    char *text; // what the literals borrow
    size_t count;
    struct piece pieces[];
};

static enum ch_sandbox_var find_var(struct ch_span name)
{
    static const char *const names[CH_SANDBOX_VARS] = {
        [CH_VAR_DIALECT] = "dialect",
        [CH_VAR_ENDPOINT] = "endpoint",
        [CH_VAR_MODEL] = "model",
        [CH_VAR_STREAM] = "stream",
        [CH_VAR_TOOL] = "tool",
        [CH_VAR_TIER] = "tier",
        [CH_VAR_CARRIER] = "carrier",
        [CH_VAR_REQUEST_BYTES] = "request_bytes",
        [CH_VAR_ID] = "id",
        [CH_VAR_FULL_ID] = "full_id",
        [CH_VAR_REQUEST_ID] = "request_id",
        [CH_VAR_CREATED] = "created",
        [CH_VAR_CONTENT] = "content",
        [CH_VAR_TRUNCATED] = "truncated",
        [CH_VAR_SEQ] = "seq",
        [CH_VAR_ITEMS] = "items",
        [CH_VAR_STATUS] = "status",
        [CH_VAR_REASON] = "reason",
        [CH_VAR_TYPE] = "type",
        [CH_VAR_CODE] = "code",
        [CH_VAR_MESSAGE] = "message",
        [CH_VAR_LENGTH] = "length",
        [CH_VAR_CLOSE] = "close",
        [CH_VAR_CHUNKED] = "chunked",
        [CH_VAR_RETRY] = "retry",
        [CH_VAR_REDIRECT] = "redirect",
        [CH_VAR_ECHO] = "echo",
        [CH_VAR_OUTCOME] = "outcome",
        [CH_VAR_USAGE] = "usage",
        [CH_VAR_USAGE_ASKED] = "usage_asked",
        [CH_VAR_INPUT] = "input",
        [CH_VAR_UNCACHED] = "uncached",
        [CH_VAR_CACHED] = "cached",
        [CH_VAR_WRITE] = "write",
        [CH_VAR_WRITE_5M] = "write_5m",
        [CH_VAR_WRITE_1H] = "write_1h",
        [CH_VAR_OUTPUT] = "output",
        [CH_VAR_TEXT] = "text",
        [CH_VAR_REASONING] = "reasoning",
        [CH_VAR_TOTAL] = "total",
        [CH_VAR_AUDIO_IN] = "audio_in",
        [CH_VAR_IMAGE_IN] = "image_in",
        [CH_VAR_MEDIA] = "media",
        [CH_VAR_BY_UNIT] = "by_unit",
        [CH_VAR_IMAGES] = "images",
        [CH_VAR_SECONDS] = "seconds",
        [CH_VAR_CHARACTERS] = "characters",
        [CH_VAR_QUALITY] = "quality",
        [CH_VAR_DIMENSIONS] = "dimensions",
        [CH_VAR_JSON] = "json",
        [CH_VAR_VERBOSE] = "verbose",
        [CH_VAR_BARE] = "bare",
        [CH_VAR_SRT] = "srt",
        [CH_VAR_VTT] = "vtt",
    };
    size_t var = ch_span_place(name, names, CH_SANDBOX_VARS);
    CH_ASSERT(var < CH_SANDBOX_VARS);
    return (enum ch_sandbox_var)var;
}

// Every tag makes at most one piece, and so does the text before it and behind the last.
static size_t count_pieces(const char *text)
{
    size_t tags = 0;
    for (; *text; text++)
        tags += *text == '<';
    return 2 * tags + 1;
}

static void double_the_quotes(char *text)
{
    for (; *text; text++)
        if (*text == '\'')
            *text = '"';
}

static void add_literal(struct ch_sandbox_template *template, const char *start, const char *end)
{
    if (end > start)
        template->pieces[template->count++] =
            (struct piece){.kind = LITERAL, .text = {start, (size_t)(end - start)}};
}

struct nesting {
    size_t open[NESTING_MAX]; // sections whose end has not come
    size_t depth;
};

static void add_tag(struct ch_sandbox_template *template, struct nesting *nesting,
                    struct ch_span tag)
{
    bool is_section = tag.ptr[0] == '?' || tag.ptr[0] == '!';
    if (tag.len == 1 && is_section) {
        CH_ASSERT(nesting->depth > 0);
        template->pieces[nesting->open[--nesting->depth]].end = template->count;
        return;
    }
    struct piece piece = {.kind = VALUE, .var = find_var(ch_span_sub(tag, is_section))};
    if (is_section) {
        piece.kind = tag.ptr[0] == '?' ? SECTION_IF : SECTION_UNLESS;
        CH_ASSERT(nesting->depth < NESTING_MAX);
        nesting->open[nesting->depth++] = template->count;
    }
    template->pieces[template->count++] = piece;
}

static void compile(struct ch_sandbox_template *template)
{
    struct nesting nesting = {0};
    const char *at = template->text, *tag;
    while ((tag = strchr(at, '<'))) {
        const char *end = strchr(tag, '>');
        CH_ASSERT(end && end > tag + 1);
        add_literal(template, at, tag);
        add_tag(template, &nesting, (struct ch_span){tag + 1, (size_t)(end - tag - 1)});
        at = end + 1;
    }
    add_literal(template, at, at + strlen(at));
    CH_ASSERT(nesting.depth == 0);
}

enum ch_err ch_sandbox_template_new(const char *text, struct ch_sandbox_template **template_out)
{
    struct ch_sandbox_template *template =
        ch_zcalloc(1, sizeof *template + count_pieces(text) * sizeof(struct piece));
    if (!template)
        return CH_ERR_NOMEM;
    template->text = ch_zstrdup(text);
    if (!template->text) {
        ch_zfree(template);
        return CH_ERR_NOMEM;
    }
    double_the_quotes(template->text);
    compile(template);
    *template_out = template;
    return CH_OK;
}

void ch_sandbox_template_free(struct ch_sandbox_template *template)
{
    if (template)
        ch_zfree(template->text);
    ch_zfree(template);
}

static bool is_there(struct ch_span value)
{
    return value.len > 1 || (value.len == 1 && value.ptr[0] != '0');
}

enum ch_err ch_sandbox_template_append(const struct ch_sandbox_template *template,
                                       const struct ch_span values[CH_SANDBOX_VARS],
                                       struct ch_buf *out)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < template->count && !err;) {
        const struct piece *piece = &template->pieces[i++];
        switch (piece->kind) {
        case LITERAL:
            err = ch_buf_append_span(out, piece->text);
            break;
        case VALUE:
            err = ch_buf_append_span(out, values[piece->var]);
            break;
        case SECTION_IF:
        case SECTION_UNLESS:
            if (is_there(values[piece->var]) != (piece->kind == SECTION_IF))
                i = piece->end;
            break;
        }
    }
    return err;
}

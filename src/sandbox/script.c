// SPDX-License-Identifier: Apache-2.0
#include "script.h"

#include "base/secret.h"

static const char *const error_texts[CH_DIALECTS] = {
    [CH_DIALECT_OPENAI] = "{'error':{'message':'<message>','type':'<type>','param':null,"
                          "'code':<?code>'<code>'<?><!code>null<?>}}",
    [CH_DIALECT_ANTHROPIC] = "{'type':'error','error':{'type':'<type>','message':'<message>'},"
                             "'request_id':'<request_id>'}",
    [CH_DIALECT_GEMINI] = "{'error':{'code':<status>,'message':'<message>','status':'<type>'"
                          "<?code>,'details':[{'@type':'type.googleapis.com/google.rpc.ErrorInfo',"
                          "'reason':'<code>','domain':'googleapis.com'}]<?>}}",
};

// Each provider has its own name for it; both are sent to all.
#define REQUEST_ID_FIELD "x-request-id: <request_id>\r\nrequest-id: <request_id>\r\n"
#define CLOSE_FIELD      "<?close>connection: close\r\n<?>"

static const char document_head_text[] =
    "HTTP/1.1 <status> <reason>\r\ncontent-type: <media>\r\n" REQUEST_ID_FIELD
    "<?retry>retry-after: <retry>\r\n<?><?redirect>location: <redirect>\r\n<?>"
    "<?echo>x-echoed-credential: <echo>\r\n<?>" CLOSE_FIELD "content-length: <length>\r\n\r\n";

static const char stream_head_text[] =
    "HTTP/1.1 200 OK\r\ncontent-type: <type>\r\ncache-control: no-cache\r\n" REQUEST_ID_FIELD
        CLOSE_FIELD "<?chunked>transfer-encoding: chunked\r\n<?>\r\n";

static const char record_text[] =
    "{'id':'<full_id>','dialect':'<dialect>','endpoint':'<endpoint>','model':'<model>',"
    "'stream':<stream>,'status':<status>,'request_id':'<request_id>','outcome':'<outcome>',"
    "'input_tokens':<input>,'cached_tokens':<cached>,'cache_write_5m_tokens':<write_5m>,"
    "'cache_write_1h_tokens':<write_1h>,'output_tokens':<output>,'reasoning_tokens':<reasoning>,"
    "'images':<images>,'audio_seconds':<seconds>,'characters':<characters>,"
    "'request_bytes':<request_bytes>,'carrier':'<carrier>','usage':";

static enum ch_err compile_text(const char *text, struct ch_sandbox_template **template_out)
{
    return text ? ch_sandbox_template_new(text, template_out) : CH_OK;
}

static enum ch_err compile_steps(const char *const texts[CH_SCRIPT_STEPS_MAX],
                                 struct ch_sandbox_template *steps[CH_SCRIPT_STEPS_MAX],
                                 size_t *count_out)
{
    size_t count = 0;
    enum ch_err err = CH_OK;
    for (; count < CH_SCRIPT_STEPS_MAX && texts[count] && !err; count++)
        err = compile_text(texts[count], &steps[count]);
    *count_out = count;
    return err;
}

static enum ch_err compile_script(const struct ch_script_text *text, struct ch_script *script)
{
    script->id_prefix = ch_span_of(text->id_prefix);
    enum ch_err err = compile_text(text->plain, &script->plain);
    if (!err)
        err = compile_text(text->usage, &script->usage);
    if (!err)
        err = compile_text(text->piece, &script->piece);
    if (!err)
        err = compile_steps(text->lead, script->lead, &script->lead_count);
    if (!err)
        err = compile_steps(text->trail, script->trail, &script->trail_count);
    return err;
}

static const struct ch_script_text *find_text(enum ch_dialect dialect, enum ch_endpoint endpoint,
                                              bool calls_tool)
{
    switch (dialect) {
    case CH_DIALECT_OPENAI:
        return ch_script_openai(endpoint, calls_tool);
    case CH_DIALECT_ANTHROPIC:
        return ch_script_anthropic(endpoint, calls_tool);
    case CH_DIALECT_GEMINI:
        return ch_script_gemini(endpoint, calls_tool);
    }
    return NULL;
}

static enum ch_err compile_dialect(struct ch_script_book *book, enum ch_dialect dialect)
{
    enum ch_err err = compile_text(error_texts[dialect], &book->errors[dialect]);
    for (int i = 0; i < 2 * CH_ENDPOINTS && !err; i++) {
        const struct ch_script_text *text = find_text(dialect, (enum ch_endpoint)(i / 2), i % 2);
        if (text)
            err = compile_script(text, &book->scripts[dialect][i / 2][i % 2]);
    }
    return err;
}

enum ch_err ch_script_book_new(struct ch_script_book **book_out)
{
    struct ch_script_book *book = ch_zcalloc(1, sizeof *book);
    if (!book)
        return CH_ERR_NOMEM;
    enum ch_err err = compile_text(document_head_text, &book->document_head);
    if (!err)
        err = compile_text(stream_head_text, &book->stream_head);
    if (!err)
        err = compile_text(record_text, &book->record);
    for (int dialect = 0; dialect < CH_DIALECTS && !err; dialect++)
        err = compile_dialect(book, (enum ch_dialect)dialect);
    if (err) {
        ch_script_book_free(book);
        return err;
    }
    *book_out = book;
    return CH_OK;
}

static void free_script(struct ch_script *script)
{
    ch_sandbox_template_free(script->plain);
    ch_sandbox_template_free(script->usage);
    ch_sandbox_template_free(script->piece);
    for (size_t i = 0; i < CH_SCRIPT_STEPS_MAX; i++) {
        ch_sandbox_template_free(script->lead[i]);
        ch_sandbox_template_free(script->trail[i]);
    }
}

void ch_script_book_free(struct ch_script_book *book)
{
    if (!book)
        return;
    for (int i = 0; i < CH_DIALECTS * CH_ENDPOINTS * 2; i++)
        free_script(&book->scripts[i / 2 / CH_ENDPOINTS][i / 2 % CH_ENDPOINTS][i % 2]);
    for (int dialect = 0; dialect < CH_DIALECTS; dialect++)
        ch_sandbox_template_free(book->errors[dialect]);
    ch_sandbox_template_free(book->document_head);
    ch_sandbox_template_free(book->stream_head);
    ch_sandbox_template_free(book->record);
    ch_zfree(book);
}

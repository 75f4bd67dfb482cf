// SPDX-License-Identifier: Apache-2.0
// The texts the sandbox answers with, compiled once at start. Private to sandbox/.
//
// A template is JSON (or an event, or a head) written with ' for ", with <name> where a value goes.
// <?name>…<?> stands only where the value is there, <!name>…<?> only where it is not; "" and "0"
// count as not there. Immutable after compilation and shared by threads.
#ifndef CH_SANDBOX_TEMPLATE_H
#define CH_SANDBOX_TEMPLATE_H

#include "base/err.h"
#include "base/str.h"

// Values are pasted as they are: those that stand in JSON strings are already escaped.
enum ch_sandbox_var {
    // the request
    CH_VAR_DIALECT,
    CH_VAR_ENDPOINT,
    CH_VAR_MODEL,
    CH_VAR_STREAM, // "true" or "false"
    CH_VAR_TOOL,   // name of the first tool declared
    CH_VAR_TIER,
    CH_VAR_CARRIER, // the field that brought the credential
    CH_VAR_REQUEST_BYTES,
    // the answer
    CH_VAR_ID,
    CH_VAR_FULL_ID, // with the prefix of its kind
    CH_VAR_REQUEST_ID,
    CH_VAR_CREATED, // seconds since 1970
    CH_VAR_CONTENT, // all of it, or one event's piece
    CH_VAR_TRUNCATED,
    CH_VAR_SEQ, // number of the event
    CH_VAR_ITEMS,
    CH_VAR_STATUS,
    CH_VAR_REASON,
    CH_VAR_TYPE, // of an error
    CH_VAR_CODE,
    CH_VAR_MESSAGE,
    CH_VAR_LENGTH, // of the body
    CH_VAR_CLOSE,  // the connection ends with this answer
    CH_VAR_CHUNKED,
    CH_VAR_RETRY,
    CH_VAR_REDIRECT,
    CH_VAR_ECHO,    // the credential, as a field value
    CH_VAR_OUTCOME, // how the answer ended
    // tokens
    CH_VAR_USAGE,       // whether usage is stated
    CH_VAR_USAGE_ASKED, // whether a chat stream states it
    CH_VAR_INPUT,       // all of the input
    CH_VAR_UNCACHED,
    CH_VAR_CACHED,
    CH_VAR_WRITE, // both kinds of cache write
    CH_VAR_WRITE_5M,
    CH_VAR_WRITE_1H,
    CH_VAR_OUTPUT, // all of the output
    CH_VAR_TEXT,   // the output without reasoning
    CH_VAR_REASONING,
    CH_VAR_TOTAL,
    CH_VAR_AUDIO_IN, // parts of the input
    CH_VAR_IMAGE_IN,
    // media
    CH_VAR_MEDIA,   // type of a document
    CH_VAR_BY_UNIT, // whether the model is billed by the image, the second or the character
    CH_VAR_IMAGES,
    CH_VAR_SECONDS,
    CH_VAR_CHARACTERS,
    CH_VAR_QUALITY,
    CH_VAR_DIMENSIONS, // of an image, "1024x1024"
    CH_VAR_JSON,       // the form of a transcript
    CH_VAR_VERBOSE,
    CH_VAR_BARE,
    CH_VAR_SRT,
    CH_VAR_VTT,
};
#define CH_SANDBOX_VARS (CH_VAR_VTT + 1)

struct ch_sandbox_template;

// A text that does not compile is a bug of this floor.
enum ch_err ch_sandbox_template_new(const char *text,
                                    struct ch_sandbox_template **template_out) CH_MUST_USE;
void ch_sandbox_template_free(struct ch_sandbox_template *template);
enum ch_err ch_sandbox_template_append(const struct ch_sandbox_template *template,
                                       const struct ch_span values[CH_SANDBOX_VARS],
                                       struct ch_buf *out) CH_MUST_USE;

#endif

// SPDX-License-Identifier: Apache-2.0
// Reading and checking the arguments of one admin call.
//
// The first fault sticks: later reads do nothing, so a handler reads all it needs and then asks
// once. Sentences name an argument as the command line spells it ("--base-url" for the member
// base_url). Spans and strings borrow the arguments.
#ifndef CH_ADMIN_INPUT_H
#define CH_ADMIN_INPUT_H

#include "admin/when.h"

#include "store/budget_store.h"
#include "store/key_store.h"

#include <jansson.h>

#define CH_LABEL_MAX 200 // bytes of free text: labels, reasons

struct ch_input {
    const json_t *arguments;
    struct ch_why *why;
    enum ch_err err;
};

void ch_input_init(struct ch_input *input, const json_t *arguments, struct ch_why *why);
// Refuses members that `accepts` (names separated by blanks) does not list.
void ch_input_only(struct ch_input *input, const char *accepts);
void ch_input_fail(struct ch_input *input, const char *format, ...) CH_PRINTF(2, 3);

// Each gives NULL (or the default) for an absent optional member and after a fault.
const char *ch_input_string(struct ch_input *input, const char *member, bool required);
// [A-Za-z0-9._-]{1,64}
const char *ch_input_name(struct ch_input *input, const char *member, bool required);
// Free text without control characters, 1–max bytes.
const char *ch_input_text(struct ch_input *input, const char *member, size_t max);
bool ch_input_bool(struct ch_input *input, const char *member, bool otherwise);
int64_t ch_input_int(struct ch_input *input, const char *member, int64_t min, int64_t max,
                     int64_t otherwise);
// 0 when absent.
int64_t ch_input_when(struct ch_input *input, const char *member, enum ch_when_direction direction);
// An object of strings as "k=v,k=v", sorted by k.
void ch_input_tags(struct ch_input *input, const char *member, char out[CH_TAGS_MAX + 1]);

// ---- policies. Each gives whether the member is there; an empty text is a value too and means
// none.

bool ch_input_has(const struct ch_input *input, const char *member);
// A text, or an array of texts that are joined by commas. CH_ERR_LIMIT of `out` is a fault.
bool ch_input_joined(struct ch_input *input, const char *member, struct ch_buf *out);
// 0 is none.
bool ch_input_limit(struct ch_input *input, const char *member, int64_t *limit_out);
// "deny", "flag" or "ceiling:IN/OUT", USD for a million tokens.
bool ch_input_unknown_model(struct ch_input *input, const char *member,
                            struct ch_unknown_model_rule *rule_out);
// Words out of `words` (separated by blanks), with commas between them, as bits 1 << index.
bool ch_input_words(struct ch_input *input, const char *member, const char *words,
                    unsigned *bits_out);
// "key:NAME", "team:NAME", "project:NAME", "provider:NAME", "all".
bool ch_input_scope(struct ch_input *input, const char *member, enum ch_budget_scope *scope_out,
                    char subject_out[CH_NAME_MAX + 1]);

// Whether free text may be stored and shown: no C0, C1 or DEL controls, no bidirectional overrides.
bool ch_input_text_is_clean(struct ch_span text);

#endif

// SPDX-License-Identifier: Apache-2.0
// The declarative before_record rules: what of a captured event is kept, decided before it is
// stored.
//
// A rule is one line of text from the configuration (docs/scrubbing.md):
//
//   drop                                     [if FIELD OP VALUE]
//   strip FIELD[, FIELD…]                    [if …]
//   hash FIELD[, FIELD…]                     [if …]
//   replace FIELD[, FIELD…] with VALUE       [if …]
//
// OP is `equals`, `prefix`, `contains` (byte-exact), or `present`, which takes no value. A value is
// one word or "quoted", with \" and \\. Rules run in order, and each sees what the ones before it
// left. They touch the captured event alone: the usage row and its money are another object. Called
// by the capture pipeline. Pure; the parsed rules are immutable and may be used by any thread.
#ifndef CH_DOMAIN_RECORD_RULE_H
#define CH_DOMAIN_RECORD_RULE_H

#include "base/err.h"
#include "base/str.h"

#define CH_RECORD_RULES_MAX 64
#define CH_RECORD_RULE_MAX  1024 // bytes of one
#define CH_RECORD_RULE_KEY  32   // bytes of the key of `hash`
#define CH_RECORD_RULE_HASH 32   // bytes of a hash; a hashed field holds them in hexadecimal

// An event as the rules see it: text by field name. The names are those of a usage row, and
// `request_body` and `response_body`.
struct ch_record_event {
    void *arg;
    // False: the event does not have the field. The value is borrowed until the next call of `set`
    // or `strip`. Numbers come as decimal text, truth values as "true" and "false".
    bool (*get)(void *arg, struct ch_span field, struct ch_span *value_out);
    // Copies the value. Only ever called for fields of text.
    enum ch_err (*set)(void *arg, struct ch_span field, struct ch_span value);
    void (*strip)(void *arg, struct ch_span field); // the event no longer has the field
};

struct ch_record_rules; // opaque

// Parses the rules (none is fine); the texts are not kept. The sentence names the rule by its
// number from 1 and the word at fault. CH_ERR_INVALID, CH_ERR_LIMIT, CH_ERR_NOMEM.
enum ch_err ch_record_rules_new(const struct ch_span *texts, size_t count,
                                struct ch_record_rules **rules_out, struct ch_why *why) CH_MUST_USE;
void ch_record_rules_free(struct ch_record_rules *rules); // NULL is fine

// Runs the rules over one event. `keep_out` false: a rule dropped it. After an error, which is one
// that `set` returned, the event is half changed: the caller drops it. `key` makes the hashes
// meaningless to others: equal values have equal hashes under one key.
enum ch_err ch_record_rules_apply(const struct ch_record_rules *rules,
                                  const unsigned char key[CH_RECORD_RULE_KEY],
                                  const struct ch_record_event *event, bool *keep_out) CH_MUST_USE;

// The names of the fields, for documentation and completion.
const char *const *ch_record_fields(size_t *count_out);

#endif

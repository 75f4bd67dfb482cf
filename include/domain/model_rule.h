// SPDX-License-Identifier: Apache-2.0
// Which models a key may use, and which model is sent in place of the one it names: allow lists,
// deny lists and maps.
//
// A pattern is a model name in which at most CH_MODEL_STARS_MAX stars stand for any characters,
// none included ("claude-*", "*-mini", "gpt-*-preview"). It is anchored at both ends and
// byte-exact. Commands parse and normalise what an operator typed, the gate decides by the
// normalised text. Deciding allocates nothing and takes at most (pattern × model) byte comparisons.
// Pure; any thread.
#ifndef CH_DOMAIN_MODEL_RULE_H
#define CH_DOMAIN_MODEL_RULE_H

#include "base/err.h"
#include "base/str.h"

#define CH_MODEL_NAME_MAX  128
#define CH_MODEL_STARS_MAX 4 // in one pattern

// [A-Za-z0-9._:/@-]{1,128}: what a model name may look like (security.md §4.9).
bool ch_model_name_is_valid(struct ch_span model);

// ---- Lists

// Checks a list of names and patterns as an operator typed it, for allowing or denying, and gives
// it normalised (blanks and empty entries dropped). The reason names the entry at fault.
enum ch_err ch_model_rule_parse(struct ch_span list, struct ch_buf *normalised_out,
                                struct ch_why *why) CH_MUST_USE;
// An empty list allows every model.
bool ch_model_rule_allows(struct ch_span normalised_list, struct ch_span model);

enum ch_model_decision {
    CH_MODEL_ALLOWED,
    CH_MODEL_NOT_ON_LIST, // there is an allow list, and nothing on it fits
    CH_MODEL_DENIED,      // by the deny list, whatever the allow list says
};
// Both lists normalised; empty: every model is allowed, none is denied. `pattern_out` (may be NULL)
// gets the entry that decided, inside its list; the empty span where none did.
enum ch_model_decision ch_model_rule_decide(struct ch_span allow, struct ch_span deny,
                                            struct ch_span model, struct ch_span *pattern_out);

// ---- Maps

#define CH_MODEL_MAP_MAX 64 // entries

// Checks "gpt-4o=gpt-4o-mini, claude-opus-*=claude-sonnet-4-5": on the left a name or a pattern, on
// the right a model name. Gives it normalised, exact entries before patterns and otherwise in the
// order given. A map is applied once, so what cannot mean what it says is refused, with a reason
// that names the entry: a left side that stands twice, a name mapped to itself, and a right side
// that the map would send on to another model. A pattern may fit its own right side
// ("gpt-*=gpt-4o-mini"), which then stays as it is.
enum ch_err ch_model_map_parse(struct ch_span map, struct ch_buf *normalised_out,
                               struct ch_why *why) CH_MUST_USE;
// Gives the model to be sent: the right side of the first entry that fits, inside the map, or
// `model` itself. True when it is another name than `model`.
bool ch_model_map_apply(struct ch_span normalised_map, struct ch_span model,
                        struct ch_span *sent_out);

#endif
